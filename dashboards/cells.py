"""Cells under names a reader takes in at a glance: the task, and the factors that vary, in words."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from dashboards.score import units_in_words
from study.findings import Findings
from study.records import FactorValue

_FIRST_FACTOR_AFTER, _LAST_FACTOR_BEFORE = "search", "weights"  # where the frame keeps its factor columns


@dataclass(frozen=True, slots=True)
class LabelledCell:
    """A cell as the report names it.

    Attributes:
        name: The cell's unique name in the study.
        label: Task and varied factors in words; unique too.
        task: Its task.
        varied: The factors that differ between the study's cells of this task, by name.
        epochs: What its runs train for at equal epochs; 0 where nobody says.
    """

    name: str
    label: str
    task: str
    varied: Mapping[str, FactorValue]
    epochs: int = 0

    def label_without(self, factor: str) -> str:
        """Return the label of all cells that differ from this one in ``factor`` alone."""
        return _label(self.task, {name: value for name, value in self.varied.items() if name != factor})


def cells_of(findings: Findings, frame: pd.DataFrame) -> dict[str, LabelledCell]:
    """Return every cell that has an effect or a run, by name: effects' order first, then alphabetically."""
    found: dict[str, tuple[str, dict[str, FactorValue]]] = {}
    for effect in (*findings.effects, *findings.averaging):
        found.setdefault(effect.cell, (effect.task, dict(effect.factors)))
    lengths: dict[str, int] = {}
    columns = list(frame.columns)
    factors = columns[columns.index(_FIRST_FACTOR_AFTER) + 1 : columns.index(_LAST_FACTOR_BEFORE)]
    heads = frame.drop_duplicates("cell").sort_values("cell")
    for row in heads[["cell", "task", *factors]].to_dict("records"):
        given = {name.removeprefix("factor."): row[name] for name in factors if not pd.isna(row[name])}
        found.setdefault(str(row["cell"]), (str(row["task"]), given))
        lengths[str(row["cell"])] = int(given.get("epochs", 0))
    units = units_in_words(findings)
    return {
        name: replace(
            cell,
            label=f"{cell.label} ({units[cell.task]})" if cell.task in units else cell.label,
            epochs=lengths.get(name, 0),
        )
        for name, cell in labelled(found).items()
    }


def labelled(found: Mapping[str, tuple[str, dict[str, FactorValue]]]) -> dict[str, LabelledCell]:
    """Return cells under labels of the factors that differ between them, given task and factors by unique name."""
    names = sorted({name for _, factors in found.values() for name in factors})
    varying = [
        name
        for name in ("label_noise", "schedule", *names)
        if any(len({repr(f.get(name)) for t, f in found.values() if t == task}) > 1 for task, _ in found.values())
    ]
    varying = list(dict.fromkeys(varying))
    cells = {}
    for name, (task, factors) in found.items():
        varied = {factor: factors[factor] for factor in varying if factor in factors}
        cells[name] = LabelledCell(name, _label(task, varied), task, varied)
    labels = [cell.label for cell in cells.values()]
    if len(set(labels)) < len(labels):
        return {name: replace(cell, label=name) for name, cell in cells.items()}
    return cells


def _label(task: str, factors: Mapping[str, FactorValue]) -> str:
    return ", ".join([task, *(words_of(name, value) for name, value in factors.items())])


def words_of(factor: str, value: FactorValue) -> str:
    """Say one factor's value in words: ``label_noise`` 0.3 is "30 % noisy labels"."""
    if factor == "label_noise" and not isinstance(value, str):  # an own task may call it by a name
        return f"{100 * float(value):.3g} % noisy labels" if float(value) else "clean labels"
    if factor == "schedule":
        return {"cosine": "decaying rate", "constant": "constant rate"}.get(str(value), f"{value} rate")
    if factor in ("train_size", "epochs"):
        return f"{int(value):,} {'examples' if factor == 'train_size' else 'epochs'}"
    return f"{factor.replace('_', ' ')} {value}"


def where(helped: Iterable[str], cells: Mapping[str, LabelledCell]) -> str | None:
    """Return the factor value(s) that hold in exactly the cells ``helped``, in words; None if there are none.

    One factor is tried before two, in a fixed order. It is a description of the cells, not a cause.
    """
    wanted = set(helped)
    if not wanted or wanted >= set(cells):
        return None
    values = sorted({(factor, value) for cell in cells.values() for factor, value in cell.varied.items()}, key=repr)
    singles = [{pair} for pair in values]
    pairs = [{a, b} for i, a in enumerate(values) for b in values[i + 1 :] if a[0] != b[0]]
    for condition in (*singles, *pairs):
        holds = {name for name, cell in cells.items() if condition <= set(cell.varied.items())}
        if holds == wanted:
            return " and ".join(words_of(*pair) for pair in sorted(condition))
    return None
