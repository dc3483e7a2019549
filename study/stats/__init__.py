"""Statistics: small functions from numbers to a frozen dataclass, each checked against SciPy or another oracle.

Every gain is sign-corrected, so positive is better. `estimates` knows numbers only, `effects` knows what is held
against what and which verdict that supports; `synthesis` and `moderators` look across cells, by way of `designs`;
`tuning` looks at the search that came before. Here stands what other rooms use most.
"""

from study.stats.designs import Slope, robust_slopes
from study.stats.effects import RULES, Arm, Contrast, Effect, Verdict, compare, judge
from study.stats.estimates import Estimate, estimate, holm
from study.stats.moderators import Moderator
from study.stats.rules import ModeratorRule, moderator_rule
from study.stats.synthesis import RandomEffects, Synthesis, random_effects, synthesize
from study.stats.tuning import Importance, RhoResponse, TuningCurve

__all__ = [
    "RULES",
    "Arm",
    "Contrast",
    "Effect",
    "Estimate",
    "Importance",
    "Moderator",
    "ModeratorRule",
    "RandomEffects",
    "RhoResponse",
    "Slope",
    "Synthesis",
    "TuningCurve",
    "Verdict",
    "compare",
    "estimate",
    "holm",
    "judge",
    "moderator_rule",
    "random_effects",
    "robust_slopes",
    "synthesize",
]
