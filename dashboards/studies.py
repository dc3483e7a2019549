"""The studies of a folder, one line each, and what of them can be held against each other."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from dashboards import prose
from dashboards.cells import cells_of, labelled
from dashboards.comparisons import without_early_verdicts
from dashboards.contenders import budget_name, unit_of
from dashboards.provenance import without_home
from dashboards.tables import claims
from study.findings import Findings
from study.findings.units import FRACTION
from study.records import FactorValue
from study.stats import Effect
from study.store.results import Study, load

DEPTH = 2  # results/quick, and results/claims/01-label-noise
_DIGITS = 6  # of embedded gains

Key = tuple[str, str, str, str]  # (problem: task and all factors as JSON, method, its baselines, budget in words)


@dataclass(frozen=True, slots=True)
class Gains:
    """The gains of one comparison of one study, by unit, as fractions.

    Units of the same name in two studies share all of their seeds: ``0/3/7`` is replicate 7 of a study with seed 0
    and three confirm seeds, a seed of one tuning goes by itself.
    """

    units: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One study of the index.

    Attributes:
        name: Its folder, relative to the index.
        href: Its report, relative to the index; "" where there is none.
        error: Why it can't be read; then nothing of what follows is known.
        mark: What limits its verdicts from the start, such as "protocol 1"; "" if nothing does.
        verdicts: How often each verdict was given, under the primary budget; none before it is finished.
        gains: What can be held against another study: those of finished ones.
        problems: Task and factors of every problem, by the name that stands in the keys of ``gains``.
        plain: Problems whose gains are no fractions, with their unit.
    """

    name: str
    href: str = ""
    error: str = ""
    question: str = ""
    answer: str = ""
    claims: str = ""
    mark: str = ""
    ended: int = 0
    planned: int = 0
    failed: int = 0
    methods: tuple[str, ...] = ()
    verdicts: tuple[tuple[str, int], ...] = ()
    gradient_evaluations: int = 0
    gains: tuple[tuple[Key, Gains], ...] = ()
    plain: tuple[tuple[str, str], ...] = ()
    problems: tuple[tuple[str, tuple[str, dict[str, FactorValue]]], ...] = ()

    @property
    def finished(self) -> bool:
        """Every planned run has ended."""
        return not self.error and self.ended >= self.planned


def study_folders(root: Path, depth: int = DEPTH) -> list[Path]:
    """Return the folders below ``root`` that hold a study, readable or not, by name."""
    found = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if is_study(folder):
            found.append(folder)
        elif depth > 1:
            found += study_folders(folder, depth - 1)
    return found


def is_study(folder: Path) -> bool:
    """Tell whether a folder is, or was meant to be, that of a study."""
    return (folder / "spec.toml").is_file() or (folder / "records").is_dir()


def line_of(folder: Path, root: Path) -> Line:
    """Read one study; one that can't be read is a line with its error sentence."""
    name = folder.relative_to(root).as_posix()
    href = quote(f"{name}/report.html") if (folder / "report.html").is_file() else ""
    try:
        return _line(load(folder), name, href)
    except Exception as error:  # what can't be read says what to do; what can't be computed must not cost the others
        said = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
        sentence = re.sub(r"\s+", " ", said).replace(f"{root}/", "")
        return Line(name, href, error=without_home(sentence))


def _line(study: Study, name: str, href: str) -> Line:
    findings = without_early_verdicts(study.findings)
    contents = {record.job.cell: (record.job.task, record.job.factors) for record in study.records}
    names = {cell: f"{task} {json.dumps(factors, sort_keys=True)}" for cell, (task, factors) in contents.items()}
    counts = findings.counts
    complete = [effect for effect in findings.effects if effect.n > 1 and counts.finished]
    return Line(
        name=name,
        href=href,
        question=findings.question,
        answer=prose.answer(findings, cells_of(findings, study.frame)),
        claims=claims.claims_sentence(findings),
        mark=", ".join(kind for kind, _ in prose.marks(findings)).lower(),
        ended=counts.ended,
        planned=counts.planned,
        failed=counts.failed,
        methods=findings.methods,
        verdicts=_verdicts(findings),
        gradient_evaluations=sum(record.gradient_evaluations for record in study.records),
        gains=tuple(
            (
                (names[effect.cell], effect.method, _held_against(effect), budget_name(findings, effect.budget)),
                Gains(_units(findings, effect), tuple(float(f"{gain:.{_DIGITS}g}") for gain in effect.differences)),
            )
            for effect in complete
        ),
        plain=tuple(
            dict.fromkeys(
                (names[effect.cell], findings.scores[effect.task].unit or findings.scores[effect.task].name)
                for effect in complete
                if effect.task in findings.scores and findings.scores[effect.task].unit != FRACTION
            )
        ),
        problems=tuple((names[cell], contents[cell]) for cell in dict.fromkeys(effect.cell for effect in complete)),
    )


def _held_against(effect: Effect) -> str:
    names = [one.baseline for one in effect.against]
    return names[0] if len(names) == 1 else f"the strongest of {', '.join(names)}"


def _units(findings: Findings, effect: Effect) -> tuple[str, ...]:
    """Name the units so that equal names share their seeds; a replicate's derive from the study's seed."""
    if unit_of(findings) == "seed":
        return tuple(map(str, effect.units))
    return tuple(f"{findings.spec.get('seed')}/{findings.spec.get('confirms')}/{unit}" for unit in effect.units)


def _verdicts(findings: Findings) -> tuple[tuple[str, int], ...]:
    if not findings.counts.finished:
        return ()
    primary = (effect for effect in findings.effects if effect.budget == findings.primary_budget)
    return tuple(Counter(effect.verdict for effect in primary).items())


def comparable(lines: Iterable[Line]) -> dict[str, object]:
    """Return, as plain data, the comparisons that at least two studies have in common.

    ``keys`` holds problem, method, baseline and budget in words, ``studies`` the units and gains of each study by the
    key's position, ``plain`` the positions whose gains are no fractions; their problem's name says their unit.
    """
    lines = list(lines)
    shared = [key for key, n in Counter(key for line in lines for key, _ in line.gains).items() if n > 1]
    problems = {name: content for line in lines for name, content in line.problems}
    labels = labelled({name: problems[name] for name in dict.fromkeys(key[0] for key in shared)})
    units = dict(unit for line in lines for unit in line.plain)
    position = {key: index for index, key in enumerate(shared)}
    return {
        "keys": [
            [f"{labels[p].label} ({units[p]})" if p in units else labels[p].label, method, base, budget]
            for p, method, base, budget in shared
        ],
        "plain": [index for index, key in enumerate(shared) if key[0] in units],
        "studies": {
            line.name: {
                str(position[key]): [list(gains.units), list(gains.values)]
                for key, gains in line.gains
                if key in position
            }
            for line in lines
            if any(key in position for key, _ in line.gains)
        },
    }
