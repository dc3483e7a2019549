"""Finished studies side by side: the relabelling against a slow twin, its size and power, and the command."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats
from scipy.stats import binomtest
from synthetic import repeated_study, write_results

from study.findings.gains import Comparison, gains_of
from study.replicate import comparable, in_words, main, put_together, relabelled, side_by_side, table
from study.specs.spec import parse_spec
from study.stats.replication import Relabelling, agreement, flipped, relabelling_test
from study.store.folder import freeze_spec

STUDIES, SIZE = 3, 4
LABELS = [study for study in range(STUDIES) for _ in range(SIZE)]
thousandths = st.integers(-1000, 1000).map(lambda k: k / 1000)
tables = st.lists(
    st.lists(thousandths, min_size=len(LABELS), max_size=len(LABELS)), min_size=1, max_size=4
)  # fmt: skip


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def slow_statistic(table: Sequence[Sequence[float]], labels: Sequence[int]) -> float:
    """Return the mean over rows of SciPy's F, which is the between- over the within-study variance."""
    ratios = []
    for row in table:
        groups = [
            [value for value, label in zip(row, labels, strict=True) if label == study and not math.isnan(value)]
            for study in sorted(set(labels))
        ]
        ratios.append(float(stats.f_oneway(*(group for group in groups if group)).statistic))
    return float(np.mean(ratios))


def varied(table: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    return [row for row in table if len(set(row)) > 1]


@given(tables)
def test_the_statistic_is_the_mean_of_the_f_ratios(table: list[list[float]]) -> None:
    found = relabelling_test(table, LABELS, 1, rng())
    assert (found.rows, found.equal) == (len(varied(table)), len(table) - len(varied(table)))
    if not found.rows:
        assert math.isnan(found.statistic)
        assert math.isnan(found.p)
        assert not found.differs
        return
    with np.errstate(divide="ignore", invalid="ignore"):
        reference = slow_statistic(varied(table), LABELS)
    if math.isfinite(reference):
        assert_allclose(found.statistic, reference, rtol=1e-6, atol=1e-9)


def test_a_row_that_lacks_replicates_counts_with_those_that_it_has() -> None:
    table = rng(1).normal(size=(5, len(LABELS)))
    table[1, [0, 5]] = math.nan
    table[3, [9]] = math.nan
    found = relabelling_test(table.tolist(), LABELS, 1, rng())
    assert_allclose(found.statistic, slow_statistic(table.tolist(), LABELS), rtol=1e-9)
    assert relabelling_test([[math.nan] * len(LABELS), *table.tolist()], LABELS, 1, rng()).equal == 1


def test_p_is_that_of_all_relabellings_of_the_columns_together() -> None:
    labels = [0, 0, 0, 1, 1, 1]
    table = rng(3).normal(size=(3, 6))
    table[:, :3] += 1.0
    observed = slow_statistic(table.tolist(), labels)
    every = [
        slow_statistic(table.tolist(), [0 if column in chosen else 1 for column in range(6)])
        for chosen in itertools.combinations(range(6), 3)
    ]
    exact = float(np.mean([value >= observed * (1 - 1e-9) for value in every]))
    found = relabelling_test(table.tolist(), labels, 20_000, rng())
    assert found.p == pytest.approx(exact, abs=0.02)


def test_rows_that_repeat_each_other_are_no_new_evidence() -> None:
    """Relabelled row by row, ten copies of one row would look like ten tests that agree."""
    row = [0.3, 0.4, 0.5, 0.2, *rng(7).normal(0, 0.3, 8)]
    one, ten = (relabelling_test([row] * count, LABELS, 2_000, rng()) for count in (1, 10))
    assert (one.statistic, one.p) == pytest.approx((ten.statistic, ten.p))


@settings(max_examples=30)
@given(tables, st.permutations(range(STUDIES)), st.floats(0.1, 10))
def test_neither_names_nor_order_nor_scale_matter(table: list[list[float]], names: Sequence[int], scale: float) -> None:
    one = relabelling_test(table, LABELS, 50, rng())
    renamed = relabelling_test(table, [names[label] for label in LABELS], 50, rng())
    scaled = relabelling_test([[scale * value for value in row] for row in table], LABELS, 50, rng())
    assert_allclose([renamed.statistic, scaled.statistic], [one.statistic] * 2, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_valid_studies_are_told_apart_no_more_often_than_the_level() -> None:
    """Comparisons share much of their noise, and a third of the gains are exactly zero."""
    numbers, sets, labels = rng(5), 1000, np.repeat(range(3), 10).tolist()
    differ = 0
    for _ in range(sets):
        shared = numbers.normal(size=(1, 30))
        gains = (shared + numbers.normal(size=(12, 30))) * (numbers.random((12, 30)) > 0.3)
        differ += relabelling_test(gains.tolist(), labels, 299, numbers).differs
    assert binomtest(differ, sets, 0.01, alternative="greater").pvalue > 0.01


@pytest.mark.slow
def test_variance_that_the_spread_within_a_study_lacks_is_found() -> None:
    """Protocol 1's fault: one tuning a study, as large as the noise of a seed."""
    numbers, sets, labels = rng(6), 100, np.repeat(range(3), 10).tolist()
    differ = 0
    for _ in range(sets):
        tuning = np.repeat(numbers.normal(size=(12, 3)), 10, axis=1)
        differ += relabelling_test((tuning + numbers.normal(size=(12, 30))).tolist(), labels, 299, numbers).differs
    assert differ >= 0.95 * sets


def test_agreement_counts_pairs_and_flips_are_helps_against_hurts() -> None:
    assert agreement([["helps", "helps", "inconclusive"], ["hurts"] * 3]) == (4, 6)
    assert agreement([]) == (0, 0)
    assert flipped(["helps", "inconclusive", "hurts"])
    assert not flipped(["helps", "inconclusive", "no material effect"])
    assert not flipped(["hurts", "hurts"])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return three studies of one question, in folders whose order is not that of their seeds."""
    root = tmp_path_factory.mktemp("studies")
    return [write_results(root / name, *repeated_study(seed)) for name, seed in (("c", 2), ("a", 0), ("b", 1))]


def test_the_command_prints_every_study_of_every_comparison(
    folders: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folder) for folder in folders]) == 0
    printed = capsys.readouterr().out
    table, _, words = printed.partition("\n\n")
    studies = comparable(folders)
    assert [study.spec.seed for study in studies] == [0, 1, 2]
    rows = side_by_side(studies)
    lines = table.splitlines()[1:]
    assert len(lines) == 4 * len(rows)
    every = [effect for effects in rows.values() for effect in effects]
    for line, effect in zip([line for line in lines if " all " not in line], every, strict=True):
        assert f"{effect.mean:+.4f}" in line
        assert f"{effect.ci95[0]:+.4f} to {effect.ci95[1]:+.4f}" in line
        assert effect.verdict in line
    same, pairs = agreement([[effect.verdict for effect in effects] for effects in rows.values()])
    assert f"agree in {same} of {pairs} pairs" in words
    assert words.count("passed") == 2
    assert main([str(folder) for folder in reversed(folders)]) == 0
    assert capsys.readouterr().out == printed  # the order in which folders are given does not matter


def test_code_that_was_changed_between_studies_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def made(seed: int, **sources: str) -> str:
        spec, records = repeated_study(seed)
        own = {"task_source": sources["task"], "own_sources": {"own:Lion": sources["optimizer"]}}
        return str(write_results(tmp_path / f"{seed}", spec, [record.model_copy(update=own) for record in records]))

    first = made(0, task="my_task.py=0a net.py=1b", optimizer="own.py=2c")
    same = made(1, task="my_task.py=0a net.py=1b", optimizer="own.py=2c")
    assert main([first, same]) == 0
    assert "NOTE" not in capsys.readouterr().out
    other = made(2, task="my_task.py=0a net.py=99", optimizer="own.py=98")
    assert main([first, same, other]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("NOTE")]
    assert len(notes) == 2
    assert "the source of digits was changed in between (net.py; seeds 0, 2)" in notes[0]
    assert "the source of own:Lion was changed in between (own.py; seeds 0, 2)" in notes[1]


def test_gains_are_those_of_the_findings_where_the_baseline_is_the_same(folders: list[Path]) -> None:
    for study in comparable(folders):
        gains = gains_of(study.spec, study.records)
        assert gains
        assert all(len(by_baseline) >= 2 for by_baseline in gains.values())
        for effect in study.findings.effects:
            by_unit = gains[Comparison(effect.cell, effect.method, effect.budget)][effect.baseline]
            assert tuple(by_unit.values()) == effect.differences
            assert tuple(by_unit) == effect.units


def test_relabelling_holds_all_replicates_against_one_baseline(folders: list[Path]) -> None:
    """The gains that are relabelled don't depend on which study a replicate belongs to."""
    studies = comparable(folders)
    together = put_together(studies)
    found = relabelled(together.values(), 500, rng())
    pooled = []
    for comparison in side_by_side(studies):
        by_study = [gains_of(study.spec, study.records)[comparison] for study in studies]
        means = {name: np.mean([list(gains[name].values()) for gains in by_study]) for name in by_study[0]}
        strongest = together[comparison].baseline
        assert means[strongest] == pytest.approx(min(means.values()))
        pooled.append([gain for gains in by_study for gain in gains[strongest].values()])
    labels = [number for number, study in enumerate(studies) for _ in range(study.spec.replicates)]
    assert found.statistic == pytest.approx(slow_statistic(varied(pooled), labels))
    assert found.rows + found.equal == len(pooled)
    printed = table(studies, side_by_side(studies), together)
    for gains, comparison in zip(pooled, side_by_side(studies), strict=True):
        row = together[comparison]
        assert sorted(row.gains.values()) == sorted(gains)
        reference = stats.ttest_1samp(gains, 0)
        low, high = reference.confidence_interval()
        assert f"all  {np.mean(gains):+.4f}" in printed
        assert math.isnan(low) or f"{low:+.4f} to {high:+.4f}" in printed


def test_studies_that_differ_by_more_than_their_replicates_fail(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shifted = write_results(tmp_path / "d", *repeated_study(3, gains={"SAM": 0.02, "WASAM": 0.02}))
    assert main([*map(str, folders), str(shifted)]) == 1
    printed = capsys.readouterr().out
    assert "Gate 2, FAILED: studies differ by more than their replicates do" in printed


def test_helps_against_hurts_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    helps, hurts = (
        write_results(tmp_path / str(seed), *repeated_study(seed, gains={"SAM": gain}))
        for seed, gain in ((0, 0.03), (1, -0.03))
    )
    assert main([str(helps), str(hurts)]) == 1
    assert "Gate 1, FAILED: helps in one study and hurts in another: SAM in digits" in capsys.readouterr().out


def test_rows_without_a_difference_are_left_out_and_counted() -> None:
    nothing, some = Relabelling(math.nan, math.nan, 0, 4), Relabelling(1.1, 0.3, 5, 2)
    assert "Gate 2, passed: no comparison has gains that differ (4 left out" in in_words({}, [], nothing)
    assert "over 5 comparisons (2 left out, whose gains are all equal)" in in_words({}, [], some)


def refused(arguments: Sequence[str | Path], capsys: pytest.CaptureFixture[str]) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1  # one sentence
    return printed.err


def test_what_can_not_be_compared_is_refused(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "at least two studies are compared" in refused(folders[:1], capsys)
    assert "both have seed = 2" in refused([folders[0], folders[1], folders[0]], capsys)
    assert "it has no spec.toml" in refused([folders[0], tmp_path], capsys)
    other = write_results(tmp_path / "other", *repeated_study(5, delta=0.01))
    assert "differ in delta; studies of one spec" in refused([folders[0], other], capsys)
    spec, records = repeated_study(6)
    lost = next(record for record in records if record.job.stage == "confirm")
    unfinished = write_results(tmp_path / "unfinished", spec, [one for one in records if one is not lost])
    assert f"holds {len(records) - 1} of {len(records)} runs" in refused([folders[0], unfinished], capsys)
    old = parse_spec(PROTOCOL_1, "old", frozen=True)
    freeze_spec(tmp_path / "old", old, PROTOCOL_1)
    assert "a study of protocol 1" in refused([tmp_path / "old", folders[0]], capsys)


PROTOCOL_1 = """
name = "old"
question = "Does it help?"
confirm_seeds = 6
search = {trials = 2}
problems = [{task = "digits"}]
"""


def test_one_tuning_with_several_seeds_is_compared_seed_by_seed() -> None:
    spec, records = repeated_study(0, replicates=1, confirms=5)
    gains = gains_of(spec, records)
    confirm_seeds = {record.job.seed for record in records if record.job.stage == "confirm"}
    assert all(set(by_unit) == confirm_seeds for of in gains.values() for by_unit in of.values())


@pytest.mark.parametrize("arguments", [["a", "b", "--permutations", "50"], ["a", "b", "--seed", "x"], []])
def test_bad_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "examples:" in printed
    assert "exit codes:" in printed
