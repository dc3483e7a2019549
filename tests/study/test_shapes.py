"""Tasks of any shape: nests, streams and metrics of every kind go from the spec to the page, or are refused before."""

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import own_tasks
import pytest
import torch
from own_jobs import FAMILIES, completed, job, spec_of
from own_tasks import OUTPUTS
from pydantic import ValidationError
from synthetic import synthetic_study
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from dashboards.report import build_report
from study import new
from study.data import TaskError
from study.driver.rehearsal import conclude_in_miniature
from study.findings import find
from study.findings.content import ScoreUnit
from study.records import METRICS, Job
from study.specs.problems import Problem, cell_factors
from study.specs.spec import parse_spec
from study.store.results import Study, load
from study.tasks import build_task
from study.tasks.adapted import Adapted, by_number, numbered
from study.tasks.examples import ExamplesError, examples_of, training_examples
from study.tasks.streamed import Streamed
from study.tasks.task import Metric
from study.training.building import adapted
from study.training.measure import Evaluator
from study.training.preflight import PreflightError, preflight
from study.training.scores import sum_of
from study.training.trial import Run
from wasam_core.probes.landscape import line

HERE = Path(__file__).parent
KINDS = ("multitask", "detection", "segmentation", "stream")


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.syspath_prepend(HERE)


# Nests.


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", [name.replace(" ", "_") for name in OUTPUTS])
def test_outputs_of_every_form_give_the_same_measurements(name: str, family: str) -> None:
    """A loss that is cut into micro-batches, and a metric that is given batches, whatever the outputs are made of."""
    reference = completed(job("tensors", **FAMILIES[family]))
    for ours, other in zip(completed(job(name, **FAMILIES[family])).measurements, reference.measurements, strict=True):
        for metric in ("train_loss", "train_score", "val_loss", "val_score", "test_loss", "test_score"):
            wanted = getattr(other, metric)
            assert getattr(ours, metric) == (None if wanted is None else pytest.approx(wanted, rel=1e-6))


@pytest.mark.parametrize("family", FAMILIES)
def test_lists_of_examples_give_the_same_measurements(family: str) -> None:
    """As inputs and as targets, probes included; no calibration, which wants a tensor of classes."""
    probed: dict[str, Any] = {"probed": ("last", "swa")}
    ours, other = (completed(job(name, **probed, **FAMILIES[family])) for name in ("entries", "tensors"))
    for mine, theirs in zip(ours.measurements, other.measurements, strict=True):
        known = [name for name in METRICS if getattr(theirs, name) is not None and "calibration" not in name]
        assert [getattr(mine, name) for name in known] == pytest.approx([getattr(theirs, n) for n in known], rel=1e-5)
    assert [probe.value for probe in ours.probes] == pytest.approx([p.value for p in other.probes], rel=1e-3, abs=1e-6)
    assert ours.forward_evaluations == other.forward_evaluations
    assert ours.gradient_evaluations == other.gradient_evaluations


@pytest.mark.parametrize("name", ["lists", "entries"])
def test_lines_between_weights_see_lists(name: str) -> None:
    task = build_task(f"own_tasks:{name}", None, job(name).factors, 0, 0)
    model, train = adapted(task), examples_of(task.train, "train")
    batches = list(train.batches(15))
    with numbered(model, batches) as (tensors,):
        weights = {key: value.detach().clone() for key, value in model.named_parameters()}
        found = line(
            model, by_number(task.loss, batches), weights, weights, {"train": tensors}, points=3, error_fn=None,
            recalibrate_with=tensors,
        )  # fmt: skip
    assert isinstance(model, Adapted)
    assert found.loss["train"] == pytest.approx([found.loss["train"][0]] * len(found.alphas))


class TakesOne(nn.Module):
    """Takes one argument."""

    def forward(self, images: Any) -> Any:
        """Return it."""
        return images


@pytest.mark.parametrize("inputs", [(torch.ones(2), torch.ones(2)), {"x": torch.ones(2)}])
def test_inputs_that_do_not_fit_the_model_say_what_became_of_them(inputs: Any) -> None:
    with pytest.raises(TaskError, match=r"TakesOne.forward does not take.*a tuple becomes one argument for each"):
        Adapted(TakesOne())(inputs)
    assert Adapted(TakesOne())([1, 2]) == [1, 2]
    with pytest.raises(TypeError, match=r"^of the model's own$"):
        Adapted(RaisesInside())((1,))


class RaisesInside(TakesOne):
    """Raises what a wrong call would."""

    def forward(self, images: Any) -> Any:
        """Raise it."""
        raise TypeError("of the model's own")


class Drawing(own_tasks.Rows):
    """Examples that are drawn on anew whenever they are read, by each of the global generators."""

    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return x + torch.randn(6) + float(np.random.standard_normal()) + own_tasks.random(), y


def test_what_a_dataset_draws_belongs_to_the_order_and_the_batch() -> None:
    """Methods of a seed see the same augmentations, whatever they draw in between; torch's own generator goes on."""
    data = Drawing(torch.zeros(10, 6), torch.arange(10), pairs=True)
    order = np.random.default_rng(0).permutation(10)

    def read(between: Callable[[], object]) -> list[Tensor]:
        found = []
        for inputs, _ in examples_of(data, "train").batches(3, order):
            found.append(inputs)
            between()
        return found

    held = np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
    one = read(lambda: None)
    assert np.random.get_state()[1].tolist() == held  # type: ignore[index, union-attr]
    for between in (lambda: torch.rand(5), lambda: np.random.rand(3), own_tasks.random):
        assert all(map(torch.equal, one, read(between)))
    assert not torch.equal(one[0], one[1])
    other = next(examples_of(data, "train").batches(3, order[::-1].copy()))[0]
    assert not torch.equal(one[0], other)
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    read(lambda: None)
    assert torch.equal(torch.rand(4), wanted)


# Streams.


@pytest.mark.parametrize("name", ["endless", "ends"])
def test_methods_of_a_seed_see_the_same_of_a_stream(name: str) -> None:
    """Whatever is measured in between, whatever they draw, and however long they train."""
    seen = {completed(job(name, **changes)).stream for changes in FAMILIES.values()}
    seen |= {completed(job(name, epochs_factor=2, stage="tune", reads=("last",))).stream}
    assert len(seen) == 1
    assert seen != {""}
    assert completed(job(name, seed=1001)).stream not in seen
    assert completed(job("tensors")).stream == ""


@pytest.mark.parametrize("name", ["endless", "ends"])
def test_an_interrupted_stream_goes_on_where_it_stopped(name: str) -> None:
    one = job(name, family="sam", rho=0.1)
    first = Run(one, None, "cpu", "0")
    assert not first.advance(0.0)
    found, whole = resumed(one, first.state()).record(), completed(one)
    assert found.measurements == whole.measurements
    assert (found.stream, found.inexact_resume) == (whole.stream, False)


def resumed(one: Job, state: bytes, seconds: float = math.inf) -> Run:
    """Return a run that went on from a state."""
    run = Run(one, None, "cpu", "0")
    torch.rand(7)
    run.restore(state)
    run.advance(seconds)
    return run


def test_a_stream_that_does_not_repeat_itself_says_so() -> None:
    one = job("unrepeatable")
    first = Run(one, None, "cpu", "0")
    assert not first.advance(0.0)
    second = resumed(one, first.state(), 0.0)
    assert resumed(one, second.state()).record().inexact_resume  # after another break, too
    assert completed(one).stream != completed(one).stream
    (note,) = preflight(spec_of("unrepeatable")).notes
    assert "streams other examples whenever it is built with the same seed" in note


def test_a_stream_is_read_in_epochs_that_go_on() -> None:
    examples = training_examples(own_tasks.Endless(3), 20, seed=5)
    assert isinstance(examples, Streamed)
    draws = np.random.default_rng(0)
    epochs = [torch.cat([inputs for inputs, _ in examples.epoch(number, 5, draws)]) for number in (1, 2)]
    assert [len(epoch) for epoch in epochs] == [20, 20]
    assert not torch.equal(*epochs)
    first = torch.cat([inputs for inputs, _ in examples.batches(5)])
    assert torch.equal(first, epochs[0])  # from its beginning, and the epochs go on undisturbed
    again = training_examples(own_tasks.Endless(3), 20, seed=5)
    assert torch.equal(torch.cat([inputs for inputs, _ in again.epoch(2, 5, draws)]), epochs[1])
    assert [len(inputs) for inputs, _ in examples.first(7).batches(5)] == [5, 2]


@pytest.mark.slow
def test_a_stream_is_the_same_by_a_worker() -> None:
    parts = [DataLoader(own_tasks.Endless(3), num_workers=workers) for workers in (1, 1)]
    one, other = (training_examples(part, 20, seed=5).epoch(1, 5, np.random.default_rng(0)) for part in parts)
    assert all(torch.equal(left[0], right[0]) for left, right in zip(one, other, strict=True))


class Locked(own_tasks.Endless):
    """Holds what can't be copied."""

    def __init__(self) -> None:
        super().__init__(0)
        self.lines = (line for line in ())


def test_what_is_no_stream_says_so() -> None:
    draws = np.random.default_rng(0)
    with pytest.raises(ExamplesError, match=r"can't be copied .*in its __iter__"):
        next(training_examples(Locked(), 20, 0).epoch(1, 5, draws))
    with pytest.raises(ExamplesError, match="ends before a batch of 5"):
        next(training_examples(own_tasks.Endless(0, count=4), 20, 0).epoch(1, 5, draws))
    with pytest.raises(ExamplesError, match="only the training part may be a stream"):
        examples_of(own_tasks.Endless(0), "val")
    with pytest.raises(TaskError, match=r"returned 40 training examples.*steps_per_epoch, which is for streams"):
        build_task("own_tasks:tensors", None, job("tensors").factors | {"steps_per_epoch": 4}, 0, 0)


@pytest.mark.parametrize(
    ("task", "factors", "message"),
    [
        ("own_tasks:endless", {"steps_per_epoch": 4, "train_size": 40}, "one says what the other is"),
        ("own_tasks:endless", {}, "or factors.steps_per_epoch"),
        ("own_tasks:endless", {"steps_per_epoch": 0}, "a whole number from 1"),
        ("digits", {"steps_per_epoch": 4}, "task 'digits' has no such factor"),
    ],
)
def test_steps_of_an_epoch_stand_in_the_place_of_a_size(task: str, factors: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Problem(task=task, factors=factors)
    found = cell_factors(Problem(task="own_tasks:endless", factors={"steps_per_epoch": 4, "batch_size": [5, 10]}))
    assert [cell["train_size"] for cell in found] == [20, 40]


def test_findings_say_where_methods_saw_other_examples() -> None:
    spec, records = synthetic_study(tasks=("digits",), factors={}, trials=2, replicates=2)

    def caveats(**changes: Any) -> list[str]:
        changed = [record.model_copy(update={key: of(record) for key, of in changes.items()}) for record in records]
        return [one.detail for one in find(spec, changed).caveats if one.kind == "unpaired streams"]

    assert caveats() == caveats(stream=lambda record: f"{record.job.seed}") == []
    (unpaired,) = caveats(stream=lambda record: record.run_id)
    assert "The stream of digits gave other examples to runs of one seed, for" in unpaired
    same = {"stream": lambda record: "same", "inexact_resume": lambda record: record is records[0]}
    (inexact,) = caveats(**same)
    assert inexact.startswith("1 interrupted runs of digits went on with other examples")


# Metrics.


class Streams:
    """A metric with the three methods, which comes to whatever it is told."""

    def __init__(self, found: Any) -> None:
        self.found = found

    def reset(self) -> None:
        """Forget."""

    def update(self, outputs: Any, targets: Any) -> None:
        """Take in."""

    def compute(self) -> Any:
        """Return it."""
        return self.found


def measured(metric: Metric) -> float:
    added = sum_of(metric, keep=False)
    added.update(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))
    return float(added.result())


@pytest.mark.parametrize("found", [0.25, torch.tensor(0.25), torch.tensor([0.25]), np.float64(0.25), np.array([0.25])])
def test_a_metric_comes_to_one_number(found: Any) -> None:
    for of in (Streams(found), lambda o, t: found, Streams({"map": found, "map_50": 0.5}), Streams({"map": found})):
        assert measured(Metric("map", of)) == 0.25


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (torch.zeros(3), r"Tensor of shape \(3,\)"),
        (np.zeros((2, 2)), r"ndarray of shape \(2, 2\)"),
        (None, "NoneType"),
        ({"map_50": 0.5, "map_75": 0.2}, "numbers called 'map_50', 'map_75': give the metric the name"),
        ({"map": torch.zeros(2)}, "numbers called 'map'"),
    ],
)
def test_what_is_not_one_number_says_so(found: Any, message: str) -> None:
    for of in (Streams(found), lambda o, t: found):
        with pytest.raises(TaskError, match=f"the metric 'map' came to {message}"):
            measured(Metric("map", of))


LOSSES = (
    functional.mse_loss, functional.l1_loss, functional.cross_entropy, nn.MSELoss(), nn.L1Loss(), nn.HuberLoss(),
    partial(functional.cross_entropy, ignore_index=255),
)  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_as_a_metric_goes_down(loss: Any) -> None:
    with pytest.raises(TaskError, match=r"is better when it is lower: give higher_is_better=False"):
        Metric("loss", loss).check()
    Metric("loss", loss, higher_is_better=False).check()


@pytest.mark.slow  # torchmetrics takes seconds to import
def test_metrics_of_torchmetrics_work_as_they_are() -> None:
    """Each gives what it gives of the whole split at once, though it is told in batches, and its direction is held."""
    metrics = pytest.importorskip("torchmetrics")
    task = build_task("own_tasks:tensors", None, job("tensors").factors, 0, 0)
    examples = examples_of(task.val, "val")
    inputs, targets = next(examples.batches(len(examples)))
    task.model.eval()
    outputs = task.model(inputs).detach()
    for of, higher in (
        (metrics.Accuracy(task="multiclass", num_classes=3), True),
        (metrics.AUROC(task="multiclass", num_classes=3), True),
        (metrics.F1Score(task="multiclass", num_classes=3, average="macro"), True),
        (metrics.CalibrationError(task="multiclass", num_classes=3), False),
        (metrics.HingeLoss(task="multiclass", num_classes=3), False),
    ):
        metric = Metric("of torchmetrics", of, higher_is_better=higher)
        metric.check()
        with pytest.raises(TaskError, match="is better when it is"):
            replace(metric, higher_is_better=not higher).check()
        of.reset()
        of.update(outputs, targets)
        wanted = float(of.compute()) * (1 if higher else -1)
        found = Evaluator(task.model, replace(task, metric=metric), batch_size=7).evaluate(examples).score
        assert found == pytest.approx(wanted, rel=1e-6)


def test_a_guess_with_the_sign_of_an_error_is_refused() -> None:
    """A diverged run would count as better than any."""
    with pytest.raises(PreflightError, match=r"guess.score = 2000 would be better than any: give Guess\(6, -2000\)"):
        preflight(spec_of("guesses_upwards"))


@pytest.mark.parametrize(
    ("one", "other", "pooled"),
    [
        (("accuracy", "fraction"), ("token accuracy", "fraction"), True),
        (("MAE", "k$"), ("MAE", "k$"), True),
        (("MAE", "k$"), ("RMSE", "k$"), False),
        (("IoU", "fraction"), ("accuracy", "fraction"), False),
        (("MAE", "k$"), ("MAE", "$"), False),
        (("R²", ""), ("R²", ""), True),
        (("R²", ""), ("score", ""), False),
    ],
)
def test_different_metrics_are_never_put_together(one: tuple[str, str], other: tuple[str, str], pooled: bool) -> None:
    assert (ScoreUnit(*one).measure == ScoreUnit(*other).measure) is pooled
    assert ScoreUnit(*one).measure != ScoreUnit(*one, higher_is_better=False).measure or one[0] == "accuracy"


# From the spec to the page.


def written(folder: Path, kind: str, prefix: str = "shape", **changes: str) -> str:
    """Write an example, under a name that no other test of this process has imported; return its spec, made small."""
    path = folder / f"{prefix}_{kind}.py"
    assert new.main([str(path), "--kind", kind]) == 0
    small = {"replicates": "2", "confirms": "1", "trials": "2", "factors.epochs": "1"} | changes
    rows = path.with_suffix(".toml").read_text().splitlines()
    return "\n".join(f"{key} = {small[key]}" if (key := row.partition(" = ")[0]) in small else row for row in rows)


def page_of(pages: list[str]) -> Callable[[Study], object]:
    return lambda study: pages.append(build_report(study.findings, study.frame, records=study.records))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_shape_comes_to_a_page(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In miniature: every method and stage on a few examples, then selection, frame, findings and page; with probes."""
    monkeypatch.syspath_prepend(tmp_path)
    spec = parse_spec("probes = true\n" + written(tmp_path, kind), kind)
    methods = [*spec.methods, "m-SAM"] if "SGD" in spec.methods else spec.methods
    pages: list[str] = []
    said = preflight(
        spec.model_copy(update={"methods": tuple(methods)}), partial(conclude_in_miniature, page_of(pages))
    )
    assert said.notes == ()
    assert len(pages) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["soft_everywhere", "mixed", "entries", "of_torchmetrics"])
def test_tasks_of_the_tests_come_to_a_page_too(name: str) -> None:
    pages: list[str] = []
    spec = spec_of(name, methods=["SGD", "SAM", "WASAM", "m-SAM"], probes=name != "mixed")
    preflight(spec, partial(conclude_in_miniature, page_of(pages)))
    assert f"own_tasks:{name}" in pages[0]


IN_DOLLARS = """
def in_dollars(seed, factors):
    from dataclasses import replace
    from torch import numel
    from study.tasks import Guess, Mean, Metric
    errors = Mean(lambda outputs, targets: 5000 * (outputs - targets).abs().sum(), numel)
    metric = Metric("MAE", errors, higher_is_better=False, unit="$")
    return replace(build(seed, factors), metric=metric, guess=Guess(loss=1.0, score=-4000.0))
"""


@pytest.mark.ray
def test_shapes_go_from_a_spec_to_a_page_by_the_command(tmp_path: Path) -> None:
    """Three metrics in one study: a MAE in dollars with δ = 200, an F1 of lists of boxes, and a stream's accuracy."""
    methods = {"methods": '["SGD", "SAM"]', "trials": "1"}
    specs = {kind: written(tmp_path, kind, "sent", **methods) for kind in ("regression", "detection", "stream")}
    with (tmp_path / "sent_regression.py").open("a") as task:
        task.write(IN_DOLLARS)
    head, _, first = specs["regression"].partition("[[problems]]\n")
    problems = [
        f"delta = 200.0\n{first.replace(':build', ':in_dollars')}",
        *(specs[kind].partition("[[problems]]\n")[2] for kind in ("detection", "stream")),
    ]
    text = head + "".join(f"[[problems]]\n{one}\n" for one in problems)
    (tmp_path / "shapes.toml").write_text(text)
    command = [sys.executable, "-m", "study.run", "shapes.toml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sent_regression:in_dollars is scored by MAE in $, δ = 200 $; lower is better." in done.stdout
    study = load(tmp_path / "results" / "sent_regression")
    assert {record.status for record in study.records} == {"completed"}
    found = study.findings
    mae, boxes, stream = "sent_regression:in_dollars", "sent_detection:build", "sent_stream:build"
    assert found.deltas == {mae: 200.0, boxes: 0.005, stream: 0.005}
    assert len({score.measure for score in found.scores.values()}) == 3
    assert len(found.pooled) == 1
    assert set(found.val_examples.values()) == {400, 200}
    frame = study.frame.set_index("task")
    assert (frame.loc[mae, "val_score"] < 0).all()
    assert frame.loc[mae, ["unit", "metric"]].drop_duplicates().values.tolist() == [["$", "MAE"]]
    streamed = study.frame[(study.frame.task == stream) & (study.frame.stream != "")]
    assert (streamed.groupby(["cell", "replicate", "seed"]).stream.nunique() == 1).all()
    assert "MAE in $, lower is better" in (study.folder / "report.html").read_text(encoding="utf-8")
