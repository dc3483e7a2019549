"""Words of the report: the methods and the terms of the report, for a reader who has met none of them."""

from collections.abc import Mapping

from dashboards.score import Score

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

GLOSSARY: tuple[tuple[str, str], ...] = (
    ("Averaged weights", "The mean of a run's weights over its later epochs, from a start that tuning chose."),
    ("Average start", "The share of the epochs after which averaging begins."),
    (
        "Calibration error",
        "Expected calibration error: the mean gap between how confident predictions are and how often they are right.",
    ),
    ("Cell, problem", "One setting: a task with its factors fixed (label noise, schedule, training size …)."),
    ("Confidence", "The probability that a classifier gives to the class it predicts."),
    (
        "Baseline, the strongest",
        "Every baseline that the budget contains is held against the method; the row is about the one with the "
        "smallest mean gain over it, and helps only if all of them are beaten.",
    ),
    ("Best", "The epoch of a run whose weights validation prefers, chosen anew in every run."),
    ("Budget", "A ceiling on what a method and its baselines may spend, tuning included."),
    ("Chosen from", "Sets of weights of one run that validation chose from: epochs that were kept, and averages."),
    ("Clear", "The whole 95 % interval lies beyond δ; otherwise the size of the effect is uncertain."),
    (
        "Confidence interval, 95 % CI",
        "Student-t interval of the mean gain over replicates (or the seeds of one tuning); not adjusted for the number "
        "of comparisons.",
    ),
    ("Confirm", "The second stage: what tuning picked, trained on fresh seeds, the test part read once."),
    ("δ, delta", "The smallest gain that matters, fixed before the first run. Gains inside ±δ count as none."),
    ("Diverged", "A run whose loss stopped being finite. It counts, at the {score} of guessing."),
    ("Equal epochs", "Everybody trains for the problem's epochs; two gradients a step cost nothing."),
    ("Family", "The trajectory that is trained: base (plain gradient) or sam (sharpness-aware gradient)."),
    ("Gain", "{Score} of the method minus {score} of the baseline, run by run on the same seeds; positive is better."),
    ("Gradient evaluation", "One forward and backward pass of one training example: the unit of cost."),
    (
        "Hessian eigenvalue, trace",
        "Curvature of the training loss at the weights: in the steepest direction, and summed over all directions.",
    ),
    (
        "Holm's correction",
        "Makes the p values stricter, as a method is judged in all problems at once: its family under one budget.",
    ),
    ("Last weights", "The weights as the final step leaves them."),
    (
        "Minimum detectable effect",
        "The smallest true gain that this comparison would have found in 80 % of repetitions, at its family's level.",
    ),
    ("n", "Complete replicates (or seeds of one tuning): those in which method and baselines have all of their runs."),
    ("Negative log-likelihood, NLL", "The test loss of a classifier in nats: it punishes being wrong and confident."),
    ("Optimism", "How much the best of many trials beats the same settings on fresh seeds: picking flatters."),
    ("Point", "{point}"),
    ("Regret", "What a choice costs: the best validation {score} of the trials minus that of the choice."),
    (
        "Replicate",
        "One honest run of the whole procedure, with seeds of its own for everything: tuning, confirming and, where "
        "the data allow, the test part. The unit of every interval.",
    ),
    ("rho", "How far SAM moves uphill before it takes the gradient. 0 makes it the plain step."),
    ("sd, of tuning, of seeds", "How much gains vary over replicates, and what of that the two explain."),
    ("Score", "What methods are compared by; higher is better: {tasks}."),
    (
        "Switched off",
        "Tuning chose what the baseline is, so that the gain over it is exactly 0; such replicates count.",
    ),
    ("Tune", "The first stage: the same number of trials for every method, picked on validation data."),
    ("Within-run", "Averaged against last weights of the same training runs: shows the mechanism, not the verdict."),
)


def method_in_words(method: str) -> str:
    """Return the method's description; a method without one says so."""
    return METHODS_IN_WORDS.get(method, "No description of this method has been written.")


def glossary_of(score: Score, names: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the terms with their meanings, in the words of a study's score.

    Args:
        score: What its scores are called.
        names: What the score of each of its tasks is called.
    """
    found = {
        "score": score.name,
        "Score": score.title,
        "tasks": ", ".join(f"{name} in {task}" for task, name in names.items()),
        "point": _PERCENTAGE_POINT,
    }
    absent = {"Score"} if score.name == "accuracy" else set() if score.share else {"Point"}
    told = [(term, meaning) for term, meaning in GLOSSARY if term not in absent]
    return [(term, meaning.format_map(found)) for term, meaning in told]
