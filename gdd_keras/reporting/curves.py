"""Scalars of TensorBoard's event files, read without TensorFlow."""

import dataclasses
import math
import struct

__all__ = ["Curve", "read_curves"]

# Header of a TFRecord: length and its checksum; another one follows the data.
_HEADER = struct.Struct("<QI")
_CHECKSUM = 4


@dataclasses.dataclass(frozen=True)
class Curve:
    """Values of one tag of one stage.

    Attributes:
        stage: Name of the stage.
        tag: For instance `losses/global_loss`.
        steps: Tuple of training steps, increasing.
        values: Tuple of finite floats, as many.
    """

    stage: str
    tag: str
    steps: tuple
    values: tuple


def read_curves(directory):
    """Reads all scalars of a run.

    Steps that a resumed run wrote again replace the earlier ones. A file that
    ends early, as that of a run which still goes on, is read up to there.

    Args:
        directory: `pathlib.Path` with one folder of event files per stage;
            may be absent.

    Returns:
        List of `Curve`, stages in the order of training, tags by name.
    """
    curves = []
    stages = [path for path in directory.glob("*") if path.is_dir()]
    # `cgan` comes before `distill`.
    for stage in sorted(stages):
        points = {}
        found = {file: _read_file(file) for file in stage.glob("events*")}
        starts = {f: (_first(found[f]), _started(f)) for f in found}
        for file in sorted(found, key=starts.get):
            _take_over(points, found[file])
        for tag, values in sorted(points.items()):
            finite = {s: v for s, v in values.items() if math.isfinite(v)}
            if finite:
                steps = tuple(sorted(finite))
                curves.append(
                    Curve(
                        stage.name, tag, steps, tuple(finite[s] for s in steps)
                    )
                )
    return curves


def _first(points):
    """Returns the first step of an event file.

    A run that goes on starts later than the one before it; clocks may not.
    """
    return min((min(values) for values in points.values()), default=math.inf)


def _started(file):
    """Sorts event files by the time in their names, then by the rest."""
    digits = [part for part in file.name.split(".") if part.isdigit()]
    return int(digits[0]) if digits else 0, file.name


def _take_over(points, newer):
    """Drops what a resumed run threw away, and adds what it wrote."""
    first = _first(newer)
    for values in points.values():
        for step in [step for step in values if step >= first]:
            del values[step]
    for tag, values in newer.items():
        points.setdefault(tag, {}).update(values)


def _read_file(file):
    """Returns tag to step to value of one event file."""
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    points = {}
    with open(file, "rb") as stream:
        for content in _records(stream):
            try:
                event = Event.FromString(content)
            except DecodeError:
                break
            for value in event.summary.value:
                number = _scalar(value)
                if number is not None:
                    points.setdefault(value.tag, {})[event.step] = number
    return points


def _records(stream):
    """Yields the content of whole records."""
    while len(header := stream.read(_HEADER.size)) == _HEADER.size:
        length, _ = _HEADER.unpack(header)
        content = stream.read(length) if length < 2**31 else b""
        if len(content) < length or len(stream.read(_CHECKSUM)) < _CHECKSUM:
            return
        yield content


def _scalar(value):
    """Returns the number of a summary value, or `None`."""
    from tensorboard.util.tensor_util import make_ndarray

    kind = value.WhichOneof("value")
    if kind == "simple_value":
        return value.simple_value
    if kind == "tensor" and not value.tensor.string_val:
        array = make_ndarray(value.tensor)
        if array.ndim == 0 and array.dtype.kind in "fiu":
            return float(array)
    return None
