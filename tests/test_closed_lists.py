"""Whatever is looked up by a word from a closed list has an entry for every word of it.

Every literal dict of the program is read off its source: one whose keys are some words of a list must have them all,
or stand below with the reason why not.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from synthetic import synthetic_study

from dashboards import prose, theme
from dashboards.cells import cells_of
from dashboards.report import build_report
from dashboards.score import shown
from dashboards.tables import runs
from study.findings import find
from study.findings.content import CAVEATS, Outcome
from study.records import PROBES, Job, RunRecord
from study.specs.budgets import BUDGETS, Budget
from study.specs.hypotheses import Hypothesis
from study.specs.methods import FAMILIES, METHODS
from study.specs.schedules import SCHEDULES
from study.specs.space import SearchSpace
from study.specs.tasks import TestPart
from study.stats.effects import Unit, Verdict
from study.store.frame import frame_of

ROOT = Path(__file__).parent.parent


def field(model: Any, name: str) -> set[str]:
    return set(get_args(model.model_fields[name].annotation))


LISTS: dict[str, set[str]] = {
    "budget": set(get_args(Budget)),
    "verdict": set(get_args(Verdict)),
    "verdict, or none yet": {*get_args(Verdict), "not yet"},
    "outcome": set(get_args(Outcome)),
    "status": field(RunRecord, "status"),
    "stage": field(Job, "stage"),
    "method": {*METHODS},
    "family": {*FAMILIES},
    "kind of hypothesis": field(Hypothesis, "kind"),
    "expected": field(Hypothesis, "expected"),
    "sampler": field(SearchSpace, "sampler"),
    "kind of weights": {"last", "best", "swa", "ema", "lawa"},
    "unit": set(get_args(Unit)),
    "probe": {*PROBES},
    "schedule": {*SCHEDULES},
    "test part": set(get_args(TestPart)),
    "caveat": {*CAVEATS},
}
PARTIAL = {  # file and keys of dicts that need not be whole, and why
    ("study/specs/budgets.py", "G T"): "_SPENT: E falls back to BUDGETS",
    ("study/findings/caveats.py", "diverged failed pruned"): "_CONSEQUENCES: a completed run has none",
    ("dashboards/cells.py", "constant cosine"): "others go by their name",
    ("dashboards/words.py", "ASAM AdamW AdamW+SAM EMA LAWA SAM SAM-ON SGD SWA WASAM late SAM m-SAM"): "others average",
    ("dashboards/tables/claims.py", "barrier minimizers sharpness slope"): "UNITS: others are points",
}  # fmt: skip


def dicts() -> Iterator[tuple[str, int, frozenset[str]]]:
    """Yield file, line and keys of every literal dict whose keys are all texts."""
    for package in ("study", "dashboards"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Dict):
                    keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
                    if len(keys) == len(node.keys) > 1 and all(isinstance(key, str) for key in keys):
                        yield str(path.relative_to(ROOT)), node.lineno, frozenset(map(str, keys))


def test_a_table_by_a_closed_list_is_whole() -> None:
    wrong, seen = [], set()
    for file, line, keys in dicts():
        lists = [name for name, words in LISTS.items() if keys <= words]
        if lists and not any(keys == LISTS[name] for name in lists):
            place = (file, " ".join(sorted(keys)))
            seen.add(place)
            if place not in PARTIAL:
                wrong.append(f"{file}:{line}: a {' or '.join(lists)} is looked up, and {sorted(keys)} are not all")
    assert not wrong, "\n".join(wrong)
    assert seen == {*PARTIAL}, "strike what is whole, or gone"


def test_what_is_no_literal_dict_is_whole_too() -> None:
    assert set(runs._RANKED["status"].categories) == LISTS["status"]
    assert set(runs._RANKED["stage"].categories) == LISTS["stage"]
    assert {*theme.STYLE} == LISTS["method"]
    assert {*BUDGETS} == LISTS["budget"]


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
def test_a_study_of_every_budget_and_method_has_findings_and_a_page(sampler: str) -> None:
    settings: dict[str, Any] = {
        "methods": list(METHODS), "budgets": ["T", "G", "E"], "primary_budget": "T", "ema_decays": [0.9],
        "lawa_windows": [2], "reference_times": {"sam": 2.3, "asam": 2.5, "adamw": 1.1, "adamw-sam": 1.05},
    }  # fmt: skip
    trials = {"qmc": 3, "tpe": 8}[sampler]
    spec, records = synthetic_study(
        tasks=("digits",), trials=trials, sampler=sampler, replicates=5 if sampler == "qmc" else 1, failed=0.02,
        diverged=0.02, factors={"label_noise": [0.0, 0.3]}, **settings,
    )  # fmt: skip
    findings = find(spec, records)
    assert {effect.budget for effect in findings.effects} == LISTS["budget"]
    assert {effect.method for effect in findings.effects} == LISTS["method"] - {"SGD", "AdamW"}
    page = build_report(findings, frame_of(records), records=records)
    assert all(f">{method}<" in page for method in METHODS)
    with shown(findings):
        assert prose.answer_of(findings, cells_of(findings, frame_of(records)))["What"]
