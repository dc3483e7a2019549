"""The end of a study on the terminal: what it can say, in tables of at most 80 columns where the names allow it."""

import textwrap
from collections.abc import Iterable, Sequence

import pandas as pd

from study.findings import Findings
from study.findings.content import OF_DESIGN
from study.findings.units import FRACTION
from study.specs.budgets import Budget, named
from study.stats import Effect

_WIDTH = 80
_CORRECTED, _UNBEATEN = "*", "°"
_NOTES = {
    _CORRECTED: "the interval excludes 0, and the p value after correction does not reject",
    _UNBEATEN: "the interval excludes 0, and another baseline is not beaten",
}
Row = tuple[str, tuple[str, ...]]  # of a cell


def closing(findings: Findings) -> str:
    """Return what a study says at its end: its verdicts, or how far it is; a running study has no verdict."""
    counts = findings.counts
    if not counts.finished:
        return (
            f"{counts.ended:,} of {counts.planned:,} planned runs are done. There is no verdict before the last one: "
            "their number was fixed before the first."
        )
    parts = [
        verdict_text(findings),
        f"Averaged against last weights of the same runs, the mechanism:\n{averaging_text(findings)}",
    ]
    return "\n\n".join(parts)


def verdict_text(findings: Findings) -> str:
    """Return the verdicts, cell by cell, under what has to be known to read them."""
    rows = [
        (effect.cell, _verdict_row(effect, findings.alpha, share=_share(findings, effect)))
        for effect in _of_metric(findings)
    ]
    heads = ("method", "at", "verdict", "gain", "95 % interval", "Holm p", "over", "n", "off")
    marks = [f"{mark} {note}" for mark, note in _NOTES.items() if any(cells[2].endswith(mark) for _, cells in rows)]
    return "\n".join([*_preface(findings), "", _grouped(heads, rows), *marks])


def _preface(findings: Findings) -> list[str]:
    unit, planned = next(((e.unit, e.planned) for e in findings.effects), ("replicate", 0))
    units = {"replicate": "replicates", "seed": "seeds of one tuning"}[unit]
    deltas = dict.fromkeys(f"{delta:g}" for delta in findings.deltas.values()) or [f"{findings.delta:g}"]
    if len(deltas) > 1:
        deltas = [f"{delta:g} in {task}" for task, delta in findings.deltas.items()]
    given = findings.spec.get("gradient_ceiling")
    ceiling = float(given) if findings.protocol > 1 and isinstance(given, int | float) else None
    budgets: list[Budget] = list(dict.fromkeys(effect.budget for effect in findings.effects))
    scopes: dict[str, list[str]] = {}
    for task, scope in findings.scopes.items():
        scopes.setdefault(scope, []).append(task)
    kinds: dict[str, list[str]] = {}
    for task, score in findings.scores.items():
        unit_words = f" in {score.unit}" if score.unit not in ("", FRACTION) else ""
        turned = "" if score.higher_is_better else " (lower is better: scores are its negatives)"
        kinds.setdefault(f"{score.name}{unit_words}{turned}", []).append(task)
    told = [f"{kind} of {', '.join(tasks)}" for kind, tasks in kinds.items()]
    sentences = [
        *(f"{caveat.kind.upper()}: {caveat.detail}" for caveat in findings.caveats if caveat.kind in OF_DESIGN),
        f"Verdicts over {planned} {units}: tuned against the strongest tuned baseline of the budget, which is named; "
        f"δ = {', '.join(deltas)}, α = {findings.alpha:g} for each method.",
        "; ".join(f"{budget}: {named(budget, ceiling).name}" for budget in budgets) + ".",
        f"Scores and gains are {'; '.join(told)}.",
        *(f"{', '.join(tasks)}: a verdict speaks of {scope}." for scope, tasks in scopes.items()),
    ]
    return [line for sentence in sentences for line in textwrap.wrap(sentence, _WIDTH)]


def _of_metric(findings: Findings) -> list[Effect]:
    """Return the effects by cell and method, the primary budget first."""
    cells = list(dict.fromkeys(effect.cell for effect in findings.effects))
    return sorted(
        (effect for effect in findings.effects if effect.metric == findings.metric),
        key=lambda e: (cells.index(e.cell), findings.methods.index(e.method), e.budget != findings.primary_budget),
    )


def _verdict_row(effect: Effect, alpha: float, *, share: bool) -> tuple[str, ...]:
    return (
        effect.method,
        effect.budget,
        verdict_words(effect, alpha),
        _signed(effect.mean, share=share),
        "–" if effect.always_off else _interval(effect.ci95, share=share),
        _p(effect.p_holm),
        effect.baseline.replace(", ", " ").replace(" epochs", ""),
        f"{effect.n}" if effect.n >= effect.planned else f"{effect.n}/{effect.planned}",
        f"{effect.off}" if effect.off else "–",
    )


def verdict_words(effect: Effect, alpha: float) -> str:
    """Return a verdict, short, with a mark where its interval excludes 0 and it is none."""
    if effect.verdict in ("helps", "hurts"):
        return f"{effect.verdict}, {'clear' if effect.clear else 'size unsure'}"
    if effect.verdict == "no material effect" and effect.always_off:
        return "no effect, all off"
    low, high = effect.ci95
    undecided = effect.verdict == "inconclusive" and (low > 0 or high < 0)
    if undecided and effect.p_holm is not None and effect.p_holm >= alpha:
        return effect.verdict + (_UNBEATEN if effect.p >= alpha and effect.mean > 0 else _CORRECTED)
    return effect.verdict


def averaging_text(findings: Findings) -> str:
    """Return last against averaged test score of the same confirm runs, cell by cell; scores are fractions."""
    rows = [
        (
            effect.cell,
            (
                effect.baseline,
                _plain(effect.baseline_values, share=_share(findings, effect)),
                _plain(effect.method_values, share=_share(findings, effect)),
                _signed(effect.mean, share=_share(findings, effect)),
                _interval(effect.ci95, share=_share(findings, effect)),
                f"{effect.n}",
            ),
        )
        for effect in findings.averaging
    ]
    return _grouped(("average of", "last", "averaged", "gain", "95 % interval", "n"), rows)


def _grouped(heads: Sequence[str], rows: Iterable[Row]) -> str:
    """Return rows under a line that names their cell, in columns that are as wide as they need to be."""
    rows = list(rows)
    if not rows:
        return "(nothing measured yet)"
    widths = [max(len(text) for text in column) for column in zip(heads, *(cells for _, cells in rows), strict=True)]
    lines, before = [_line(heads, widths)], ""
    for cell, cells in rows:
        if cell != before:
            lines.append(cell)
        lines.append(_line(cells, widths))
        before = cell
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return " ".join([" ", *(f"{text:<{width}}" for text, width in zip(cells, widths, strict=True))]).rstrip()


def format_table(table: pd.DataFrame) -> str:
    """Format a table for a terminal: four decimals, a dash where there is no number."""
    if table.empty:
        return "(nothing measured yet)"
    return table.to_string(index=False, na_rep="–", float_format=lambda value: f"{value:.4f}")


def _plain(values: Sequence[float], *, share: bool) -> str:
    if not values:
        return "–"
    mean = sum(values) / len(values)
    return f"{mean:{_form(mean, share=share)}}"


def _signed(value: float, *, share: bool) -> str:
    return "–" if value != value else f"{value:+{_form(value, share=share)}}"


def _interval(ends: tuple[float, float], *, share: bool) -> str:
    low, high = ends
    form = _form(max(abs(low), abs(high)), share=share)
    return "–" if low != low else f"[{low:+{form}},{high:+{form}}]"


def _share(findings: Findings, effect: Effect) -> bool:
    score = findings.scores.get(effect.task)
    return score is None or score.unit == FRACTION


def _form(value: float, *, share: bool) -> str:
    """Return the format of a number: four decimals of a fraction, and four digits of what has no use for these."""
    return ".4f" if share or 1e-3 <= abs(value) < 100 or not value else ".4g"


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "<.001" if value < 0.001 else f"{value:.3f}"
