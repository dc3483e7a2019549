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
    "ASAM": "SAM with a step uphill scaled by the size of each weight, so that rescaling a layer changes nothing.",
    "SAM-ON": "SAM that moves only the normalization layers' parameters uphill; all parameters learn.",
    "m-SAM": "SAM whose step uphill is taken on small parts of the batch, one by one, instead of the whole batch.",
    "late SAM": "Plain training for four fifths of the steps, SAM for the last fifth: a fifth more gradients.",
    "AdamW": "Adam with decoupled weight decay, without averaging; the baseline, in the same forms, of the methods "
    "built on it.",
    "AdamW+SAM": "SAM around AdamW: the gradient uphill is handed to AdamW's step. Two gradients a step.",
}

_PERCENTAGE_POINT = "Percentage point: 80.0 % to 80.5 % is a gain of 0.50 points."


@dataclass(frozen=True, slots=True)
class Term:
    """A word of the report and its meaning; ``found_by`` finds it in running text where its name alone would not."""

    name: str
    meaning: str
    found_by: str = ""

    @property
    def pattern(self) -> str:
        """The expression that finds it: its name, in the singular or the plural, unless it has one of its own."""
        name = self.name.partition(",")[0]
        return self.found_by or f"[{name[0].upper()}{name[0].lower()}]{name[1:]}s?"

    @property
    def id(self) -> str:
        """What a link to it ends in."""
        return "term-" + re.sub(r"\W+", "-", self.name.partition(",")[0].lower().replace("δ", "delta")).strip("-")


GLOSSARY: tuple[Term, ...] = (
    Term(
        "Averaged weights",
        "The mean of a run's weights over its later epochs, from a start that tuning chose.",
        r"averaged(?: weights)?|averages?\b",
    ),
    Term(
        "Baseline, the strongest",
        "Every baseline that the budget contains is held against the method; the row is about the one with the "
        "smallest mean gain over it, and helps only if all of them are beaten.",
        r"(?:strongest )?baselines?",
    ),
    Term(
        "Best epoch",
        "The epoch of a run whose weights validation prefers, chosen anew in every run.",
        r"best (?:validated )?epochs?|best at \d+",
    ),
    Term("Budget", "A ceiling on what a method and its baselines may spend, tuning included."),
    Term(
        "Calibration error",
        "Expected calibration error: the mean gap between how confident predictions are and how often they are right.",
    ),
    Term(
        "Chosen from",
        "Sets of weights of one run that validation chose from (epochs that were kept, and averages), on so many "
        "examples.",
    ),
    Term(
        "Clear, size uncertain",
        "Clear: the whole 95 % interval lies beyond δ; otherwise the size of the effect is uncertain.",
        r"clear\b(?! labels)|(?:un)?certain size|size uncertain",
    ),
    Term(
        "Confirm",
        "The second stage: what tuning picked, trained on fresh seeds, the test part read once.",
        r"confirm(?:ed|s)?(?: runs?| stage)?",
    ),
    Term(
        "δ, delta", "The smallest gain that matters, fixed before the first run. Gains inside ±δ count as none.", r"δ"
    ),
    Term("Diverged", "A run whose loss stopped being finite. It counts, at the {score} of guessing."),
    Term("Equal epochs", "Everybody trains for the problem's epochs; two gradients a step cost nothing."),
    Term(
        "Family",
        "All problems in which one method is judged under one budget: p values are corrected for as many.",
        r"famil(?:y|ies)",
    ),
    Term("Gain", "{Score} of the method minus {score} of the baseline, on the same seeds; positive is better, always."),
    Term(
        "Gradient evaluation",
        "One forward and backward pass of one training example: the unit of cost.",
        r"[Gg]radient evaluations?|[Gg]radients",
    ),
    Term(
        "Hessian eigenvalue, trace",
        "Curvature of the training loss at the weights: in the steepest direction, and summed over all directions.",
        r"Hessian (?:eigenvalue|trace)|eigenvalue",
    ),
    Term(
        "Holm p",
        "A p value made stricter, as a method is judged in all problems at once: in its family under one budget.",
        r"Holm(?: p|'s correction|-adjusted)?",
    ),
    Term("Interaction", "What two changes do together beyond the sum of what each does alone."),
    Term(
        "Interval, 95 % CI",
        "Student-t interval of the mean over replicates (or the seeds of one tuning); not adjusted for the number of "
        "comparisons.",
        r"95\s% (?:Student-t )?(?:CI|intervals?)",
    ),
    Term("Last weights", "The weights as the final step leaves them."),
    Term(
        "Minimum detectable effect",
        "The smallest true gain that this comparison would have found in 80 % of repetitions, at its family's level.",
        r"[Dd]etectable",
    ),
    Term(
        "n",
        "Complete replicates (or seeds of one tuning): those in which method and baselines have all of their runs.",
        r"\bn(?= =)",
    ),
    Term(
        "Negative log-likelihood, NLL",
        "The test loss of a classifier in nats: it punishes being wrong and confident.",
        r"[Nn]egative log-likelihood|NLL",
    ),
    Term("Point", "{point}", r"(?:percentage )?points\b"),
    Term("Prediction interval", "Where the true gain of a new task like these is to be expected."),
    Term("Problem", "One setting: a task with its factors fixed (label noise, schedule, training size …)."),
    Term(
        "Replicate",
        "One honest run of the whole procedure, with seeds of its own for everything: tuning, confirming and, where "
        "the data allow, the test part. The unit of every interval.",
    ),
    Term("rho", "How far SAM moves uphill before it takes the gradient. 0 makes it the plain step."),
    Term(
        "sd, of tuning, of seeds", "How much gains vary over replicates, and what of that the two explain.", r"\bsd\b"
    ),
    Term("Score", "What methods are compared by: {tasks}."),
    Term(
        "Switched off",
        "Tuning chose what one of the baselines is: the gain over that one is exactly 0; such replicates count.",
        r"[Ss]witched (?:the method )?off|\boff in \d+",
    ),
    Term(
        "Tune",
        "The first stage: the same number of trials for every method, picked on validation data.",
        r"\b[Tt]un(?:e|ed|ing)\b",
    ),
    Term("Validation", "Labelled examples beside training and test: they choose, and judge nothing."),
    Term(
        "Within-run",
        "Averaged against last weights of the same training runs: shows the mechanism, not the verdict.",
        r"[Ww]ithin-run|[Ww]ithin (?:the same )?runs",
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
    if method not in theme.methods():
        return "No description of this method has been written."
    what, weights = theme.methods().family_of(method), theme.methods()[method].weights
    trained = theme.methods().last_of(theme.methods()[method].family)
    if trained in METHODS_IN_WORDS:
        return f"The network that {trained} trains, {_READ[weights]}."
    return f"A method of this study's own: {', '.join([*_trained(what), _READ[weights]])}.{_passes(what)}"


_BUILT_IN = {"sgd": "SGD with momentum", "adamw": "AdamW"}
_READ = {
    "last": "without averaging",
    "best": "without averaging, at the epoch that validation prefers",
    "swa": "read through the average of the later weights",
    "ema": "read through an exponential moving average of the weights",
    "lawa": "read through the mean of the last few epochs' weights",
}


def _trained(what: Family) -> list[str]:
    """Say what a trajectory of the study's own is: its optimizer, and how its gradient is perturbed."""
    options = ", ".join(f"{name} = {_option(value)}" for name, value in what.options)
    return [
        _BUILT_IN.get(what.base, what.base) + (f" with {options}" if options else ""),
        *([f"taking its steps with {_BUILT_IN.get(what.around, what.around)}"] if what.around else []),
        *([f"perturbed as {_perturbed_like(what)} does"] if what.rule else []),
        *([f"on a schedule of its own, {what.schedule}"] if what.schedule else []),
    ]


def _passes(what: Family) -> str:
    return f" {what.passes:g} gradients a step." if what.passes != 1 else ""


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
