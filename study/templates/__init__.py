"""Example tasks and the spec that runs them, which ``python -m study.new`` copies."""

import re

_OF_TASKS = "\n\nPut your data and your model in the place of the example's. The study calls ``build`` once a run.\n"
_OF_BUILD = """

    Args:
        seed: Of the run. torch, NumPy and random are seeded with it while this function runs, so that initial weights
            belong to it; `stream` gives a generator of its own to each purpose.
        factors: The cell's factors, with your own under the names that the spec gives them.
    \"""
"""


def spelled_out(text: str) -> str:
    """Return an example with what all of its kind say in equal words, of which the files here have the first lines."""
    text = re.sub(r'\A("""A task for .*)"""\n', rf'\1{_OF_TASKS}"""\n', text)
    return text.replace('Return the task of one run."""\n', f"Return the task of one run.{_OF_BUILD}")
