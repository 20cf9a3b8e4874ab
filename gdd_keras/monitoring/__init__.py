"""What TensorBoard shows of a run."""

from gdd_keras.monitoring.accuracy import HeldOutAccuracy
from gdd_keras.monitoring.graphs import Profile
from gdd_keras.monitoring.graphs import write_graph
from gdd_keras.monitoring.hparams import hyperparameters
from gdd_keras.monitoring.hparams import write_hparams
from gdd_keras.monitoring.images import ImageGrid
from gdd_keras.monitoring.images import first_images
from gdd_keras.monitoring.scalars import TensorBoardScalars

__all__ = [
    "HeldOutAccuracy",
    "ImageGrid",
    "Profile",
    "TensorBoardScalars",
    "first_images",
    "hyperparameters",
    "write_graph",
    "write_hparams",
]
