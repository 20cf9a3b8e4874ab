import pathlib
import re
import resource
import subprocess
import sys

import numpy as np
import pytest

from gdd_keras.conversion import convert_model
from gdd_keras.convert import main
from gdd_keras.generator_api import load_generator
from gdd_keras.metadata import read_metadata


def test_half_copy(tiny_saved_model, tmp_path, capfd):
    output = tmp_path / "half"
    arguments = ["--model", str(tiny_saved_model), "--to", "saved_model"]
    arguments += ["--weights", "float16", "--output", str(output)]
    assert main(arguments) == 0
    printed = capfd.readouterr()
    assert printed.err == ""
    assert printed.out.startswith(f"Wrote {output}\n")
    size = read_metadata(output)["num_bytes"]
    assert f"saved_model, weights float16, {size:,} bytes" in printed.out
    assert load_generator(output).generate([0, 1]).shape == (2, 6, 10, 3)
    # The second time there is something in the way.
    assert main(arguments) == 2
    assert "must be new or empty" in capfd.readouterr().err


@pytest.mark.parametrize("to", ["litert", "onnx"])
def test_files(tiny_saved_model, tmp_path, capfd, to):
    folder = tmp_path / "file"
    code = main(
        ["--model", str(tiny_saved_model), "--to", to, "--output", str(folder)]
    )
    assert code == 0
    printed = capfd.readouterr()
    assert printed.err == ""
    assert len(printed.out.splitlines()) == 3
    assert read_metadata(folder)["class_names"] == ["cat", "dog/wolf", "bird"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "absent", "--to", "onnx"], "absent, which does not exist"),
        (["--model", "MODEL", "--to", "litert"], "Pass `--output`"),
    ],
)
def test_bad_input(tiny_saved_model, capsys, arguments, message):
    arguments = [
        str(tiny_saved_model) if word == "MODEL" else word for word in arguments
    ]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--model", "m"],
        ["--model", "m", "--to", "h5"],
        ["--model", "m", "--to", "onnx", "--weights", "int8"],
    ],
)
def test_wrong_flags(arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


def test_full_disk(tiny_saved_model, tmp_path, monkeypatch, capsys):
    from gdd_keras import files

    def fail(path, value):
        raise OSError("No space left on device")

    monkeypatch.setattr(files, "write_json", fail)
    for to in ("saved_model", "litert"):
        arguments = ["--model", str(tiny_saved_model), "--to", to]
        assert main([*arguments, "--output", str(tmp_path / "x")]) == 1
        assert "No space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_command(tiny_saved_model, tmp_path):
    command = [sys.executable, "-m", "gdd_keras.convert"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True)
    # TensorFlow alone takes several seconds.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 1.5
    assert shown.returncode == 0 and "--weights" in shown.stdout
    folder = tmp_path / "onnx"
    done = subprocess.run(
        [
            *(*command, "--model", tiny_saved_model, "--to", "onnx"),
            *("--weights", "float16", "--output", folder),
        ],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in folder.iterdir()} == {
        "metadata.json",
        "model.onnx",
    }


def test_needs_no_keras(tiny_saved_model, tmp_path):
    script = (
        "import sys; sys.modules['keras'] = None\n"
        "from gdd_keras.convert import main\n"
        "for to in ('saved_model', 'litert', 'onnx'):\n"
        "    arguments = ['--model', sys.argv[1], '--to', to, '--output',\n"
        "                 f'{sys.argv[2]}/{to}']\n"
        "    assert main(arguments) == 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tiny_saved_model, tmp_path],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    labels = np.arange(40) % 3
    np.testing.assert_array_equal(
        load_generator(tmp_path / "saved_model").generate(labels),
        load_generator(tiny_saved_model).generate(labels),
    )


def test_snippet_of_the_readme(tiny_saved_model, tmp_path, monkeypatch):
    readme = pathlib.Path(__file__).parents[1] / "README.md"
    section = readme.read_text().split("\n## Convert\n")[1]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    for to in ("litert", "onnx"):
        convert_model(tiny_saved_model, to, f"digits_{to}")
    found = {}
    exec(code, found)
    assert found["images"].shape == (3, 6, 10, 3)
    np.testing.assert_allclose(
        found["images"], found["again"], rtol=0, atol=1e-4
    )
