"""Data sets: loading them, and batches of them."""

from gdd_keras.data.dataset import Dataset
from gdd_keras.data.dataset import ImageRows
from gdd_keras.data.dataset import Split
from gdd_keras.data.loading import load_dataset
from gdd_keras.data.loading import open_raw
from gdd_keras.data.loading import training_size
from gdd_keras.data.pipeline import BatchSampler
from gdd_keras.data.pipeline import evaluation_batches
from gdd_keras.data.pipeline import scale_images
from gdd_keras.data.pipeline import training_batches
from gdd_keras.data.resizing import fit_images
from gdd_keras.data.splitting import describe_overlaps

__all__ = [
    "BatchSampler",
    "Dataset",
    "ImageRows",
    "Split",
    "describe_overlaps",
    "evaluation_batches",
    "fit_images",
    "load_dataset",
    "open_raw",
    "scale_images",
    "training_batches",
    "training_size",
]
