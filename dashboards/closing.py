"""The end of a study on the terminal: the verdicts in 80 columns, and under them the answer, as the page gives them."""

import textwrap

import pandas as pd

from dashboards import prose, theme
from dashboards.cells import LabelledCell, cells_of
from dashboards.comparisons import without_early_verdicts
from dashboards.contenders import budget_name, in_epochs
from dashboards.score import score_in, shown
from dashboards.tables.verdicts import n_words
from study.findings import Findings
from study.stats import Effect

_WIDTH = 80
_CORRECTED, _UNBEATEN = "*", "°"
_NOTES = {
    _CORRECTED: "the interval excludes 0, and the p value after correction does not reject",
    _UNBEATEN: "the interval excludes 0, and another baseline is not beaten",
}


def closing(findings: Findings, frame: pd.DataFrame, command: str = "") -> str:
    """Return what a study says at its end: its verdicts and its answer, or how far it is; a running one has no verdict.

    Args:
        findings: What the study found.
        frame: The tidy frame of `study.store.frame.frame_of`.
        command: What goes on with the study, for one that is not done.
    """
    told = without_early_verdicts(findings)
    with shown(told):
        cells = cells_of(told, frame)
        parts = [verdict_text(told, cells)] if findings.counts.finished else []
        return "\n\n".join([*parts, answer_text(told, cells, command)])


def answer_text(findings: Findings, cells: dict[str, LabelledCell], command: str = "") -> str:
    """Return the answer in three facts, under what limits it from the start."""
    facts = prose.answer_of(findings, cells, command)
    width = max(map(len, facts)) + 2
    lines = [line for name, detail in prose.marks(findings) for line in _fitted(f"{name.upper()}: {detail}", "", "")]
    for name, sentence in facts.items():
        lines += _fitted(f"{name:<{width}}{sentence}", "", " " * width)
    return "\n".join(lines)


def verdict_text(findings: Findings, cells: dict[str, LabelledCell]) -> str:
    """Return the verdicts under every budget, the primary one first, problem by problem."""
    budgets = dict.fromkeys([findings.primary_budget, *(effect.budget for effect in findings.effects)])
    blocks = [_block(findings, cells, budget) for budget in budgets]
    told = [effect for effect in findings.effects if effect.n]
    marks = [f"{mark} {note}" for mark, note in _NOTES.items() if any(mark in _short(e, findings.alpha) for e in told)]
    return "\n\n".join(filter(None, [*blocks, "\n".join(marks)])) or "(nothing measured yet)"


def _block(findings: Findings, cells: dict[str, LabelledCell], budget: str) -> str:
    found = [e for e in findings.effects if e.budget == budget and e.cell in cells]
    if not found:
        return ""
    rows = {effect: _row(findings, effect) for effect in found}
    widths = [max(map(len, column)) for column in zip(*rows.values(), strict=True)]

    def line(effect: Effect) -> str:
        return " ".join(["   ", *map(str.ljust, rows[effect], widths)]).rstrip()

    lines = [] if findings.origin else [f"At {budget_name(findings, budget)}:"]
    for name, cell in cells.items():
        own = [effect for effect in found if effect.cell == name]
        if own:
            over = {in_epochs(effect.baseline, cell.epochs) for effect in own}
            unit = score_in(findings, cell.task).points
            lines += _fitted(cell.label, " " * 2, " " * 4)
            lines += _fitted(f"gains in {unit} over {'; '.join(sorted(over))}", " " * 4, " " * 6)
            lines += [part for effect in own for part in _fitted(line(effect), "", " " * 10)]
    return "\n".join(lines)


def _row(findings: Findings, effect: Effect) -> tuple[str, ...]:
    with score_in(findings, effect.task).written():
        return (
            effect.method,
            _short(effect, findings.alpha),
            theme.gain(effect.mean),
            "–" if effect.always_off else theme.interval(effect.ci95),
            f"Holm p {theme.p_value(effect.p_holm)}",
            f"off {effect.off}/{effect.n}" if effect.off else "",
            f"n = {n_words(effect)}" if effect.n < effect.planned or effect.apart else "",
        )


def _short(effect: Effect, alpha: float) -> str:
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


def _fitted(text: str, first: str, others: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=others)
