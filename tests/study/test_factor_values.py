"""Factors of one's own: whatever name and value a spec may have goes through records, frame, findings, page, trackers.

The law: either a spec is refused in one sentence, as it is read, or nothing that is made of its records fails or
changes a value.
"""

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import spec_text, write_results

from dashboards.__main__ import main as dashboards
from dashboards.cells import cells_of
from dashboards.report import build_report
from study.findings import find
from study.listeners.trackers import _parameters
from study.plan.agenda import Agenda
from study.plan.cells import cells, searches, tune_job
from study.plan.optuna_trials import trial_of
from study.plan.proposals import outcome_of, propose
from study.records import METRICS, Configuration, Job, Measurement, RunRecord
from study.specs.factors import FACTORS
from study.specs.methods import FAMILIES
from study.specs.problems import cell_factors
from study.specs.space import NARROWEST, SearchRange
from study.specs.spec import SpecError, StudySpec, parse_spec
from study.specs.tasks import RESERVED, factor_column, kind_of_value
from study.store.frame import frame_of
from study.training.stand_ins import stand_in

BASIC = {"train_size": 100, "epochs": 4, "batch_size": 20, "ascent_batch": 5}


def content(*factors: dict[str, Any], task: str = "mine:build", **changes: Any) -> dict[str, Any]:
    problems = [{"task": task, "factors": BASIC | own} for own in factors]
    return {
        "name": "own", "question": "?", "methods": ["SGD", "SWA", "SAM"], "replicates": 2, "confirms": 1,
        "search": {"trials": 2}, "problems": problems,
    } | changes  # fmt: skip


def read(data: dict[str, Any], *, frozen: bool = False) -> StudySpec:
    return StudySpec.model_validate(data, context={"frozen": frozen})


def ended(spec: StudySpec) -> list[RunRecord]:
    agenda = Agenda(spec)
    while job := agenda.next_job():
        agenda.complete(stand_in(job, spec.hash, None))
    return agenda.records


def through_everything(spec: StudySpec) -> tuple[pd.DataFrame, str]:
    """Return the frame as it is read from its file, and the page."""
    records = [RunRecord.model_validate_json(record.model_dump_json()) for record in ended(spec)]
    frame = pd.read_parquet(io.BytesIO(frame_of(records).to_parquet(index=False)))
    findings = find(spec, records)
    for record in records:
        told = _parameters(record.job)
        assert {name: told[factor_column(name)] for name in record.job.factors} == record.job.factors
        assert told["stage"] == record.job.stage
    assert len(cells_of(findings, frame)) == len(cells(spec))
    return frame, build_report(findings, frame, records=records)


EVERY_NAME = sorted(
    {*frame_of(ended(read(content({}))))}
    | {*Job.model_fields, *RunRecord.model_fields, *Measurement.__dataclass_fields__, *METRICS, *Configuration._fields}
)


@pytest.mark.parametrize("name", EVERY_NAME)
def test_a_factor_called_like_a_column_is_refused_or_is_itself(name: str) -> None:
    """Of the columns those of factors alone are not refused, and there the value is the factor's."""
    value = cell_factors(read(content({})).problems[0])[0].get(name, 0.5)
    try:
        spec = read(content({name: value}))
    except ValueError as error:
        assert f"factors.{name} " in str(error)  # noqa: PT017  # either of two ends is right
        assert name in RESERVED
    else:
        assert set(frame_of(ended(spec))[name]) == {value}


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "Seed",
        "SEED",
        "weights ",
        "a b",
        "a.b",
        "a=b",
        "a,b",
        "größe",
        "ａ",
        "1st",
        "_x",
        "a-b",
        "a\nb",
        "x" * 41,
    ],
)
def test_other_names_are_refused_by_name(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(spec_text(read(content({}))).replace("train_size", f"{json.dumps(name)} = 1\ntrain_size"), "mine")
    assert f"factors.{name}".rstrip() in str(caught.value)


def test_a_hyper_parameter_that_is_given_as_a_factor_is_told_where_to_stand() -> None:
    for name in ("learning_rate", "rho", "average_start"):
        with pytest.raises(ValueError, match=rf"fixed by search\.{name} = "):
            read(content({name: 0.5}))


def test_an_older_study_of_any_name_is_read(tmp_path: Path) -> None:
    """Its spec was allowed when it began; its factors have a column of their own."""
    names = sorted(RESERVED)
    spec = read(content(dict.fromkeys(names, 1.5), dict.fromkeys(names, 2.5)), frozen=True)
    frame, _ = through_everything(spec)
    assert {*map(factor_column, names)} <= {*frame}
    for name in names:
        assert set(frame[factor_column(name)]) == {1.5, 2.5}
    assert set(frame["stage"]) == {"tune", "confirm"}
    assert dashboards([str(write_results(tmp_path, spec, ended(spec)))]) == 0


def test_an_older_study_of_mixed_values_is_read(tmp_path: Path) -> None:
    spec = read(content({"depth": [2, "deep", True], "huge": 2**70}, {"depth": 0.5, "huge": "x"}), frozen=True)
    frame, _ = through_everything(spec)
    assert set(frame["depth"]) == {"2", "deep", "True", "0.5"}
    assert set(frame["huge"]) == {str(2**70), "x"}
    assert dashboards([str(write_results(tmp_path, spec, ended(spec)))]) == 0


VALUES = st.one_of(
    st.booleans(), st.integers(-3, 3), st.integers(2**52, 2**66), st.floats(), st.text(max_size=4),
    st.sampled_from(["1", "True", "nan", "a b", "x=1 y", "<b>", 1e308, 5e-324, -0.0, 2**53, 2**53 + 1]),
    st.lists(st.integers(0, 1), max_size=2), st.none(), st.dates(),
)  # fmt: skip
GIVEN = st.one_of(VALUES, st.lists(VALUES, min_size=1, max_size=3))


def told(error: ValueError) -> str:
    return " ".join(found["msg"] for found in error.errors())  # type: ignore[attr-defined]


@given(st.lists(st.dictionaries(st.sampled_from(["depth", "kind"]), GIVEN, max_size=2), min_size=1, max_size=2))
def test_values_are_refused_in_a_sentence_or_kept(factors: Sequence[dict[str, Any]]) -> None:
    """Within a problem and across them: no file fails, no value changes, no two cells share a name."""
    data = content(*factors)
    data["problems"][-1]["task"] = "mine:other" if len(factors) > 1 else "mine:build"
    try:
        spec = read(data)
    except ValueError as error:
        assert "factors." in told(error)  # noqa: PT017  # as above
        return
    planned = cells(spec)
    assert len({cell.name for cell in planned}) == len(planned)
    frame = pd.read_parquet(io.BytesIO(frame_of(ended(spec)).to_parquet(index=False)))
    for cell in planned:
        for name in {"depth", "kind"} & {*cell.factors}:
            (found,) = set(frame.loc[frame["cell"] == cell.name, name])
            assert found == cell.factors[name]
            assert kind_of_value(found.item() if hasattr(found, "item") else found) == kind_of_value(cell.factors[name])


@pytest.mark.parametrize(
    "own",
    [
        {"depth": [True, False], "kind": ["", "a b", "x=1 kind=2", "<b>é</b>"]},
        {"depth": [0, 0.5, 2**53], "label_noise": ["pairs", "none"]},
        {"depth": [-1.5, 1e300], "width": ["0.25", "nan"], "model": [1, 2]},
    ],
)
def test_whatever_is_allowed_has_findings_and_a_page(own: dict[str, Any]) -> None:
    _, page = through_everything(read(content(own)))
    assert "<b>é</b>" not in page


RANGES = st.tuples(
    st.floats(1e-6, 0.999), st.floats(0, 1), st.sampled_from([0.0, 1e-16, 1e-9, 1e-5, 1e-3, 1.0]), st.booleans()
).map(lambda drawn: {"low": drawn[0], "high": drawn[0] + (0.9995 - drawn[0]) * drawn[1] * drawn[2], "log": drawn[3]})


@given(RANGES)
def test_ends_that_rounding_alone_tells_apart_are_refused(given_range: dict[str, Any]) -> None:
    low, high = given_range["low"], given_range["high"]
    if low == high or high - low >= NARROWEST * high:
        assert SearchRange(**given_range).fixed == (low == high)
    else:
        with pytest.raises(ValueError, match=r"nearer than a search can tell apart; give one number, such as"):
            SearchRange(**given_range)


SEARCHED = RANGES.filter(lambda r: r["low"] == r["high"] or r["high"] - r["low"] >= NARROWEST * r["high"])


@given(SEARCHED, SEARCHED, SEARCHED, st.sampled_from(["qmc", "tpe"]), st.integers(0, 2**32 - 1))
def test_every_proposal_lies_within_its_range(
    rate: dict[str, Any], rho: dict[str, Any], start: dict[str, Any], sampler: str, seed: int
) -> None:
    """Bit for bit, so that Optuna, which is strict, takes every trial."""
    search = {"trials": 8, "sampler": sampler, "learning_rate": rate, "rho": rho, "average_start": start}
    spec = read(content({}, methods=["SGD", "SWA", "SAM", "ASAM", "AdamW", "AdamW+SAM"], search=search, seed=seed))
    for one in searches(spec)[:6]:
        history = []
        for trial in range(min(5, one.trials)):
            found = propose(spec.search, one, trial, history[: trial // 4 * 4])
            for name in ("learning_rate", "rho", "average_start"):
                searched, value = spec.range_of(name, one.family), getattr(found, name)
                unperturbed = name == "rho" and value == 0
                assert unperturbed or searched.low <= value <= searched.high
                assert 0 <= searched.position(value or searched.low) <= 1 + 1e-9
            assert FAMILIES[one.family].rule or found.rho == 0
            record = stand_in(tune_job(spec, one, trial, found), spec.hash, None)
            history.append(outcome_of(one.contenders[-1], record))
            assert trial_of(spec.search, one, history[-1]).distributions


def test_a_number_holds_a_hyper_parameter_fixed() -> None:
    text = spec_text(read(content({})))
    text = text[: text.index("[search.")] + "".join(text[text.index("[[problems]]") :])
    text = text.replace("trials = 2", "trials = 2\naverage_start = 0.75\nlearning_rate = 0.1\nrho = 0.05")
    spec = parse_spec(text, "mine")
    jobs = [record.job for record in ended(spec)]
    assert {(job.learning_rate, job.average_start) for job in jobs} == {(0.1, 0.75)}
    assert {job.rho for job in jobs if job.family == "sam"} <= {0.0, 0.05}
    assert all("swa@0.75" in job.averages for job in jobs if "swa" in job.reads)
    assert parse_spec(spec_text(spec), "again").hash == spec.hash
    assert "edge of the search space" not in {caveat.kind for caveat in find(spec, ended(spec)).caveats}
    through_everything(spec)


@pytest.mark.parametrize("name", [name for name, factor in FACTORS.items() if factor.kind is float])
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_no_number_without_an_end_is_a_factor(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"factors.{name} = .* was given; allowed is a number from "):
        FACTORS[name].check(name, value)
