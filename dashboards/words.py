"""Words of the report: the methods and the terms of the report, for a reader who has met none of them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from markupsafe import Markup, escape

from dashboards import theme
from dashboards.score import Score
from study.records import Family
from study.specs.methods import BUILT_IN
from study.specs.own_methods import PERTURBATIONS

METHODS_IN_WORDS: dict[str, str] = {
    "SGD": (
        "Stochastic gradient descent with momentum, without averaging. The baseline, in several forms that are each "
        "tuned on their own: with its last weights or with the epoch that validation prefers, at the problem's epochs "
        "and at as many as the budget buys. Gains are measured against the strongest of them."
    ),
    "SWA": (
        "Stochastic weight averaging: the same training, but the network that is used is the mean of the weights "
        "at the ends of the later epochs. Costs no extra gradients; BatchNorm statistics are measured anew."
    ),
    "SAM": (
        "Sharpness-aware minimization: each step first moves the weights a distance rho uphill, takes the gradient "
        "there, and applies it from where it started. It seeks weights whose neighbourhood is good too, at two "
        "gradients a step."
    ),
    "WASAM": "Both at once: train with SAM, use the average of the later weights. Two gradients a step, as SAM.",
    "EMA": "Plain training, read through an exponential moving average of the weights: recent steps count most.",
    "LAWA": "Plain training; the network that is used is the mean of the last few epochs' weights, a sliding window.",
    "SAM+EMA": "Train with SAM, read the weights through an exponential moving average.",
    "SAM+LAWA": "Train with SAM, use the mean of the last few epochs' weights.",
    "ASAM": "SAM with a step uphill scaled by the size of each weight, so that rescaling a layer changes nothing.",
    "ASAM+SWA": "Train with ASAM, use the average of the later weights.",
    "SAM-ON": "SAM that moves only the normalization layers' parameters uphill; all parameters learn.",
    "SAM-ON+SWA": "Train with SAM-ON, use the average of the later weights.",
    "m-SAM": "SAM whose step uphill is taken on small parts of the batch, one by one, instead of the whole batch.",
    "m-SAM+SWA": "Train with m-SAM, use the average of the later weights.",
    "late SAM": "Plain training for four fifths of the steps, SAM for the last fifth: a fifth more gradients.",
    "late SAM+SWA": "Train as late SAM does, use the average of the later weights.",
    "AdamW": "Adam with decoupled weight decay, without averaging; the baseline, in the same forms, of the methods "
    "built on it.",
    "AdamW+SWA": "Train with AdamW, use the average of the later weights.",
    "AdamW+EMA": "Train with AdamW, read the weights through an exponential moving average.",
    "AdamW+SAM": "SAM around AdamW: the gradient uphill is handed to AdamW's step. Two gradients a step.",
    "AdamW+WASAM": "SAM around AdamW, and the average of the later weights. Two gradients a step.",
}

_PERCENTAGE_POINT = "Percentage point: 80.0 % to 80.5 % is a gain of 0.50 points."


@dataclass(frozen=True, slots=True)
class Term:
    """A word of the report and its meaning; ``pattern`` finds it in running text."""

    name: str
    pattern: str
    meaning: str

    @property
    def id(self) -> str:
        """What a link to it ends in."""
        return "term-" + re.sub(r"\W+", "-", self.name.partition(",")[0].lower().replace("δ", "delta")).strip("-")


GLOSSARY: tuple[Term, ...] = (
    Term(
        "Averaged weights",
        r"averaged(?: weights)?|averages?\b",
        "The mean of a run's weights over its later epochs, from a start that tuning chose.",
    ),
    Term(
        "Baseline, the strongest",
        r"(?:strongest )?baselines?",
        "Every baseline that the budget contains is held against the method; the row is about the one with the "
        "smallest mean gain over it, and helps only if all of them are beaten.",
    ),
    Term(
        "Best epoch",
        r"best (?:validated )?epochs?|best at \d+",
        "The epoch of a run whose weights validation prefers, chosen anew in every run.",
    ),
    Term("Budget", r"budgets?", "A ceiling on what a method and its baselines may spend, tuning included."),
    Term(
        "Calibration error",
        r"[Cc]alibration error",
        "Expected calibration error: the mean gap between how confident predictions are and how often they are right.",
    ),
    Term(
        "Chosen from",
        r"[Cc]hosen from",
        "Sets of weights of one run that validation chose from (epochs that were kept, and averages), on so many "
        "examples.",
    ),
    Term(
        "Clear, size uncertain",
        r"clear\b(?! labels)|(?:un)?certain size|size uncertain",
        "Clear: the whole 95 % interval lies beyond δ; otherwise the size of the effect is uncertain.",
    ),
    Term(
        "Confirm",
        r"confirm(?:ed|s)?(?: runs?| stage)?",
        "The second stage: what tuning picked, trained on fresh seeds, the test part read once.",
    ),
    Term(
        "δ, delta", r"δ", "The smallest gain that matters, fixed before the first run. Gains inside ±δ count as none."
    ),
    Term("Diverged", r"diverged", "A run whose loss stopped being finite. It counts, at the {score} of guessing."),
    Term(
        "Equal epochs", r"equal epochs", "Everybody trains for the problem's epochs; two gradients a step cost nothing."
    ),
    Term(
        "Family",
        r"famil(?:y|ies)",
        "All problems in which one method is judged under one budget: p values are corrected for as many.",
    ),
    Term(
        "Gain",
        r"[Gg]ains?",
        "{Score} of the method minus {score} of the baseline, on the same seeds; positive is better, always.",
    ),
    Term(
        "Gradient evaluation",
        r"[Gg]radient evaluations?|[Gg]radients",
        "One forward and backward pass of one training example: the unit of cost.",
    ),
    Term(
        "Hessian eigenvalue, trace",
        r"Hessian (?:eigenvalue|trace)|eigenvalue",
        "Curvature of the training loss at the weights: in the steepest direction, and summed over all directions.",
    ),
    Term(
        "Holm p",
        r"Holm(?: p|'s correction|-adjusted)?",
        "A p value made stricter, as a method is judged in all problems at once: in its family under one budget.",
    ),
    Term("Interaction", r"[Ii]nteractions?", "What two changes do together beyond the sum of what each does alone."),
    Term(
        "Interval, 95 % CI",
        r"95\s% (?:Student-t )?(?:CI|intervals?)",
        "Student-t interval of the mean over replicates (or the seeds of one tuning); not adjusted for the number of "
        "comparisons.",
    ),
    Term("Last weights", r"last weights", "The weights as the final step leaves them."),
    Term(
        "Minimum detectable effect",
        r"[Dd]etectable",
        "The smallest true gain that this comparison would have found in 80 % of repetitions, at its family's level.",
    ),
    Term(
        "n",
        r"\bn(?= =)",
        "Complete replicates (or seeds of one tuning): those in which method and baselines have all of their runs.",
    ),
    Term(
        "Negative log-likelihood, NLL",
        r"[Nn]egative log-likelihood|NLL",
        "The test loss of a classifier in nats: it punishes being wrong and confident.",
    ),
    Term("Optimism", r"[Oo]ptimism", "How much the best of many trials beats the same settings on fresh seeds."),
    Term("Point", r"(?:percentage )?points\b", "{point}"),
    Term(
        "Prediction interval", r"prediction interval", "Where the true gain of a new task like these is to be expected."
    ),
    Term(
        "Problem",
        r"problems?\b",
        "One setting: a task with its factors fixed (label noise, schedule, training size …).",
    ),
    Term(
        "Regret",
        r"[Rr]egret",
        "What a choice costs: the best validation {score} of the trials minus that of the choice.",
    ),
    Term(
        "Replicate",
        r"replicates?",
        "One honest run of the whole procedure, with seeds of its own for everything: tuning, confirming and, where "
        "the data allow, the test part. The unit of every interval.",
    ),
    Term("rho", r"\brho\b", "How far SAM moves uphill before it takes the gradient. 0 makes it the plain step."),
    Term(
        "sd, of tuning, of seeds", r"\bsd\b", "How much gains vary over replicates, and what of that the two explain."
    ),
    Term("Score", r"\b[Ss]cores?\b", "What methods are compared by: {tasks}."),
    Term(
        "Switched off",
        r"[Ss]witched (?:the method )?off|\boff in \d+",
        "Tuning chose what the baseline is, so that the gain over it is exactly 0; such replicates count.",
    ),
    Term(
        "Tune",
        r"\b[Tt]un(?:e|ed|ing)\b",
        "The first stage: the same number of trials for every method, picked on validation data.",
    ),
    Term("Validation", r"[Vv]alidation", "Labelled examples beside training and test: they choose, and judge nothing."),
    Term(
        "Within-run",
        r"[Ww]ithin-run|[Ww]ithin (?:the same )?runs",
        "Averaged against last weights of the same training runs: shows the mechanism, not the verdict.",
    ),
)

# Where what others have published is to be read: a citation becomes a link, the page itself requests nothing.
PAPERS: dict[str, str] = {
    "Foret 2021": "2010.01412",
    "Kwon 2021": "2102.11600",
    "Kaddour 2022": "2202.00661",
    "Ajroldi 2025": "2502.06761",
    "Sandler 2023": "2301.02312",
    "Andriushchenko 2022": "2206.06232",
    "Mueller 2023": "2306.04226",
    "Zhou 2025": "2410.10373",
    "MSAM": "2401.12033",
}
_ARXIV = re.compile(r"\b(?:(" + "|".join(map(re.escape, PAPERS)) + r")|arXiv (\d{4}\.\d{4,5}))\b")


def method_in_words(method: str) -> str:
    """Return the method's description; a method without one says so."""
    if method in METHODS_IN_WORDS:
        return METHODS_IN_WORDS[method]
    return _own_in_words(method) if method in theme.methods() else "No description of this method has been written."


_BUILT_IN = {"sgd": "SGD with momentum", "adamw": "AdamW"}
_READ = {
    "last": "without averaging",
    "best": "without averaging, at the epoch that validation prefers",
    "swa": "read through the average of the later weights",
    "ema": "read through an exponential moving average of the weights",
    "lawa": "read through the mean of the last few epochs' weights",
}


def _own_in_words(method: str) -> str:
    """Say what a method of the study's own is: its optimizer, how its gradient is perturbed, what is read."""
    what, weights = theme.methods().family_of(method), theme.methods()[method].weights
    options = ", ".join(f"{name} = {_option(value)}" for name, value in what.options)
    said = [
        _BUILT_IN.get(what.base, what.base) + (f" with {options}" if options else ""),
        *([f"taking its steps with {_BUILT_IN.get(what.around, what.around)}"] if what.around else []),
        *([f"perturbed as {_perturbed_like(what)} does"] if what.rule else []),
        *([f"on a schedule of its own, {what.schedule}"] if what.schedule else []),
        _READ[weights],
    ]
    passes = f" {what.passes:g} gradients a step." if what.passes != 1 else ""
    return f"A method of this study's own: {', '.join(said)}.{passes}"


def _perturbed_like(what: Family) -> str:
    """Return the built-in method that perturbs SGD in the same way."""
    of = attrgetter("rule", "norm_layers_only", "micro_batches", "perturb_from")
    return BUILT_IN.last_of(next(name for name, family in PERTURBATIONS.items() if of(family) == of(what)))


def _option(value: object) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)


def glossary_of(score: Score, scores: Mapping[str, Score]) -> list[Term]:
    """Return the terms with their meanings, in the words of a study's score.

    Args:
        score: What its scores are called.
        scores: What the scores of each of its tasks are called.
    """
    found = {
        "score": score.name,
        "Score": score.title,
        "tasks": ", ".join(f"{own.full}{own.direction} in {task}" for task, own in scores.items()),
        "point": _PERCENTAGE_POINT,
    }
    absent = {"Score"} if score.name == "accuracy" else set() if score.share else {"Point"}
    return [replace(term, meaning=term.meaning.format_map(found)) for term in GLOSSARY if term.name not in absent]


def explained(text: object, terms: Sequence[Term]) -> Markup:
    """Escape a text, and make the first place of every term in it a link to its meaning."""
    safe = str(escape(text))
    places: list[tuple[int, int, Term]] = []
    for term in terms:
        found = re.search(rf"(?<![\w&])(?:{term.pattern})(?!\w)", safe)
        if found and not any(start < found.end() and found.start() < end for start, end, _ in places):
            places.append((found.start(), found.end(), term))
    for start, end, term in sorted(places, key=lambda place: -place[0]):
        safe = f'{safe[:start]}<dfn><a href="#{term.id}">{safe[start:end]}</a></dfn>{safe[end:]}'
    return Markup(safe)  # escaped above


def cited(text: object) -> Markup:
    """Escape a text, and make every citation in it a link to the paper."""

    def link(found: re.Match[str]) -> str:
        return f'<a href="https://arxiv.org/abs/{PAPERS.get(found[1]) or found[2]}" rel="noreferrer">{found[0]}</a>'

    return Markup(_ARXIV.sub(link, str(escape(text))))  # escaped
