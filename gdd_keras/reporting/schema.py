"""Checks of parsed JSON that say where a file is wrong."""

import json
import math

from gdd_keras.config import InputError

__all__ = ["REQUIRED", "Place", "read_object"]

REQUIRED = object()
_ADVICE = "Mend the file, or write it again."
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

    Raises:
        InputError: If `value` is no object.
    """

    def __init__(self, value, file, where=""):
        self.file = file
        self.where = where
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
            valid = math.isfinite(value)
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
            raise self._error(self._way(name), expected, value)
        return float(value) if kind is float else value

    def object(self, name, default=REQUIRED):
        """Returns a `Place` for a field that is an object."""
        value = self.get(name, dict, default)
        return Place(value, self.file, self._way(name))

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
            Place(item, self.file, f"{self._way(name)}[{index}]")
            for index, item in enumerate(self.get(name, list, ()))
        ]

    def named(self, name):
        """Returns name to `Place` for an optional object of objects."""
        return {
            key: Place(item, self.file, f"{self._way(name)}.{key}")
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

    def _way(self, name):
        return f"{self.where}.{name}" if self.where else name

    def _error(self, way, expected, value):
        shown = json.dumps(value)
        if len(shown) > 60:
            shown = shown[:57] + "..."
        return InputError(
            f"{self.file}: `{way}` must be {expected}. Received: {shown}. "
            f"{_ADVICE}"
        )


def read_object(path):
    """Reads a JSON file that holds one object.

    Args:
        path: `pathlib.Path`.

    Returns:
        `Place` of the whole file.

    Raises:
        InputError: If it cannot be read, with the line at which it is
            damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{path} must be a file that can be read. Received: "
            f"{error.strerror}."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} must be UTF-8 text. Received: {error}. {_ADVICE}"
        ) from error
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} must hold JSON. Received: {error}. {_ADVICE}"
        ) from error
    return Place(value, path)


def _refuse(name):
    raise ValueError(f"{name}, which is no JSON number")
