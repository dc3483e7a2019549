"""Sharpness-aware minimization and weight averaging for PyTorch."""

from wasam_core.averaging import WeightAverages
from wasam_core.batchnorm import recalibrate_batchnorm
from wasam_core.buffers import frozen_batchnorm_statistics
from wasam_core.cost import Cost
from wasam_core.groups import norm_layer_groups
from wasam_core.perturbation import RULES, perturbed
from wasam_core.rng import capture_rng, restore_rng
from wasam_core.sam import WASAM
from wasam_core.swa_models import MultipleSWAModels

__all__ = [
    "RULES",
    "WASAM",
    "Cost",
    "MultipleSWAModels",
    "WeightAverages",
    "capture_rng",
    "frozen_batchnorm_statistics",
    "norm_layer_groups",
    "perturbed",
    "recalibrate_batchnorm",
    "restore_rng",
]
