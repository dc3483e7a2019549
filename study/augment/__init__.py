"""Augmentation of training inputs, in batches on the trial's device.

Every number is drawn from the stream that is handed in, on the host: both passes of a step see the same augmented
batch, every method of a seed the same draws, and nothing is read back from the device.
"""

from study.augment.images import augmented_images
from study.augment.shifts import augmented

__all__ = ["augmented", "augmented_images"]
