"""Reports of runs and results; nothing here needs TensorFlow to read them."""

from gdd_keras.reporting.card import write_card
from gdd_keras.reporting.document import Document
from gdd_keras.reporting.document import build_document
from gdd_keras.reporting.inputs import Material
from gdd_keras.reporting.inputs import read_inputs
from gdd_keras.reporting.output import check_output
from gdd_keras.reporting.output import default_output
from gdd_keras.reporting.output import write_report
from gdd_keras.reporting.page import build_page

__all__ = [
    "Document",
    "Material",
    "build_document",
    "build_page",
    "check_output",
    "default_output",
    "read_inputs",
    "write_card",
    "write_report",
]
