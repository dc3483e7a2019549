"""The studies of a folder, one line each, and what of them can be held against each other."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dashboards import prose
from dashboards.cells import cells_of, labelled
from dashboards.comparisons import without_early_verdicts
from dashboards.contenders import budget_name, unit_of
from dashboards.provenance import without_home
from dashboards.score import shown
from dashboards.tables import claims
from study.findings import Findings, RunCounts
from study.findings.units import FRACTION
from study.records import FactorValue, RunRecord
from study.stats import Effect
from study.store.results import Study, load

DEPTH = 2  # results/quick, and results/claims/01-label-noise
_DIGITS = 6  # of embedded gains


_NOTHING = RunCounts(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The gains of one comparison of one study, by unit.

    Attributes:
        task, factors: Its problem.
        method, baselines, budget: What it holds against what, in words.
        counted_in: The unit of the gains; "" of fractions.
        units: Those of the same name in two studies share all of their seeds: ``0/3/7`` is replicate 7 of a study with
            seed 0 and three confirm seeds, a seed of one tuning goes by itself.
        gains: One a unit.
    """

    task: str
    factors: Mapping[str, FactorValue]
    method: str
    baselines: str
    budget: str
    counted_in: str
    units: tuple[str, ...]
    gains: tuple[float, ...]

    @property
    def problem(self) -> str:
        """Task, all factors and unit: what two studies must share to be held against each other."""
        return json.dumps([self.task, self.factors, self.counted_in], sort_keys=True)


@dataclass(frozen=True, slots=True)
class Line:
    """One study of the index.

    Attributes:
        name: Its folder, relative to the index.
        href: Its report, relative to the index; "" where there is none.
        error: Why it can't be read; then nothing of what follows is known.
        facts: Its answer, as its own page gives it: what, how surely, at what cost.
        mark: What limits its verdicts from the start, such as "protocol 1"; "" if nothing does.
        counts: Its runs.
        verdicts: How often each verdict was given, under the primary budget; none before it is finished.
        comparisons: What can be held against another study: those of finished ones.
    """

    name: str
    href: str = ""
    error: str = ""
    question: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    claims: str = ""
    mark: str = ""
    counts: RunCounts = _NOTHING
    verdicts: Mapping[str, int] = field(default_factory=dict)
    gradient_evaluations: int = 0
    comparisons: tuple[Comparison, ...] = ()

    @property
    def finished(self) -> bool:
        """Every planned run has ended."""
        return not self.error and self.counts.finished


def study_folders(root: Path, depth: int = DEPTH) -> list[Path]:
    """Return the folders below ``root`` that hold a study, readable or not, by name."""
    found = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if is_study(folder):
            found.append(folder)
        elif depth > 1:
            found += study_folders(folder, depth - 1)
    return found


def is_study(folder: Path) -> bool:
    """Tell whether a folder is, or was meant to be, that of a study."""
    return (folder / "spec.toml").is_file() or (folder / "records").is_dir()


def line_of(folder: Path, root: Path) -> Line:
    """Read one study; one that can't be read is a line with its error sentence."""
    name = folder.relative_to(root).as_posix()
    href = quote(f"{name}/report.html") if (folder / "report.html").is_file() else ""
    try:
        return _line(load(folder), name, href)
    except Exception as error:  # what can't be read says what to do; what can't be computed must not cost the others
        said = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
        sentence = re.sub(r"\s+", " ", said).replace(f"{root}/", "")
        return Line(name, href, error=without_home(sentence))


def _line(study: Study, name: str, href: str) -> Line:
    findings = without_early_verdicts(study.findings)
    with shown(findings):
        facts = prose.answer_of(findings, cells_of(findings, study.frame))
    primary = (effect for effect in findings.effects if effect.budget == findings.primary_budget)
    return Line(
        name=name,
        href=href,
        question=findings.question,
        facts=facts,
        claims=claims.claims_sentence(findings),
        mark=", ".join(kind for kind, _ in prose.marks(findings)).lower(),
        counts=findings.counts,
        verdicts=Counter(effect.verdict for effect in primary if findings.counts.finished),
        gradient_evaluations=sum(record.gradient_evaluations for record in study.records),
        comparisons=tuple(_comparisons(findings, study.records)) if findings.counts.finished else (),
    )


def _comparisons(findings: Findings, records: Iterable[RunRecord]) -> Iterator[Comparison]:
    factors = {record.job.cell: record.job.factors for record in records}
    for effect in findings.effects:
        if effect.n > 1:
            names, score = [one.baseline for one in effect.against], findings.scores[effect.task]
            yield Comparison(
                task=effect.task,
                factors=factors[effect.cell],
                method=effect.method,
                baselines=names[0] if len(names) == 1 else f"the strongest of {', '.join(names)}",
                budget=budget_name(findings, effect.budget),
                counted_in="" if score.unit == FRACTION else score.unit or score.name,
                units=_units(findings, effect),
                gains=tuple(float(f"{gain:.{_DIGITS}g}") for gain in effect.differences),
            )


def _units(findings: Findings, effect: Effect) -> tuple[str, ...]:
    """Name the units so that equal names share their seeds; a replicate's derive from the study's seed."""
    if unit_of(findings) == "seed":
        return tuple(map(str, effect.units))
    return tuple(f"{findings.spec.get('seed')}/{findings.spec.get('confirms')}/{unit}" for unit in effect.units)


def comparable(lines: Iterable[Line]) -> dict[str, Any]:
    """Return, as plain data, the comparisons that at least two studies have in common.

    ``keys`` holds problem, method, baseline and budget in words, ``studies`` the units and gains of each study by the
    key's position, ``plain`` the positions whose gains are no fractions; their problem's name says their unit.
    """
    found: dict[tuple[str, ...], dict[str, Comparison]] = {}
    for line in lines:
        for one in line.comparisons:
            found.setdefault((one.problem, one.method, one.baselines, one.budget), {})[line.name] = one
    shared = [by_study for by_study in found.values() if len(by_study) > 1]
    firsts = [next(iter(by_study.values())) for by_study in shared]
    cells = labelled({one.problem: (one.task, dict(one.factors)) for one in firsts})
    labels = [cells[one.problem].label + (f" ({one.counted_in})" if one.counted_in else "") for one in firsts]
    studies: dict[str, dict[int, list[object]]] = {}
    for position, by_study in enumerate(shared):
        for name, one in by_study.items():
            studies.setdefault(name, {})[position] = [one.units, one.gains]
    return {
        "keys": [[label, one.method, one.baselines, one.budget] for label, one in zip(labels, firsts, strict=True)],
        "plain": [position for position, one in enumerate(firsts) if one.counted_in],
        "studies": studies,
    }
