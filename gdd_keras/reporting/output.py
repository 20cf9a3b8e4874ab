"""The report's folder: checked first, written whole."""

import pathlib

from gdd_keras.config import InputError
from gdd_keras.files import check_can_be_made
from gdd_keras.files import new_directory
from gdd_keras.files import write_bytes
from gdd_keras.files import write_text

__all__ = ["check_output", "default_output", "write_report"]

_MARKDOWN = "report.md"
_PAGE = "report.html"
_FIGURES = "figures"
# Tells our own report from a file that happens to have its name.
_MARK = "<!-- written by gdd_keras.report -->"


def default_output(path):
    """Returns the folder beside an input, `report`."""
    path = pathlib.Path(path)
    return (path if path.is_dir() else path.parent) / "report"


def check_output(path):
    """Checks that a report can be written to a folder.

    Args:
        path: The folder, which may be absent.

    Returns:
        `pathlib.Path` of it.

    Raises:
        InputError: If it holds anything but an earlier report, or cannot be
            written.
    """
    path = pathlib.Path(path)
    if path.is_symlink():
        path = path.resolve()
    if path.exists() and not path.is_dir():
        raise InputError(
            f"`--output` must be a folder. Received: {path}, a file. Choose "
            "another."
        )
    if path.is_dir() and any(path.iterdir()) and not _is_report(path):
        raise InputError(
            "`--output` must be new, empty, or an earlier report with "
            f"nothing added. Received: {path}, which holds something else. "
            "Choose another, or remove it."
        )
    # It is renamed as a whole, so what counts is the folder around it.
    check_can_be_made(path.absolute().parent, "The folder around `--output`")
    return path


def write_report(path, markdown, page, files):
    """Writes a report; an earlier one is replaced as a whole.

    Args:
        path: As from `check_output`.
        markdown: Text of `report.md`.
        page: Text of `report.html`.
        files: Name to `bytes`, for the folder `figures`.

    Returns:
        Paths of page, Markdown and figures.

    Raises:
        InputError: If it cannot be written.
    """
    path = check_output(path)
    try:
        with new_directory(path, replace=True) as folder:
            write_text(folder / _MARKDOWN, f"{_MARK}\n\n{markdown}")
            write_text(folder / _PAGE, page)
            (folder / _FIGURES).mkdir()
            for name, content in files.items():
                write_bytes(folder / _FIGURES / name, content)
    except OSError as error:
        raise InputError(
            f"`--output` must be in a folder that can be written. Received: "
            f"{path} ({error.strerror}). Choose another."
        ) from error
    return path / _PAGE, path / _MARKDOWN, path / _FIGURES


def _is_report(path):
    """Says whether a folder holds a report of ours and nothing else."""
    if {entry.name for entry in path.iterdir()} != {
        _MARKDOWN,
        _PAGE,
        _FIGURES,
    }:
        return False
    figures = path / _FIGURES
    if not figures.is_dir() or any(
        not entry.is_file() or entry.suffix not in (".svg", ".png")
        for entry in figures.iterdir()
    ):
        return False
    try:
        with open(path / _MARKDOWN, encoding="utf-8") as file:
            return file.readline().strip() == _MARK
    except (OSError, UnicodeDecodeError):
        return False
