"""Results that exist already: a study's verdicts on them, whatever wrote them; a sentence where there is none."""

import math
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from matrices import crossed
from run_tables import FORMATS, SEEDS, Row, as_csv, frame, table
from scipy import stats
from synthetic import synthetic_study

from study.existing.reading import read_table
from study.existing.trackers import TableError
from study.findings import find, read_findings
from study.findings.evidence import gather
from study.judge import Judgement, judge, main
from study.specs.contenders import baselines, contender, others_of

NAMES = {"method": "optimizer", "problem": "dataset", "seed": "seed", "score": "test_acc"}


def numbers(found: Judgement) -> list[tuple[Any, ...]]:
    return [
        (e.cell, e.method, e.baseline, e.verdict, e.clear, e.mean, e.ci95, e.ci90, e.p, e.p_holm, e.n, e.planned)
        for e in found.findings.effects
    ]


def alike(one: Any, other: Any) -> bool:
    """Tell whether values are equal to the last digit; NaN is like NaN."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other or (one != one and other != other))


def kinds(found: Judgement) -> dict[str, int]:
    """Count the caveats by kind."""
    named = [caveat.kind for caveat in found.findings.caveats]
    return {kind: named.count(kind) for kind in dict.fromkeys(named)}


def details(found: Judgement, kind: str) -> list[str]:
    return [caveat.detail for caveat in found.findings.caveats if caveat.kind == kind]


# --- the same verdicts as a study's -------------------------------------------------------------------------------

SAME = (
    "verdict", "clear", "baseline", "mean", "sd", "ci95", "ci90", "p", "p_holm", "p_max_t", "units",
    "differences", "share_better", "share_better_ci95", "minimum_detectable", "error", "freedom", "planned",
)  # fmt: skip
STUDIES: dict[str, dict[str, Any]] = {
    "as planned": {},
    "three confirms": {"confirms": 3},
    "failures": {"failed": 0.04, "diverged": 0.03, "replicates": 10},
    "too many failures": {"failed": 0.3, "replicates": 6},
    "another family": {"methods": ["AdamW", "AdamW+SWA", "AdamW+WASAM"]},
}


@pytest.mark.parametrize("name", STUDIES)
def test_a_studys_own_numbers_get_a_studys_verdicts_to_the_last_digit(name: str, tmp_path: Path) -> None:
    settings = {"trials": 3, "tasks": ("digits", "mnist1d"), "factors": {"label_noise": [0.0, 0.3]}, "budgets": ["G"],
                "primary_budget": "G"} | STUDIES[name]  # fmt: skip
    spec, records = synthetic_study(**settings)
    evidence = gather(spec, records)
    arms = {}
    for method in others_of(spec):
        for one in (contender(spec, method, "G"), *baselines(spec, method, "G")):
            arms[one.name] = one
    rows = []
    for cell in evidence.cells:
        for one in arms.values():
            means = evidence.means(evidence.of(cell.name, one).scores("test_score"))
            rows += [
                {"who": one.name, "cell": cell.name, "replicate": unit, "accuracy": means.get(unit, math.nan)}
                for unit in range(1, spec.replicates + 1)
            ]
    path = tmp_path / "means.csv"
    frame(rows).to_csv(path, index=False)
    against = [one.name for one in baselines(spec, others_of(spec)[0], "G")]
    found = judge(path, method="who", problem="cell", seed="replicate", score="accuracy", baseline=against,
                  delta=spec.delta)  # fmt: skip
    ours = {(e.cell, e.method): e for e in found.findings.effects}
    theirs = {(e.cell, e.method): e for e in find(spec, records).effects}
    assert ours.keys() == theirs.keys()
    for key, effect in theirs.items():
        for field in SAME:
            assert alike(getattr(ours[key], field), getattr(effect, field)), (key, field)
    assert {e.verdict for e in theirs.values()} & {"helps", "insufficient data"}


def test_it_is_scipys_paired_t_test_with_holms_correction() -> None:
    rows = table()
    found = judge(frame(rows), baseline="SGD")
    values = frame(rows).pivot(index=["dataset", "seed"], columns="optimizer", values="test_acc")
    for method in ("SAM", "Lion"):
        tests = {
            problem: stats.ttest_rel(values.loc[problem][method], values.loc[problem]["SGD"])
            for problem in ("digits", "letters")
        }
        smaller, larger = sorted(tests, key=lambda problem: tests[problem].pvalue)
        holm = {smaller: 2 * tests[smaller].pvalue}
        holm[larger] = max(holm[smaller], tests[larger].pvalue)
        for effect in found.findings.effects:
            if effect.method == method:
                reference = tests[effect.cell]
                assert effect.p == pytest.approx(reference.pvalue, rel=1e-6)
                assert effect.p_holm == pytest.approx(min(1, holm[effect.cell]), rel=1e-6)
                interval = reference.confidence_interval(0.95)
                assert effect.ci95 == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert found.verdicts.verdict.tolist() == ["helps", "no material effect"] * 2


def test_without_shared_seeds_it_is_welchs() -> None:
    rows = [row | {"seed": row["seed"] + 100 * (row["optimizer"] == "SAM")} for row in table()]
    found = judge(frame(rows), baseline="SGD")
    for effect in found.findings.effects:
        values = frame(rows).query("dataset == @effect.cell").groupby("optimizer").test_acc.apply(list)
        if effect.method == "SAM":
            reference = stats.ttest_ind(values["SAM"], values["SGD"], equal_var=False)
            assert effect.apart == ((SEEDS, SEEDS), (SEEDS, SEEDS))
            assert effect.p == pytest.approx(reference.pvalue, rel=1e-6)
        else:
            assert effect.apart is None
    assert kinds(found)["unpaired"] == 1
    assert "In 2 of 4 comparisons" in details(found, "unpaired")[0]


def test_unpaired_by_wish_and_for_want_of_a_seed_are_the_same() -> None:
    rows = table()
    wished = judge(frame(rows), baseline="SGD", paired=False)
    seedless = judge(frame(rows).drop(columns="seed"), baseline="SGD")
    assert repr(numbers(wished)) == repr(numbers(seedless))
    assert all(effect.apart for effect in wished.findings.effects)
    assert "no column says" in details(seedless, "unpaired")[0]


def test_the_strongest_of_several_baselines_is_named_and_all_must_be_beaten() -> None:
    rows = table({"SGD last": -0.01, "SGD best": 0.0, "SAM": 0.012}, problems=("digits",))
    found = judge(frame(rows), baseline=["SGD last", "SGD best"])
    (effect,) = found.findings.effects
    alone = judge(frame(row for row in rows if row["optimizer"] != "SGD last"), baseline="SGD best").findings.effects
    assert (effect.baseline, [one.baseline for one in effect.against]) == ("SGD best", ["SGD last", "SGD best"])
    assert (effect.mean, effect.ci95) == (alone[0].mean, alone[0].ci95)
    assert effect.p == max(one.p for one in effect.against)


@pytest.mark.parametrize("scale", [100, 1])
def test_lower_is_better_and_percents_change_no_verdict(scale: int) -> None:
    rows = table()
    error = frame(rows).assign(test_err=lambda f: (scale * (1 - f.test_acc)).round(8)).drop(columns="test_acc")
    unit = "%" if scale == 100 else "fraction"
    ours, theirs = judge(error, baseline="SGD", unit=unit), judge(frame(rows), baseline="SGD")
    assert ours.verdicts.verdict.tolist() == theirs.verdicts.verdict.tolist()
    assert ours.verdicts.gain.tolist() == pytest.approx(theirs.verdicts.gain.tolist(), abs=1e-9)
    assert kinds(ours)["lower is better"] == 2


def test_percents_are_seen_and_delta_is_in_their_unit() -> None:
    rows = [row | {"test_acc": round(100 * row["test_acc"], 2)} for row in table()]
    theirs = judge(frame(table()), baseline="SGD", delta=0.004)
    ours = judge(frame(rows), baseline="SGD", delta=0.4)
    assert ours.verdicts.verdict.tolist() == theirs.verdicts.verdict.tolist()
    assert ours.findings.deltas == pytest.approx({"digits": 0.004, "letters": 0.004})
    assert "percents, written as fractions" in str(ours)


# --- the same verdicts whatever wrote the table --------------------------------------------------------------------


@crossed(format=FORMATS, guessed=[False, True])
def test_whatever_wrote_it_the_verdicts_are_the_same(format: str, guessed: bool, tmp_path: Path) -> None:
    rows = table(seeds=5)
    source = FORMATS[format](rows, tmp_path)
    said = {} if guessed else NAMES | ({"score": "value"} if format == "Optuna" else {})
    found = judge(source, **said, baseline="SGD", delta=0.005)
    reference = judge(frame(rows), **NAMES, baseline="SGD", delta=0.005)
    assert sorted(map(repr, numbers(found))) == sorted(map(repr, numbers(reference)))
    assert found.findings.origin
    assert found.findings.origin.guessed == tuple(sorted(("direction", *(NAMES if guessed else ()))))


# --- what can't be used is counted, or refused in one sentence ---------------------------------------------------


def changed(rows: list[Row], where: Callable[[Row], bool], **values: Any) -> list[Row]:
    return [row | values if where(row) else row for row in rows]


def of(method: str, *seeds: int, problem: str = "digits") -> Callable[[Row], bool]:
    return lambda row: (row["optimizer"], row["dataset"]) == (method, problem) and (not seeds or row["seed"] in seeds)


def without(rows: list[Row], where: Callable[[Row], bool]) -> list[Row]:
    return [row for row in rows if not where(row)]


def seedless(rows: list[Row]) -> list[Row]:
    """Leave out what says which runs share a seed."""
    return [{name: value for name, value in row.items() if name != "seed"} for row in rows]


COUNTED: dict[str, tuple[Callable[[list[Row]], list[Row]], str, str]] = {
    "a missing pair": (
        lambda rows: without(rows, of("SAM", 3)),
        "missing pairs",
        "1 of 8 seeds of SAM in digits have no pair: SAM lacks seed 3.",
    ),
    "many missing pairs": (
        lambda rows: without(rows, of("SAM", 0, 1, 2)),
        "missing pairs",
        "with more than 20 % missing there is no verdict, and --unpaired uses all runs",
    ),
    "NaN": (
        lambda rows: changed(rows, of("SAM", 3), test_acc=math.nan),
        "rows without a score",
        "SAM: 1 of 16 runs can't be used (1 no score).",
    ),
    "infinite": (
        lambda rows: changed(rows, of("SGD", 3, 4), test_acc=math.inf),
        "rows without a score",
        "SGD: 2 of 16 runs can't be used (2 an infinite score).",
    ),
    "crashed": (
        lambda rows: [row | {"state": "crashed" if of("SAM", 1)(row) else "finished"} for row in rows],
        "rows without a score",
        "SAM: 1 of 16 runs can't be used (1 crashed).",
    ),
    "run again": (
        lambda rows: [*rows, next(filter(of("SAM", 1), rows)) | {"test_acc": None}],
        "rows left out",
        "1 row is left out: without a score, and run again with the same seed.",
    ),
    "copies": (
        lambda rows: [*rows, *rows[:3]],
        "rows left out",
        "3 rows are left out: a copy of another row, in method, problem, seed and score.",
    ),
    "no method": (
        lambda rows: [*rows, {"dataset": "digits", "seed": 1, "test_acc": 0.5}],
        "rows left out",
        "1 row is left out: no method.",
    ),
    "no seed": (
        lambda rows: changed(rows, of("SAM", 1, 2), seed=None),
        "rows left out",
        "2 rows are left out: no seed.",
    ),
    "one problem only": (
        lambda rows: without(rows, of("Lion")),
        "not run everywhere",
        "Lion was run on 1 of 2 problems (letters)",
    ),
    "no baseline there": (
        lambda rows: without(rows, of("SGD")),
        "not run everywhere",
        "digits has no run of SGD: nothing is judged there, and 16 rows are in no comparison.",
    ),
    "one seed": (
        lambda rows: [row for row in rows if row["seed"] == 0],
        "few replicates",
        "4 of 4 comparisons have fewer than 8 pairs (down to 1): below 5 there are estimates",
    ),
    "six seeds": (
        lambda rows: [row for row in rows if row["seed"] < 6],
        "few replicates",
        "4 of 4 comparisons have fewer than 8 pairs (down to 6): intervals are wide",
    ),
    "tuned on the way": (
        lambda rows: [row | {"lr": 0.1 * row["seed"]} for row in rows],
        "several configurations",
        "The runs of SAM differ in lr",
    ),
    "validation": (
        lambda rows: [{("val_acc" if k == "test_acc" else k): v for k, v in row.items()} for row in rows],
        "selected score",
        "val_acc is measured on what settings were chosen with",
    ),
    "best on test": (
        lambda rows: [{("best_test_acc" if k == "test_acc" else k): v for k, v in row.items()} for row in rows],
        "selected score",
        "best_test_acc is the best of several measurements",
    ),
    "a state of an outcome that some tools have": (
        lambda rows: [row | {"status": "TIMEOUT" if of("SAM", 1)(row) else "COMPLETED"} for row in rows],
        "rows without a score",
        "SAM: 1 of 16 runs can't be used (1 timeout).",
    ),
    "a switch for runs that failed": (
        lambda rows: [row | {"failed": of("SAM", 1)(row)} for row in rows],
        "rows without a score",
        "SAM: 1 of 16 runs can't be used (1 failed).",
    ),
    "several networks": (
        lambda rows: [row | {"arch": ("mlp", "cnn")[row["seed"] % 2]} for row in rows],
        "several configurations",
        "The runs of SAM differ in arch",
    ),
    "copies, as far as one can tell": (
        lambda rows: seedless(rows * 2),
        "unpaired",
        f"{6 * SEEDS} rows are equal to an earlier one in every column: if these are copies, n is too large",
    ),
    "copies of runs that have names": (
        lambda rows: seedless([row | {"Name": f"run-{k}"} for k, row in enumerate(rows)] * 2),
        "rows left out",
        f"{6 * SEEDS} rows are left out: a copy of another row, in every column.",
    ),
    "means of the seeds": (
        lambda rows: rows + [row | {"seed": "mean"} for row in rows if row["seed"] == 0],
        "rows left out",
        "6 rows are left out: a summary of other rows and no run (mean).",
    ),
    "means of the problems": (
        lambda rows: rows + [row | {"dataset": "Average"} for row in rows if row["dataset"] == "digits"],
        "rows left out",
        f"{3 * SEEDS} rows are left out: a summary of other rows and no run (Average).",
    ),
    "folds": (
        lambda rows: [{("fold" if k == "seed" else k): v for k, v in row.items()} for row in rows],
        "folds",
        "The units are folds (fold)",
    ),
    "always": (lambda rows: rows, "not tuned here", "Nothing was tuned here"),
    "no cost": (lambda rows: rows, "cost", "What a run cost is not known"),
}


@pytest.mark.parametrize("name", COUNTED)
def test_what_cannot_be_used_is_counted(name: str) -> None:
    change, kind, sentence = COUNTED[name]
    found = judge(frame(change(table())), baseline="SGD")
    told = details(found, kind)
    assert any(sentence in detail for detail in told), told
    assert all(detail.endswith(".") for detail in found.caveats)


def test_a_sound_table_has_no_other_caveat() -> None:
    rows = [row | {"flops": 1.0} for row in table()]
    assert kinds(judge(frame(rows), cost="flops", baseline="SGD")).keys() <= {
        "not tuned here",
        "verdict depends on delta",
    }


def test_what_is_missing_leaves_the_rest_as_it_was() -> None:
    rows = table()
    whole, part = judge(frame(rows), baseline="SGD"), judge(frame(without(rows, of("SAM", 3))), baseline="SGD")
    changed_rows = {(e.cell, e.method) for e, o in zip(part.findings.effects, whole.findings.effects, strict=True)
                    if e.differences != o.differences}  # fmt: skip
    assert changed_rows == {("digits", "SAM")}
    few = judge(frame(without(rows, of("SAM", 0, 1, 2))), baseline="SGD")
    assert few.verdicts.set_index(["problem", "method"]).verdict["digits", "SAM"] == "insufficient data"


def test_costs_are_compared() -> None:
    rows = [row | {"flops": {"SGD": 3e9, "SAM": 6e9, "Lion": 3.01e9}[row["optimizer"]]} for row in table()]
    found = judge(frame(rows), cost="flops", baseline="SGD")
    assert details(found, "cost") == ["SAM costs 2.00 times what its baseline does (flops); verdicts don't count that."]
    assert found.verdicts.cost_ratio.tolist() == pytest.approx([2.0, 3.01 / 3] * 2)


TURNED = (
    "neg_mean_squared_error", "neg_log_loss", "test_neg_loss", "negative_log_likelihood", "-negAcc", "1-acc",
    "1 - test_acc", "100−acc", "acc_drop", "generalization gap acc", "loss_reduction", "testErrorDecrease",
    "std_test_acc", "rank_test_score", "acc_diff", "time_to_acc", "steps_to_accuracy", "inverse_loss",
)  # fmt: skip


@pytest.mark.parametrize("name", TURNED)
def test_a_name_that_is_turned_round_tells_no_direction(name: str) -> None:
    rows = frame({(name if k == "test_acc" else k): v for k, v in row.items()} for row in table())
    with pytest.raises(TableError, match="give --lower-is-better or --higher-is-better"):
        judge(rows, score=name, baseline="SGD", delta=0.005)
    more, less = (judge(rows, score=name, baseline="SGD", delta=0.005, higher_is_better=way) for way in (True, False))
    assert [e.mean for e in more.findings.effects] == pytest.approx([-e.mean for e in less.findings.effects])


@pytest.mark.parametrize(
    ("name", "higher"),
    [
        ("log_likelihood", True),
        ("test/top5", True),
        ("balanced_accuracy", True),
        ("nll", False),
        ("val_error_rate", False),
    ],
)
def test_other_names_tell_it(name: str, higher: bool) -> None:
    rows = frame({(name if k == "test_acc" else k): v for k, v in row.items()} for row in table())
    found = judge(rows, score=name, baseline="SGD", delta=0.005).findings
    assert found.scores["digits"].higher_is_better is higher


def test_runs_that_ended_at_different_epochs_are_runs() -> None:
    rows = [row | {"epoch": 40 + row["seed"] ** 2} for row in table()]
    found = judge(
        frame(row | {"seed": None, "run": k} for k, row in enumerate(rows)).drop(columns="seed"), baseline="SGD"
    )
    assert {effect.n for effect in found.findings.effects} == {SEEDS}


Refused = tuple[Callable[[list[Row]], list[Row]], dict[str, Any], str]


def same(rows: list[Row]) -> list[Row]:
    return rows


def renamed(**names: str) -> Callable[[list[Row]], list[Row]]:
    return lambda rows: [{names.get(name, name): value for name, value in row.items()} for row in rows]


def as_log(column: str, start: int = 0, stride: int = 1) -> Callable[[list[Row]], list[Row]]:
    """Turn the seeds into places of one run."""
    return lambda rows: seedless([row | {column: start + stride * row["seed"]} for row in rows])


REFUSED: dict[str, Refused] = {
    **{
        f"one run, {column} after {column}": (as_log(column, start, stride), {}, f"of SGD on digits go on in {column}")
        for column, start, stride in (("epoch", 0, 1), ("Step", 500, 500), ("trainer/global_step", 99, 100))
    },
    "several runs without a name, epoch after epoch": (
        lambda rows: as_log("epoch")(rows + [row | {"test_acc": row["test_acc"] + 0.001} for row in rows]),
        {},
        f"the {2 * SEEDS} rows of SGD on digits go on in epoch from 0 to {SEEDS - 1}",
    ),
    "a state that tells of some runs alone": (
        lambda rows: [row | {"state": ("finished", "exit 1")[row["seed"] % 2]} for row in rows],
        {},
        "the column state says exit 1 of some runs",
    ),
    "no such column": (same, {"score": "tset_acc"}, "no such column; did you mean test_acc?"),
    "no such baseline": (same, {"baseline": "SGDD"}, "methods are SGD, SAM, Lion; did you mean SGD?"),
    "which baseline": (
        lambda rows: changed(rows, lambda row: row["optimizer"] == "Lion", optimizer="AdamW"),
        {"baseline": ()},
        "which method is the baseline? give --baseline, once for each: SGD, SAM, AdamW.",
    ),
    "all are baselines": (same, {"baseline": ["SGD", "SAM", "Lion"]}, "one is left to be judged"),
    "one method": (lambda rows: [row for row in rows if row["optimizer"] == "SGD"], {"method": "optimizer"}, "only"),
    "several scores of a seed": (
        lambda rows: [*rows, *(row | {"test_acc": 0.1, "lr": 1} for row in rows[:3])],
        {},
        "3 seeds have several scores for one method and problem (SGD on digits with seed 0, rows 1 and 49). They "
        "differ in lr: keep one row each, chosen on validation and never by the score",
    ),
    "two columns may be the method": (
        lambda rows: [row | {"algorithm": row["optimizer"]} for row in rows],
        {},
        "the method may be optimizer, algorithm; give --method",
    ),
    "two columns may be the problem": (
        lambda rows: [row | {"task": row["dataset"]} for row in rows],
        {},
        "give --problem, with commas between several: --problem dataset,task.",
    ),
    "two columns may be the seed": (lambda rows: [row | {"fold": row["seed"]} for row in rows], {}, "the seed may be"),
    "two columns may be the score": (
        lambda rows: [row | {"test_f1": row["test_acc"]} for row in rows],
        {},
        "the score may be test_acc, test_f1; give --score.",
    ),
    "no method by name": (renamed(optimizer="how"), {}, "perhaps how, dataset; a row is one run, so a table"),
    "no score by name": (lambda rows: [row | {"test_acc": "good"} for row in rows], {}, "give --score"),
    "a text among scores": (
        lambda rows: changed(rows, of("SAM", 3), test_acc="93.1 ± 0.2"),
        {"score": "test_acc"},
        "row 11 has '93.1 ± 0.2' in the column test_acc; numbers alone can be judged.",
    ),
    "a text among costs": (
        lambda rows: [rows[0] | {"test_acc": None, "flops": 1}, *(row | {"flops": "many"} for row in rows)],
        {"cost": "flops"},
        "row 2 has 'many' in the column flops; numbers alone can be judged.",
    ),
    "percents among fractions": (
        lambda rows: [row | {"test_acc": 100 * row["test_acc"]} if of("SAM")(row) else row for row in rows],
        {},
        "fractions among percents can't be told apart",
    ),
    "δ of a fraction for percents": (
        lambda rows: [row | {"test_acc": 100 * row["test_acc"]} for row in rows],
        {"delta": 0.005},
        "give --delta 0.5 for half a point",
    ),
    "δ of percents for a fraction": (same, {"delta": 0.5}, "give --delta 0.005 for half a point"),
    "δ that excuses nothing": (same, {"delta": 0.0}, "δ = 0 was given"),
    "δ of a problem that is not there": (same, {"delta": {"mnist": 0.01}}, "problems are digits, letters"),
    "no δ for a metric of its own": (renamed(test_acc="test_mae"), {}, "can't be guessed for test_mae; give --delta"),
    "no direction": (renamed(test_acc="test_thing"), {"delta": 1.0}, "give --lower-is-better or --higher-is-better"),
    "both directions": (renamed(test_acc="test_error_score"), {"delta": 1.0}, "give --lower-is-better or"),
    "several metrics of a problem": (
        lambda rows: [row | {"metric": ("acc", "loss")[row["seed"] % 2]} for row in rows],
        {},
        "the rows of digits are of several metrics (acc, loss)",
    ),
    "spelt in two ways": (
        lambda rows: changed(rows, of("SAM", 3), optimizer="sam"),
        {},
        "SAM and sam are methods of the table; write them alike",
    ),
    "all NaN": (lambda rows: [row | {"test_acc": math.nan} for row in rows], {"score": "test_acc"}, "no row of"),
    "no method on the baseline's problem": (
        lambda rows: without(without(rows, of("SGD")), lambda row: row["dataset"] == "letters" and
                             row["optimizer"] != "SGD"),
        {},
        "no problem has runs of SGD and of another method",
    ),
    "no runs": (lambda rows: [], {}, "holds no run"),
    "a level that is none": (same, {"alpha": 1.5}, "a level lies between 0 and 1"),
    "score and method are one": (same, {"score": "optimizer", "method": "optimizer"}, "already"),
    "a chart": (
        lambda rows: [{"Step": 1, "run-1 - test_acc": 0.9, "run-1 - test_acc__MIN": 0.9}],
        {},
        "export the table of runs instead",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_judged_is_refused_in_a_sentence(name: str) -> None:
    change, given, sentence = REFUSED[name]
    with pytest.raises(TableError) as refused:
        judge(frame(change(table())), **({"baseline": "SGD"} | given))
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


FILES: dict[str, tuple[str, bytes, str]] = {
    "not there": ("", b"", "can't be read: No such file"),
    "another kind": ("runs.xlsx", b"", "a table is a file .csv"),
    "an address": ("https://wandb.ai/x", b"", "nothing is fetched here"),
    "empty": ("runs.csv", b"", "holds no run"),
    "a header alone": ("runs.csv", b"method,seed,score\n", "holds no run"),
    "ragged": ("runs.csv", b"method,score\nSGD,1,2\n", "row 1 has 3 cells, and the header names 2 columns"),
    "twice the same column": ("runs.csv", b"method,method\nSGD,1\n", "several columns named 'method'"),
    "not in UTF-8": ("runs.csv", "méthode,score\n".encode("latin-1"), "no text in UTF-8"),
    "an open quote": ("runs.csv", b'method,score\n"SGD,1\n', "is no CSV"),
    "no JSON": ("runs.json", b"{", "is no JSON"),
    "no list": ("runs.json", b'{"a": 1}', "holds no list of runs"),
    "a list of numbers": ("runs.json", b"[1, 2]", "holds no list of runs"),
    "no Parquet": ("runs.parquet", b"PAR1", "is no Parquet file"),
    "no database": ("runs.db", b"text" * 300, "is no SQLite database"),
    "code in a cell": ("runs.csv", b"name,config\na,\"{'a': print(1)}\"\n", "can't be read as an object"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_read_is_refused_in_a_sentence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, content, sentence = FILES[name]
    path = file if "://" in file else str(tmp_path / (file or "runs.csv"))
    if file and path != file:
        Path(path).write_bytes(content)
    assert main([path]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert not said.out


def test_a_database_of_another_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE latest_metrics (key TEXT)")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(TableError, match=r"no database of Optuna, but MLflow's: export it"):
        read_table(f"sqlite:///{path}")
    assert path.read_bytes() == before
    with pytest.raises(TableError, match="there is no such file"):
        read_table(f"sqlite:///{tmp_path / 'none.db'}")
    assert not (tmp_path / "none.db").exists()


def test_folders_hold_no_table(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"what stands in MLflow's store: `mlflow experiments csv"):
        read_table(str(tmp_path))
    (tmp_path / "spec.toml").touch()
    with pytest.raises(TableError, match="results folder of a study"):
        read_table(str(tmp_path))


def test_optunas_directions_are_known(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    for name, direction in (("first", "minimize"), ("second", "minimize")):
        study = optuna.create_study(storage=url, study_name=name, direction=direction)
        for number in range(12):
            value = 1.0 - 0.2 * (number % 2) + 0.001 * number**2
            trial = optuna.trial.create_trial(value=value, user_attrs={
                "method": ("plain", "new")[number % 2], "problem": name, "seed": number // 2})  # fmt: skip
            study.add_trial(trial)
        study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.PRUNED, user_attrs={
            "method": "new", "problem": name, "seed": 9}))  # fmt: skip
    found = judge(url, delta=0.01)
    assert found.verdicts.verdict.tolist() == ["helps", "helps"]
    assert details(found, "rows without a score")[0].startswith("new: 2 of 14 runs can't be used (2 pruned).")
    assert not next(iter(found.findings.scores.values())).higher_is_better


def test_metrics_of_both_directions_in_one_table_are_judged_each_in_its_own() -> None:
    rows = [
        row | ({"metric": "mae", "value": 10 * (1 - row["test_acc"])} if row["dataset"] == "letters" else
               {"metric": "acc", "value": row["test_acc"]})
        for row in table()
    ]  # fmt: skip
    found = judge(frame(rows), score="value", baseline="SGD", delta={"digits": 0.005, "letters": 0.05})
    assert found.verdicts.verdict.tolist() == judge(frame(table()), baseline="SGD").verdicts.verdict.tolist()
    assert [score.higher_is_better for score in found.findings.scores.values()] == [True, False]
    assert kinds(found)["scores of several kinds"] == 1


def test_several_columns_are_one_thing() -> None:
    rows = [row | {"optimizer": row["optimizer"][:3], "ema": row["seed"] % 2 == 0, "model": "mlp"} for row in table()]
    found = judge(frame(rows), method="optimizer,ema", problem="dataset,model", baseline=["SGD ema=False"],
                  paired=False)  # fmt: skip
    assert found.findings.methods == (
        "SGD ema=False", "SGD ema=True", "SAM ema=True", "Lio ema=True", "SAM ema=False", "Lio ema=False",
    )  # fmt: skip
    assert [*found.findings.scores] == ["digits mlp", "letters mlp"]


def test_seeds_are_labels_whatever_they_look_like() -> None:
    rows = table()
    reference = numbers(judge(frame(rows), baseline="SGD"))
    for change in (lambda seed: f"seed-{seed}", float, lambda seed: str(float(seed)), lambda seed: np.int64(seed)):
        other = judge(frame(row | {"seed": change(row["seed"])} for row in rows), baseline="SGD")
        assert repr(numbers(other)) == repr(reference)


@pytest.mark.parametrize("seeds", [("1", "01"), ("--1", "1"), (2**60, 2**60 + 1), ("²", "2"), (-1, 1), ("", "1")])
def test_no_two_seeds_become_one(seeds: tuple[Any, Any]) -> None:
    rows = [row | {"seed": seeds[row["seed"]]} for row in table(seeds=2, problems=("digits",))]
    found = judge(frame(rows), baseline="SGD")
    assert [effect.planned for effect in found.findings.effects] == [sum(seed != "" for seed in seeds)] * 2


def test_no_two_combinations_become_one() -> None:
    rows = [row | {"dataset": name, "model": model} for row, (name, model) in
            zip(table(), [("a b", "c"), ("a", "b c")] * 24, strict=True)]  # fmt: skip
    with pytest.raises(TableError, match="a b c may be several combinations of dataset and model"):
        judge(frame(rows), problem="dataset,model", baseline="SGD")


def test_columns_of_one_name_are_refused() -> None:
    twice = pd.concat([frame(table()), frame(table())[["test_acc"]]], axis=1)
    with pytest.raises(TableError, match="several columns named 'test_acc'"):
        judge(twice, baseline="SGD")


@pytest.mark.parametrize("method", ["SGD", "SAM"])
def test_a_side_without_any_score_gets_no_verdict(method: str) -> None:
    rows = changed(table(), of(method), test_acc=math.inf)
    verdicts = judge(frame(rows), baseline="SGD").verdicts.set_index(["problem", "method"]).verdict
    assert verdicts["digits", "SAM"] == "insufficient data"
    assert verdicts["letters", "SAM"] == "helps"
    assert (verdicts["digits", "Lion"] == "insufficient data") is (method == "SGD")


def test_names_and_places_of_runs_are_no_settings() -> None:
    rows = [
        row
        | {"params.output_dir": f"/out/{k}", "params.run_name": f"run {k}", "params.gpu_id": k % 8, "params.lr": 0.1}
        for k, row in enumerate(table())
    ]
    assert "several configurations" not in kinds(judge(frame(rows), baseline="SGD"))


def test_the_order_of_rows_changes_nothing() -> None:
    rows = table()
    shuffled = [rows[k] for k in np.random.default_rng(0).permutation(len(rows))]
    one, other = (sorted(map(repr, numbers(judge(frame(some), baseline="SGD")))) for some in (rows, shuffled))
    assert one == other


def test_a_method_may_be_called_none(tmp_path: Path) -> None:
    rows = changed(table(), lambda row: row["optimizer"] == "SGD", optimizer="None")
    found = judge(as_csv(rows, tmp_path), baseline="None")
    assert found.findings.methods[0] == "None"


# --- what is said -------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_took_and_fits_80_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = as_csv(without(table(), of("SAM", 3)), tmp_path)
    assert main([path, "--baseline", "SGD"]) == 0
    text = capsys.readouterr().out
    assert "method    optimizer (guessed): SGD, SAM, Lion" in text
    assert "baseline  SGD\n" in text
    assert "NOT TUNED HERE" in text
    assert "missing pairs: 1 of 8 seeds of SAM in digits have no pair: SAM lacks seed 3." in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80


def test_options_of_the_command_are_those_of_the_function(tmp_path: Path) -> None:
    rows = [row | {"test_mae": 10 * (1 - row["test_acc"]), "flops": 1} for row in table()]
    path = as_csv(rows, tmp_path)
    out = tmp_path / "out"
    given = ["--method", "optimizer", "--problem", "dataset", "--seed", "seed", "--score", "test_mae", "--cost",
             "flops", "--baseline", "SGD", "--baseline", "Lion", "--delta", "0.05", "--delta", "letters=0.02",
             "--lower-is-better", "--unit", "k$", "--unpaired", "--alpha", "0.1", "--out", str(out)]  # fmt: skip
    assert main([path, *given]) == 0
    reference = judge(
        path, method="optimizer", problem="dataset", seed="seed", score="test_mae", cost="flops",
        baseline=["SGD", "Lion"], delta={"": 0.05, "letters": 0.02}, higher_is_better=False, unit="k$", paired=False,
        alpha=0.1,
    )  # fmt: skip
    assert repr(read_findings(out / "findings.json")) == repr(reference.findings)
    assert reference.findings.deltas == {"digits": 0.05, "letters": 0.02}
    assert pd.read_csv(out / "verdicts.csv").verdict.tolist() == reference.verdicts.verdict.tolist()


@pytest.mark.parametrize(
    "delta", [["--delta", "x"], ["--delta", "1", "--delta", "2"], ["--delta", "a=1", "--delta", "a=2"]]
)
def test_a_delta_that_is_none(delta: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([as_csv(table(), tmp_path), *delta]) == 2
    assert "--delta" in capsys.readouterr().err


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "python -m study.judge runs.csv" in capsys.readouterr().out


def test_a_studys_folder_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").touch()
    with pytest.raises(TableError, match="results folder of a study"):
        judge(frame(table()), baseline="SGD").save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["spec.toml"]


def test_a_file_may_have_any_name(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "dataset"} for row in table(problems=("digits",))]
    frame(rows).to_csv(tmp_path / "mean.csv", index=False)
    assert {effect.n for effect in judge(tmp_path / "mean.csv", baseline="SGD").findings.effects} == {SEEDS}
