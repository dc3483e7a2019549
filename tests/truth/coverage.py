"""Do intervals of real trainings cover what many more replicates come to?

    PYTHONPATH=.:tests python -m truth.coverage RESULTS [STUDY ...]

RESULTS is the folder of ``coverage.toml``, finished or not; where there is none, the study is run first, which takes
three quarters of an hour on two cores. Its replicates are cut into studies, in their order. The truth of a study is the
mean gain over the same baseline in all replicates that are not its own. Every STUDY, such as quick with another seed,
is one more as it is.

- n = 10, n = 5: studies of so many replicates; the interval is over replicates.
- one tuning: every replicate alone, as protocol 1 had it; the interval is over its confirm seeds.
- last weights: that of protocol 1's own contrast, last weights against those of SGD at twice the epochs.

Methods of one study share their replicates, so the sums over methods and cells at the end have no interval.
Equal gains throughout, of a method that is switched off, make no interval; such studies are counted apart.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.conditions import header, table
from truth.rows import Row, evidence_of, rows_of, setting_of, train

from study.findings.conclusions import PRIMARY_METRIC
from study.findings.evidence import Evidence
from study.simulations.rates import Rate
from study.specs.contenders import baseline_with, contender
from study.stats import Effect
from study.stats.effects import Verdict
from study.stats.replication import agreement

SPEC = Path(__file__).with_name("coverage.toml")


@dataclass(frozen=True, slots=True)
class Seen:
    """What one study said of a row, and the truth that it should cover."""

    effect: Effect
    truth: float

    @property
    def interval(self) -> bool:
        """Tell whether there is one."""
        return len(set(self.effect.differences)) > 1

    @property
    def covered(self) -> bool:
        """Tell whether it covers the truth."""
        low, high = self.effect.ci95
        return low <= self.truth <= high


def of_size(size: int) -> Callable[[Row, float], Iterator[Seen]]:
    """Return what cuts a row's replicates into studies of a size."""

    def cut(row: Row, delta: float) -> Iterator[Seen]:
        for first in range(0, len(row.units) - size + 1, size):
            own = row.units[first : first + size]
            effect = row.study(own, delta)
            yield Seen(effect, row.gain(effect.baseline, [u for u in row.units if u not in own]))

    return cut


def one_tuning(row: Row, delta: float) -> Iterator[Seen]:
    """Take every replicate as a study of one tuning."""
    for unit in row.units:
        effect = row.one_tuning(unit, delta)
        yield Seen(effect, row.gain(effect.baseline, [u for u in row.units if u != unit]))


def at_last_weights(evidence: Evidence) -> Iterator[Row]:
    """Yield SAM's rows as protocol 1 had them: last weights, against those of SGD at twice the epochs."""
    spec = evidence.spec
    twice = baseline_with(spec, "SGD", "last", spec.gradient_ceiling)
    for cell in evidence.cells:
        ours = evidence.of(cell.name, contender(spec, "SAM", "G")).scores(PRIMARY_METRIC, "last")
        theirs = evidence.of(cell.name, twice).scores(PRIMARY_METRIC)
        yield Row(cell, "SAM, last weights", ours, {twice.name: theirs}, spec.confirms)


def elsewhere(row: Row, evidence: Evidence, studies: Iterable[Evidence], delta: float) -> Iterator[Seen]:
    """Yield what other studies say of a row, each with all of its replicates."""
    for study in studies:
        for other in rows_of(study):
            alike = setting_of(study, other.cell) == setting_of(evidence, row.cell)
            if alike and other.name == row.name:
                effect = other.study(other.units, delta)
                yield Seen(effect, row.gain(effect.baseline, row.units))


def line(task: str, name: str, design: str, found: list[Seen]) -> tuple[str, ...]:
    """Return a line of the table."""
    with_interval = [one for one in found if one.interval]
    rate = Rate(name, design, sum(one.covered for one in with_interval), len(with_interval), "")
    covers = "–"
    if rate.of:
        low, high = rate.interval
        covers = f"{rate.hits} of {rate.of}: {rate.rate:.0%} [{low:.0%}, {high:.0%}]"
    verdicts: list[Verdict] = [one.effect.verdict for one in found]
    same, pairs = agreement([verdicts])
    helps, hurts = verdicts.count("helps"), verdicts.count("hurts")
    return (
        task, name, design, str(len(found)), str(len(found) - rate.of),
        covers,
        f"{helps} / {hurts}",
        f"{same / pairs:.0%}" if pairs else "–",
        f"{helps * hurts / pairs:.1%}" if pairs else "–",
    )  # fmt: skip


def total(design: str, found: list[Seen]) -> tuple[str, ...]:
    """Return the line of all methods and cells."""
    known = [one for one in found if one.interval]
    covers = (
        f"{sum(one.covered for one in known)} of {len(known)}: {sum(one.covered for one in known) / len(known):.0%}"
    )
    return ("all", "all", design, str(len(found)), str(len(found) - len(known)), covers, "", "", "")


HEAD = ("cell", "method", "study", "studies", "no interval", "covers the truth", "helps / hurts", "pairs agree", "flip")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, metavar="RESULTS")
    parser.add_argument("studies", type=Path, nargs="*", metavar="STUDY")
    given = parser.parse_args()
    if not given.results.exists():
        train(SPEC, given.results)
    evidence, studies = evidence_of(given.results), [evidence_of(folder) for folder in given.studies]
    delta = evidence.spec.delta
    lines, everything = [HEAD], dict[str, list[Seen]]()
    for row in rows_of(evidence):
        designs = {"n = 10": of_size(10), "n = 5": of_size(5), "one tuning": one_tuning}
        by_design = {name: list(cut(row, delta)) for name, cut in designs.items()}
        if studies:
            by_design["given"] = list(elsewhere(row, evidence, studies, delta))
        for design, found in by_design.items():
            lines.append(line(row.cell.task, row.name, design, found))
            everything.setdefault(design, []).extend(found)
    for row in at_last_weights(evidence):
        lines.append(line(row.cell.task, row.name, "one tuning", list(one_tuning(row, delta))))
    lines += [total(design, found) for design, found in everything.items()]
    truths = [("cell", "method", "replicates", "true gain over each baseline")]
    for row in (*rows_of(evidence), *at_last_weights(evidence)):
        gains = ", ".join(f"{name} {row.gain(name, row.units):+.4f}" for name in row.baselines)
        truths.append((row.cell.task, row.name, str(len(row.units)), gains))
    print(header(), table(truths), table(lines), sep="\n\n")


if __name__ == "__main__":
    main()
