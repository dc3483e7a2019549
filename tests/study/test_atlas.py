"""A part of the atlas says what its study's findings say, and nothing is added that can't be put beside the others."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic import synthetic_study, write_results

import study
from study.atlas.__main__ import main
from study.atlas.adding import check_study, part_of, short
from study.atlas.card import CARD, FRONT, fill_in, front, tables, varied
from study.atlas.columns import GAINS, TRIALS
from study.atlas.domains import DOMAINS
from study.atlas.frames import OVER, PARTS, facts_of_parts, load_gains, load_trials
from study.atlas.part import PartError, part_files, read_facts, read_part, write_part
from study.atlas.replication import relabelled, replicated
from study.atlas.verdicts import verdicts
from study.findings import find
from study.plan.cells import cells
from study.records import FEATURES, RunRecord
from study.replicate import comparable, put_together
from study.replicate import relabelled as relabelled_studies
from study.specs.spec import StudySpec, builtin_specs, parse_spec
from study.specs.tasks import TASKS
from study.stats.replication import agreement

SGD = ("SGD", "SWA", "EMA", "SAM", "WASAM")
ADAMW = ("AdamW", "AdamW+SWA", "AdamW+EMA", "AdamW+SAM", "AdamW+WASAM")
SPECS = {name: parse_spec(text, name) for name, text in builtin_specs().items() if name.startswith("atlas/")}


def finished(**settings: Any) -> tuple[StudySpec, list[RunRecord]]:
    """Return a study of two tasks that may be a part; every run that is described has features of its own."""
    asked: dict[str, Any] = {
        "methods": list(SGD), "trials": 3, "replicates": 5, "confirms": 2, "features": True, "ema_decays": [0.9],
        "factors": {"label_noise": [0.0, 0.3]},
    }  # fmt: skip
    spec, records = synthetic_study(**(asked | settings))
    return spec, [described(record) for record in records]


def described(record: RunRecord) -> RunRecord:
    if not record.job.features:
        return record
    return record.model_copy(
        update={"features": {name: record.job.replicate + index for index, name in enumerate(FEATURES)}}
    )


@pytest.fixture(scope="module")
def part_study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudySpec, list[RunRecord]]:
    spec, records = finished()
    return write_results(tmp_path_factory.mktemp("study"), spec, records), spec, records


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory, part_study: tuple[Path, StudySpec, list[RunRecord]]) -> Path:
    """A folder with the part of that study in it."""
    folder = tmp_path_factory.mktemp("parts")
    write_part(part_of(part_study[0]), folder)
    return folder


def test_gains_are_those_of_the_findings(part_study: tuple[Path, StudySpec, list[RunRecord]], shelf: Path) -> None:
    _, spec, records = part_study
    gains = load_gains(shelf).set_index(["cell", "method", "budget", "replicate"]).sort_index()
    effects = find(spec, records).effects
    assert len(gains) == sum(effect.n for effect in effects) == 4 * 4 * 2 * 5
    names = dict(zip(("SGD last", "SGD best", "SGD last, 2× epochs", "SGD best, 2× epochs"), OVER, strict=True))
    for effect in effects:
        rows = gains.loc[effect.cell, effect.method, effect.budget]
        assert tuple(rows["gain"]) == effect.differences
        assert tuple(rows["score"]) == pytest.approx(effect.method_values)
        assert {*rows["baseline"]} == {names[effect.baseline]}
        for against in effect.against:
            assert rows[names[against.baseline]].mean() == pytest.approx(against.mean)
        assert rows["off"].sum() == effect.off
        assert rows["over_best_longer"].isna().all() == (effect.budget == "E")


@pytest.mark.parametrize("budget", ["E", "G"])
def test_verdicts_are_those_of_the_findings(
    budget: Any, part_study: tuple[Path, StudySpec, list[RunRecord]], shelf: Path
) -> None:
    _, spec, records = part_study
    gains = load_gains(shelf)
    effects = [effect for effect in find(spec, records).effects if effect.budget == budget]
    assert len({effect.verdict for effect in effects}) > 1
    for method in SGD[1:]:
        rows = gains[(gains["method"] == method) & (gains["budget"] == budget)]
        assert verdicts(rows, budget) == {
            ("synthetic", effect.cell): effect.verdict for effect in effects if effect.method == method
        }


def test_picks_costs_and_features_are_those_of_the_runs(
    part_study: tuple[Path, StudySpec, list[RunRecord]], shelf: Path
) -> None:
    _, spec, records = part_study
    gains = load_gains(shelf)
    findings = find(spec, records)
    longest = {"E": (1.0,), "G": (1.0, 2.0)}
    for row in gains.sample(40, random_state=0).to_dict("records"):
        lengths = longest[row["budget"]] if row["method"] in ("SWA", "EMA") else (1.0,)
        (chosen,) = [
            one
            for one in findings.selections
            if (one.cell, one.method, one.replicate, one.lengths)
            == (row["cell"], row["method"], row["replicate"], lengths)
        ]
        assert (row["learning_rate"], row["rho"], row["average_start"], row["length"], row["weights"]) == (
            chosen.learning_rate, chosen.rho, chosen.average_start, chosen.epochs_factor, chosen.weights,
        )  # fmt: skip
        searched = [
            run.gradient_evaluations
            for run in records
            if run.job.stage == "tune"
            and (run.job.cell, run.job.replicate, run.job.family) == (row["cell"], row["replicate"], chosen.family)
            and run.job.epochs_factor in lengths
        ]
        assert row["tuning_cost"] == sum(searched)
        (base,) = [
            run
            for run in records
            if run.features and (run.job.cell, run.job.replicate) == (row["cell"], row["replicate"])
        ]
        assert row["base_rate"] == base.job.learning_rate
        assert {name: row[name] for name in FEATURES} == base.features
        assert row["label_noise"] == base.job.factors["label_noise"]
        assert 0 < row["end_rate"] < row["base_rate"]  # annealed
        assert 0 < row["best_epoch"] <= 1
        assert row["early_stopping"] >= 0


def test_every_trial_is_there(part_study: tuple[Path, StudySpec, list[RunRecord]], shelf: Path) -> None:
    _, _, records = part_study
    trials = load_trials(shelf)
    tuned = [record for record in records if record.job.stage == "tune"]
    assert len(trials) == len(tuned)
    for column, name in (("learning_rate", "learning_rate"), ("rho", "rho")):
        assert sorted(trials[column]) == sorted(getattr(record.job, name) for record in tuned)
    assert (trials["best"] >= trials["last"]).all()
    assert trials.loc[trials["perturbed"], "ema"].isna().all()
    assert trials.loc[~trials["perturbed"], "ema"].notna().all()


def test_columns_are_those_that_the_card_explains(shelf: Path) -> None:
    part = read_part(part_files(shelf)[0])
    assert (list(part.gains), list(part.trials)) == (list(GAINS), list(TRIALS))
    assert {*GAINS} <= {*load_gains(shelf)}
    labels = {"part", "seed", "task", "domain", "base", "metric", "label_noise"}
    assert labels | {"gain", "crossed", "baseline"} <= {*load_gains(shelf)}


@pytest.mark.parametrize("methods", [SGD, ADAMW])
def test_methods_have_one_name_whatever_the_base(methods: Sequence[str], tmp_path: Path) -> None:
    spec, records = finished(methods=list(methods), tasks=("digits",), factors={}, replicates=5)
    part = part_of(write_results(tmp_path, spec, records))
    assert {*part.gains["method"]} == {"SWA", "EMA", "SAM", "WASAM"} == {*map(short, methods[1:])}
    assert part.facts.base == methods[0]


def test_a_part_is_small_and_reads_back_as_it_was(
    part_study: tuple[Path, StudySpec, list[RunRecord]], shelf: Path, tmp_path: Path
) -> None:
    part = part_of(part_study[0])
    held = read_part(part_files(shelf)[0])
    assert held.facts == part.facts
    pd.testing.assert_frame_equal(held.gains, part.gains, check_dtype=False)
    pd.testing.assert_frame_equal(held.trials, part.trials, check_dtype=False)
    assert parse_spec(part.facts.spec, "of the part").hash == part.facts.spec_hash == part_study[1].hash
    write_part(part, tmp_path)
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == [
        path.read_bytes() for path in sorted(shelf.iterdir())
    ]
    assert sum(path.stat().st_size for path in shelf.iterdir()) < 150_000


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"methods": ["SGD", "SWA", "SAM", "WASAM"]}, "has methods"),
        ({"methods": [*SGD, "ASAM"]}, "has methods"),
        ({"weights": ["last"]}, "has methods .* and weights = "),
        ({"budgets": ["G"]}, "has budgets"),
        ({"gradient_ceiling": 3.0}, "gradient_ceiling = 3"),
        ({"replicates": 4}, "has replicates = 4"),
        ({"features": False}, "has no features"),
        ({"failed": 0.2}, "failed runs; run them again"),
        ({"runs": 30}, "is not finished: 30 of"),
    ],
)
def test_what_can_not_be_put_beside_the_others_is_refused(
    settings: dict[str, Any], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, records = finished(**({"tasks": ("digits",), "factors": {}} | settings))
    folder = write_results(tmp_path / "study", spec, records) if (tmp_path / "study").mkdir() is None else tmp_path
    with pytest.raises(PartError, match=reason):
        part_of(folder)
    assert main(["add", str(folder), "--parts", str(tmp_path / "parts")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "parts").exists()


def test_a_study_that_was_extended_after_looking_is_refused(tmp_path: Path) -> None:
    spec, records = finished(tasks=("digits",), factors={}, replicates=5)
    write_results(tmp_path, spec, records)
    grown, more = finished(tasks=("digits",), factors={}, replicates=6)
    write_results(tmp_path, grown, more)
    with pytest.raises(PartError, match="was extended after 5 replicates had been seen"):
        part_of(tmp_path)


def test_a_changed_spec_and_no_study_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["add", str(tmp_path)]) == 2
    assert "holds no study" in capsys.readouterr().err
    spec, records = finished(tasks=("digits",), factors={})
    write_results(tmp_path, spec, records)
    file = tmp_path / "spec.toml"
    file.write_text(file.read_text().replace("trials = 3", "trials = 2"))
    assert main(["add", str(tmp_path)]) == 2
    assert "was changed after the study had started" in capsys.readouterr().err


def test_a_name_stands_for_one_study(tmp_path: Path) -> None:
    spec, records = finished(tasks=("digits",), factors={})
    part = part_of(write_results(tmp_path, spec, records))
    write_part(part, tmp_path / "parts")
    write_part(part, tmp_path / "parts")
    other, records = finished(tasks=("digits",), factors={}, trials=4)
    (tmp_path / "other").mkdir()
    with pytest.raises(PartError, match="is there already, of another spec"):
        write_part(part_of(write_results(tmp_path / "other", other, records)), tmp_path / "parts")
    assert len(load_gains(tmp_path / "parts")) == len(part.gains)


def test_what_is_no_part_is_said(tmp_path: Path, shelf: Path) -> None:
    (tmp_path / "x.gains.parquet").write_bytes(b"PAR1")
    with pytest.raises(PartError, match=r"x\.gains\.parquet is no part of the atlas"):
        load_gains(tmp_path)
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "x.gains.parquet")
    with pytest.raises(PartError, match=r"x\.gains\.parquet is no part of the atlas"):
        read_facts(tmp_path / "x.gains.parquet")


def test_a_task_of_ones_own_needs_a_domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, records = finished(tasks=("digits",), factors={})
    folder = write_results(tmp_path, spec, records)
    monkeypatch.delitem(DOMAINS, "digits")
    with pytest.raises(PartError, match="say which with --domain"):
        part_of(folder)
    assert part_of(folder, "images").facts.domains == {"digits": "images"}


def test_an_incomplete_row_is_left_out_and_the_strongest_baseline_is_one_for_the_cell(shelf: Path) -> None:
    gains = load_gains(shelf)
    for _, rows in gains.groupby(["cell", "method", "budget"]):
        means = rows[[*OVER]].mean()
        assert {*rows["baseline"]} == {means.idxmin()}
        assert rows["gain"].mean() == means.min()
    assert not any(map(math.isnan, gains["gain"]))


def test_a_score_in_another_unit_is_refused(tmp_path: Path) -> None:
    spec, records = finished(tasks=("diabetes",), factors={})
    with pytest.raises(PartError, match="the score of 'diabetes' is R²; the gains of the atlas are of accuracies"):
        part_of(write_results(tmp_path, spec, records))


@pytest.fixture(scope="module")
def twice(
    tmp_path_factory: pytest.TempPathFactory, part_study: tuple[Path, StudySpec, list[RunRecord]]
) -> tuple[Path, list[tuple[StudySpec, list[RunRecord]]]]:
    """A folder with a part under two seeds, and its studies."""
    folder = tmp_path_factory.mktemp("twice")
    studies = [part_study[1:], finished(study_seed=1, seed=1)]
    for number, (spec, records) in enumerate(studies):
        (folder / f"study-{number}").mkdir()
        assert main(["add", str(write_results(folder / f"study-{number}", spec, records)), "--parts", str(folder)]) == 0
    return folder, studies


def test_a_part_under_another_seed_replicates_it_and_is_not_counted_twice(
    twice: tuple[Path, list[tuple[StudySpec, list[RunRecord]]]], shelf: Path
) -> None:
    folder, _ = twice
    assert [path.name for path in sorted(folder.rglob("*.gains.parquet"))] == ["synthetic.gains.parquet"] * 2
    pd.testing.assert_frame_equal(load_gains(folder), load_gains(shelf))
    assert {*load_gains(folder / "seed-1")["seed"]} == {1}


def test_replicated_parts_say_what_their_studies_say(
    twice: tuple[Path, list[tuple[StudySpec, list[RunRecord]]]],
) -> None:
    folder, studies = twice
    both = pd.concat([load_gains(folder), load_gains(folder / "seed-1")], ignore_index=True)
    together = put_together(comparable([folder / "study-0", folder / "study-1"]))
    found = relabelled_studies(together.values(), 9_999, np.random.default_rng(0))
    mine = relabelled(both)
    assert (mine.rows, mine.equal) == (found.rows, found.equal)
    assert mine.statistic == pytest.approx(found.statistic)
    assert mine.p == pytest.approx(found.p, abs=0.02)
    rows = {row["method"]: row for row in replicated(folder)}
    assert [*rows] == [*SGD[1:]]
    for method, row in rows.items():
        effects = [
            [one for one in find(spec, records).effects if (one.method, one.budget) == (method, "G")]
            for spec, records in studies
        ]
        pairs = [(first.verdict, second.verdict) for first, second in zip(*effects, strict=True)]
        assert (row["agree"], row["verdicts"]) == agreement(pairs)
        first, second = (np.mean([one.differences for one in some], axis=0) for some in effects)
        assert (row["first"].mean, row["second"].mean) == pytest.approx((first.mean(), second.mean()))
        welch = stats.ttest_ind(second, first, equal_var=False).confidence_interval()
        assert row["difference"].ends == pytest.approx((welch.low, welch.high))
        assert row["p of the part"].value == mine.p


def test_the_shipped_atlas_is_what_its_card_and_the_front_page_say() -> None:
    text = CARD.read_text(encoding="utf-8")
    for name, found in tables(PARTS).items():
        assert f"<!-- {name} -->\n{found}<!-- /{name} -->" in text, "give `python -m study.atlas card`"
    said = front(PARTS)
    assert f"<!-- atlas -->\n{said}<!-- /atlas -->" in FRONT.read_text(encoding="utf-8"), "likewise"
    assert said.count("\n") == said.count(".\n") == 3
    assert sum(path.stat().st_size for path in PARTS.rglob("*.parquet")) <= 2_000_000
    gains = study.load("atlas")
    assert {*gains.get("part", ())} == {facts.name for facts in facts_of_parts(PARTS)}
    known = {spec.name: spec.hash for spec in SPECS.values()}
    assert {facts.name: facts.spec_hash for facts in facts_of_parts(PARTS)}.items() <= known.items()


def test_the_summary_is_the_front_pages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["answers", "--summary"]) == 0
    assert capsys.readouterr().out in FRONT.read_text(encoding="utf-8")


def test_the_parts_are_half_designs_of_four_factors_that_differ_between_tasks() -> None:
    by_task: dict[str, set[str]] = {}
    counts: dict[str, int] = {}
    for name, spec in SPECS.items():
        (problem,) = spec.problems
        changed = {key for key, values in problem.factors.items() if isinstance(values, list)}
        if "satellite" in name:
            changed |= {"base"}
        if "decay" not in name and "more-steps" not in name:
            by_task.setdefault(problem.task, set()).update(changed)
            count = len({repr(sorted(job.items())) for job in _cells(spec)})
            counts[problem.task] = counts.get(problem.task, 0) + count
        assert problem.design == "half"
    assert set(map(len, by_task.values())) == {4}
    assert set(counts.values()) == {8}
    assert len(set(map(frozenset, by_task.values()))) == len(by_task) >= 8
    assert len({DOMAINS[task] for task in by_task}) >= 5
    assert sum(counts.values()) >= 64


def _cells(spec: StudySpec) -> list[dict[str, Any]]:
    return [dict(cell.factors) for cell in cells(spec)]


def test_a_part_with_more_steps_is_that_without_but_for_them() -> None:
    one, more = SPECS["atlas/fashion"], SPECS["atlas/fashion-more-steps"]
    (problem,), (other,) = one.problems, more.problems
    assert other == problem.model_copy(update={"factors": problem.factors | {"batch_size": 20}})
    assert more == one.model_copy(update={"name": more.name, "question": more.question, "problems": more.problems})


def test_the_two_quarters_of_the_satellite_are_the_half_of_a_design() -> None:
    coded = {
        tuple(
            (-1) ** (value == low)
            for value, low in ((f["label_noise"], 0.0), (f["batch_size"], 25), (f["epochs"], 10), (base, "SGD"))
        )
        for base, spec in (("SGD", SPECS["atlas/satellite-sgd"]), ("AdamW", SPECS["atlas/satellite-adamw"]))
        for f in _cells(spec)
    }
    assert len(coded) == 8
    assert len({math.prod(levels) for levels in coded}) == 1


def test_every_varied_factor_has_an_expected_sign_and_one_alone() -> None:
    signs: dict[tuple[str, str], set[str]] = {}
    for spec in SPECS.values():
        (problem,) = spec.problems
        changed = {key for key, values in problem.factors.items() if isinstance(values, list)}
        named = [one for one in spec.hypotheses if one.kind in ("slope", "contrast")]
        assert {one.factor for one in named} == changed
        for one in spec.hypotheses:
            assert one.source  # what let one expect it
        for one in named:
            assert one.budget == spec.primary_budget
            signs.setdefault((one.factor, short(one.method)), set()).add(one.expected)
    assert all(len(found) == 1 for found in signs.values())


def test_expected_signs_are_part_of_what_a_hash_pins() -> None:
    """The hash of a part is that of its spec as it stood before the first run: no sign can be named afterwards."""
    spec = SPECS["atlas/digits"]
    turned = spec.hypotheses[0].model_copy(update={"expected": "-"})
    assert spec.hypotheses[0].expected == "+"
    assert spec.model_copy(update={"hypotheses": (turned, *spec.hypotheses[1:])}).hash != spec.hash


def test_every_built_in_task_has_a_domain() -> None:
    assert {*DOMAINS} == {*TASKS}


@pytest.mark.parametrize("name", SPECS)
def test_a_part_may_be_added_as_its_spec_stands(name: str) -> None:
    with pytest.raises(PartError, match="is not finished"):
        check_study(Path("nowhere"), SPECS[name], ())


def test_varied_factors_are_told(shelf: Path) -> None:
    (facts,) = facts_of_parts(shelf)
    assert varied(facts.asked) == ("label_noise",)
    assert varied(SPECS["atlas/dna"]) == ("label_noise", "train_size", "batch_size", "schedule")


def test_answers_are_said_of_whatever_parts_there_are(
    shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for asked in (["answers"], ["answers", "--summary"]):
        assert main([*asked, "--parts", str(tmp_path)]) == 0
        assert capsys.readouterr().out == "There is no part yet.\n"
    assert main(["answers", "--parts", str(shelf)]) == 0
    said = capsys.readouterr().out
    assert said.count("### ") == 9
    assert "| SAM | label_noise | 2 | " in said  # its effect, of too few tasks
    assert "| SAM | 2 | too few tasks | – | – |" in said
    assert "nan" not in said
    assert main(["answers", "--summary", "--parts", str(shelf)]) == 0
    assert "so few tasks are no sample" in capsys.readouterr().out


def test_blocks_of_a_text_are_written_anew_and_nothing_else_of_it(shelf: Path, tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(CARD.read_text(encoding="utf-8"), encoding="utf-8")
    fill_in(path, tables(shelf))
    once = path.read_text(encoding="utf-8")
    assert "| synthetic | images, signals | SGD | label_noise | 4 | 5 |" in once
    fill_in(path, tables(shelf))
    assert path.read_text(encoding="utf-8") == once
    fill_in(path, tables(tmp_path / "no parts"))
    written = path.read_text(encoding="utf-8")
    outside = [text.partition("<!-- /")[2] for text in written.split("-->\n")]
    assert outside == [text.partition("<!-- /")[2] for text in once.split("-->\n")]
