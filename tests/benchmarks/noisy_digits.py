"""The small study that the benchmarks of evidence and of peers are about: digits, 30 % of their labels wrong.

One tuning and last weights, as the peers and the naive way have them.
"""

import json

from study.specs.spec import StudySpec, parse_spec

_TEXT = """name = "{name}"
question = "{question}"
budgets = ["E"]
primary_budget = "E"
replicates = 1
confirms = {seeds}
weights = ["last"]

[search]
trials = {trials}

[[problems]]
task = "digits"
factors.epochs = {epochs}
factors.label_noise = 0.3
factors.schedule = {schedule}
"""


def noisy_digits(
    name: str, question: str, *, trials: int, seeds: int, epochs: int, schedule: str | list[str]
) -> tuple[StudySpec, str]:
    """Return the study, a cell for every schedule that is given, and its text."""
    text = _TEXT.format(
        name=name, question=question, trials=trials, seeds=seeds, epochs=epochs, schedule=json.dumps(schedule)
    )
    return parse_spec(text, "the benchmark's spec"), text
