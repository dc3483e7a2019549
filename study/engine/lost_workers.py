"""What Ray says of a lost worker, brought to a sentence; and whether memory was short, and whose that was.

Ray's own words are pages: a traceback with colours, a table of the node's processes, advice for its operators. Runs
side by side share a GPU's memory, or the machine's; what did not fit beside another run may fit alone, so such a run is
tried once more with nothing beside it. Needs neither Ray nor torch.
"""

import re
from dataclasses import dataclass

from study.records import RunRecord

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_FRAME = re.compile(r'^\s+File "|^\s+[~^]+\s*$|^Traceback ')
_SHORT_OF_MEMORY = "running low on memory"
_USED = re.compile(r"was ([\d.]+)GB used / ([\d.]+)GB limit")
_KILLED = re.compile(r"Selected to kill: .*?actual memory used=([\d.]+)GB")
_AT_START = ("in its creation task", "runtime environment")
_KNOWN = {  # what Ray writes, and what it means
    "its node has died": "its node died",
    "worker process has died": "its process died",
    "killed by `ray.kill`": "it was killed",
    "unavailable": "it could not be reached",
}
# In the last line of the error: torch on a GPU, Python and NumPy, torch on the CPU, and Ray, which kills workers early.
_SIGNS = ("OutOfMemoryError", "MemoryError", "DefaultCPUAllocator: can't allocate memory", "running low on memory")
_LONGEST = 300  # characters of an error's own line


@dataclass(frozen=True, slots=True)
class LostWorker:
    """How a worker was lost.

    Attributes:
        cause: Goes on from "the worker was lost: ".
        for_memory: Ray ended it because the memory of its node was short, whoever used that.
        main_user: It used at least half of the memory that was in use, or nobody knows.
    """

    cause: str
    for_memory: bool = False
    main_user: bool = False


def lost_worker(text: str) -> LostWorker:
    """Read what Ray's exception says, as a whole text; "" where there is none.

    Example:
        >>> lost_worker("The actor is dead because its worker process has died. Worker exit type: …").cause
        'its process died'
    """
    text = _COLOURS.sub("", text).strip()
    if _SHORT_OF_MEMORY in text:
        return _for_memory(text)
    if any(sign in text for sign in _AT_START):
        return LostWorker(f"it could not start: {error_line(text)}")
    if any(map(_FRAME.match, text.splitlines())):
        return LostWorker(f"it failed: {error_line(text)}")
    return LostWorker(
        next((meaning for sign, meaning in _KNOWN.items() if sign in text), error_line(text) or "it died")
    )


def error_line(text: str) -> str:
    """Return the line of a traceback that names the error; of any other text the last line.

    Example:
        >>> error_line('ray::f()\\n  File "a.py", line 1, in f\\n    import b\\nModuleNotFoundError: No module named b')
        'ModuleNotFoundError: No module named b'
    """
    lines = [line for line in _COLOURS.sub("", text).splitlines() if line.strip()]
    frames = [number for number, line in enumerate(lines) if _FRAME.match(line)]
    after = [line for line in lines[frames[-1] + 1 :] if not line[0].isspace()] if frames else lines[-1:]
    return " ".join(after[0].split())[:_LONGEST] if after else ""


def _for_memory(text: str) -> LostWorker:
    in_use, killed = _USED.search(text), [float(used) for used in _KILLED.findall(text)]
    if not in_use or not killed:
        return LostWorker("the memory of its node was short", for_memory=True, main_user=True)
    # Of several that were ended at once the largest is taken for it: a run is judged when none of ours is beside it.
    own, used, limit = max(killed), float(in_use[1]), float(in_use[2])
    cause = f"the memory of its node was short ({used:.1f} of {limit:.1f} GB in use, {own:.1f} GB by it)"
    return LostWorker(cause, for_memory=True, main_user=own >= used / 2)


def out_of_memory(record: RunRecord) -> bool:
    """Whether a run failed because memory was short."""
    last = (record.error or "").strip().splitlines()[-1:]
    return record.status == "failed" and any(sign in line for line in last for sign in _SIGNS)


def explained(record: RunRecord) -> RunRecord:
    """Return the record of a run that was out of memory, alone too, with a last line that says what to do."""
    batch = record.job.factors.get("batch_size", "?")
    sentence = (
        f"out of memory with batch_size = {batch}, with no other run beside it, too: "
        "lower factors.batch_size, or choose a smaller model."
    )
    return record.model_copy(update={"error": f"{(record.error or '').rstrip()}\n{sentence}"})
