"""Statistics: small functions from numbers to a frozen dataclass, each checked against SciPy or another oracle.

All metrics are fractions; every gain is sign-corrected, so positive is better. `estimates` knows numbers
only, `effects` knows what is held against what and which verdict that supports; `synthesis` and `moderators`
look across cells, by way of `designs`; `tuning` looks at the search that came before.
"""

from study.stats.designs import Column, Slope, columns, isolated, robust_slopes
from study.stats.effects import (
    RULES,
    Against,
    Arm,
    Contrast,
    Effect,
    FactorInteraction,
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
    interval_for_new_data,
    max_t_p,
    minimum_detectable_effect,
    share_better,
    sign_flip_p,
)
from study.stats.moderators import Moderator, measured_moderator, moderators
from study.stats.rules import ModeratorRule, RuleLeaf, moderator_rule
from study.stats.synthesis import RandomEffects, Synthesis, random_effects, signed_rank, synthesize
from study.stats.tuning import Importance, Optimism, RhoTransfer, TuningCurve, best_band, expected_best, importance

__all__ = [
    "RULES",
    "Against",
    "Arm",
    "Column",
    "Contrast",
    "Effect",
    "Estimate",
    "FactorInteraction",
    "Importance",
    "Interaction",
    "Moderator",
    "ModeratorRule",
    "Optimism",
    "RandomEffects",
    "RhoResponse",
    "RhoTransfer",
    "RuleLeaf",
    "Slope",
    "Synthesis",
    "TuningCurve",
    "Verdict",
    "best_band",
    "columns",
    "compare",
    "correlation",
    "estimate",
    "expected_best",
    "holm",
    "importance",
    "interaction",
    "interval_for_new_data",
    "isolated",
    "judge",
    "max_t_p",
    "measured_moderator",
    "minimum_detectable_effect",
    "moderator_rule",
    "moderators",
    "random_effects",
    "robust_slopes",
    "share_better",
    "sign_flip_p",
    "signed_rank",
    "synthesize",
    "verdict",
]
