"""The report's sentences: templates filled from findings. No adjective without a rule, no verdict beyond the list.

Every function returns plain text; escaping is the page's business.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from dashboards import theme
from dashboards.cells import Cell, where
from dashboards.contenders import budget_name, runs_of_a_unit, unit_of, unit_words
from dashboards.score import metric_words, score_of
from study.findings import Findings, MethodSummary
from study.findings.content import OF_DESIGN
from study.stats import Effect


def deltas(findings: Findings) -> str:
    """Say δ with its unit, task by task where tasks differ: "δ = 0.50 points"."""
    points = score_of(findings).of_delta
    if len(set(findings.deltas.values())) < 2:
        chosen = next(iter(findings.deltas.values()), findings.delta)
        return f"δ = {theme.threshold(chosen)} {points}".strip()
    told = [f"{theme.threshold(delta)} in {task}" for task, delta in findings.deltas.items()]
    return f"δ ({listed(told)}{f'; {points}' if points else ''})"


def has_verdict(findings: Findings) -> bool:
    """Tell whether the study is finished and any comparison has enough data for a verdict."""
    return findings.counts.finished and any(e.verdict != "insufficient data" for e in findings.effects)


def marks(findings: Findings) -> list[tuple[str, str]]:
    """Return what a reader must know of the study's design before its answer, each under a short name."""
    return [(caveat.kind.capitalize(), caveat.detail) for caveat in findings.caveats if caveat.kind in OF_DESIGN]


def scope(findings: Findings) -> str:
    """Say what the verdicts speak of, task by task where tasks differ; "" for a study without a cell."""
    by_scope: dict[str, list[str]] = {}
    for task, about in findings.scopes.items():
        by_scope.setdefault(about, []).append(task)
    if len(by_scope) == 1:
        return f"Verdicts speak of {next(iter(by_scope))}."
    return " ".join(f"Verdicts on {listed(tasks)} speak of {about}." for about, tasks in by_scope.items())


def answer(findings: Findings, cells: Mapping[str, Cell]) -> str:
    """Answer the question in one sentence, by the closed list of verdicts."""
    if not has_verdict(findings):
        return no_verdict(findings)
    problems = len({effect.cell for effect in findings.effects})
    helping, hurting = _grouped(findings.summaries, "helps"), _grouped(findings.summaries, "hurts")
    idle = [summary.method for summary in findings.summaries if not summary.helps]
    clauses = [_clause(methods, "help", names, problems, cells) for names, methods in helping]
    if idle:
        clauses.append(_clause(idle, "help", (), problems, cells))
    clauses += [_clause(methods, "hurt", names, problems, cells) for names, methods in hurting]
    if helping and not hurting:
        clauses.append("no method hurts in any")
    null = "" if helping or hurting else f" ({_null_clause(findings)})"
    return f"At {budget_name(findings, findings.primary_budget)}, {'; '.join(clauses)}{null}."


def _grouped(summaries: Iterable[MethodSummary], place: str) -> list[tuple[tuple[str, ...], list[str]]]:
    """Return (cells, methods) of the methods that share the same cells in a list of theirs; most cells first."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for summary in summaries:
        found: tuple[str, ...] = getattr(summary, place)
        if found:
            groups.setdefault(found, []).append(summary.method)
    return sorted(groups.items(), key=lambda group: -len(group[0]))


def _clause(methods: Sequence[str], verb: str, names: Sequence[str], problems: int, cells: Mapping[str, Cell]) -> str:
    """Say where methods help or hurt: "SAM and WASAM each help in 2 of 4 problems (those with 30 % noisy labels)"."""
    verb = f"{verb}s" if len(methods) == 1 else f"each {verb}" if names else verb
    return f"{listed(methods)} {verb} in {share(len(names), problems)}{_which(names, cells)}"


def _which(names: Sequence[str], cells: Mapping[str, Cell]) -> str:
    """Name a single cell, or what holds in exactly these cells; nothing where neither is possible."""
    if len(cells) == 1:
        return ""
    if len(names) == 1:
        return f" ({cells[names[0]].label})"
    exactly = where(names, cells)
    return f" (those with {exactly})" if exactly else ""


def _null_clause(findings: Findings) -> str:
    null = sum(len(s.null) for s in findings.summaries)
    undecided = sum(len(s.undecided) for s in findings.summaries)
    free = sum(len(s.helps_if_free) for s in findings.summaries)
    parts = [(null, "no material effect"), (free, "only if compute is free"), (undecided, "undecided")]
    told = ", ".join(f"{words} in {number}" for number, words in parts if number)
    return f"of {things(null + undecided + free, 'comparison')}: {told}"


def _tested(summary: MethodSummary) -> tuple[str, ...]:
    return (*summary.helps, *summary.helps_if_free, *summary.hurts, *summary.null, *summary.undecided)


def no_verdict(findings: Findings) -> str:
    """Say that there is no verdict yet, and why."""
    counts = findings.counts
    done = counts.ended
    if not done:
        return "No verdict yet: no run has finished."
    if counts.failed == done:
        return f"No verdict: {'the only run' if done == 1 else f'all {done:,} runs'} failed."
    if not counts.finished:
        return f"No verdict yet: {done:,} of {counts.planned:,} planned runs are done."
    most = max((effect.n for effect in findings.effects), default=0)
    return (
        f"No verdict: no comparison has enough data (the most is {things(most, f'complete {unit_of(findings)}')}; "
        f"insufficient is: {findings.verdict_rules['insufficient data']})."
    )


def qualification(findings: Findings) -> list[str]:
    """Say in the first paragraph what a reader must know before quoting the answer."""
    sentences = []
    units = sorted({effect.n for effect in findings.effects})
    if units and units[-1]:
        span = f"{units[0]}" if len(units) == 1 else f"{units[0]} to {units[-1]}"
        runs = runs_of_a_unit(findings)
        each = f", each tuned anew and confirmed on {things(runs, 'fresh seed')}" if unit_of(findings) != "seed" else ""
        sentences.append(
            f"A gain is {metric_words(findings)} of the tuned method minus that of {_held_against(findings)}, over "
            f"{span} paired {unit_words(findings)}{each}; “helps” needs a mean gain of at least {deltas(findings)}."
        )
        sentences.append(scope(findings))
    if not has_verdict(findings):
        return sentences
    unsure = sum(e.verdict in ("helps", "hurts") and not e.clear for e in _primary(findings))
    if unsure:
        sentences.append(
            f"Of {unsure} of these verdicts the size is uncertain; gains that were selected for being large run high."
        )
    off = sum(effect.off > 0 for effect in _primary(findings))
    if off:
        sentences.append(
            f"In {things(off, 'comparison')} tuning switched the method off in some {unit_words(findings)}; these "
            "count."
        )
    free = [s for s in findings.summaries if s.helps_if_free]
    if free:
        clause = listed([f"{s.method} helps in {len(s.helps_if_free)} more" for s in free])
        sentences.append(f"Only if compute is free (at equal epochs), {clause}.")
    flips = {(c.cell, c.method) for c in findings.caveats if c.kind.startswith("verdict depends on")}
    total = len({(effect.cell, effect.method) for effect in findings.effects})
    if flips:
        sentences.append(
            f"{len(flips)} of {total} verdicts would change at half or twice δ, or under the other budget."
        )
    else:
        sentences.append("No verdict changes at half or twice δ, or under another budget of the study.")
    counts = findings.counts
    ends = ((counts.diverged, "diverged"), (counts.failed, "failed"), (counts.pruned, "were pruned"))
    lost = [f"{theme.count(n)} {end}" for n, end in ends if n]
    if lost:
        sentences.append(f"Of {theme.count(counts.planned)} runs {listed(lost)}.")
    return sentences


def _held_against(findings: Findings) -> str:
    if findings.protocol == 1:
        return f"tuned {findings.baseline} with its last weights"
    return f"the strongest {findings.baseline} that the same budget contains"


def _primary(findings: Findings) -> list[Effect]:
    return [effect for effect in findings.effects if effect.budget == findings.primary_budget]


def tally(summary: MethodSummary) -> tuple[str, str]:
    """Say where a method helps, and the rest of the tally: together never less than the whole."""
    parts = [
        (len(summary.helps_if_free), "only if compute is free"),
        (len(summary.hurts), "hurts"),
        (len(summary.null), "no material effect"),
        (len(summary.undecided), "undecided"),
    ]
    rest = ", ".join(f"{number} {words}" for number, words in parts if number)
    return f"helps in {len(summary.helps)} of {len(_tested(summary))}", rest


def listed(parts: Sequence[str]) -> str:
    """Join with commas and a final "and"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def things(number: int, noun: str) -> str:
    """Count nouns: "1 verdict", "240 runs"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def numbers(counts: Iterable[int]) -> str:
    """Say how many: "n = 6", "n = 5 to 6"."""
    known = sorted(set(counts))
    return f"n = {known[0]}" if len(known) == 1 else f"n = {known[0]} to {known[-1]}"


def span(values: Sequence[float], write: Callable[[float], str]) -> str:
    """Say the range of some values: "0.05 to 0.2", or one where both ends are written alike."""
    low, high = write(min(values)), write(max(values))
    return low if low == high else f"{low} to {high}"


def share(number: int, total: int) -> str:
    """Say a share of the problems: "3 of 4 problems", "all of the 4 problems", "the one problem"."""
    if total == 1:
        return "the one problem" if number else "none of the one problem"
    if number in (0, total):
        return f"{'none' if number == 0 else 'all'} of the {total} problems"
    return f"{number} of {total} problems"
