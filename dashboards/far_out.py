"""Gains whose mean is carried by values that are far out: marked wherever the mean is told (`study.stats.typical`)."""

from collections.abc import Mapping, Sequence

from dashboards import theme
from dashboards.cells import LabelledCell
from dashboards.comparisons import distinct
from dashboards.contenders import delta_of, unit_words
from dashboards.figures.kit.panels import FAR
from dashboards.score import score_in
from dashboards.tables import columns
from study.findings import Findings
from study.stats import Effect
from study.stats.typical import MEDIAN


def far_out(findings: Findings, effect: Effect) -> int:
    """Count the gains behind a mean that lie far from their median; of unpaired sides the scores, from theirs.

    Far is sixteen times the median distance from it, which is eight interquartile ranges, or eight δ if that is more:
    up to half of the values may lie off without passing for what is usual.
    """
    least = delta_of(findings, effect.task) if effect.metric == findings.metric else 0.0
    samples = [effect.differences] if effect.differences else [effect.method_values, effect.baseline_values]
    found = 0
    for values in samples:
        middle = MEDIAN.of(values).middle
        away = [abs(value - middle) for value in values]
        reach = FAR * max(2 * MEDIAN.of(away).middle, least)
        found += sum(one > reach > 0 for one in away)
    return found


def words(findings: Findings, effects: Sequence[Effect]) -> str:
    """Say which of some means far-out values carry, for the end of a sentence about all of them; "" for none."""
    carried = [(effect, count) for effect in effects if (count := far_out(findings, effect))]
    if not carried:
        return ""
    units = unit_words(findings)
    if len(effects) == 1:
        return f"{carried[0][1]} of the {effects[0].n} {units} {'is' if carried[0][1] == 1 else 'are'} far out"
    holds = "holds" if len(carried) == 1 else "hold"
    return f"{len(carried)} of the {len(effects)} means {holds} {units} that are far out"


def note(findings: Findings) -> str:
    """Say it for the reading of a table whose estimates rest on gains; "" where none is carried."""
    said = words(findings, [effect for effect in findings.effects if effect.n])
    return f" Far out: {said}; what rests on them is, too." if said else ""


def steady(findings: Findings, effects: Sequence[Effect]) -> tuple[list[Effect], str]:
    """Return the gains that a range of means is told of, and what is to be said of the others, in parentheses.

    Those that far-out values carry are left out, unless nothing would be left.
    """
    kept = [effect for effect in effects if not far_out(findings, effect)]
    left_out = len(effects) - len(kept)
    if not left_out:
        return kept, ""
    if not kept:
        return list(effects), f" ({words(findings, effects)})"
    return kept, f" (without {left_out} of {len(effects)}, whose mean holds {unit_words(findings)} that are far out)"


def sentences(findings: Findings, cells: Mapping[str, LabelledCell]) -> list[str]:
    """Say of every gain that far-out values carry what it would be in the median."""
    told = []
    for one in distinct([e for e in findings.effects if e.n and e.cell in cells], findings.primary_budget):
        effect = one.effect
        if said := words(findings, [effect]):
            own = score_in(findings, effect.task)
            with own.written():
                middle = theme.gain(MEDIAN.of(effect.differences).middle)
                paired = f", {middle} in the median" if effect.differences else ""
                told.append(
                    f"{effect.method} in {cells[effect.cell].label}: {said}; its gain over {effect.baseline} is "
                    f"{theme.gain(effect.mean)} {own.points} in the mean{paired}. Verdicts are about means."
                )
    return told


def column(findings: Findings, effects: Sequence[Effect]) -> tuple[columns.Filled, ...]:
    """Return a column that counts what is far out, where anything is."""
    counts = [far_out(findings, effect) for effect in effects]
    said = [f"{count} of {effect.n}" if count else "–" for count, effect in zip(counts, effects, strict=True)]
    return (columns.counts("Far out", "far_out", counts, said),) if any(counts) else ()
