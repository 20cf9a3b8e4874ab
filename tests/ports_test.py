"""What we start, print or recommend listens on this machine alone."""

import ipaddress
import pathlib
import re
import subprocess
import sys
import time

import psutil
import pytest

from gdd_keras.quiet import quiet_logs
from gdd_keras.quiet import quiet_warnings

ROOT = pathlib.Path(__file__).parents[1]
PRINTED = "tensorboard --logdir "
# The chief of a search, with nothing to train and no worker.
CHIEF = """
import sys, time
from gdd_keras.config import TuningConfig, make_config
from gdd_keras.tuning import search
from gdd_keras.tuning.directory import open_search

space = {"omega_g": (0.0, 1.0)}
made = open_search(make_config("tiny"), TuningConfig(), space, "a", sys.argv[1])
search.Workers.train_stage_1 = lambda self: None
search.Workers.run_trials = lambda *_: time.sleep(600)
search.run_search(made)
"""
TENSORBOARD = """
import sys
from tensorboard.main import run_main

sys.argv = ["tensorboard", "--logdir", sys.argv[1], "--port", "0"]
run_main()
"""


def addresses(process):
    """Returns what a process and its children listen on."""
    found = set()
    for one in [process, *process.children(recursive=True)]:
        for connection in one.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                found.add(connection.laddr.ip)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("code", [CHIEF, TENSORBOARD])
def test_it_listens_on_this_machine_alone(code, tmp_path):
    with psutil.Popen(
        [sys.executable, "-c", code, str(tmp_path / "folder")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            end = time.monotonic() + 300.0
            while not (found := addresses(process)):
                assert process.poll() is None and time.monotonic() < end
                time.sleep(0.2)
            # Some open a second port soon after the first.
            time.sleep(2.0)
            found |= addresses(process)
        finally:
            process.kill()
    assert_local(found)


def assert_local(found):
    """Asserts that addresses are those of this machine to itself."""
    for address in found:
        # gRPC writes the older kind of address as one of the newer kind.
        plain = address.removeprefix("::ffff:")
        assert ipaddress.ip_address(plain).is_loopback, address


@pytest.mark.slow
def test_beam_listens_on_this_machine_alone(
    tiny_saved_model, tmp_path, monkeypatch
):
    from apache_beam.runners.portability.fn_api_runner import worker_handlers

    from gdd_keras.beam import make_pipeline
    from gdd_keras.beam import write_with_beam

    found = set()
    start = worker_handlers.GrpcServer.__init__

    def observed(self, *arguments):
        before = addresses(psutil.Process())
        start(self, *arguments)
        found.update(addresses(psutil.Process()) - before)

    monkeypatch.setattr(worker_handlers.GrpcServer, "__init__", observed)
    flags = ["--direct_num_workers=2"]
    flags += ["--direct_running_mode=multi_processing"]
    with quiet_logs(), quiet_warnings():
        pipeline = make_pipeline("DirectRunner", flags)
        write_with_beam(pipeline, tiny_saved_model, tmp_path / "set", 2)
    assert found
    assert_local(found)


def test_what_is_recommended_leaves_ports_closed():
    texts = [
        path.read_text()
        for folder in (ROOT / "docs", ROOT / "pipelines", ROOT / "gdd_keras")
        for pattern in ("*.md", "*.py")
        for path in folder.rglob(pattern)
    ]
    texts.append((ROOT / "README.md").read_text())
    whole = "\n".join(texts)
    assert PRINTED in whole
    for option in ("--bind_all", "0.0.0.0", "--host"):
        assert option not in whole
    published = re.findall(r"-p (\S+)", whole)
    assert published, "README.md recommends a server in a container"
    for port in published:
        if ":" in port:
            assert port.startswith("127.0.0.1:"), port
