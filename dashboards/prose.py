"""The report's sentences: templates filled from findings. No adjective without a rule, no verdict beyond the list.

Every function returns plain text; escaping is the page's business.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from dashboards import far_out, theme
from dashboards.cells import LabelledCell, where
from dashboards.contenders import budget_name, delta_of, families_of, in_epochs, unit_of, unit_words
from dashboards.score import Score, score_in, score_of, split_of
from study.findings import Findings, MethodSummary
from study.findings.content import OF_DESIGN
from study.stats import Effect
from study.stats.estimates import mean_of

_MOST_TOLD = 3  # verdicts, or flips, one by one; beyond, how many there are
_HALF, _DOUBLE = 0.5, 2.0  # of δ: a verdict that changes there is said to flip


def answer_of(findings: Findings, cells: Mapping[str, LabelledCell], command: str = "") -> dict[str, str]:
    """Return the answer to the study's question, by the closed list of verdicts: a sentence a fact, by its short name.

    Args:
        findings: What the study found.
        cells: Its problems, under the names that the report gives them.
        command: What goes on with the study, for one that is not done.
    """
    if has_verdict(findings):
        facts = {
            "What": what(findings, cells), "How surely": how_surely(findings, cells), "At what cost": cost(findings),
            "Would flip": flips(findings, cells),
        }  # fmt: skip
    else:
        facts = {
            "What": no_verdict(findings), "How surely": how_surely(findings, cells),
            "Go on with": "" if findings.counts.finished else command,
        }  # fmt: skip
    return {name: sentence for name, sentence in facts.items() if sentence}


def deltas(findings: Findings) -> str:
    """Say δ with its unit, task by task where tasks differ: "δ = 0.50 points"."""
    points = score_of(findings).of_delta
    if len(set(findings.deltas.values())) < 2:
        chosen = next(iter(findings.deltas.values()), findings.delta)
        return f"δ = {theme.threshold(chosen)} {points}".strip()
    told = []
    for task, delta in findings.deltas.items():
        with score_in(findings, task).written():
            told.append(f"{theme.threshold(delta)} in {task}")
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


# ---- what


def what(findings: Findings, cells: Mapping[str, LabelledCell]) -> str:
    """Say where each method helps, and by how much over which baseline; and where one hurts."""
    primary = _primary(findings)
    problems = len({effect.cell for effect in primary})
    found = {(effect.cell, effect.method): effect for effect in primary}
    helping, hurting = _grouped(findings.summaries, "helps"), _grouped(findings.summaries, "hurts")
    idle = [summary.method for summary in findings.summaries if not summary.helps and not summary.hurts]

    def clause(verb: str, names: Sequence[str], methods: Sequence[str]) -> str:
        said = f"{listed(methods)} {verb}{'s' if len(methods) == 1 else ''} in {share(len(names), problems)}"
        effects = [found[name, method] for name in names for method in methods if (name, method) in found]
        return f"{said} ({'; '.join(filter(None, (_which(names, cells), _by_how_much(findings, effects, cells))))})"

    clauses = [clause("help", names, methods) for names, methods in helping]
    if idle and helping:
        clauses.append(f"{listed(idle)} help{'s' if len(idle) == 1 else ''} in none")
    clauses += [clause("hurt", names, methods) for names, methods in hurting]
    if helping and not hurting:
        clauses.append("no method hurts in any")
    at = f"At {budget_name(findings, findings.primary_budget)}, "
    if not helping:
        nothing = f"no method helps in {'any of the ' if problems > 1 else ''}{_problems(problems)}"
        clauses.insert(0, nothing if hurting else f"{nothing}{_nothing(findings, primary, cells)}")
    free = [s for s in findings.summaries if s.helps_if_free]
    if free:
        told = listed([f"{s.method} in {len(s.helps_if_free)}" for s in free])
        clauses.append(f"only if compute is free (at equal epochs) {told} more")
    return f"{at}{'; '.join(clauses)}."


def _problems(number: int) -> str:
    return f"{number} problems" if number > 1 else "the one problem"


def _grouped(summaries: Iterable[MethodSummary], place: str) -> list[tuple[tuple[str, ...], list[str]]]:
    """Return (cells, methods) of the methods that share the same cells in a list of theirs; most cells first."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for summary in summaries:
        found: tuple[str, ...] = getattr(summary, place)
        if found:
            groups.setdefault(found, []).append(summary.method)
    return sorted(groups.items(), key=lambda group: -len(group[0]))


def _which(names: Sequence[str], cells: Mapping[str, LabelledCell]) -> str:
    """Name a single cell, or what holds in exactly these cells; nothing where neither is possible."""
    if len(cells) == 1:
        return ""
    if len(names) == 1:
        return cells[names[0]].label
    exactly = where(names, cells)
    return f"those with {exactly}" if exactly else ""


def _by_how_much(findings: Findings, effects: Sequence[Effect], cells: Mapping[str, LabelledCell]) -> str:
    """Say gains over one named baseline each: one by one up to three, else their range, measure by measure."""
    if len(effects) <= _MOST_TOLD and len({effect.cell for effect in effects}) == 1:
        first = effects[0]
        several = len(effects) > 1
        score = score_in(findings, first.task)
        with score.written():
            gains = listed([f"{theme.gain(e.mean)}{f' ({e.method})' if several else ''}" for e in effects])
            scores = listed([score.full_text(mean_of(e.method_values)) for e in effects])
        over = in_epochs(first.baseline, cells[first.cell].epochs)
        against = score.full_text(mean_of(first.baseline_values))
        same = len({(e.baseline, e.units) for e in effects}) == 1
        where_from = (
            f"over {over}: {scores} against {against} {split_of(findings)}{score.name}{score.direction}"
            if same
            else f"over {_strongest(findings)} of each"
        )
        return "; ".join(filter(None, (f"{gains} {score.points} {where_from}", far_out.words(findings, effects))))
    by_unit: dict[str, tuple[Score, list[float]]] = {}
    for effect in effects:
        score = score_in(findings, effect.task)
        by_unit.setdefault(score.points, (score, []))[1].append(effect.mean)
    ranges = []
    for unit, (score, means) in by_unit.items():
        with score.written():
            ranges.append(f"{span(means, theme.gain)} {unit}")
    most = max(effects, key=lambda e: abs(e.mean) / delta_of(findings, e.task))
    score = score_in(findings, most.task)
    reached, against = (score.full_text(mean_of(values)) for values in (most.method_values, most.baseline_values))
    each = " of each" if _several(findings) else ""
    told = (
        f"{listed(ranges)} over {_strongest(findings)}{each}, the largest {reached} against {against} "
        f"{split_of(findings)}{score.name}{score.direction}"
    )
    return "; ".join(filter(None, (told, far_out.words(findings, effects))))


def _several(findings: Findings) -> bool:
    """Tell whether there is more than one baseline, of which comparisons name the strongest."""
    return findings.origin is None or len(findings.origin.baselines) > 1


def _strongest(findings: Findings) -> str:
    """Name the baseline that gains are over, or those that the strongest is of: "the strongest SGD"."""
    if findings.origin is None:
        return f"the strongest {findings.baseline}"
    return f"the strongest of {listed(findings.origin.baselines)}" if _several(findings) else findings.baseline


def _nothing(findings: Findings, primary: Sequence[Effect], cells: Mapping[str, LabelledCell]) -> str:
    """Say what there is where nothing helps and nothing hurts, and the gain that came nearest."""
    counted = [
        (sum(e.verdict == "no material effect" for e in primary), "no material effect"),
        (sum(e.verdict not in ("no material effect", "helps", "hurts") for e in primary), "undecided"),
    ]
    told = listed([f"{words} in {number}" for number, words in counted if number])
    said = f" (of {things(len(primary), 'comparison')}: {told})"
    known = [e for e in primary if e.n and theme.known(e.mean)]
    if not known:
        return said
    # Gains in different units are compared in multiples of δ, which is in that of each.
    most = max(far_out.steady(findings, known)[0], key=lambda e: e.mean / delta_of(findings, e.task))
    return f"{said}; the largest gain is {most.method}'s{_in(most, cells)}, {_by_how_much(findings, [most], cells)}"


def _in(effect: Effect, cells: Mapping[str, LabelledCell]) -> str:
    return f" in {cells[effect.cell].label}" if len(cells) > 1 else ""


def _primary(findings: Findings) -> list[Effect]:
    return [effect for effect in findings.effects if effect.budget == findings.primary_budget]


def no_verdict(findings: Findings) -> str:
    """Say that there is no verdict yet, and why."""
    counts = findings.counts
    done = counts.ended
    if not done:
        return "No verdict yet: no run has finished."
    if counts.failed == done:
        return f"No verdict: {'the only run' if done == 1 else f'all {done:,} runs'} failed."
    if not counts.finished:
        missing = " No comparison has its confirm runs yet, which alone are tested."
        unconfirmed = "" if any(effect.n for effect in findings.effects) else missing
        return (
            f"No verdict yet: {done:,} of {counts.planned:,} planned runs are done.{unconfirmed} Verdicts come with "
            f"the last one."
        )
    most = max((effect.n for effect in findings.effects), default=0)
    return (
        f"No verdict: no comparison has enough data (the most is {things(most, f'complete {unit_of(findings)}')}; "
        f"insufficient is: {findings.verdict_rules['insufficient data']})."
    )


def no_comparison(findings: Findings, command: str = "") -> str:
    """Say why there is nothing to compare, and what to do."""
    if findings.counts.finished or not findings.counts.ended:
        return "No comparison has been measured yet."
    missing = "No comparison has been measured yet: verdicts rest on the confirm runs, and none of them is complete."
    return f"{missing} Go on with: {command}" if command else missing


# ---- how surely


def how_surely(findings: Findings, cells: Mapping[str, LabelledCell]) -> str:
    """Say over how many replicates, with which intervals and p values, and of what the verdicts speak."""
    units = sorted({effect.n for effect in findings.effects})
    if not units or not units[-1]:
        return ""
    number = f"{units[0]}" if len(units) == 1 else f"{units[0]} to {units[-1]}"
    confirms = findings.spec.get("confirms")
    seeds = things(confirms if isinstance(confirms, int) else 1, "fresh seed")
    each = f", each tuned anew and confirmed on {seeds}" if unit_of(findings) == "replicate" else ""
    parts = [_over_runs(findings, number) if findings.origin else f"over {number} paired {unit_words(findings)}{each}"]
    parts += _intervals(findings, cells) if has_verdict(findings) else []
    parts += _lost(findings)
    parts += filter(None, [far_out.words(findings, [e for e in _primary(findings) if e.n])])
    said = "; ".join(parts)
    return f"{said[0].upper()}{said[1:]}. {scope(findings)}".strip()


def _over_runs(findings: Findings, number: str) -> str:
    """Say over how many runs that were made elsewhere, and whether they are paired."""
    apart = [effect.apart is not None for effect in findings.effects if effect.n]
    if all(apart):
        return f"over {number} runs a side or more, which are not paired (Welch's t)"
    some = ", not all of them paired (the others by Welch's t)" if any(apart) else ", paired by seed"
    return f"over {number} runs{some}"


def _intervals(findings: Findings, cells: Mapping[str, LabelledCell]) -> list[str]:
    decided = [e for e in _primary(findings) if e.verdict in ("helps", "hurts")]
    sizes = families_of(findings)
    if not decided:
        return []
    if len(decided) > _MOST_TOLD:
        clear = sum(effect.clear for effect in decided)
        worst = max(decided, key=lambda effect: effect.p_holm or 0.0)
        helps_or_hurts = f"{len(decided)} verdicts that a method helps or hurts"
        sure = f"of {helps_or_hurts} {clear} are clear and {len(decided) - clear} of uncertain size"
        sure = f"all {helps_or_hurts} are clear" if clear == len(decided) else sure
        p, family = theme.p_value(worst.p_holm), sizes[worst.method, worst.budget]
        return [f"{sure} (least sure: Holm p {p} among {family})"]
    told = []
    for effect in decided:
        with score_in(findings, effect.task).written():
            sure = "clear" if effect.clear else "size uncertain"
            p = theme.p_value(effect.p_holm)
            told.append(
                f"{effect.method}{_in(effect, cells) if len({e.cell for e in decided}) > 1 else ''} "
                f"{theme.interval(effect.ci95)} {theme.unit()} (95 %), Holm p {p} among "
                f"{sizes[effect.method, effect.budget]}, {sure}"
            )
    return told


def _lost(findings: Findings) -> list[str]:
    counts = findings.counts
    failed = "have no score" if findings.origin else "failed"
    ends = ((counts.diverged, "diverged"), (counts.failed, failed), (counts.pruned, "were pruned"))
    lost = [f"{n:,} {end}" for n, end in ends if n]
    return [f"of {counts.planned:,} runs {listed(lost)}"] if lost else []


def meaning(findings: Findings) -> str:
    """Say what a gain is here, and from which one on a method is said to help."""
    method, score = "method" if findings.origin else "tuned method", score_of(findings)
    of = f"{split_of(findings)}{score.name} of the {method}"
    gain = f"{of} minus that of" if score.higher_is_better else f"how much lower the {of} is than that of"
    return (
        f"A gain is {gain} {_held_against(findings)}; “helps” "
        f"needs a mean gain of at least {deltas(findings)} and a Holm p below {findings.alpha:g}."
    )


def _held_against(findings: Findings) -> str:
    if findings.origin:
        return _strongest(findings)
    if findings.protocol == 1:
        return f"tuned {findings.baseline} with its last weights"
    return f"the strongest {findings.baseline} that the same budget contains"


# ---- at what cost


def cost(findings: Findings) -> str:
    """Say what a run of each method costs, in gradient evaluations of the baseline's run at equal epochs."""
    by_ratio: dict[str, list[str]] = {}
    for summary in findings.summaries:
        if theme.known(summary.cost_ratio):
            by_ratio.setdefault(theme.ratio(summary.cost_ratio), []).append(summary.method)
    told = [f"{listed(methods)} {ratio}" for ratio, methods in by_ratio.items()]
    if findings.origin:
        spent = f"A run costs, in that of its baseline: {'; '.join(told)}." if told else "What a run cost is not known."
        return f"{spent} Verdicts hold at whatever each method spent."
    if not told:
        return ""
    return f"A run takes, in gradient evaluations of {findings.baseline} at equal epochs: {'; '.join(told)}."


# ---- what would flip it


def flips(findings: Findings, cells: Mapping[str, LabelledCell]) -> str:
    """Say which verdicts turn from or to helps or hurts at half or twice δ or at another budget; "" if none does."""
    found = {(effect.cell, effect.method): effect.verdict for effect in _primary(findings)}
    others: list[tuple[str, str, str, str]] = []  # problem, method, the verdict there, and where that is
    for strip in findings.delta_strips:
        if strip.budget == findings.primary_budget and strip.verdicts:
            at = dict(strip.verdicts)
            chosen = sorted(at)[len(at) // 2]
            for times, words in ((_HALF, "half of δ"), (_DOUBLE, "twice δ")):
                there = [verdict for delta, verdict in at.items() if math.isclose(delta, times * chosen)]
                others += [(strip.cell, strip.method, verdict, words) for verdict in there]
    for effect in findings.effects:
        if effect.budget != findings.primary_budget:
            others.append((effect.cell, effect.method, effect.verdict, budget_name(findings, effect.budget)))
    grouped: dict[tuple[str, str], list[str]] = {}
    for cell, method, verdict, words in others:
        if _decides(found.get((cell, method), verdict)) != _decides(verdict):
            place = f" in {cells[cell].label}" if len(cells) > 1 and cell in cells else ""
            grouped.setdefault((place, f"{verdict} at {words}"), []).append(method)
    said = [f"{listed(methods)}{place}: {then}" for (place, then), methods in grouped.items()]
    rest = [f"and {len(said) - _MOST_TOLD} more"] if len(said) > _MOST_TOLD else []
    return "; ".join([*said[:_MOST_TOLD], *rest]) + "." if said else ""


def _decides(verdict: str) -> str:
    """Return a verdict that decides, "" for any other."""
    return verdict if verdict in ("helps", "hurts") else ""


# ---- words


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
