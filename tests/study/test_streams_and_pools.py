"""Random streams keep to themselves, splits pair methods, and the test part is sealed."""

import itertools
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pytest
import torch
from drawn_tables import drawn_table
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import ttest_ind
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from study.data import Pool, SealedTestError, load_data
from study.data.image_sets import IMAGE_SETS, Images
from study.data.mlbench import TABLES
from study.data.mnist1d import make_signals
from study.models import MODELS
from study.specs.tasks import TASKS, default_factors
from study.streams import derived_seed, stream, torch_seed
from study.tasks import build_task, draw_split
from study.tasks.examples import examples_of


@pytest.fixture(scope="module")
def digits() -> Pool:
    return load_data("digits")


def test_a_stream_is_not_shifted_by_draws_from_another() -> None:
    undisturbed = stream(7, "data order").random(5)
    stream(7, "label noise").random(1000)
    np.testing.assert_array_equal(stream(7, "data order").random(5), undisturbed)


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_streams_of_other_seeds_differ(first: int, second: int) -> None:
    assert (torch_seed(first, "torch") == torch_seed(second, "torch")) == (first == second)


def test_torch_seeds_fit_torch() -> None:
    assert all(0 <= torch_seed(seed, "torch") < 2**63 for seed in range(100))


def test_the_test_part_opens_in_confirm_alone(digits: Pool) -> None:
    inputs, labels = digits.open_test("confirm", 1)
    assert len(inputs) == len(labels) == 397
    with pytest.raises(SealedTestError, match="stage 'tune'"):
        digits.open_test("tune", 1)


@given(
    seed=st.integers(0, 2**32 - 1),
    names=st.lists(st.text(max_size=20), min_size=2, max_size=20, unique=True),
)
def test_derived_seeds_of_two_kinds_never_meet(seed: int, names: list[str]) -> None:
    made = [[derived_seed(seed, name, kind) for name in names] for kind in (0, 1)]
    assert not {*made[0]} & {*made[1]}
    assert all(0 <= found < 2**48 for kind in made for found in kind)
    assert len({*made[0]}) == len({*made[1]}) == len(names)
    assert made[0] == [derived_seed(seed, name) for name in names]
    assert made[0][0] != derived_seed(seed + 1, names[0])


def test_the_digits_are_scikit_learns(digits: Pool) -> None:
    ours, labels = digits.inputs.reshape(1797, 64), digits.labels
    pixels, classes = load_digits(return_X_y=True)
    theirs = ((pixels - pixels.mean()) / pixels.std()).astype(np.float32)
    assert sorted((label, *row) for label, row in zip(labels, ours.tolist(), strict=True)) == sorted(
        (label, *row) for label, row in zip(classes, theirs.tolist(), strict=True)
    )


def test_the_constants_of_the_digits_are_a_training_parts_too(digits: Pool) -> None:
    """All images have standardized them; what a training part would have done differs by less than 0.01 deviations."""
    for seed in range(30):
        split = draw_split(digits, default_factors("digits"), seed, 100 + seed)
        assert abs(split.train[0].mean()) < 0.01
        assert abs(split.train[0].std() - 1) < 0.01


@pytest.mark.parametrize("name", TASKS)
def test_what_an_entry_names_is_there(name: str) -> None:
    entry = TASKS[name]
    assert all(callable(resolve_name(named)) for named in (entry.load, entry.build, entry.find) if named)
    assert entry.load
    assert entry.build


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_built_from_its_entry(name: str, tmp_path: Path) -> None:
    entry = TASKS[name]
    data = images_of(name, tmp_path) if entry.find else load_data(name)
    small = {"train_size": 20, "width": 0.25} | ({"model": "conv"} if "conv" in entry.models else {})
    small |= {"image_size": 8} if "image_size" in entry.defaults else {}
    task = build_task(name, data, default_factors(name) | small, seed=0, test_seed=1)
    assert len(examples_of(task.train, "train")) == 20
    assert task.metric.name == entry.metric
    inputs, targets = next(examples_of(task.val, "val").batches(4))
    outputs = task.model(*inputs) if isinstance(inputs, tuple) else task.model(inputs)
    assert torch.isfinite(task.loss(outputs, targets))


def images_of(name: str, folder: Path) -> Any:
    """Return a few images, or drawn rows, as a task's data; what is found and read is tested elsewhere."""
    if name in TABLES:
        return drawn_table(name)
    rng = np.random.default_rng(0)
    if name in IMAGE_SETS:
        found = IMAGE_SETS[name]
        pixels = rng.integers(256, size=(40, len(found.look.mean), 8, 8)).astype(np.uint8)
        labels = rng.integers(found.classes, size=40)
        return Images(Pool(pixels, labels, 10, found.classes, _official=(pixels, labels)), found.look)
    for part, label, index in itertools.product(("train", "test"), ("cat", "dog"), range(15)):
        path = folder / part / label / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(256, size=(9, 9, 3)).astype(np.uint8)).save(path)
    return load_data(name, folder)


def numbered(test_size: int = 397) -> Pool:
    """Return a pool of 1,797 examples that are their own numbers."""
    return Pool(np.arange(1797, dtype=np.float32)[:, None], np.arange(1797) % 10, 400, 10, test_size=test_size)


@given(test_seed=st.integers(0, 2**48 - 1), seed=st.integers(0, 2**48 - 1))
def test_a_replicate_trains_validates_and_tests_on_disjoint_examples(test_seed: int, seed: int) -> None:
    """Whatever the run's seed: what is tested on belongs to the replicate, and no run of it has seen it before."""
    pool = numbered()
    split = draw_split(pool, default_factors("digits"), seed, test_seed)
    tested = {*pool.open_test("confirm", test_seed)[0].ravel()}
    parts = [tested, {*split.train[0].ravel()}, {*split.val[0].ravel()}]
    assert [len(part) for part in parts] == [397, 1000, 400]
    assert len(set.union(*parts)) == 1797
    assert {*pool.open_test("confirm", test_seed + 1)[0].ravel()} != tested


@pytest.mark.parametrize("task", ["digits", "mnist1d", "wine", "breast_cancer"])
def test_pools_keep_what_the_task_table_promises(task: str) -> None:
    pool, limits = load_data(task), TASKS[task]
    assert len(pool.development(7)) - pool.validation_size >= limits.max_train_size
    assert len(pool.development(7)) == len(pool.labels) - pool.test_size
    assert pool.test_size == (limits.test_size if limits.test == "split" else 0)
    assert pool.classes == limits.classes
    assert set(np.unique(pool.labels)) == set(range(pool.classes))
    assert set(limits.models) <= set(MODELS)
    assert pool.inputs.dtype == (np.float64 if pool.columns else np.float32)


def test_one_seed_gives_every_train_size_the_same_validation_and_a_prefix(digits: Pool) -> None:
    small = draw_split(digits, default_factors("digits") | {"train_size": 100}, seed=3, test_seed=4)
    large = draw_split(digits, default_factors("digits"), seed=3, test_seed=4)
    np.testing.assert_array_equal(small.val[0], large.val[0])
    np.testing.assert_array_equal(small.train[0], large.train[0][:100])


def test_no_more_examples_validate_than_train_or_a_thousand() -> None:
    rows = np.arange(9000)
    pool = Pool(rows[:, None], rows % 10, 3000, 10, _official=(rows[:0, None], rows[:0]))
    sizes = (500, 1000, 2000, 3000, 6000)
    splits = [draw_split(pool, default_factors("digits") | {"train_size": size}, seed=2, test_seed=0) for size in sizes]
    assert [len(split.val[1]) for split in splits] == [1000, 1000, 2000, 3000, 3000]
    largest = splits[-1]
    for split in splits:
        np.testing.assert_array_equal(split.val[0], largest.val[0][: len(split.val[1])])
        np.testing.assert_array_equal(split.train[0], largest.train[0][: len(split.train[1])])
        assert not set(split.train[0].ravel()) & set(largest.val[0].ravel())


@given(share=st.sampled_from([0.0, 0.1, 0.3, 0.95]), seed=st.integers(0, 1000), clean=st.booleans())
def test_noise_moves_an_exact_share_to_other_classes(share: float, seed: int, clean: bool) -> None:
    """Of training and validation alike: who has noisy labels has no clean ones to choose by."""
    pool = numbered(test_size=1497)
    factors = {"train_size": 200, "label_noise": share} | ({"validation_label_noise": "none"} if clean else {})
    pool = replace(pool, validation_size=100)
    noisy = draw_split(pool, factors, seed, 3)
    free = draw_split(pool, factors | {"label_noise": 0.0}, seed, 3)
    np.testing.assert_array_equal(noisy.train[0], free.train[0])
    np.testing.assert_array_equal(noisy.val[0], free.val[0])
    np.testing.assert_array_equal(free.train[1], free.train[0].ravel() % 10)
    assert (noisy.train[1] != free.train[1]).sum() == round(200 * share)
    assert (noisy.val[1] != free.val[1]).sum() == (0 if clean else round(100 * share))
    # Test labels stay clean.
    inputs, labels = pool.open_test("confirm", 3)
    np.testing.assert_array_equal(labels, inputs.ravel() % 10)


@pytest.mark.slow
def test_signals_match_the_published_generator() -> None:
    """Class means agree point by point, and neighbours learnt on ours classify theirs as well as their own do."""
    data = pytest.importorskip("mnist1d.data")
    arguments = data.get_dataset_args()
    arguments.num_samples = 4000
    theirs = data.make_dataset(arguments)
    signals, labels = make_signals(4000, np.random.default_rng(0))
    assert signals.shape == (4000, 40)
    ours = (signals - signals.mean()) / signals.std()  # as the pool does, and with its numbers for every test part
    for label in range(10):  # 400 correlated tests in all: the largest |t| of equal means stays below 4.5
        t = ttest_ind(ours[labels == label], theirs["x"][theirs["y"] == label]).statistic
        assert np.abs(t).max() < 4.5
    # Transfer: trained on ours, tested on theirs, against trained and tested on theirs.
    model = KNeighborsClassifier(5)
    own = model.fit(theirs["x"], theirs["y"]).score(theirs["x_test"], theirs["y_test"])
    transfer = model.fit(ours[:3200], labels[:3200]).score(theirs["x_test"], theirs["y_test"])
    assert abs(own - transfer) < 0.06
