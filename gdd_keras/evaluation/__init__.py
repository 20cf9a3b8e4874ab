"""Scoring: networks trained from scratch on distilled or real images."""

from gdd_keras.evaluation.protocols import Score
from gdd_keras.evaluation.protocols import evaluate_generator
from gdd_keras.evaluation.protocols import evaluate_real
from gdd_keras.evaluation.protocols import evaluate_source
from gdd_keras.evaluation.protocols import format_accuracy
from gdd_keras.evaluation.protocols import summarize
from gdd_keras.evaluation.sources import FixedSet
from gdd_keras.evaluation.sources import GeneratorStream
from gdd_keras.evaluation.sources import RealStream
from gdd_keras.evaluation.training import EvalTrainer

__all__ = [
    "EvalTrainer",
    "FixedSet",
    "GeneratorStream",
    "RealStream",
    "Score",
    "evaluate_generator",
    "evaluate_real",
    "evaluate_source",
    "format_accuracy",
    "summarize",
]
