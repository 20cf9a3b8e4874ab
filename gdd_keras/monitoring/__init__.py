"""What TensorBoard shows of a run, beside its results."""

from gdd_keras.monitoring.hparams import hyperparameters
from gdd_keras.monitoring.hparams import write_hparams

__all__ = ["hyperparameters", "write_hparams"]
