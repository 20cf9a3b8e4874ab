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
