"""Every verdict has its sentence, and no sentence says more than its verdict."""

import math
from dataclasses import replace

import pytest

from dashboards import prose
from dashboards.cells import LabelledCell
from dashboards.comparisons import NOT_YET
from dashboards.figures.training import curves
from dashboards.figures.tuning import rho
from dashboards.figures.when import forest
from dashboards.score import Score
from dashboards.tables import beside_verdicts
from dashboards.tables.verdicts import Wording
from study.findings import Caveat, DeltaStrip, Findings, MethodSummary, RunCounts
from study.stats import Effect
from study.stats.effects import Against
from study.stats.typical import Typical

CELLS = {
    name: LabelledCell(name, name, "digits", {"label_noise": noise, "schedule": schedule})
    for name, noise, schedule in (
        ("a", 0.0, "cosine"), ("b", 0.0, "constant"), ("c", 0.3, "cosine"), ("d", 0.3, "constant"),
    )
}  # fmt: skip
DONE = RunCounts(planned=40, completed=40, diverged=0, failed=0)


def effect(
    cell: str, method: str, verdict: str = "helps", budget: str = "G", n: int = 6, mean: float = 0.01, **other: object
) -> Effect:
    against = (Against("SGD last", mean, (mean - 0.001, mean + 0.001), 0.001, 0.9 - mean),) * 2
    made = Effect(
        cell=cell, task="digits", factors=(), kind="tuned", method=method, baseline="SGD last", budget=budget,
        metric="test_score", unit="replicate", units=tuple(range(1, n + 1)), method_values=(0.9,) * n,
        baseline_values=(0.9 - mean,) * n, differences=(mean,) * n, planned=6, diverged_method=0, diverged_baseline=0,
        mean=mean if n else math.nan, sd=0.001, sd_seed=math.nan, sd_tuning=math.nan, ci95=(mean - 0.001, mean + 0.001),
        ci90=(mean - 0.001, mean + 0.001), n=n, p=0.001, p_holm=0.001, share_better=1.0,
        share_better_ci95=(0.6, 1.0), minimum_detectable=0.002, cost_ratio=1.0, against=against, off=0,
        candidates=6, informative=True, clear=True, verdict=verdict,
    )  # type: ignore[arg-type]  # fmt: skip
    return replace(made, **other)  # type: ignore[arg-type]


def summary(method: str, **cells: str) -> MethodSummary:
    lists = {place: tuple(cells.get(place, "")) for place in ("helps", "helps_if_free", "hurts", "null", "undecided")}
    return MethodSummary(method=method, cost_ratio=2.0, **lists)


@pytest.fixture
def findings(study) -> Findings:
    return replace(
        study.findings,
        counts=DONE,
        effects=tuple(effect(cell, method) for cell in CELLS for method in ("SWA", "SAM")),
        caveats=(),
        summaries=(),
    )


def first_fact(findings: Findings, cells: dict[str, LabelledCell]) -> str:
    return prose.answer_of(findings, cells)["What"]


def answer(findings: Findings, *summaries: MethodSummary) -> str:
    return first_fact(replace(findings, summaries=summaries), CELLS)


OF_EACH = "over the strongest SGD of each, the largest 90.00\u202f% against 89.00\u202f% test accuracy"
AT = "At up to 2× the gradient evaluations, "


def test_helps_names_the_cells_that_a_factor_singles_out(findings) -> None:
    said = answer(findings, summary("SWA", helps="bd", null="ac"), summary("SAM", helps="cd", undecided="ab"))
    assert said == (
        f"{AT}SWA helps in 2 of 4 problems (those with constant rate; +1.00 points {OF_EACH}); "
        f"SAM helps in 2 of 4 problems (those with 30 % noisy labels; +1.00 points {OF_EACH}); "
        "no method hurts in any."
    )


def test_a_single_problem_has_its_scores_and_its_baseline(findings) -> None:
    said = answer(findings, summary("SWA", helps="c"), summary("SAM", helps="ad"), summary("WASAM", helps="ad"))
    assert said == (
        f"{AT}SAM and WASAM help in 2 of 4 problems (+1.00 points {OF_EACH}); SWA helps in 1 of 4 "
        "problems (c; +1.00 points over SGD last: 90.00\u202f% against 89.00\u202f% test accuracy); no method hurts in "
        "any."
    )
    named = {**CELLS, "c": replace(CELLS["c"], epochs=15)}
    said = first_fact(replace(findings, summaries=(summary("SWA", helps="c"),)), named)
    assert "over SGD, 15 epochs, last weights: 90.00" in said


def test_a_method_that_helps_nowhere_is_named_too(findings) -> None:
    said = answer(findings, summary("SWA", null="abcd"), summary("SAM", helps="abcd"))
    assert said == (
        f"{AT}SAM helps in all of the 4 problems (+1.00 points {OF_EACH}); SWA helps in none; no method hurts in any."
    )


def test_hurts_is_said(findings) -> None:
    said = answer(findings, summary("SWA", helps="a", hurts="b", null="cd"), summary("SAM", hurts="b", null="acd"))
    assert said.startswith(f"{AT}SWA helps in 1 of 4 problems (a; ")
    assert "; SWA and SAM hurt in 1 of 4 problems (b; +1.00 (SWA) and +1.00 (SAM) points" in said
    assert "no method hurts" not in said
    alone = answer(findings, summary("SWA", hurts="b", null="acd"))
    assert alone.startswith(f"{AT}no method helps in any of the 4 problems; SWA hurts in 1 of 4 problems (b; ")


def test_a_null_result_is_said_as_one_with_the_gain_that_came_nearest(findings) -> None:
    verdicts = {"a": "no material effect", "b": "inconclusive"}
    effects = tuple(
        replace(e, verdict=verdicts.get(e.cell, "no material effect"), mean=0.004 if e.cell == "d" else -0.001)
        for e in findings.effects
    )
    nothing = replace(findings, effects=effects)
    said = answer(nothing, summary("SWA", null="acd", undecided="b"), summary("SAM", null="acd", undecided="b"))
    assert said == (
        f"{AT}no method helps in any of the 4 problems (of 8 comparisons: no material effect in 6 and undecided in 2); "
        "the largest gain is SWA's in d, +0.40 points over SGD last: 90.00\u202f% against 89.00\u202f% test accuracy."
    )


def test_what_only_costless_compute_buys_is_said(findings) -> None:
    said = answer(findings, summary("SWA", helps="a"), summary("SAM", helps_if_free="bc", null="ad"))
    assert said.endswith("no method hurts in any; only if compute is free (at equal epochs) SAM in 2 more.")


def test_equal_epochs_are_named_when_nothing_else_was_compared(findings) -> None:
    alone = replace(findings, primary_budget="E", effects=tuple(replace(e, budget="E") for e in findings.effects))
    assert answer(alone, summary("SWA", helps="a")).startswith("At equal epochs, ")


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        (RunCounts(40, 0, 0, 0), "No verdict yet: no run has finished."),
        (RunCounts(40, 10, 1, 1), "No verdict yet: 12 of 40 planned runs are done. Verdicts come with the last one."),
        (RunCounts(40, 0, 0, 40), "No verdict: all 40 runs failed."),
        (RunCounts(1, 0, 0, 1), "No verdict: the only run failed."),
    ],
)
def test_no_verdict_before_its_time(findings, counts: RunCounts, sentence: str) -> None:
    effects = () if counts.failed == counts.ended else findings.effects
    early = replace(findings, counts=counts, effects=effects, summaries=(summary("SWA", helps="abcd"),))
    assert not prose.has_verdict(early)
    told = prose.answer_of(early, CELLS)
    assert told["What"] == sentence
    assert not {"At what cost", "Would flip"} & told.keys()
    assert "Holm" not in told.get("How surely", "")


def test_a_study_without_confirmations_says_what_is_missing_and_the_command(findings) -> None:
    nothing = tuple(effect(cell, "SWA", NOT_YET, n=0) for cell in CELLS)
    tuned = replace(findings, counts=RunCounts(40, 30, 0, 0), effects=nothing)
    command = "python -m study.run --resume quick"
    told = prose.answer_of(tuned, CELLS, command)
    said = told["What"]
    assert [*told.items()][-1] == ("Go on with", command)
    assert said == (
        "No verdict yet: 30 of 40 planned runs are done. No comparison has its confirm runs yet, which alone are "
        "tested. Verdicts come with the last one."
    )
    assert prose.no_comparison(tuned, command).endswith(f"Go on with: {command}")
    assert "nothing was found" not in said.lower()


def test_one_replicate_gives_no_verdict(findings) -> None:
    one = replace(findings, effects=(effect("a", "SWA", "insufficient data", n=1),))
    assert answer(one, summary("SWA", undecided="a")).startswith(
        "No verdict: no comparison has enough data (the most is 1 complete replicate; insufficient is: fewer than 5"
    )


def test_the_second_fact_has_replicates_intervals_family_and_scope(findings) -> None:
    effects = tuple(
        effect(cell, method, "helps" if (cell, method) == ("a", "SWA") else "inconclusive", clear=False)
        for cell in CELLS
        for method in ("SWA", "SAM")
    )
    said = prose.how_surely(replace(findings, effects=effects, counts=RunCounts(40, 37, 2, 1)), CELLS)
    assert said.startswith(
        "Over 6 paired replicates, each tuned anew and confirmed on 1 fresh seed; SWA [+0.90, +1.10] points (95 %), "
        "Holm p .001 among 4, size uncertain; of 40 runs 2 diverged and 1 failed. Verdicts on digits speak of "
    )
    many = prose.how_surely(findings, CELLS)
    assert "all 8 verdicts that a method helps or hurts are clear (least sure: Holm p .001 among 4)" in many


def test_the_third_fact_is_the_cost(findings) -> None:
    told = replace(findings, summaries=(summary("SAM"), replace(summary("SWA"), cost_ratio=1.0), summary("WASAM")))
    assert prose.cost(told) == (
        "A run takes, in gradient evaluations of SGD at equal epochs: SAM and WASAM 2.00×; SWA 1.00×."
    )


def test_only_what_turns_a_verdict_that_decides_would_flip_it(findings) -> None:
    strip = findings.delta_strips[0]

    def along(cell: str, method: str, *verdicts: str) -> DeltaStrip:
        at = zip((0.00125, 0.0025, 0.005, 0.01, 0.02), verdicts, strict=True)
        return replace(strip, cell=cell, method=method, budget="G", verdicts=tuple(at))

    null, helps = "no material effect", "helps"
    strips = (
        along("a", "SWA", helps, helps, helps, null, null),
        along("a", "SAM", "inconclusive", "inconclusive", null, null, null),
    )
    effects = (
        effect("a", "SWA"), effect("a", "SAM", null), effect("b", "SAM", "inconclusive"),
        effect("b", "SAM", helps, budget="E"), effect("a", "SAM", "inconclusive", budget="E"),
    )  # fmt: skip
    told = replace(findings, effects=effects, delta_strips=strips)
    assert prose.flips(told, CELLS) == f"SWA in a: {null} at twice δ; SAM in b: helps at equal epochs."
    assert prose.flips(replace(told, effects=effects[:2], delta_strips=strips[1:]), CELLS) == ""


def test_forest_heading_gives_the_range_of_gains(findings) -> None:
    effects = (effect("a", "SWA", mean=0.01), effect("b", "SWA", mean=-0.002), effect("a", "SAM", mean=0.03))
    data = forest.forest_of(replace(findings, effects=effects), CELLS)
    assert forest.heading_of(data) == (
        "Mean gains over the strongest baseline, in points: SWA −0.20 to +1.00 and SAM +3.00"
    )


def test_interaction_heading_follows_the_interval() -> None:
    found = [(-0.01, (-0.02, -0.005)), (0.01, (0.005, 0.02)), (0.0, (-0.01, 0.01)), (0.0, (math.nan, math.nan))]
    assert beside_verdicts.interaction_heading(found) == (
        "Together, SAM and averaging give less than the sum of their gains in 1, more in 1, and no difference "
        "from the sum is shown in 2 of 4 problems"
    )


def test_the_other_headings_state_numbers() -> None:
    assert (
        rho.heading_of([(0.05, 0.2), (0.1,)]) == "SAM's selected rho runs from 0.05 to 0.2 in 3 picks over 2 problems"
    )
    assert rho.heading_of([(0.05,)]) == "SAM's selected rho is 0.05 in 1 pick over 1 problem"
    assert rho.heading_of([(0.0, 0.2)]).endswith("over 1 problem; it is 0, which is no perturbation, in 1")
    assert rho.heading_of([(), ()]) == "No rho has been selected yet"
    assert beside_verdicts.selections_heading(0, 8).startswith("None of the 8")
    assert (
        beside_verdicts.selections_heading(2, 8)
        == "2 of 8 selected configurations lie at the edge of the searched space"
    )
    accuracy, error = Score("accuracy", share=True), Score("MAE", share=False, unit="k$", higher_is_better=False)
    ends = {"SGD": (0.1, 0.2, 0.3, 0.4), "SAM": (0.2, 0.3, 0.4, 0.3)}
    data = [
        curves.Curve(f"cell {i}", method, {1: Typical(1, end, (math.nan, math.nan))})
        for method, all_ends in ends.items()
        for i, end in enumerate(all_ends)
    ]
    for score, words in ((accuracy, "higher with SAM"), (error, "lower, that is better, with SAM")):
        assert curves.heading_of(data, score).endswith(f" is {words} than with SGD in 3 of 4 problems")
    assert curves.heading_of(data[:4], accuracy) == "Validation accuracy while training"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "helps at G and E, clear"),
        ({"clear": False}, "helps at G and E, size uncertain"),
        ({"verdict": "hurts"}, "hurts at G and E, clear"),
        ({"verdict": "no material effect"}, "no material effect"),
        ({"verdict": "no material effect", "differences": (0.0,) * 6, "off": 6}, "no material effect (always off)"),
        ({"verdict": "inconclusive", "p_holm": 0.06, "p": 0.01}, "inconclusive after correction for 4 problems"),
        ({"verdict": "inconclusive", "p_holm": 0.6, "p": 0.3}, "inconclusive, not every baseline is beaten"),
        (
            {"verdict": "inconclusive", "p_holm": 0.2, "p": 0.06, "mean": -0.01, "ci95": (-0.02, -0.001)},
            "inconclusive after correction for 2 baselines",
        ),
        ({"verdict": "inconclusive", "p_holm": 0.001}, "inconclusive"),  # its mean is below δ: no correction's doing
        ({"verdict": "inconclusive", "p_holm": 0.9, "p": 0.9, "ci95": (-0.02, 0.01)}, "inconclusive"),
        ({"verdict": NOT_YET, "p_holm": None}, "not yet"),
    ],
)
def test_a_verdict_says_what_belongs_to_it(changes: dict, words: str) -> None:
    found = replace(effect("a", "SAM"), **changes)
    assert Wording(0.05, {("SAM", "G"): 4}).verdict(found, ("G", "E")) == words


def test_delta_is_said_task_by_task_where_tasks_differ(findings) -> None:
    same = replace(findings, deltas={"digits": 0.005, "mnist1d": 0.005})
    assert prose.deltas(same) == "δ = 0.50 points"
    apart = replace(findings, deltas={"digits": 0.005, "mnist1d": 0.02})
    assert prose.deltas(apart) == "δ (0.50 in digits and 2.00 in mnist1d; points)"


def test_the_scope_is_said_by_task(findings) -> None:
    assert prose.scope(replace(findings, scopes={"a": "this part", "b": "this part"})) == "Verdicts speak of this part."
    said = prose.scope(replace(findings, scopes={"a": "this part", "b": "that"}))
    assert said == "Verdicts on a speak of this part. Verdicts on b speak of that."
    assert prose.scope(replace(findings, scopes={})) == ""


def test_budgets_are_ceilings_and_under_protocol_1_they_were_spent(findings) -> None:
    ceiling = replace(findings, spec=findings.spec | {"gradient_ceiling": 3.0})
    assert answer(ceiling, summary("SWA", helps="a")).startswith("At up to 3× the gradient evaluations, ")
    old = replace(findings, protocol=1)
    assert answer(old, summary("SWA", helps="a")).startswith("At equal gradient evaluations, all of them spent, ")


def test_marks_are_the_caveats_about_the_design(findings) -> None:
    caveats = tuple(Caveat(kind, "", "", f"about {kind}") for kind in ("failed runs", "protocol 1", "few replicates"))
    assert prose.marks(replace(findings, caveats=caveats)) == [
        ("Protocol 1", "about protocol 1"),
        ("Few replicates", "about few replicates"),
    ]
