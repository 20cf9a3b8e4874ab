import os
import platform

import pytest

from gdd_keras import machine

CPU_INFO = """processor\t: 0
model name\t: Some CPU @ 2 GHz
flags\t\t: fpu avx512_bf16 sse

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""


@pytest.fixture
def cpu_info(tmp_path, monkeypatch):
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(machine, "_CPU_INFO", file)
    return file


@pytest.mark.parametrize(
    ("processor", "given", "expected"),
    [
        ("x86_64", None, "1"),
        ("AMD64", None, "1"),
        ("x86_64", "0", "0"),
        ("aarch64", None, None),
    ],
)
def test_onednn_is_on_where_the_user_has_not_set_it(
    monkeypatch, processor, given, expected
):
    monkeypatch.setattr(platform, "machine", lambda: processor)
    monkeypatch.setattr(os, "environ", {})
    if given is not None:
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = given
    machine.prepare_tensorflow()
    assert os.environ.get("TF_ENABLE_ONEDNN_OPTS") == expected
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"


def test_first_core_is_described(cpu_info):
    cpu_info.write_text(CPU_INFO)
    assert machine.cpu_flags() == {"fpu", "avx512_bf16", "sse"}
    described = machine.describe_environment()
    assert described["machine"].startswith("Some CPU @ 2 GHz, ")
    assert described["python"] == platform.python_version()
    assert set(described["versions"]) == {
        "gdd_keras",
        "keras",
        "numpy",
        "tensorflow",
    }


def test_other_systems(cpu_info):
    assert machine.cpu_flags() == set()
    assert machine.describe_environment()["machine"].startswith(
        platform.processor() or platform.machine()
    )
