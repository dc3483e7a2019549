"""Image tasks: data found, read and refused; bytes to weights; and real Fashion-MNIST where Debian's package is."""

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from matrices import crossed
from PIL import Image
from scipy.io import savemat
from torch.nn import functional

from study.data import Pool, TaskError, load_data
from study.data.folders import DATA, DOWNLOAD, data_folders
from study.data.image_sets import IMAGE_SETS, Images, Look
from study.driver.resume import find_data
from study.records import Job
from study.run import main
from study.specs.spec import SpecError, load_spec, parse_spec
from study.specs.tasks import TASKS, default_factors
from study.tasks import build_task, pool_task
from study.tasks.examples import examples_of
from study.tasks.vision import Files, Standardized, image_task
from study.training.measure import Evaluator
from study.training.trial import run

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
needs_fashion = pytest.mark.skipif(
    not DEBIAN.is_dir(), reason="real Fashion-MNIST is not here: apt-get install dataset-fashion-mnist"
)


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data folder of whoever runs the tests, and no network."""
    torch.set_num_threads(1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(DATA, raising=False)
    monkeypatch.delenv(DOWNLOAD, raising=False)


def synthetic(count: int = 300, channels: int = 3, side: int = 8, classes: int = 4) -> Images:
    """Images whose class is the brightest quarter, so that anything learns it."""
    rng = np.random.default_rng(0)

    def part(size: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(classes, size=size)
        images = rng.integers(0, 120, size=(size, channels, side, side)).astype(np.uint8)
        half = side // 2
        for image, label in zip(images, labels, strict=True):
            image[:, (label // 2) * half :, (label % 2) * half :][:, :half, :half] += 130
        return images, labels

    look = Look((0.3,) * channels, (0.25,) * channels, flips=False)
    return Images(Pool(*part(count), count // 10, classes, _official=part(100)), look)


@pytest.mark.parametrize(("side", "channels", "size"), [(8, 1, 1000), (28, 1, 83), (32, 3, 50)])
def test_a_batch_of_an_evaluation_is_of_so_many_numbers(side: int, channels: int, size: int) -> None:
    data = synthetic(60, channels, side)
    assert build_task("fashion", data, default_factors("fashion") | {"train_size": 40}, 0, 1).evaluation_batch == size


def factors(**changes: object) -> dict[str, object]:
    return default_factors("fashion") | {"train_size": 200, "epochs": 4, "batch_size": 20, "width": 0.25} | changes


def job(**changes: object) -> Job:
    given = {
        "stage": "confirm", "cell": "fashion", "task": "fashion", "factors": factors(), "family": "base",
        "epochs_factor": 1, "learning_rate": 0.1, "rho": 0.0, "average_start": 0.5, "seed": 1000,
        "reads": ("last", "best"),
    } | changes  # fmt: skip
    return Job.model_validate(given)


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def idx_folder(folder: Path, suffix: str) -> dict[str, np.ndarray]:
    """Write the four files of a small MNIST and return what they hold."""
    folder.mkdir(parents=True)
    rng, held = np.random.default_rng(1), {}
    for name, shape, high in (
        ("train-images-idx3-ubyte", (50, 28, 28), 256), ("train-labels-idx1-ubyte", (50,), 10),
        ("t10k-images-idx3-ubyte", (20, 28, 28), 256), ("t10k-labels-idx1-ubyte", (20,), 10),
    ):  # fmt: skip
        held[name] = rng.integers(0, high, size=shape)
        write_idx(folder / f"{name}{suffix}", held[name])
    return held


@pytest.mark.parametrize(("inner", "suffix"), [("MNIST/raw", ""), ("mnist", ".gz")])
def test_idx_files_are_read_from_torchvisions_place_and_others(tmp_path: Path, inner: str, suffix: str) -> None:
    held = idx_folder(tmp_path / inner, suffix)
    pool = load_data("mnist", tmp_path).pool
    np.testing.assert_array_equal(pool.inputs[:, 0], held["train-images-idx3-ubyte"])
    np.testing.assert_array_equal(pool.labels, held["train-labels-idx1-ubyte"])
    np.testing.assert_array_equal(pool.open_test("confirm", 0)[0][:, 0], held["t10k-images-idx3-ubyte"])
    assert pool.inputs.dtype == np.uint8
    assert pool.labels.dtype == np.int64
    assert pool.validation_size == 5


@pytest.mark.parametrize("content", [b"", b"\0\0\x08\x01", b"\0\0\x08\x01\0\0\0\x32short", b"\0\0\x0d\x01\0\0\0\x01x"])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    idx_folder(tmp_path / "mnist", "")
    (tmp_path / "mnist" / "train-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(TaskError, match=r"can't be read .* get them anew"):
        load_data("mnist", tmp_path)


@pytest.mark.parametrize("cut", [0, 1, 20])
def test_a_damaged_archive_is_one_sentence(tmp_path: Path, cut: int) -> None:
    idx_folder(tmp_path / "mnist", ".gz")
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-cut] if cut else b"no archive")
    with pytest.raises(TaskError, match="can't be read"):
        load_data("mnist", tmp_path)


@pytest.mark.parametrize(("name", "key", "classes"), [("cifar10", "labels", 10), ("cifar100", "fine_labels", 100)])
def test_cifar_is_read_as_torchvision_keeps_it(
    name: str, key: str, classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)  # ours are not the real files
    place = tmp_path / IMAGE_SETS[name].folders[0]
    place.mkdir()
    rng, written = np.random.default_rng(2), []
    for file in IMAGE_SETS[name].files:
        data = rng.integers(0, 256, size=(30, 3072)).astype(np.uint8)
        labels = rng.integers(classes, size=30).tolist()
        entry = {"data": data, key: labels, "label_names": [], "fine_label_names": []}
        (place / file).write_bytes(pickle.dumps(entry))
        if "meta" not in file:
            written.append((data.reshape(-1, 3, 32, 32), labels))
    pool = load_data(name, tmp_path).pool
    np.testing.assert_array_equal(pool.inputs, np.concatenate([images for images, _ in written[:-1]]))
    np.testing.assert_array_equal(pool.labels, np.concatenate([labels for _, labels in written[:-1]]))
    np.testing.assert_array_equal(pool.open_test("confirm", 0)[0], written[-1][0])
    assert pool.inputs.flags.c_contiguous
    assert pool.classes == classes


def test_svhn_is_read_as_torchvision_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.svhn.check_integrity", lambda *_: True)
    images = np.random.default_rng(3).integers(0, 256, size=(32, 32, 3, 40)).astype(np.uint8)
    labels = np.arange(40) % 10 + 1  # the file's ten is the digit 0
    for part in ("train", "test"):
        savemat(tmp_path / f"{part}_32x32.mat", {"X": images, "y": labels[:, None]})
    pool = load_data("svhn", tmp_path).pool
    np.testing.assert_array_equal(pool.inputs, images.transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(pool.labels, labels % 10)


def test_data_that_are_nowhere_are_one_sentence_with_the_files_and_every_folder(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_data("cifar10")
    message = str(caught.value)
    assert all(str(folder) in message for folder in data_folders())
    assert "cifar-10-batches-py/" in message
    assert "data_batch_1" in message
    assert "--download" in message
    assert "\n" not in message
    with pytest.raises(TaskError, match=f"in none of {tmp_path};.*apt-get install dataset-fashion-mnist"):
        load_data("fashion", tmp_path)


def test_the_command_says_so_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(DATA, "")
    empty = tmp_path / "data"
    assert main(["cifar10-r18", "--data", str(empty), "--out", "out"]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert str(empty) in captured.err
    assert not (tmp_path / "out").exists()
    assert main(["cifar10-r18", "--dry-run"]) == 0
    assert "estimated time: unknown, because task 'cifar10'" in capsys.readouterr().out


def test_downloads_happen_where_the_user_asks_for_them_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Path]] = []

    def download(dataset: str, folder: Path) -> None:
        asked.append((dataset, folder))
        idx_folder(folder / "MNIST/raw", "")

    monkeypatch.setattr("study.data.image_sets.download", download)
    spec = parse_spec(load_spec("smoke")[1].replace('"digits"', '"mnist"'), "a spec")
    with pytest.raises(TaskError):
        find_data(spec)
    assert not asked
    monkeypatch.setenv(DOWNLOAD, "1")
    for _ in range(2):
        find_data(spec)
    assert asked == [("MNIST", tmp_path / "cache" / "wasam-study")]


def test_a_download_that_fails_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(dataset: str, folder: Path) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("study.data.image_sets.download", download)
    monkeypatch.setenv(DOWNLOAD, "1")
    with pytest.raises(TaskError, match=r"failed \(no route to host\)"):
        load_data("svhn", tmp_path)


def test_every_image_task_has_its_limits() -> None:
    for name, image_set in IMAGE_SETS.items():
        assert TASKS[name].classes == image_set.classes
        assert TASKS[name].defaults["train_size"] == TASKS[name].max_train_size
    with pytest.raises(SpecError, match="train_size is missing"):
        parse_spec(load_spec("smoke")[1].replace('"digits"', '"image-folder"').replace("factors.train_size", "#"), "a")


def test_factors_of_images_belong_to_image_tasks() -> None:
    text = load_spec("smoke")[1]
    with pytest.raises(SpecError, match="task 'digits' has no such factor"):
        parse_spec(text.replace("factors.epochs", 'factors.transforms = "cutout"\nfactors.epochs'), "a spec")


def test_a_network_sees_standardized_images_in_training_and_evaluation() -> None:
    data = synthetic()
    seen: list[torch.Tensor] = []
    task = image_task(data, factors(transforms="crop-flip"), seed=0, test_seed=0)
    assert isinstance(task.model, Standardized)
    task.model.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    inputs, _ = next(examples_of(task.val, "val").batches(30))
    assert inputs.dtype == torch.uint8
    Evaluator(task.model, task).evaluate(examples_of(task.val, "val"))
    torch.testing.assert_close(seen[-1], (inputs / 255 - 0.3) / 0.25)
    assert task.augment is not None
    task.model(task.augment(inputs, np.random.default_rng(0)))
    assert seen[-1].dtype == torch.float32
    assert seen[-1].min() == pytest.approx(-0.3 / 0.25)  # the black frame
    assert not [name for name in task.model.state_dict() if name.startswith(("scale", "shift"))]


@crossed(transforms=["none", "crop-flip", "cutout"], strength=[0.0, 0.5])
def test_runs_on_images_learn_and_repeat_themselves(transforms: str, strength: float) -> None:
    asked = job(factors=factors(transforms=transforms, augmentation=strength), family="sam", rho=0.05)
    first, again = (run(asked, synthetic(), "cpu", "0") for _ in range(2))
    assert first.status == "completed", first.error
    assert first.measurements == again.measurements
    assert max(m.test_score or 0 for m in first.measurements) > 0.4  # a quarter by chance


def test_label_smoothing_changes_the_training_loss_and_not_the_evaluation() -> None:
    """Of pools and of images; the smoothed loss is that of targets mixed with a uniform share."""
    pools = load_data("digits"), synthetic()
    for build, data, task in ((pool_task, pools[0], "digits"), (image_task, pools[1], "fashion")):
        cell = default_factors(task) | {"train_size": 100, "width": 0.25}
        plain, smooth = (build(data, cell | {"label_smoothing": share}, 0, 0) for share in (0.0, 0.2))
        assert plain.training_loss is None
        examples = examples_of(plain.val, "val")
        assert (
            Evaluator(plain.model, plain).evaluate(examples).loss
            == Evaluator(smooth.model, smooth).evaluate(examples).loss
        )
        inputs, targets = next(examples.batches(30))
        outputs = smooth.model(inputs)
        classes = outputs.shape[1]
        mixed = 0.8 * functional.one_hot(targets, classes) + 0.2 / classes
        assert smooth.training_loss is not None
        torch.testing.assert_close(smooth.training_loss(outputs, targets), functional.cross_entropy(outputs, mixed))
        assert smooth.training_loss(outputs, targets) != plain.loss(outputs, targets)


def test_warm_up_and_precision_reach_the_run() -> None:
    plain, warm, coarse = (
        run(job(factors=factors(**changes)), synthetic(), "cpu", "0")
        for changes in ({}, {"warmup": 0.25}, {"precision": "bfloat16"})
    )
    losses = {record.measurements[-1].test_loss for record in (plain, warm, coarse)}
    assert len(losses) == 3
    assert plain.run_id == job(factors=factors()).run_id


def write_pictures(folder: Path, parts: dict[str, int], side: tuple[int, int] = (40, 30)) -> None:
    """Write pictures of one colour a class, with noise."""
    rng = np.random.default_rng(0)
    for part, count in parts.items():
        for number, name in enumerate(("red", "green")):
            (folder / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 100, size=(side[1], side[0], 3)).astype(np.uint8)
                pixels[:, :, number] += 120
                Image.fromarray(pixels).save(folder / part / name / f"{index}.png")


@pytest.mark.slow
def test_images_of_a_folder_train_and_validate(tmp_path: Path) -> None:
    write_pictures(tmp_path / "image-folder", {"train": 30, "test": 5})
    cell = default_factors("image-folder") | {
        "model": "conv", "image_size": 16, "train_size": 50, "batch_size": 10, "epochs": 2, "width": 0.25,
    }  # fmt: skip
    record = run(job(task="image-folder", factors=cell), load_data("image-folder", tmp_path), "cpu", "0")
    assert record.status == "completed", record.error
    task = build_task("image-folder", load_data("image-folder", tmp_path), cell, 0, 0)
    assert len(examples_of(task.val, "val")) == 6
    assert len(task.open_test("confirm")) == 10
    with pytest.raises(TaskError, match="holds 54 training images"):
        build_task("image-folder", load_data("image-folder", tmp_path), cell | {"train_size": 55}, 0, 0)


def test_a_validation_part_of_the_folder_is_used(tmp_path: Path) -> None:
    write_pictures(tmp_path, {"train": 10, "val": 3, "test": 2})
    cell = default_factors("image-folder") | {"model": "conv", "image_size": 16, "train_size": 20, "batch_size": 10}
    task = build_task("image-folder", load_data("image-folder", tmp_path), cell, 0, 0)
    assert len(examples_of(task.val, "val")) == 6


def test_its_labels_are_as_noisy_as_those_that_are_trained_on(tmp_path: Path) -> None:
    write_pictures(tmp_path, {"train": 10, "val": 10, "test": 2})
    cell = default_factors("image-folder") | {"model": "conv", "image_size": 16, "train_size": 20, "batch_size": 10}
    wrong = {}
    for said in ("same", "none"):
        noise = {"label_noise": 0.3, "validation_label_noise": said}
        task = build_task("image-folder", load_data("image-folder", tmp_path), cell | noise, 0, 0)
        for part in ("train", "val"):
            (pairs,) = examples_of(getattr(task, part), part).batches(20)
            red = pairs[0][:, 0].float().mean((1, 2)) > pairs[0][:, 1].float().mean((1, 2))
            wrong[said, part] = int((red != pairs[1]).sum())  # classes in the order of the alphabet: green, red
    assert wrong == {("same", "train"): 6, ("same", "val"): 6, ("none", "train"): 6, ("none", "val"): 0}


@pytest.mark.parametrize("size", [(40, 30), (30, 47), (12, 12)])
def test_a_picture_is_cut_as_torchvision_cuts_it(tmp_path: Path, size: tuple[int, int]) -> None:
    from torchvision.transforms import v2  # noqa: PLC0415  # seconds

    rows, columns = np.mgrid[: size[1], : size[0]]
    smooth = np.stack([rows * 5, columns * 5, rows * 2 + columns * 2], 2).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.png")
    ours, label = Files(np.array([str(tmp_path / "a.png").encode()]), np.array([3]), 14)[0]
    theirs = v2.Compose([v2.Resize(16), v2.CenterCrop(14), v2.PILToTensor()])(Image.open(tmp_path / "a.png"))
    assert label == 3
    assert ours.dtype == torch.uint8
    gap = (ours.float() - theirs.float()).abs()
    assert gap.mean() < 3  # they cut whole pixels of the scaled picture, we cut the same share of the original


def test_folders_that_do_not_fit_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="train/CLASS"):
        load_data("image-folder", tmp_path)
    write_pictures(tmp_path, {"train": 2, "test": 2})
    (tmp_path / "test" / "blue").mkdir()
    with pytest.raises(TaskError, match="different classes \\(blue\\)"):
        load_data("image-folder", tmp_path)
    for path in (tmp_path / "train").rglob("*.png"):
        path.unlink()
    with pytest.raises(TaskError, match="holds no images"):
        load_data("image-folder", tmp_path)


@pytest.fixture(scope="module")
def fashion() -> Images:
    data = load_data("fashion", DEBIAN.parent)
    assert isinstance(data, Images)
    return data


@pytest.mark.slow
@needs_fashion
def test_real_fashion_is_what_its_table_says(fashion: Images) -> None:
    pool = fashion.pool
    assert pool.inputs.shape == (60_000, 1, 28, 28)
    assert len(pool.open_test("confirm", 0)[1]) == 10_000
    assert len(pool.labels) - pool.validation_size == TASKS["fashion"].max_train_size
    assert np.bincount(pool.labels).tolist() == [6000] * 10
    assert (pool.inputs.mean() / 255, pool.inputs.std() / 255) == (
        pytest.approx(fashion.look.mean[0], abs=5e-5),
        pytest.approx(fashion.look.deviation[0], abs=5e-5),
    )


@needs_fashion
def test_a_run_on_real_fashion_learns(fashion: Images) -> None:
    asked = job(factors=factors(train_size=1000, epochs=3, width=0.5), stage="tune", trial=0)
    record = run(asked, fashion, "cpu", "0")
    assert record.status == "completed", record.error
    assert max(m.val_score for m in record.measurements) > 0.5  # a tenth by chance
