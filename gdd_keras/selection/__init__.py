"""Few images that stand for many: chosen ones, and ones made to.

These names load neither TensorFlow nor Keras; `typical` and
`distribution_matching` do, which look at images through networks.
"""

from gdd_keras.selection.coresets import herding
from gdd_keras.selection.coresets import k_center
from gdd_keras.selection.coresets import most_forgotten
from gdd_keras.selection.coresets import repeated
from gdd_keras.selection.coresets import select_per_class
from gdd_keras.selection.limits import CLASSES_AT_ONCE
from gdd_keras.selection.limits import IMAGES_PER_CLASS
from gdd_keras.selection.limits import MAX_CONDENSED
from gdd_keras.selection.limits import MAX_TYPICAL
from gdd_keras.selection.limits import REAL_SELECTIONS
from gdd_keras.selection.limits import SELECTIONS
from gdd_keras.selection.limits import check_condensing
from gdd_keras.selection.limits import check_distribution_matching
from gdd_keras.selection.limits import check_size

__all__ = [
    "CLASSES_AT_ONCE",
    "IMAGES_PER_CLASS",
    "MAX_CONDENSED",
    "MAX_TYPICAL",
    "REAL_SELECTIONS",
    "SELECTIONS",
    "check_condensing",
    "check_distribution_matching",
    "check_size",
    "herding",
    "k_center",
    "most_forgotten",
    "repeated",
    "select_per_class",
]
