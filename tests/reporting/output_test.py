import pathlib

import pytest

from gdd_keras.config import InputError
from gdd_keras.reporting import output
from gdd_keras.reporting.output import check_output
from gdd_keras.reporting.output import default_output
from gdd_keras.reporting.output import write_report


def write(path, text="# one\n", files=None):
    files = {"a.svg": b"<svg/>"} if files is None else files
    return write_report(path, text, "<html></html>", files)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_writes_and_replaces_whole(tmp_path):
    target = tmp_path / "new" / "report"
    page, text, figures = write(target)
    assert page.read_text() == "<html></html>"
    assert text.read_text().endswith("# one\n")
    assert (figures / "a.svg").read_bytes() == b"<svg/>"
    write(target, "# two\n", {"b.png": b"png"})
    assert text.read_text().endswith("# two\n")
    assert names(figures) == ["b.png"]
    assert names(target.parent) == ["report"]


def test_empty_folder_is_taken(tmp_path):
    write(tmp_path / "report")
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")
    assert names(tmp_path) == ["empty", "report"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "notes.txt").touch(),
        lambda folder: (folder / "figures" / "mine.txt").touch(),
        lambda folder: (folder / "report.md").write_text("# mine\n"),
        lambda folder: (folder / "report.md").write_bytes(b"\xff"),
        lambda folder: (folder / "report.html").unlink(),
    ],
)
def test_a_folder_of_something_else_is_refused(tmp_path, spoil):
    target = tmp_path / "report"
    write(target)
    spoil(target)
    before = {
        path: path.read_bytes() for path in target.rglob("*") if path.is_file()
    }
    for function in (check_output, write):
        with pytest.raises(InputError, match="something else. Choose another"):
            function(target)
    assert before == {
        path: path.read_bytes() for path in target.rglob("*") if path.is_file()
    }


def test_a_file_is_refused(tmp_path):
    (tmp_path / "report").touch()
    with pytest.raises(InputError, match="must be a folder. Received.*a file"):
        check_output(tmp_path / "report")
    with pytest.raises(InputError, match="must be a folder, or one that can"):
        check_output(tmp_path / "report" / "below")


def test_link_to_a_report_stays_a_link(tmp_path):
    write(tmp_path / "report")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "report")
    write(link, "# two\n")
    assert link.is_symlink()
    assert (tmp_path / "report" / "report.md").read_text().endswith("# two\n")


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(28, "disk full"), InputError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_failure_keeps_the_earlier_report(tmp_path, monkeypatch, error, raised):
    target = tmp_path / "report"
    write(target)

    def fail(*_):
        raise error

    monkeypatch.setattr(output, "write_bytes", fail)
    with pytest.raises(raised):
        write(target, "# two\n")
    assert (target / "report.md").read_text().endswith("# one\n")
    assert names(tmp_path) == ["report"]


def test_default_output(tmp_path):
    (tmp_path / "results.json").touch()
    assert default_output(tmp_path) == tmp_path / "report"
    assert default_output(tmp_path / "results.json") == tmp_path / "report"
    assert isinstance(default_output("runs/toy"), pathlib.Path)
