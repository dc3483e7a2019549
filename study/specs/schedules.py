"""Learning-rate schedules: the factor on the peak rate against the share of steps done. Plain arithmetic, no torch.

A schedule belongs to the cell and knows nothing of a method: whatever is averaged from a run, its trajectory is the
same. So the schedules that others tie to a number of epochs or to the start of averaging have fixed shares here.
"""

import math
from collections.abc import Callable

Schedule = Callable[[float], float]

_STEPS_AT = (0.3, 0.6, 0.8)
_CYCLES = 5
_SWA_FROM, _SWA_ANNEALED, _SWA_RATE = 0.75, 0.8, 0.5
_WARMUP_FROM = 0.01  # of the rate to come: a first step at 0 would be a step lost


def _cosine(done: float) -> float:
    """Anneal to 0 along half a cosine. Source: Loshchilov & Hutter 2017, arXiv 1608.03983, without restarts."""
    return 0.5 * (1 + math.cos(math.pi * done))


def _multistep(done: float) -> float:
    """Fall to a fifth at 30, 60 and 80 % of the steps. Source: Zagoruyko & Komodakis 2016, arXiv 1605.07146."""
    return float(0.2 ** sum(done >= at for at in _STEPS_AT))


def _step(done: float) -> float:
    """Fall to a tenth at each third of the steps. Source: He et al. 2016's ImageNet recipe (30, 60 of 90 epochs)."""
    return 0.1 ** min(2, int(3 * done))


def _exponential(done: float) -> float:
    """Fall by a constant factor a step, to a hundredth in all."""
    return float(0.01**done)


def _cyclic(done: float) -> float:
    """Go up and down between a quarter of the peak and the peak, five times.

    Source: Smith 2017, arXiv 1506.01186, "triangular"; section 3.3 for the quarter.
    """
    return 0.25 + 0.75 * (1 - abs(2 * (_CYCLES * done % 1) - 1))


def _swalr(done: float) -> float:
    """Follow the cosine for three quarters, then go within 5 % of the steps to half the peak, and stay there.

    Source: `torch.optim.swa_utils.SWALR` after `CosineAnnealingLR`; the shares and the half are those of Izmailov
    et al. 2018, arXiv 1803.05407, for CIFAR.
    """
    if done < _SWA_FROM:
        return _cosine(done)
    left = _cosine(min(1.0, (done - _SWA_FROM) / (_SWA_ANNEALED - _SWA_FROM)))
    return _SWA_RATE + (_cosine(_SWA_FROM) - _SWA_RATE) * left


SCHEDULES: dict[str, Schedule] = {
    "cosine": _cosine,
    "constant": lambda done: 1.0,
    "linear": lambda done: 1 - done,
    "multistep": _multistep,
    "step": _step,
    "exponential": _exponential,
    "cyclic": _cyclic,
    "swalr": _swalr,
}


def schedule_of(what: str | Schedule, warmup: float = 0.0) -> Schedule:
    """Return a schedule, behind a linear rise over the first ``warmup`` share of the steps.

    Args:
        what: What follows the rise, over the steps that are left: a name in `SCHEDULES`, or another function.
        warmup: A share in [0, 1); 0 for none. Source: Goyal et al. 2017, arXiv 1706.02677, section 2.2.

    Example:
        >>> warm = schedule_of("cosine", 0.1)
        >>> [round(warm(done), 3) for done in (0, 0.05, 0.1, 0.55, 1)]
        [0.01, 0.505, 1.0, 0.5, 0.0]
    """
    then = SCHEDULES[what] if isinstance(what, str) else what
    if not warmup:
        return then

    def warmed(done: float) -> float:
        if done < warmup:
            return then(0.0) * (_WARMUP_FROM + (1 - _WARMUP_FROM) * done / warmup)
        return then((done - warmup) / (1 - warmup))

    return warmed
