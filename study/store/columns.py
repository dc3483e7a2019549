"""What every column of the frame means: the one table, which the README of `study` shows and a test holds to both."""

from dataclasses import dataclass

from study.command_line import execute


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the frame.

    Attributes:
        meaning: What its values are, in one line.
        unit: What they are counted in; "" of texts, names and plain numbers.
        empty: Where there is no value; "" if there is one in every row.
    """

    meaning: str
    unit: str = ""
    empty: str = ""


_SCORE, _LOSS = "the row's `unit`", "the task's loss, nats for a cross-entropy"
_UNTESTED = "the tune stage, weights that validation did not prefer, failed runs"
_UNMEASURED = "epochs at which they were not measured, failed runs"

COLUMNS: dict[str, Column] = {
    "run_id": Column("the run: a hash of all that decides what it measures"),
    "configuration": Column("what runs that differ in their seeds alone have in common, as a hash"),
    "stage": Column("`tune`, which validation judges, or `confirm`: fresh seeds, tested once"),
    "cell": Column("the problem: a task with its factors, as the report calls it"),
    "task": Column("the task's name in the spec"),
    "replicate": Column("the repetition of the whole procedure that the run belongs to, from 1"),
    "family": Column("the trajectory, which several methods share"),
    "epochs_factor": Column("multiple of the cell's epochs that it trains for"),
    "learning_rate": Column("peak of the schedule"),
    "rho": Column("radius of the perturbation; 0: the step is the base step"),
    "average_start": Column("proposed start of SWA", "share of the epochs"),
    "seed": Column("root of all random numbers of the run"),
    "trial": Column("place of the proposal in its search, from 0", empty="the confirm stage"),
    "search": Column("the search that proposed it, a family or a method", empty='"" in the confirm stage'),
    "weights": Column("whose numbers the row holds: `last`, `best` or an average such as `swa@0.75`"),
    "method": Column("the method whose row it is: that of these weights on this trajectory"),
    "weights_epoch": Column("the epoch that `best` weights are from", "epochs", "all other weights"),
    "epoch": Column("epochs behind the weights; 0 of a failed run", "epochs"),
    "final": Column("the row stands at the run's last epoch"),
    "train_loss": Column("mean loss of at most 500 training examples", _LOSS, _UNTESTED),
    "train_score": Column("score of the same examples", _SCORE, _UNTESTED),
    "val_loss": Column("mean loss of the validation part", _LOSS, _UNMEASURED),
    "val_score": Column("score of the validation part: the metric, negated where lower is better", _SCORE, _UNMEASURED),
    "test_loss": Column("mean loss of the test part", _LOSS, _UNTESTED),
    "test_score": Column("score of the test part", _SCORE, _UNTESTED),
    "val_calibration_error": Column(
        "expected calibration error on validation (15 bins)", "fraction", f"tasks without classes, {_UNMEASURED}"
    ),
    "test_calibration_error": Column("the same on test", "fraction", f"tasks without classes, {_UNTESTED}"),
    "metric": Column("what the score is called", empty='"" in older studies, and of runs that failed in building'),
    "unit": Column("what scores and gains are counted in; `fraction` of shares", empty='"" of plain numbers'),
    "higher_is_better": Column("the score is the metric; if not, its negative"),
    "val_examples": Column(
        "size of the validation part, by which hyper-parameters and weights were chosen", "examples",
        "0 in older studies, and of runs that failed in building",
    ),
    "stream": Column(
        "hash of what was trained on within the cell's epochs, equal where methods of a seed saw the same",
        empty='"" unless the training part is a stream',
    ),
    "inexact_resume": Column("an interrupted run went on with other examples of its stream than it had seen before"),
    "status": Column("`completed`, `diverged` (stands at the level of guessing), `failed` or `pruned`"),
    "error": Column("the message of a failed run", empty="all others"),
    "gradient_evaluations": Column("forward and backward passes of the training", "examples"),
    "forward_evaluations": Column("forward passes alone: measuring, BatchNorm statistics", "examples"),
    "skipped_steps": Column("steps that were left out because a gradient was not finite", "steps"),
    "train_s": Column("time of the training, on a machine that others may share", "s"),
    "evaluate_s": Column("time of the measuring", "s"),
    "wall_s": Column("time of the run", "s"),
    "device": Column("what it ran on"),
}  # fmt: skip


def columns_in_words() -> str:
    """Return the table as it stands in the README of `study`: ``python -m study.store.columns`` prints it."""
    rows = (f"| `{name}` | {of.unit} | {of.meaning} | {of.empty} |" for name, of in COLUMNS.items())
    return "\n".join(("| column | unit | meaning | empty |", "|---|---|---|---|", *rows))


if __name__ == "__main__":
    execute(lambda: print(columns_in_words()))
