"""The fault matrix: what happens × when it happens. How it is done, and what must be true then, stands in `strikes`."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace

from faults.laboratory import PRODUCT, SLICED
from faults.strikes import (
    MOMENTS,
    Strike,
    damaged_file,
    damaged_views,
    diverges,
    driver_dies,
    driver_goes_on,
    driver_stops,
    second_driver,
    skips_steps,
    trial,
    trial_eats_memory,
    trial_fails,
    unwritable,
)

EVERY = tuple(MOMENTS)
STAGES = ("in tune", "in confirm")
WRITING = ("first record", "in tune", "in confirm", "second replicate", "findings are written")
RESUME = ("on resume",)


@dataclass(frozen=True, slots=True)
class Case:
    """A row of the matrix: one study that is struck at several moments.

    Attributes:
        fault: What happens, in words.
        moments: When, in order.
        strike: Disturbs a study in a folder and brings it to its end.
        needs_ray: Whether something else than the driver is struck.
    """

    fault: str
    moments: tuple[str, ...]
    strike: Strike
    needs_ray: bool = False

    def each(self) -> "Iterator[Case]":
        """Yield a case for every moment alone, to find out which of them it was."""
        return (replace(self, moments=(moment,)) for moment in self.moments)


def cases() -> Iterator[Case]:
    """Yield the whole matrix."""
    yield Case("driver: SIGKILL", EVERY, driver_dies(signal.SIGKILL, -signal.SIGKILL))
    yield Case("driver: SIGTERM", EVERY, driver_dies(signal.SIGTERM, 128 + signal.SIGTERM))
    yield Case("driver: Ctrl-C", EVERY, driver_dies("group-ctrl-c", 128 + signal.SIGINT))
    yield Case("driver: SIGHUP", ("in tune",), driver_dies(signal.SIGHUP, 128 + signal.SIGHUP))
    yield Case("Ray: SIGKILL of the raylet", STAGES, driver_stops("raylet"), needs_ray=True)
    yield Case("Ray: SIGKILL of the GCS", ("in tune",), driver_stops("gcs_server"), needs_ray=True)
    for what in ("SIGKILL", "SIGSEGV", "os._exit", "MemoryError"):
        yield Case(f"trial: {what}", STAGES, trial(what), needs_ray=True)
    yield Case("trial: killed by Ray, memory short", STAGES, trial_eats_memory, needs_ray=True)
    yield Case(
        "trial: leaks memory of its device", ("in confirm",), trial("leaks", told="out of memory"), needs_ray=True
    )
    yield Case("trial: hangs", STAGES, trial("hang", "--hang-after", "10", told="no sign of life"), needs_ray=True)
    yield Case("trial: exception", STAGES, trial_fails("exception"), needs_ray=True)
    yield Case("trial: prints, forks, chdir, seeds", STAGES, trial("prints forks chdir seeds"), needs_ray=True)
    yield Case("long run: trial SIGKILL", STAGES, trial("SIGKILL", command=SLICED), needs_ray=True)
    for what in ("truncated", "zeroed", "vanished"):
        damaged = trial(f"{what}-checkpoint", command=SLICED, told="it starts anew")
        yield Case(f"long run: {what} checkpoint", STAGES, damaged, needs_ray=True)
    full = trial("full-disk", command=SLICED, told="it can't be saved (File too large)")
    yield Case("long run: full disk, checkpoint", STAGES, full, needs_ray=True)
    yield Case("NaN in the loss, under Ray", STAGES, diverges("nan-loss", PRODUCT), needs_ray=True)
    for what in ("inf-loss", "nan-metric", "inf-metric"):
        yield Case("{} in the {}".format(*what.split("-")), STAGES, diverges(what))
    yield Case("nan in the gradient", STAGES, skips_steps)
    yield Case("full disk, record and findings", WRITING, driver_stops("full disk"))
    yield Case("full disk, database", ("in tune",), driver_goes_on("full disk for the database", "optuna.db can't be"))
    yield Case("folder vanishes", WRITING, driver_stops("vanish"))
    yield Case("folder read-only", RESUME, unwritable)
    yield Case("clock goes back a day", ("first record", *STAGES), driver_goes_on("clock"))
    yield Case("two drivers", ("first record", "in confirm", "second replicate", "report is written"), second_driver)
    yield Case("damaged record", RESUME, damaged_file("records/*.json", mended=False))
    yield Case("damaged spec", RESUME, damaged_file("spec.toml", mended=True))
    yield Case("damaged optuna.db and views", RESUME, damaged_views("optuna.db", "findings.json", "runs.parquet"))
