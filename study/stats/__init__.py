"""Statistics: small functions from numbers to a frozen dataclass, each checked against SciPy or statsmodels.

All metrics are fractions; every gain is sign-corrected, so positive is better. `estimates` knows numbers
only, `effects` knows what is held against what and which verdict that supports.
"""

from study.stats.effects import (
    Contrast,
    DecayByAveraging,
    Effect,
    Interaction,
    RhoResponse,
    Verdict,
    compare,
    interaction,
    judge,
    verdict,
)
from study.stats.estimates import (
    Estimate,
    correlation,
    estimate,
    holm,
    minimum_detectable_effect,
    share_better,
    sign_flip_p,
)

__all__ = [
    "Contrast",
    "DecayByAveraging",
    "Effect",
    "Estimate",
    "Interaction",
    "RhoResponse",
    "Verdict",
    "compare",
    "correlation",
    "estimate",
    "holm",
    "interaction",
    "judge",
    "minimum_detectable_effect",
    "share_better",
    "sign_flip_p",
    "verdict",
]
