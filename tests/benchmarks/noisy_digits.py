"""The small study that the benchmarks of evidence and of peers are about: digits, 30 % of their labels wrong."""

import json

from study.specs.spec import StudySpec, parse_spec

_TEXT = """name = "{name}"
question = "{question}"
replicates = {replicates}
confirms = {seeds}
{more}
[search]
trials = {trials}

[[problems]]
task = "digits"
factors.epochs = {epochs}
factors.label_noise = 0.3
factors.schedule = {schedule}
"""
_AS_PEERS = 'budgets = ["E"]\nprimary_budget = "E"\nweights = ["last"]\n'


def noisy_digits(
    name: str,
    question: str,
    *,
    trials: int,
    seeds: int,
    epochs: int,
    schedule: str | list[str],
    replicates: int = 1,
    as_peers: bool = False,
) -> tuple[StudySpec, str]:
    """Return the study, a cell for every schedule that is given, and its text.

    Args:
        name, question, trials, seeds, epochs, schedule, replicates: Of the spec.
        as_peers: With last weights and equal epochs alone, as the peers have it, instead of the whole protocol.
    """
    text = _TEXT.format(
        name=name, question=question, trials=trials, seeds=seeds, epochs=epochs, schedule=json.dumps(schedule),
        replicates=replicates, more=_AS_PEERS if as_peers else "",
    )  # fmt: skip
    return parse_spec(text, "the benchmark's spec"), text
