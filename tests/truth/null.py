"""How often is the baseline found to differ from itself? Nothing is there to be found, so at most 5 % of times.

    PYTHONPATH=.:tests python -m truth.null RESULTS

RESULTS is the folder of ``null.toml``, finished or not; where there is none, the study is run first. A comparison of
n = 10 takes twice ten replicates: the baseline of ten of them, which were tuned by themselves on streams of their own,
is held as a method against the baseline of the other ten. No replicate serves twice; comparisons of n = 5 are cut out
of the same. Verdicts are for δ → 0 and without Holm's correction, so that the t test alone is left to hold them back.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from benchmarks.conditions import header, table
from truth.rows import Row, evidence_of, train

from study.findings.conclusions import PRIMARY_METRIC
from study.findings.evidence import Evidence
from study.simulations.rates import Rate
from study.specs.contenders import baseline_with
from study.stats import Effect

SPEC = Path(__file__).with_name("null.toml")
SIZES = (10, 5)
NEXT_TO_NOTHING = 1e-9  # δ: any gain that is found counts


def comparisons(row: Row, size: int) -> Iterator[Effect]:
    """Hold the method of some replicates against the baselines of as many of the next, and so on."""
    units = row.units
    for first in range(0, len(units) - 2 * size + 1, 2 * size):
        method, others = units[first : first + size], units[first + size : first + 2 * size]
        paired = {u: dict(enumerate(row.method[u].values())) for u in method}
        against = {
            name: {u: dict(enumerate(side[v].values())) for u, v in zip(method, others, strict=True)}
            for name, side in row.baselines.items()
        }
        yield Row(row.cell, row.name, paired, against, row.confirms).study(method, NEXT_TO_NOTHING)


def baselines_as_methods(evidence: Evidence) -> Iterator[Row]:
    """Yield each baseline as a method against itself, and the best epoch against both, as a method would be held."""
    kinds = {kind: baseline_with(evidence.spec, "SGD", kind) for kind in evidence.spec.weights}
    for cell in evidence.cells:
        scores = {kind: evidence.of(cell.name, one).scores(PRIMARY_METRIC) for kind, one in kinds.items()}
        for against in (("best",), ("last",), ("best", "last")):
            sides = {kinds[kind].name: scores[kind] for kind in against}
            yield Row(cell, f"{kinds[against[0]].name} again", scores[against[0]], sides, evidence.spec.confirms)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, metavar="RESULTS")
    given = parser.parse_args()
    if not given.results.exists():
        train(SPEC, given.results)
    rows = list(baselines_as_methods(evidence_of(given.results)))
    lines = [
        ("cell", "method", "against", "n", "comparisons", "helps", "hurts", "either, with its exact 95 % interval")
    ]
    by_kind: dict[tuple[str, str, int], list[Effect]] = {}
    for row in rows:
        for size in SIZES:
            found = list(comparisons(row, size))
            key = row.name, ", ".join(row.baselines), size
            by_kind.setdefault(key, []).extend(found)
            lines.append(line(row.cell.task, *key, found))
    lines += [line("both cells", *key, found) for key, found in by_kind.items()]
    print(header(), table(lines), sep="\n\n")


def line(cell: str, name: str, against: str, size: int, found: list[Effect]) -> tuple[str, ...]:
    """Return a line of the table."""
    helps, hurts = (sum(effect.verdict == word for effect in found) for word in ("helps", "hurts"))
    rate = Rate(name, against, helps + hurts, len(found), "≤", 0.05)
    low, high = rate.interval
    return (
        cell,
        name,
        against,
        str(size),
        str(rate.of),
        str(helps),
        str(hurts),
        f"{rate.rate:.1%} [{low:.1%}, {high:.1%}]",
    )


if __name__ == "__main__":
    main()
