"""Optimizers of other packages and of a user's own, on the real packages: each works, or is refused with its sentence.

The table of `study/specs/README.md` says the same, and is held against this one.
"""

import re
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from study.data.pool import TaskError
from study.plan.cells import gradient_evaluations, searches, tune_job
from study.plan.proposals import propose
from study.plan.replicates import replicate_of
from study.records import Job, Needs, RunRecord
from study.specs.spec import StudySpec, parse_spec
from study.training.building import build_optimizer
from study.training.needs import find_needs
from study.training.trial import Run, run

HERE = Path(__file__).parent
SPEC = """
name = "others"
question = "?"
replicates = 1
confirms = 1
budgets = ["E"]
primary_budget = "E"
[methods.SGD]
[methods.X]
optimizer = "{optimizer}"
baseline = "SGD"
{more}
[search]
trials = 1
learning_rate = 0.05
unperturbed_share = 0.0
{search}
[[problems]]
task = "{task}"
factors = {{ train_size = 40, epochs = 4, batch_size = 10{factors} }}
"""
OURS, MATRICES = "own_tasks:tensors", "own_optimizers:matrices"  # with BatchNorm, dropout and biases; without


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.syspath_prepend(HERE)


def spec_of(
    optimizer: str, more: str = "", *, search: str = "", task: str = OURS, factors: str = "", known: bool = True
) -> StudySpec:
    """Return a study of one optimizer; with what that was found to need."""
    text = SPEC.format(optimizer=optimizer, more=more, search=search, task=task, factors=factors)
    spec = parse_spec(text, "others")
    return spec.model_copy(update={"optimizers": find_needs(spec)[0]}) if known else spec


def job_of(spec: StudySpec, family: str = "X") -> Job:
    search = next(one for one in searches(spec, [replicate_of(spec, 1)]) if one.family == family)
    return tune_job(spec, search, 0, propose(spec.search, search, 0, []))


def completed(job: Job) -> RunRecord:
    record = run(job, None, "cpu", "0")
    assert record.error is None
    assert record.status == "completed"
    return record


ONE = Needs()


@dataclass(frozen=True)
class Row:
    """One optimizer: what is given beside its name, what it was found to need, or the sentence of its refusal."""

    optimizer: str
    more: str = ""
    search: str = ""
    task: str = OURS
    needs: Needs = ONE
    refused: str = ""
    daily: bool = False

    @property
    def name(self) -> str:
        return self.optimizer if self.task == OURS else f"{self.optimizer}, {self.task.partition(':')[2]}"


TWO = Needs(closure=True, passes=2.0)
BEFORE = Needs(closure=True, gradients_first=True, passes=2.0)
MODES = Needs(modes=True)
ON_SGD = 'base = "SGD"'
TABLE = (
    Row("torch.optim:SGD", "options = { momentum = 0.9, nesterov = true }", daily=True),
    Row("torch.optim:Adam", search="of.X.learning_rate = 0.01"),
    Row("torch.optim:AdamW", search="of.X.learning_rate = 0.01"),
    Row("torch.optim:RMSprop", search="of.X.learning_rate = 0.01"),
    Row("torch.optim:NAdam", search="of.X.learning_rate = 0.01"),
    Row("torch.optim:Adafactor"),
    Row("torch.optim:Adadelta", search="of.X.learning_rate = 1.0"),
    Row("torch.optim:Muon", task=MATRICES),
    Row("torch.optim:Muon", refused="Muon only supports 2D parameters"),
    Row("study.training.muon:muon", daily=True),
    Row("torch.optim:LBFGS", "options = { max_iter = 4 }", needs=Needs(closure=True, passes=4.0), daily=True),
    Row("torch.optim:SparseAdam", refused="does not support dense gradients"),
    Row("lion_pytorch:Lion", "options = { betas = [0.9, 0.99] }", "of.X.learning_rate = 0.01", daily=True),
    Row("schedulefree:SGDScheduleFree", 'schedule = "constant"', needs=MODES, daily=True),
    Row("schedulefree:AdamWScheduleFree", 'schedule = "constant"', "of.X.learning_rate = 0.02", needs=MODES),
    Row("pytorch_optimizer:SAM", ON_SGD, "of.X.rho = 0.05", needs=BEFORE, daily=True),
    Row("pytorch_optimizer:WSAM", ON_SGD, "of.X.rho = 0.05", needs=TWO, daily=True),
    Row("pytorch_optimizer:LookSAM", ON_SGD, "of.X.rho = 0.05", needs=BEFORE),
    Row("pytorch_optimizer:FriendlySAM", ON_SGD, "of.X.rho = 0.05", needs=BEFORE),
    Row("pytorch_optimizer:GSAM", ON_SGD, refused="needs rho_scheduler, which neither the options nor the study give"),
    Row("own_optimizers:gsam", ON_SGD, "of.X.rho = 0.05", needs=TWO),
    Row("pytorch_optimizer:BSAM", refused="leaves a perturbation in the weights", daily=True),
    Row("pytorch_optimizer:Lookahead", ON_SGD),
    Row("pytorch_optimizer:SOAP", search="of.X.learning_rate = 0.02"),
    Row("pytorch_optimizer:Prodigy", search="of.X.learning_rate = 1.0"),
    Row("pytorch_optimizer:AdaFactor", refused="keeps a rate of its own"),
    Row("pytorch_optimizer:AdaFactor", "options = { relative_step = false, scale_parameter = false }",
        "of.X.learning_rate = 0.02"),
    Row("pytorch_optimizer:AdaHessian", refused="can't step on a CPU"),
)  # fmt: skip


@pytest.mark.parametrize(
    "row", [pytest.param(row, marks=() if row.daily else pytest.mark.exhaustive, id=row.name) for row in TABLE]
)
def test_an_optimizer_works_or_is_refused_with_its_sentence(row: Row) -> None:
    try:
        spec = spec_of(row.optimizer, row.more, search=row.search, task=row.task)
    except TaskError as error:
        sentence = str(error)
        assert row.refused
        assert row.refused in sentence
        assert sentence.startswith(f"methods.X: optimizer = '{row.optimizer}'")
        return
    assert not row.refused
    needs = spec.optimizers["X"]
    assert needs == replace(row.needs, passes=needs.passes)
    assert needs.passes == pytest.approx(row.needs.passes, rel=0.25)  # the line search of LBFGS ends when it ends
    job = job_of(spec)
    record = completed(job)
    expected = gradient_evaluations(job)
    counted = record.gradient_evaluations
    assert counted == expected if needs.passes in (1.0, 2.0) else 0.5 < counted / expected < 2
    assert record.versions.keys() >= {"torch"} | {
        {"lion_pytorch": "lion-pytorch"}.get(package, package)
        for package in [row.optimizer.partition(":")[0]]
        if package in ("lion_pytorch", "schedulefree", "pytorch_optimizer")
    }
    losses = [m.val_loss for m in record.measurements if m.weights == "last"]
    assert losses[-1] is not None
    assert losses[-1] < 1.3  # it does not run away: guessing has 1.1
    assert interrupted(job) == without_seconds(record)


def without_seconds(record: RunRecord) -> dict[str, Any]:
    return record.model_dump(exclude={"train_s", "evaluate_s", "wall_s"})


def interrupted(job: Job) -> dict[str, Any]:
    """Return the record of a run that is saved after each epoch and goes on in a new one."""
    one = Run(job, None, "cpu", "0")
    while not one.advance(seconds=0):
        state = one.state()
        one = Run(job, None, "cpu", "0")
        one.restore(state)
    return without_seconds(one.record())


def test_the_docs_have_the_same_table() -> None:
    text = (resources.files("study.specs") / "README.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    rows = {tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines if line.count("|") == 4}
    told = [(name.strip("`"), outcome) for name, outcome, *_ in rows]
    for row in TABLE:
        outcomes = {outcome for name, outcome in told if name == row.optimizer}
        assert outcomes, f"{row.optimizer} is missing"
        assert any(outcome.startswith("refused") for outcome in outcomes) or not row.refused, row.name
        assert any(outcome.startswith("works") for outcome in outcomes) or row.refused, row.name
        if row.refused:
            assert any(row.refused in " ".join(cells) for cells in rows if cells[0] == f"`{row.optimizer}`"), row.name


def test_torch_by_name_is_the_built_in_one_to_the_last_bit() -> None:
    """SGD of torch with the cell's momentum, and SAM round it, are what the built-in families are."""
    more = 'options = { momentum = 0.9 }\n[methods.SAM]\n[methods."X+SAM"]\nperturb = "sam"\nbaseline = "SGD"\n'
    more += 'optimizer = "torch.optim:SGD"\noptions = { momentum = 0.9 }'
    spec = spec_of("torch.optim:SGD", more)
    for ours, theirs in (("base", "X"), ("sam", "X+SAM")):
        one, other = (completed(job_of(spec, family)) for family in (ours, theirs))
        assert one.measurements == other.measurements
        assert one.gradient_evaluations == other.gradient_evaluations


def test_the_passes_of_anothers_sam_lead_where_ours_lead() -> None:
    """On a network without normalization or dropout, one step of `pytorch_optimizer.SAM` is one of ours."""
    spec = spec_of("pytorch_optimizer:SAM", ON_SGD, search="of.X.rho = 0.05", task=MATRICES)
    theirs = job_of(spec)
    ours = theirs.model_copy(update={"family": "sam", "own_family": None, "own_methods": {}})
    one, other = (completed(job).measurements[-1].val_loss for job in (ours, theirs))
    assert one == pytest.approx(other, rel=1e-4)


REFUSED = (
    ("nowhere:X", "", {}, "there is no module 'nowhere'"),
    ("torch.optim:Nothing", "", {}, "torch.optim has no function 'Nothing'"),
    ("lion_pytorch:Lion", "options = { beta = 1 }", {}, "the option 'beta', which it does not take; it takes lr"),
    ("torch.optim:SGD", "options = { momentum = -1.0 }", {}, "Invalid momentum value: -1.0"),
    ("torch.optim:SGD", ON_SGD, {}, "no argument 'base_optimizer' for it: leave base out"),
    ("pytorch_optimizer:SAM", "", {}, 'takes its steps with another optimizer; name it: base = "SGD"'),
    ("pytorch_optimizer:SAM", 'base = "torch.optim:Nothing"', {}, "base = 'torch.optim:Nothing' was given"),
    ("pytorch_optimizer:SAM", ON_SGD + "\nbase_options = { a = 1 }", {}, "base_options were given for the"),
    ("pytorch_optimizer:SAM", ON_SGD + '\nperturb = "sam"', {}, "takes its passes itself, so that"),
    ("pytorch_optimizer:SAM", ON_SGD, {"factors": ", clip_norm = 1.0"}, "factors.clip_norm = 1.0 was given, and"),
    ("schedulefree:SGDScheduleFree", 'average = "ema"', {}, 'take "swa" or "lawa"'),
    ("torch.optim:Adadelta", 'perturb = "sam"', {}, "has an option rho of its own"),
    ("lion_pytorch:Lion", "", {"search": "of.X.rho = 0.1"}, "has no argument 'rho' for a range of rho"),
    ("own_optimizers:no_optimizer", "", {}, "returned int; it must return an optimizer"),
    ("own_optimizers:without_rate", "", {}, "has no argument 'lr' for the learning rate"),
    ("own_optimizers:raises", "", {}, "over the parameters of task 'own_tasks:tensors': RuntimeError: not today"),
    ("own_optimizers:wants_more", "", {}, "needs total_steps, which neither"),
    ("own_optimizers:Deaf", "", {}, "keeps a rate of its own"),
)  # fmt: skip


@pytest.mark.parametrize(("optimizer", "more", "where", "sentence"), REFUSED)
def test_what_can_not_be_is_refused(optimizer: str, more: str, where: dict[str, str], sentence: str) -> None:
    with pytest.raises(TaskError) as refused:
        spec_of(optimizer, more, **where)  # type: ignore[arg-type]  # none of them is `known`
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_passes_are_counted_and_not_declared() -> None:
    """One that takes a second pass every other step costs one and a half, and its record says what it was."""
    spec = spec_of("own_optimizers:TwoPhases")
    assert spec.optimizers["X"] == Needs(closure=True, passes=1.5, resumable=False)
    job = job_of(spec)
    assert completed(job).gradient_evaluations == gradient_evaluations(job) == 4 * 40 * 1.5
    assert spec.table.relative_passes("X") == 1.5


def test_a_state_that_does_not_survive_is_not_saved() -> None:
    spec, (note,) = (found := spec_of("own_optimizers:Forgetful")), find_needs(found)[1]
    assert spec.optimizers["X"].resumable is False
    assert "a run that is interrupted begins anew" in note
    one = Run(job_of(spec), None, "cpu", "0")
    one.advance(seconds=0)
    assert not one.resumable
    with pytest.raises(RuntimeError, match="begins anew"):
        one.state()
    assert Run(job_of(spec, "base"), None, "cpu", "0").resumable


def test_what_is_searched_reaches_the_optimizer() -> None:
    search = "of.X.weight_decay = 0.25\nof.X.momentum = 0.5"
    spec = spec_of("own_optimizers:SignSGD", "options = {}", search=search)
    job = job_of(spec)
    assert dict(job.options) == {"momentum": 0.5}
    assert job.weight_decay == 0.25
    groups = build_optimizer(job, nn.Linear(2, 1)).param_groups
    assert [(group["weight_decay"], group["momentum"]) for group in groups] == [(0.25, 0.5)]


def test_the_weights_that_are_measured_are_those_of_its_evaluation_mode() -> None:
    """Schedule-Free, and its averages at the ends of epochs: what is measured is the average, not where it steps."""
    spec = spec_of("schedulefree:SGDScheduleFree", 'average = "swa"')
    job = job_of(spec)
    one = Run(job, None, "cpu", "0")
    one.advance()
    record = one.record()
    assert {m.weights for m in record.measurements} >= {"last", f"swa@{job.average_start!r}"}
    base = one._optimizer.base_optimizer
    held = [p.detach().clone() for group in base.param_groups for p in group["params"]]
    base.train()  # type: ignore[attr-defined]  # it has modes
    assert not all(
        torch.equal(p, q) for p, q in zip(held, (p for g in base.param_groups for p in g["params"]), strict=True)
    )


def test_weights_that_lie_otherwise_in_memory_are_refused_with_its_own_words() -> None:
    """The conv net keeps its kernels by channels, which LBFGS can't view as a row."""
    with pytest.raises(TaskError, match=re.escape("view size is not compatible")):
        spec_of("torch.optim:LBFGS", task="digits")
