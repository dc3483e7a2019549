"""The verdict at a glance: the matrix of methods × problems under every budget."""

from collections.abc import Mapping
from dataclasses import dataclass

from dashboards import theme
from dashboards.cells import LabelledCell
from dashboards.contenders import budget_name, in_epochs
from dashboards.far_out import far_out
from dashboards.score import score_in
from dashboards.tables.verdicts import Wording, interval_of, n_words, off_words, wording_of
from study.findings import Findings
from study.stats import Effect


@dataclass(frozen=True, slots=True)
class MatrixEntry:
    """One problem × method under one budget.

    Attributes:
        cell, method: Whose, by name; what the page's address holds.
        verdict: From the closed list, and ``words`` with what belongs to it.
        gain, interval: The mean and its plain 95 % interval, written; ``unit`` stands behind them.
        fine: Holm's p, n where it is not that of all, and how often the method was switched off, in words.
        baseline: The strongest, that the gain is over; "" where nothing was measured, and nothing opens.
    """

    cell: str
    method: str
    verdict: str
    words: str
    gain: str
    interval: str
    unit: str
    fine: str
    baseline: str


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """A problem of the matrix."""

    label: str
    entries: tuple[MatrixEntry, ...]

    @property
    def baseline(self) -> str:
        """The strongest baseline, that all gains of the row are over; "" where they differ."""
        over = {entry.baseline for entry in self.entries if entry.baseline}
        return over.pop() if len(over) == 1 else ""


@dataclass(frozen=True, slots=True)
class Matrix:
    """The verdicts under one budget: methods across, problems down."""

    budget: str
    name: str
    methods: tuple[str, ...]
    rows: tuple[MatrixRow, ...]


def matrices_of(
    findings: Findings, cells: Mapping[str, LabelledCell], best_at: Mapping[tuple[str, str], float] | None = None
) -> tuple[Matrix, ...]:
    """Return the verdicts under every budget of the study, the primary one first.

    Args:
        findings: What the study found.
        cells: Its problems, under the names that the report gives them.
        best_at: By problem and baseline the epoch that validation prefers there, where that is known.
    """
    budgets = dict.fromkeys([findings.primary_budget, *(effect.budget for effect in findings.effects)])
    wording = wording_of(findings)
    return tuple(
        found
        for budget in budgets
        if (found := _matrix(findings, cells, budget, wording, best_at or {})).methods
    )  # fmt: skip


def _matrix(
    findings: Findings,
    cells: Mapping[str, LabelledCell],
    budget: str,
    wording: Wording,
    best_at: Mapping[tuple[str, str], float],
) -> Matrix:
    effects = {(e.cell, e.method): e for e in findings.effects if e.budget == budget and e.cell in cells}
    methods = tuple(m for m in findings.methods if any(key[1] == m for key in effects))
    usual = max((effect.n for effect in effects.values()), default=0)

    def entry(name: str, method: str) -> MatrixEntry:
        effect = effects.get((name, method))
        if effect is None or not effect.n:
            return MatrixEntry(name, method, "insufficient data", "not measured", "–", "", "", "", "")
        best = best_at.get((name, effect.baseline))
        return _matrix_entry(findings, effect, wording, usual, in_epochs(effect.baseline, cells[name].epochs, best))

    names = [name for name in cells if any((name, method) in effects for method in methods)]
    return Matrix(
        budget,
        budget_name(findings, budget),
        methods,
        tuple(MatrixRow(cells[name].label, tuple(entry(name, method) for method in methods)) for name in names),
    )


def _matrix_entry(findings: Findings, effect: Effect, wording: Wording, usual: int, baseline: str) -> MatrixEntry:
    ends = interval_of(effect)
    short = effect.n < max(usual, effect.planned)
    fine = [
        *([f"Holm p {theme.p_value(effect.p_holm)}"] if effect.p_holm is not None else []),
        *([f"n = {n_words(effect)}"] if short or effect.apart else []),
        *([off_words(effect)] if effect.off else []),
        *([f"{count} far out"] if (count := far_out(findings, effect)) else []),
    ]
    score = score_in(findings, effect.task)
    with score.written():
        return MatrixEntry(
            cell=effect.cell,
            method=effect.method,
            verdict=effect.verdict,
            words=wording.verdict(effect, ()),
            gain=theme.gain(effect.mean),
            interval=theme.interval(ends) if theme.known(ends[0]) else "",
            unit=score.points,
            fine=", ".join(fine),
            baseline=baseline,
        )
