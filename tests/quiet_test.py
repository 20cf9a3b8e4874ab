import gc
import logging
import os
import subprocess
import sys
import warnings

import pytest

from gdd_keras.quiet import quiet_import
from gdd_keras.quiet import quiet_libraries


@pytest.mark.parametrize("quiet", [quiet_import, quiet_libraries])
def test_native_code_is_silent_until_the_end(quiet, capfd):
    with quiet():
        os.write(2, b"dropped")
    os.write(2, b"shown")
    assert capfd.readouterr() == ("", "shown")


def test_imports_are_found_as_before():
    before = [*sys.meta_path]
    with pytest.raises(ValueError), quiet_import():
        assert sys.meta_path != before
        raise ValueError
    assert sys.meta_path == before


def test_garbage_is_collected_again():
    with quiet_import():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with quiet_import():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_keras_comes_alone():
    """A second or two of each command; what was hidden can be imported."""
    code = (
        "import sys\n"
        "from gdd_keras.quiet import quiet_import\n"
        "with quiet_import():\n"
        "    import gdd_keras.job, gdd_keras.evaluation.benchmark\n"
        "print('keras' in sys.modules)\n"
        "print('matplotlib' in sys.modules, 'sklearn' in sys.modules)\n"
        "import matplotlib, sklearn, keras\n"
        "print(matplotlib.__name__, sklearn.__name__, keras.Model.__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "True",
        "False False",
        "matplotlib sklearn Model",
    ]


def test_libraries_neither_warn_nor_log(caplog):
    with quiet_libraries():
        warnings.warn("dropped", UserWarning, stacklevel=1)
        logging.getLogger("tf2onnx").warning("dropped")
    assert caplog.records == []
    logging.getLogger("tf2onnx").warning("shown")
    assert [record.message for record in caplog.records] == ["shown"]
    with pytest.warns(UserWarning, match="shown"):
        warnings.warn("shown", UserWarning, stacklevel=1)


@pytest.mark.parametrize("quiet", [quiet_import, quiet_libraries])
def test_errors_pass_through(quiet, capfd):
    with pytest.raises(ValueError, match="a real one"), quiet():
        raise ValueError("a real one")
    print("shown", file=sys.stderr)
    os.write(2, b"too")
    assert "too" in capfd.readouterr().err
