"""What a replicate is tested on is its own: nothing that it tuned, trained on or validated with; and labels get noise.

Rows of data sets that are split are marked with their number, so that a row is known wherever it turns up.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from drawn_tables import drawn_table
from matrices import repeated
from PIL import Image

from study.data import Pool, SealedTestError, load_data
from study.data.corpus import Corpus
from study.data.image_sets import IMAGE_SETS, Images
from study.data.mlbench import TABLES
from study.data.pool import split_off
from study.plan.agenda import Agenda
from study.plan.replicates import Replicate, replicate_of, replicates_of
from study.records import RunRecord
from study.specs.spec import SpecError, StudySpec, load_spec, parse_spec
from study.specs.tasks import TASKS, default_factors
from study.tasks import Task, build_task
from study.tasks.examples import examples_of

SPEC = load_spec("smoke")[0].model_copy(update={"replicates": 3, "confirms": 3})
OTHER_SEED = SPEC.model_copy(update={"seed": 1})
SPLIT, DRAWN, OFFICIAL = ([name for name, entry in TASKS.items() if entry.test == kind] for kind in
                          ("split", "drawn", "official"))  # fmt: skip
NOISY = [name for name, entry in TASKS.items() if "label_noise" not in entry.without]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("images")
    return {name: images_of(name, folder) if entry.find else load_data(name) for name, entry in TASKS.items()}


def images_of(name: str, folder: Path) -> Any:
    """Return a few images, or drawn rows, as a task's data."""
    if name in TABLES:
        return drawn_table(name)
    rng = np.random.default_rng(0)
    if name in IMAGE_SETS:
        found = IMAGE_SETS[name]
        pixels = rng.integers(256, size=(90, len(found.look.mean), 8, 8)).astype(np.uint8)
        labels = rng.integers(found.classes, size=90)
        return Images(
            Pool(pixels[:60], labels[:60], 20, found.classes, _official=(pixels[60:], labels[60:])), found.look
        )
    for part, count in {"train": 30, "val": 20, "test": 5}.items():
        for label in ("cat", "dog"):
            (folder / part / label).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(256, size=(9, 9, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / part / label / f"{index}.png")
    return load_data(name, folder)


def marked(data: Any) -> Any:
    """Return a data set whose inputs are the numbers of their rows."""
    if isinstance(data, Corpus):
        ends = np.cumsum([len(part) for part in data.stretches])
        parts = zip(data.stretches, ends, strict=True)
        return replace(data, stretches=tuple(numbered(part.shape, end - len(part)) for part, end in parts))
    return replace(data, inputs=numbered(data.inputs.shape, 0).astype(data.inputs.dtype))


def numbered(shape: tuple[int, ...], first: int) -> npt.NDArray[np.int64]:
    rows = np.arange(first, first + shape[0]).reshape(-1, *(1 for _ in shape[1:]))
    return np.broadcast_to(rows, shape).copy()


def built(name: str, data: Any, seed: int, test_seed: int, **changes: Any) -> Task:
    small = {"width": 0.25} | ({"train_size": 20} if TASKS[name].find else {})
    small |= {"model": "conv"} if "conv" in TASKS[name].models else {}
    small |= {"image_size": 8} if "image_size" in TASKS[name].defaults else {}
    return build_task(name, data, default_factors(name) | small | changes, seed, test_seed)


def rows(part: Any) -> set[bytes]:
    """Return the inputs of a part, one by one."""
    examples = examples_of(part, "")
    inputs, _ = next(examples.batches(len(examples)))
    tensor = inputs[1] if isinstance(inputs, tuple) else inputs
    return {row.numpy().tobytes() for row in tensor}


def labels(part: Any) -> npt.NDArray[Any]:
    examples = examples_of(part, "")
    return np.concatenate([targets.numpy() for _, targets in examples.batches(1000)])


def unseen_rows(name: str, data: Any, replicate: Replicate) -> set[bytes]:
    return rows(built(name, data, replicate.confirm[0], replicate.test).test())


@pytest.mark.parametrize("spec", [SPEC, OTHER_SEED])
@pytest.mark.parametrize("name", SPLIT)
def test_no_test_row_of_a_replicate_is_trained_on_or_validated_with_in_it(
    name: str, spec: StudySpec, data: dict[str, Any]
) -> None:
    numbers, largest = marked(data[name]), {"train_size": TASKS[name].max_train_size}
    for replicate in replicates_of(spec):
        unseen = unseen_rows(name, numbers, replicate)
        for seed in (replicate.tune, *replicate.confirm):
            task = built(name, numbers, seed, replicate.test, **largest)
            train, val = rows(task.train), rows(task.val)
            assert len(train) == TASKS[name].max_train_size  # each row once
            assert val
            assert not train & val
            assert not (train | val) & unseen
            assert rows(task.test()) == unseen  # the same for every seed of the replicate


@pytest.mark.parametrize("name", SPLIT)
def test_each_replicate_splits_another_test_part_of_the_same_size_off(name: str, data: dict[str, Any]) -> None:
    replicates = [*replicates_of(SPEC), *replicates_of(OTHER_SEED)]
    held = marked(data[name])
    parts = [{row.tobytes() for row in held.open_test("confirm", one.test)[0]} for one in replicates]
    for number, part in enumerate(parts):
        assert len(part) == len(parts[0])
        for other in parts[:number]:  # two draws have some in common, at most a third on average
            assert len(part & other) < 0.6 * len(part)


@pytest.mark.parametrize("name", DRAWN)
def test_each_replicate_draws_new_test_data(name: str, data: dict[str, Any]) -> None:
    first, second, _ = replicates_of(SPEC)
    parts = [unseen_rows(name, data[name], one) for one in (first, second)]
    assert len(parts[0]) == len(parts[1])
    assert not parts[0] & parts[1]
    for seed in (first.tune, *first.confirm):
        task = built(name, data[name], seed, first.test, train_size=TASKS[name].max_train_size)
        assert rows(task.test()) == parts[0]
        assert not rows(task.train) & rows(task.val)
        assert not (rows(task.train) | rows(task.val)) & parts[0]


@pytest.mark.parametrize("name", OFFICIAL)
@pytest.mark.slow
def test_an_official_test_part_stays_as_it_is(name: str, data: dict[str, Any]) -> None:
    parts = [unseen_rows(name, data[name], one) for one in (*replicates_of(SPEC), *replicates_of(OTHER_SEED))]
    assert all(part == parts[0] for part in parts)
    task = built(name, data[name], 3, 4)
    assert not rows(task.train) & rows(task.val)
    assert not (rows(task.train) | rows(task.val)) & parts[0]


def test_every_task_says_where_its_test_part_comes_from() -> None:
    assert len(SPLIT) + len(DRAWN) + len(OFFICIAL) == len(TASKS)
    assert {"digits", "wine"} <= {*SPLIT}
    assert {"mnist1d", "communities"} == {*DRAWN}
    assert {*OFFICIAL} == {name for name, entry in TASKS.items() if entry.find and name not in TABLES}


@pytest.mark.parametrize("name", [*SPLIT, *DRAWN])
@pytest.mark.slow
def test_what_is_trained_on_is_the_seeds_and_what_is_set_aside_the_replicates(name: str, data: dict[str, Any]) -> None:
    def parts(seed: int, test_seed: int) -> tuple[Any, ...]:
        task = built(name, data[name], seed, test_seed)
        return rows(task.train), rows(task.val), rows(task.test())

    here, again, other_seed = parts(3, 5), parts(3, 5), parts(4, 5)
    assert here == again
    assert here[0] != other_seed[0]
    assert here[2] == other_seed[2]
    assert parts(3, 6)[2] != here[2]


@pytest.mark.parametrize("name", TASKS)
def test_the_test_part_opens_in_confirm_alone(name: str, data: dict[str, Any]) -> None:
    held = getattr(data[name], "pool", data[name])
    with pytest.raises(SealedTestError, match="stage 'tune'"):
        held.open_test("tune", 0)
    with pytest.raises(SealedTestError, match="stage 'tune'"):
        built(name, data[name], 0, 0).open_test("tune")
    assert len(built(name, data[name], 0, 0).open_test("confirm"))


@pytest.mark.parametrize("name", SPLIT)
def test_nothing_of_a_test_row_enters_what_is_trained_on(name: str, data: dict[str, Any]) -> None:
    """Columns of tables, and the targets of a regression, are in units of the other rows."""
    replicate, held = replicate_of(SPEC, 2), data[name]
    if isinstance(held, Corpus):
        numbers = {row.tobytes() for row in marked(held).open_test("confirm", replicate.test)[0]}
        stretches = zip(held.stretches, marked(held).stretches, strict=True)
        damaged: Any = replace(
            held, stretches=tuple(part[::-1] if mark[0, :-1].tobytes() in numbers else part for part, mark in stretches)
        )
    else:
        unseen, _ = split_off(len(held.inputs), held.test_size, replicate.test)
        inputs = held.inputs.copy()
        inputs[unseen] *= 100
        damaged = replace(held, inputs=inputs)
        if not held.classes:
            targets = held.labels.copy()
            targets[unseen] += 1e4
            damaged = replace(damaged, labels=targets)
    for seed in (replicate.tune, *replicate.confirm):
        sound, other = (built(name, some, seed, replicate.test) for some in (held, damaged))
        for ours, theirs in ((sound.train, other.train), (sound.val, other.val)):
            for one, two in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(one, two)
        if not isinstance(held, Corpus):
            assert not np.array_equal(sound.test()[0], other.test()[0])


@pytest.mark.parametrize("name", ["breast_cancer", "wine", "diabetes"])
def test_tables_have_mean_0_and_deviation_1_where_they_may_be_looked_at(name: str, data: dict[str, Any]) -> None:
    held = data[name]
    task = built(name, held, 1, 2, train_size=TASKS[name].max_train_size)
    seen = np.concatenate([task.train[0], task.val[0]])
    _, known = split_off(len(held.inputs), held.test_size, 2)
    assert len(seen) == len(known)
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std(axis=0), 1, atol=1e-4)
    unseen = task.test()[0]
    assert np.abs(unseen.mean(axis=0)).max() > 0.01
    everything = np.concatenate([seen, unseen])
    for column in range(everything.shape[1]):  # an affine map of the column as it was measured
        assert np.corrcoef(np.sort(held.inputs[:, column]), np.sort(everything[:, column]))[0, 1] > 0.9999
    if name == "diabetes":
        targets = np.concatenate([task.train[1], task.val[1]])
        np.testing.assert_allclose([targets.mean(), targets.std()], [0, 1], atol=1e-4)


def test_all_runs_of_a_replicate_are_tested_on_its_part_and_no_seed_is_used_twice() -> None:
    """Whatever the method, the cell and the stage: paired in training, paired in the test."""
    spec = load_spec("domains")[0].model_copy(update={"replicates": 3, "confirms": 2})
    agenda = Agenda(spec)
    roots: dict[int, set[int]] = {}
    stages: dict[str, set[int]] = {"tune": set(), "confirm": set()}
    while planned := agenda.next_job():
        roots.setdefault(planned.replicate, set()).add(planned.test_seed)
        stages[planned.stage].add(planned.seed)
        agenda.complete(
            RunRecord.model_validate({
                "run_id": planned.run_id, "spec_hash": spec.hash, "job": planned, "status": "completed",
                "measurements": [{"weights": name, "epoch": planned.epochs, "val_score": 0.5, "val_loss": 1.0}
                                 for name in ("last", *planned.averages)],
            })
        )  # fmt: skip
    assert {number: len(found) for number, found in roots.items()} == {1: 1, 2: 1, 3: 1}
    tests = set.union(*roots.values())
    assert len(tests) == 3
    assert not tests & (stages["tune"] | stages["confirm"])
    assert not stages["tune"] & stages["confirm"]
    assert (len(stages["tune"]), len(stages["confirm"])) == (3, 6)


SHARES = repeated("share", [0.3, 0.1, 0.55])


@SHARES
@pytest.mark.parametrize("name", NOISY)
@pytest.mark.slow
def test_validation_labels_are_as_noisy_as_the_training_labels(name: str, share: float, data: dict[str, Any]) -> None:
    clean, same, said, none = (
        built(name, data[name], 3, 5, **changes)
        for changes in (
            {"label_noise": 0.0}, {"label_noise": share},
            {"label_noise": share, "validation_label_noise": "same"},
            {"label_noise": share, "validation_label_noise": "none"},
        )
    )  # fmt: skip
    for part in ("train", "val"):
        truth, noisy = labels(getattr(clean, part)), labels(getattr(same, part))
        assert (truth != noisy).sum() == round(share * truth.size)  # each moved to another class
        assert {*np.unique(noisy)} <= {*range(TASKS[name].classes or 2)}
        np.testing.assert_array_equal(labels(getattr(said, part)), noisy)
    np.testing.assert_array_equal(labels(none.val), labels(clean.val))
    np.testing.assert_array_equal(labels(none.train), labels(same.train))  # bit for bit
    assert rows(none.val) == rows(same.val)
    for task in (same, none):
        np.testing.assert_array_equal(labels(task.test()), labels(clean.test()))


@pytest.mark.parametrize("name", NOISY)
def test_the_two_parts_get_noise_of_streams_of_their_own(name: str, data: dict[str, Any]) -> None:
    """As many training examples as one likes: the validation labels stay the same."""
    size = min(20, TASKS[name].max_train_size)
    few, more = (built(name, data[name], 3, 5, label_noise=0.3, train_size=count) for count in (size // 2, size))
    count = min(len(labels(few.val)), len(labels(more.val)))
    np.testing.assert_array_equal(labels(few.val)[:count], labels(more.val)[:count])


TEXT = """
name = "noise"
question = "?"
replicates = 2
search = {{ trials = 2 }}
[[problems]]
task = "{}"
factors = {{ {} }}
"""


@pytest.mark.parametrize("name", [name for name in TASKS if name not in NOISY])
def test_tasks_without_label_noise_refuse_it_for_validation_too(name: str) -> None:
    with pytest.raises(SpecError, match=f"validation_label_noise was given; task '{name}' has no such factor"):
        parse_spec(TEXT.format(name, 'validation_label_noise = "none"'), "a spec")


@pytest.mark.parametrize("value", ['"some"', "0.3", "true"])
def test_validation_labels_are_as_noisy_or_clean(value: str) -> None:
    with pytest.raises(SpecError, match=r'validation_label_noise = .* allowed is "same" or "none"'):
        parse_spec(TEXT.format("digits", f"label_noise = 0.3, validation_label_noise = {value}"), "a spec")


def test_it_can_be_crossed_with_the_noise_and_stands_in_no_cell_unasked() -> None:
    text = TEXT.format("digits", 'label_noise = [0.0, 0.3], validation_label_noise = ["same", "none"]')
    (problem,) = parse_spec(text, "a spec").problems
    assert problem.factors["validation_label_noise"] == ["same", "none"]
    assert not any("validation_label_noise" in default_factors(name) for name in [*TASKS, "my:own"])
