"""Grids of images, taken over into the report."""

import pathlib

from gdd_keras.reporting.records import Row
from gdd_keras.reporting.records import row_key
from gdd_keras.reporting.text import count
from gdd_keras.reporting.text import escape
from gdd_keras.reporting.text import listed

__all__ = ["class_rows", "read_grids"]

_PNG = b"\x89PNG\r\n\x1a\n"
# As many rows as a grid has at most.
_MOST_ROWS = 20


def read_grids(material):
    """Reads the grids that are there.

    Args:
        material: `Material`.

    Returns:
        `(grids, notes)`: method to bytes of a PNG, and Markdown about those
        that cannot be shown.
    """
    grids, notes = {}, []
    methods = material.results.methods
    images = material.results.images
    for method in sorted(images, key=lambda m: row_key(Row(m), methods)):
        path = images[method]
        try:
            content = pathlib.Path(path).read_bytes()
        except OSError as error:
            notes.append(
                f"The grid of {escape(method)}, {escape(path)}, is not shown: "
                f"{escape(error.strerror)}."
            )
            continue
        if content.startswith(_PNG):
            grids[method] = content
        else:
            notes.append(
                f"The grid of {escape(method)}, {escape(path)}, is not shown: "
                "it is no PNG."
            )
    return grids, notes


def class_rows(dataset):
    """Says which classes the rows of a grid show."""
    names = dataset.get("class_names")
    if not names:
        return "One row per class."
    shown = listed([escape(name) for name in names[:_MOST_ROWS]])
    if len(names) > _MOST_ROWS:
        return (
            f"The first {_MOST_ROWS} of {count(len(names))} classes: {shown}."
        )
    return f"One row per class, from the top: {shown}."
