"""The plug-in's data sets in FastReID's registry, and checks of any data set before training."""

from . import manifest, synthetic  # noqa: F401  (registration only)
from .check import check_images, check_test, check_train

__all__ = ["check_images", "check_test", "check_train"]
