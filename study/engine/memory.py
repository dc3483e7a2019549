"""Out of memory: how it is told from other failures, and what the record then says. Needs neither Ray nor torch.

Runs side by side share a GPU's memory, or the machine's; what did not fit beside another run may fit alone. So such
a run is tried once more with nothing beside it, and only then counts as failed.
"""

from study.records import RunRecord

# In the last line of the error: torch on a GPU, Python and NumPy, torch on the CPU, and Ray, which kills workers early.
_SIGNS = ("OutOfMemoryError", "MemoryError", "DefaultCPUAllocator: can't allocate memory", "running low on memory")


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
