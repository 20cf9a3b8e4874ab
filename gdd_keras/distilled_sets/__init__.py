"""Distilled sets as files: npz, png, tfrecord and tfds.

TensorFlow is imported by the functions that need it, so that a command line
can list the formats within a second.
"""

from gdd_keras.distilled_sets.formats import FORMATS
from gdd_keras.distilled_sets.formats import DistilledSet
from gdd_keras.distilled_sets.formats import check_selection
from gdd_keras.distilled_sets.formats import check_set
from gdd_keras.distilled_sets.formats import check_soft_labels
from gdd_keras.distilled_sets.partial import PartialSet
from gdd_keras.distilled_sets.sharded import ShardedSet
from gdd_keras.distilled_sets.sharded import write_stored_shard
from gdd_keras.distilled_sets.shards import MAX_SHARDS
from gdd_keras.distilled_sets.shards import SHARDED_FORMATS
from gdd_keras.distilled_sets.shards import make_plan
from gdd_keras.distilled_sets.shards import tfds_info
from gdd_keras.distilled_sets.writing import write_distilled_set

__all__ = [
    "FORMATS",
    "MAX_SHARDS",
    "SHARDED_FORMATS",
    "DistilledSet",
    "PartialSet",
    "ShardedSet",
    "check_selection",
    "check_set",
    "check_soft_labels",
    "make_plan",
    "tfds_info",
    "write_distilled_set",
    "write_stored_shard",
]
