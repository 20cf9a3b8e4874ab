"""Checks of parsed JSON that say where a file is wrong."""

import json
import sys

from gdd_keras.config import InputError
from gdd_keras.config import parse_json

__all__ = ["REQUIRED", "Place", "read_object", "read_text"]

REQUIRED = object()
_NOTHING = object()
_ADVICE = "Mend the file, or write it again."
# Far above any file of ours; `/dev/zero` has no end.
_MAX_CHARACTERS = 2**28
_NAMES = {
    bool: "true or false",
    dict: "an object",
    float: "a finite number",
    int: "an integer",
    list: "a list",
    str: "a string",
}


class Place:
    """An object inside a JSON file, which knows the way to itself.

    Args:
        value: The parsed object.
        file: Path of the file, for errors.
        where: Way to the object, for instance `records[3]`; empty for the
            whole file.
        advice: Sentence for the end of an error.

    Raises:
        InputError: If `value` is no object.
    """

    def __init__(self, value, file, where="", advice=_ADVICE):
        self.file = file
        self.where = where
        self.advice = advice
        if not isinstance(value, dict):
            raise self._error(where or "the file", _NAMES[dict], value)
        self.value = value

    def get(self, name, kind, default=REQUIRED, minimum=None, maximum=None):
        """Returns a field in its type, checked.

        Args:
            name: Key of the field.
            kind: `int`, `float` (takes integers), `str`, `list` or `dict`.
            default: Value of a field that is missing or null; without one
                the field is required.
            minimum: Smallest valid number.
            maximum: Largest valid number.

        Returns:
            The value; `list` and `dict` as parsed.

        Raises:
            InputError: Naming file, place and value.
        """
        value = self.value.get(name)
        if value is None and default is not REQUIRED:
            return default
        number = isinstance(value, int | float) and type(value) is not bool
        if kind is float and number:
            # Also false for NaN; an integer may be too large for a float.
            valid = abs(value) <= sys.float_info.max
        else:
            valid = type(value) is kind
        expected = _NAMES[kind]
        if minimum is not None:
            valid = valid and value >= minimum
            expected += f" >= {minimum}"
        if maximum is not None:
            valid = valid and value <= maximum
            expected += f" and <= {maximum}"
        if not valid:
            value = value if name in self.value else _NOTHING
            raise self._error(self._way(name), expected, value)
        return float(value) if kind is float else value

    def object(self, name, default=REQUIRED):
        """Returns a `Place` for a field that is an object."""
        value = self.get(name, dict, default)
        return self._inner(value, self._way(name))

    def index(self, name, length):
        """Returns an optional index into a list of that length."""
        value = self.get(name, int, None, minimum=0)
        if value is not None and value >= length:
            raise self._error(
                self._way(name), f"an index into {length} {name}s", value
            )
        return value

    def objects(self, name):
        """Returns a `Place` for each item of an optional list."""
        return [
            self._inner(item, f"{self._way(name)}[{index}]")
            for index, item in enumerate(self.get(name, list, ()))
        ]

    def named(self, name):
        """Returns name to `Place` for an optional object of objects."""
        return {
            key: self._inner(item, f"{self._way(name)}.{key}")
            for key, item in self.get(name, dict, {}).items()
        }

    def strings(self, name):
        """Returns an optional list of strings."""
        values = self.get(name, list, [])
        for index, value in enumerate(values):
            if not isinstance(value, str):
                way = f"{self._way(name)}[{index}]"
                raise self._error(way, _NAMES[str], value)
        return values

    def _inner(self, value, where):
        return Place(value, self.file, where, self.advice)

    def _way(self, name):
        return f"{self.where}.{name}" if self.where else name

    def _error(self, way, expected, value):
        shown = "nothing" if value is _NOTHING else json.dumps(value)
        if len(shown) > 60:
            shown = shown[:57] + "..."
        return InputError(
            f"{self.file}: `{way}` must be {expected}. Received: {shown}. "
            f"{self.advice}"
        )


def read_text(path, name, advice=_ADVICE):
    """Reads a text file whole.

    Args:
        path: `pathlib.Path`.
        name: What to call it in an error.
        advice: Sentence for the end of an error.

    Returns:
        Text.

    Raises:
        InputError: If it cannot be read, is no UTF-8, or has no end.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_MAX_CHARACTERS + 1)
    except OSError as error:
        raise InputError(
            f"{name} must be a file that can be read. Received: {path} "
            f"({error.strerror}). {advice}"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name} must be UTF-8 text. Received: {path} ({error}). {advice}"
        ) from error
    if len(text) > _MAX_CHARACTERS:
        raise InputError(
            f"{name} must have at most {_MAX_CHARACTERS:,} characters. "
            f"Received: {path}, which has more. {advice}"
        )
    return text


def read_object(path, advice=_ADVICE):
    """Reads a JSON file that holds one object.

    Args:
        path: `pathlib.Path`.
        advice: Sentence for the end of an error.

    Returns:
        `Place` of the whole file.

    Raises:
        InputError: If it cannot be read, with the line at which it is
            damaged.
    """
    if path.exists() and not path.is_file():
        # Opening a pipe that no one writes to would wait for ever.
        raise InputError(
            f"{path} must be a file. Received: something else. {advice}"
        )
    text = read_text(path, path, advice)
    return Place(parse_json(text, path, advice, finite=True), path, "", advice)
