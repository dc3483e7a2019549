"""``python -m study.replicate``: put finished studies of one question side by side; do they say the same?"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from study.command_line import aligned, command, execute, refused, whole_number
from study.findings import FindingsError
from study.findings.gains import Comparison, Gains, gains_of
from study.records import changed_files
from study.specs.spec import SpecError, StudySpec
from study.stats import Effect, estimate
from study.stats.replication import LEVEL, Relabelling, agreement, flipped, relabelling_test
from study.store.folder import ResultsError
from study.store.record_files import RecordError
from study.store.results import Study, load

_LEAST_PERMUTATIONS = math.ceil(1 / LEVEL)  # with fewer p can't fall below the level
_EXAMPLES = """\
examples:
  python -m study.run quick --seed 0 --out first
  python -m study.run quick --seed 1 --out second
  python -m study.replicate first second
  python -m study.replicate results/* --permutations 99999

exit codes: 0 both gates are passed; 1 a gate fails: one study says helps where another says hurts, or studies differ
by more than their replicates do; 2 bad usage, or studies that can't be compared
"""


class ReplicationError(ValueError):
    """Studies that can't be put side by side; one sentence: what was given, what is allowed, what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = command(
        "study.replicate",
        "Put finished studies of one spec, with different seeds, side by side: gains, verdicts, two gates.",
        _EXAMPLES,
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="RESULTS", help="results folders, two or more")
    parser.add_argument(
        "--permutations", type=whole_number(_LEAST_PERMUTATIONS), default=9_999, metavar="N",
        help="random relabellings of the replicates; default 9,999",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=whole_number(0), default=0, metavar="S", help="root of the relabellings; default 0"
    )
    options = parser.parse_args(arguments)
    try:
        studies = comparable(options.folders)
    except (ReplicationError, ResultsError, RecordError, SpecError, FindingsError) as error:
        return refused(error)
    rows = side_by_side(studies)
    together = put_together(studies)
    print(table(studies, rows, together))
    print()
    flips = [comparison for comparison, effects in rows.items() if flipped([effect.verdict for effect in effects])]
    found = relabelled(together.values(), options.permutations, np.random.default_rng(options.seed))
    print(in_words(rows, flips, found))
    for note in other_sources(studies):
        print(note)
    return 1 if flips or found.differs else 0


def comparable(folders: Sequence[Path]) -> list[Study]:
    """Read the studies and return them by ascending seed.

    Raises:
        ReplicationError: fewer than two, a seed twice, different specs, an unfinished study, or one of protocol 1.
        ResultsError, RecordError, SpecError, FindingsError: a folder that can't be read.
    """
    if len(folders) < 2:
        raise ReplicationError(
            f"{folders[0]} alone was given; at least two studies are compared: run the spec again with another --seed "
            "and give both folders."
        )
    studies = [load(folder) for folder in folders]
    by_seed: dict[int, Study] = {}
    for study in studies:
        if study.spec.protocol == 1:
            raise ReplicationError(
                f"{study.folder} holds a study of protocol 1, which has no replicates to relabel; run its question "
                "again under a spec with replicates."
            )
        counts = study.findings.counts
        if not counts.finished:
            raise ReplicationError(
                f"{study.folder} holds {counts.ended:,} of {counts.planned:,} runs; only finished studies are "
                "compared: run the same command again to finish it."
            )
        _check_same_question(studies[0], study)
        if other := by_seed.get(study.spec.seed):
            raise ReplicationError(
                f"{other.folder} and {study.folder} both have seed = {study.spec.seed}, so their runs are the same; "
                "give studies with different seeds."
            )
        by_seed[study.spec.seed] = study
    return [by_seed[seed] for seed in sorted(by_seed)]


def _check_same_question(first: Study, other: Study) -> None:
    one, two = (study.spec.model_copy(update={"seed": 0}) for study in (first, other))
    if one.hash != two.hash:
        differing = ", ".join(_differing(one, two))
        raise ReplicationError(
            f"{first.folder} and {other.folder} differ in {differing}; studies of one spec are compared, which differ "
            "in their seed alone."
        )


def other_sources(studies: Sequence[Study]) -> list[str]:
    """Say which code of the user's own was not the same in all studies, a sentence each."""
    found: dict[str, dict[str, int]] = {}  # by name: its sources, and the first study's seed
    for study in studies:
        for record in study.records:
            for name, source in record.sources.items() if record.measurements else ():
                found.setdefault(name, {}).setdefault(source, study.spec.seed)
    notes = []
    for name, by_source in found.items():
        first, *others = by_source
        files = dict.fromkeys(file for other in others for file in changed_files(first, other))
        if files:
            notes.append(
                f"NOTE: the source of {name} was changed in between ({', '.join(files)}; seeds "
                f"{', '.join(map(str, by_source.values()))}): what differs between the studies may be that."
            )
    return notes


def _differing(one: StudySpec, two: StudySpec) -> list[str]:
    return [name for name in StudySpec.model_fields if getattr(one, name) != getattr(two, name)]


def side_by_side(studies: Sequence[Study]) -> dict[Comparison, list[Effect]]:
    """Return what every study found, by comparison."""
    by_study = [
        {Comparison(effect.cell, effect.method, effect.budget): effect for effect in study.findings.effects}
        for study in studies
    ]
    shared = [comparison for comparison in by_study[0] if all(comparison in found for found in by_study)]
    return {comparison: [found[comparison] for found in by_study] for comparison in shared}


class Together(NamedTuple):
    """The gains of all studies by (study, unit), over the baseline that is the strongest of all of them together."""

    baseline: str
    gains: Mapping[tuple[int, int], float]


def put_together(studies: Sequence[Study]) -> dict[Comparison, Together]:
    """Return the gains of every comparison that stands in all studies."""
    by_study = [gains_of(study.spec, study.records) for study in studies]
    shared = [comparison for comparison in by_study[0] if all(comparison in found for found in by_study)]
    return {comparison: _against_the_strongest([found[comparison] for found in by_study]) for comparison in shared}


def relabelled(together: Iterable[Together], permutations: int, rng: np.random.Generator) -> Relabelling:
    """Test whether the studies differ by more than their replicates do, all comparisons together."""
    rows = [row.gains for row in together]
    columns = sorted({column for row in rows for column in row})
    gains = [[row.get(column, math.nan) for column in columns] for row in rows]
    return relabelling_test(gains, [study for study, _ in columns], permutations, rng)


def _against_the_strongest(by_study: Sequence[Gains]) -> Together:
    """Return the gains over the baseline that is the strongest of all studies together.

    Each study's own strongest would be chosen with the labels in hand, which relabelling has to be free of.
    """
    by_baseline = {
        name: {(study, unit): gain for study, gains in enumerate(by_study) for unit, gain in gains[name].items()}
        for name in by_study[0]
    }
    complete = set.intersection(*(set(gains) for gains in by_baseline.values()))
    if not complete:
        return Together("", {})
    strongest = min(by_baseline, key=lambda name: math.fsum(by_baseline[name][column] for column in sorted(complete)))
    return Together(strongest, {column: by_baseline[strongest][column] for column in sorted(complete)})


def table(
    studies: Sequence[Study], rows: Mapping[Comparison, Sequence[Effect]], together: Mapping[Comparison, Together]
) -> str:
    """Return what every study found as text, comparison by comparison, and what all of their replicates come to."""
    lines: list[tuple[str, ...]] = [
        ("cell", "method", "budget", "seed", "gain", "95 % interval", "n", "verdict", "against")
    ]
    for comparison, effects in rows.items():
        names: tuple[str, ...] = tuple(comparison)
        for study, effect in zip(studies, effects, strict=True):
            low, high = effect.ci95
            found = f"{effect.mean:+.4f}", f"{low:+.4f} to {high:+.4f}", str(effect.n), effect.verdict, effect.baseline
            lines.append((*names, str(study.spec.seed), *found))
            names = ("", "", "")
        pooled = estimate(list(together[comparison].gains.values()))
        interval = f"{pooled.ci95[0]:+.4f} to {pooled.ci95[1]:+.4f}"
        of_all = (f"{pooled.mean:+.4f}", interval, str(pooled.n), "–", together[comparison].baseline)
        lines.append((*names, "all", *of_all))
    return aligned(lines, right=(3, 4, 5, 6))


def in_words(rows: Mapping[Comparison, Sequence[Effect]], flips: Sequence[Comparison], found: Relabelling) -> str:
    """Return how far the verdicts agree, and what came of the two gates."""
    same, pairs = agreement([[effect.verdict for effect in effects] for effects in rows.values()])
    lines = [
        "all: the replicates of all studies together; a description, since nobody fixed their number beforehand.",
        f"Verdicts agree in {same} of {pairs} pairs of studies ({same / pairs:.0%}): a matter of power, and no gate."
        if pairs
        else "No comparison stands in all studies.",
    ]
    where = "; ".join(f"{flip.method} in {flip.cell} at budget {flip.budget}" for flip in flips)
    lines.append(f"Gate 1, FAILED: helps in one study and hurts in another: {where}." if flips else _NO_FLIP)
    left_out = f" ({found.equal} left out, whose gains are all equal)" if found.equal else ""
    if not found.rows:
        lines.append(f"Gate 2, passed: no comparison has gains that differ{left_out}.")
    else:
        verdict = "FAILED: studies differ by more than their replicates do" if found.differs else "passed"
        lines.append(
            f"Gate 2, {verdict}: the variance between studies is {found.statistic:.2f} times that within, on average "
            f"over {found.rows} comparisons{left_out}; relabelled replicates reach this with p = {found.p:.4f}, and "
            f"the gate fails below {LEVEL}."
        )
    return "\n".join(lines)


_NO_FLIP = "Gate 1, passed: nowhere does one study say helps and another hurts."

if __name__ == "__main__":
    execute(main)
