"""Distilled sets written by many processes or machines, with Apache Beam."""

from gdd_keras.config import InputError
from gdd_keras.quiet import quiet_import
from gdd_keras.quiet import quiet_logs
from gdd_keras.quiet import quiet_warnings

try:
    with quiet_import(), quiet_logs(), quiet_warnings():
        import apache_beam  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "apache_beam":
        raise
    raise InputError(
        "Apache Beam must be installed to write with a runner. Received: no "
        "module `apache_beam`. Install it with `pip install .[beam]`."
    ) from error

from gdd_keras.beam.options import make_pipeline
from gdd_keras.beam.sets import BeamSet
from gdd_keras.beam.sets import read_model
from gdd_keras.beam.sets import write_with_beam

__all__ = ["BeamSet", "make_pipeline", "read_model", "write_with_beam"]
