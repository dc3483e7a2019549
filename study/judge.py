"""``python -m study.judge``: the verdicts of a study on results that exist already, from wherever they come."""

import argparse
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from study.command_line import EXIT_DONE, command, execute, refused
from study.existing.columns import Options
from study.existing.question import question_of
from study.existing.reading import read_table, table_of
from study.existing.trackers import TableError
from study.existing.verdicts import findings_of
from study.files import write_atomically
from study.findings import Findings, write_findings
from study.findings.content import OF_DESIGN
from study.findings.taken import taken_for
from study.store.frame import frame_of

_WIDTH = 80
_EXAMPLES = """\
examples:
  python -m study.judge runs.csv --method optimizer --problem dataset --seed seed --score test_acc --baseline SGD
  python -m study.judge runs.csv                      guess the columns, and say what they were taken for
  python -m study.judge wandb_export.csv --method optimizer --score test_acc --baseline SGD --out verdicts
  python -m study.judge sqlite:///optuna.db --method optimizer --baseline SGD --delta 0.002
  python -m study.judge runs.parquet --method optimizer,ema --problem dataset,model --baseline "SGD ema=False"
                                                      several columns that are one thing
  python -m study.judge baselines.csv --baseline "SGD last" --baseline "SGD best"
                                                      hold against the strongest of several baselines
  python -m study.judge mae.csv --score mae --baseline SGD --unit k$ --lower-is-better --delta 2 --delta letters=0.5
                                                      a metric in its own unit, δ by problem

reads CSV, TSV, JSON and Parquet with a row a run, W&B's table of runs (its CSV, or the JSON of its API), MLflow's CSV,
and Optuna's databases. The same from Python, for a DataFrame:
  from study.judge import judge
  judge(frame, method="optimizer", score="test_acc", baseline="SGD").verdicts

exit codes: 0 judged; 2 bad usage, or a table that can't be judged: one sentence says why
"""


@dataclass(frozen=True, repr=False)
class Judgement:
    """What a table of results says: the verdicts with all that belongs to them.

    Attributes:
        findings: As of a study, as far as a table knows; `save` writes them as ``findings.json``.
    """

    findings: Findings

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """One row a problem and method: verdict, gain with its 95 % interval, p and Holm's p, n, the baseline."""
        return pd.DataFrame(
            [
                {
                    "problem": effect.cell,
                    "method": effect.method,
                    "baseline": effect.baseline,
                    "verdict": effect.verdict,
                    "clear": effect.clear,
                    "gain": effect.mean,
                    "ci95_low": effect.ci95[0],
                    "ci95_high": effect.ci95[1],
                    "p": effect.p,
                    "p_holm": float("nan") if effect.p_holm is None else effect.p_holm,
                    "n": effect.n,
                    "paired": effect.apart is None,
                    "cost_ratio": effect.cost_ratio,
                }
                for effect in self.findings.effects
            ]
        )

    @property
    def caveats(self) -> list[str]:
        """What could change the verdicts, a sentence each."""
        return [caveat.detail for caveat in self.findings.caveats]

    def __str__(self) -> str:
        from dashboards.closing import closing  # noqa: PLC0415  # plotly takes a second to import

        parts = taken_for(self.findings), closing(self.findings, frame_of([])), _others(self.findings)
        return "\n\n".join(filter(None, parts))

    def __repr__(self) -> str:
        told = (f"{effect.method} on {effect.cell}: {effect.verdict}" for effect in self.findings.effects)
        return f"<Judgement {'; '.join(told)}>"

    def to_html(self) -> str:
        """Return the page: one file that needs no network."""
        from dashboards.report import build_report  # noqa: PLC0415  # plotly takes a second to import

        return build_report(self.findings, frame_of([]))

    def save(self, folder: Path | str) -> Path:
        """Write ``report.html``, ``findings.json`` and ``verdicts.csv``, and return the folder.

        Raises:
            TableError: the results folder of a study, whose files they would replace.
        """
        folder = Path(folder)
        if (folder / "spec.toml").exists():
            raise TableError(f"{folder} is the results folder of a study; give another one.")
        page = self.to_html()
        folder.mkdir(parents=True, exist_ok=True)
        write_findings(folder / "findings.json", self.findings)
        write_atomically(folder / "verdicts.csv", self.verdicts.to_csv(index=False))
        write_atomically(folder / "report.html", page)
        return folder


def judge(
    data: pd.DataFrame | str | Path,
    *,
    method: str = "",
    problem: str = "",
    seed: str = "",
    score: str = "",
    cost: str = "",
    baseline: str | Sequence[str] = (),
    delta: float | Mapping[str, float] | None = None,
    higher_is_better: bool | None = None,
    unit: str = "",
    paired: bool = True,
    alpha: float = 0.05,
) -> Judgement:
    """Judge results that exist already, by the rules and the statistics of a study.

    Runs of one seed are paired; a method and baselines that share no seed are held against each other by Welch's t.
    With several baselines a method is held against all of them, and the row is about the strongest.

    Args:
        data: One row a run: a DataFrame, or what `study.existing.reading.read_table` reads.
        method, problem, seed, score, cost: Names of columns; several that are one thing with commas between them.
            "" guesses (of the cost: there is none).
        baseline: The method or methods that others are held against; none guesses.
        delta: δ, the smallest gain that matters, in the table's own numbers; or by problem. None: half a point of what
            lies between 0 and 1, or 0 and 100 in percent.
        higher_is_better: None reads it off the score's name.
        unit: ``%``, ``fraction``, or the scores' own unit, such as ``k$``.
        paired: False holds all runs against all, whatever their seeds.
        alpha: Level of a method's family of problems, in (0, 1).

    Raises:
        TableError: what stands in the way of a verdict; one sentence.
    """
    table = table_of(data) if isinstance(data, pd.DataFrame) else read_table(str(data))
    baselines = (baseline,) if isinstance(baseline, str) else tuple(baseline)
    options = Options(
        method, problem, seed, score, cost, tuple(name for name in baselines if name), delta, higher_is_better, unit,
        paired, alpha,
    )  # fmt: skip
    return Judgement(findings_of(question_of(table, options)))


def _others(findings: Findings) -> str:
    """Return the caveats that don't stand with the answer, a sentence each; where δ decides, the answer says."""
    told = [c for c in findings.caveats if c.kind not in (*OF_DESIGN, "verdict depends on delta")]
    return "\n".join(line for caveat in told for line in textwrap.wrap(f"{caveat.kind}: {caveat.detail}", _WIDTH))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    given = vars(_parser().parse_args(arguments))
    table, out = given.pop("table"), given.pop("out")
    try:
        found = judge(table, **given | {"delta": _deltas(given["delta"])})
        print(found)
        if out:
            print(f"\n{found.save(out) / 'report.html'}")
    except (TableError, OSError) as error:
        return refused(error)
    return EXIT_DONE


def _parser() -> argparse.ArgumentParser:
    made = command(
        "study.judge", "Give results that exist already the verdicts of a study: does it help, how surely?", _EXAMPLES
    )
    add = made.add_argument
    add("table", metavar="TABLE", help="a table with a row a run, or the URL of a database")
    several = "; several with commas between them"
    add("--method", default="", metavar="COLUMN", help=f"what differs between the runs{several}")
    add("--problem", default="", metavar="COLUMN", help=f"what they were run on{several}; default: one")
    add("--seed", default="", metavar="COLUMN", help="what pairs them; default: they are not paired")
    add("--score", default="", metavar="COLUMN", help="what is judged")
    add("--cost", default="", metavar="COLUMN", help="what a run cost, in any unit")
    add("--baseline", action="append", default=[], metavar="METHOD", help="held against; may be given several times")
    add(
        "--delta", action="append", default=[], metavar="[PROBLEM=]NUMBER",
        help="the smallest gain that matters, in the score's unit; default half a point of a share",
    )  # fmt: skip
    direction = made.add_mutually_exclusive_group()
    direction.add_argument("--lower-is-better", dest="higher_is_better", action="store_false", default=None)
    direction.add_argument("--higher-is-better", dest="higher_is_better", action="store_true", default=None)
    add("--unit", default="", metavar="UNIT", help="of the score: %%, fraction, or its own, such as k$")
    add("--unpaired", dest="paired", action="store_false", help="hold all runs against all")
    add("--alpha", type=float, default=0.05, metavar="A", help="level of a method's family; default 0.05")
    add("--out", type=Path, metavar="DIR", help="write report.html, findings.json and verdicts.csv here")
    return made


def _deltas(given: Sequence[str]) -> float | dict[str, float] | None:
    """Read δ as it was given: one number, or some by problem.

    Raises:
        TableError: no number, or a problem that has several.
    """
    found: dict[str, float] = {}
    for text in given:
        problem, _, number = text.rpartition("=")
        if problem in found:
            raise TableError(f"--delta {text} was given after {found[problem]:g}; give one for each problem.")
        try:
            found[problem] = float(number)
        except ValueError:
            raise TableError(f"--delta {text} was given; it is a number, or PROBLEM=NUMBER.") from None
    return found.get("") if found.keys() <= {""} else found


if __name__ == "__main__":
    execute(main)
