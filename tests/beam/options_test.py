import subprocess
import sys

import pytest
from apache_beam.options.pipeline_options import DirectOptions
from apache_beam.options.pipeline_options import GoogleCloudOptions
from apache_beam.options.pipeline_options import StandardOptions

from gdd_keras.beam import make_pipeline
from gdd_keras.config import InputError


def test_options_of_beam_pass_through():
    pipeline = make_pipeline(
        "DirectRunner",
        [
            "--direct_num_workers",
            "2",
            "--direct_running_mode=multi_processing",
            "--project=mine",
        ],
    )
    direct = pipeline.options.view_as(DirectOptions)
    assert direct.direct_num_workers == 2
    assert direct.direct_running_mode == "multi_processing"
    assert pipeline.options.view_as(GoogleCloudOptions).project == "mine"
    assert pipeline.options.view_as(StandardOptions).runner == "DirectRunner"


@pytest.mark.parametrize("runner", ["DirectRunner", "directrunner", "direct"])
def test_direct_runner_stays_pythons(runner):
    pipeline = make_pipeline(runner, [])
    assert pipeline.allow_unsafe_triggers


def test_job_servers_judge_their_own_flags():
    pipeline = make_pipeline("FlinkRunner", ["--parallelism=4"])
    assert pipeline.options.get_all_options()["parallelism"] == 4


@pytest.mark.parametrize(
    ("runner", "flags", "message"),
    [
        ("NoRunner", [], "`--runner` must be a runner of Beam.*=NoRunner"),
        ("no.such.Runner", [], "No module named 'no'"),
        ("DataflowRunner", [], "Missing required option: project"),
        (
            "DirectRunner",
            ["--direct_num_worker", "2"],
            "Received: --direct_num_worker. Did you mean --direct_num_workers",
        ),
        ("DirectRunner", ["--zzz=1", "-q", "4"], "Received: --zzz, -q.$"),
        ("DirectRunner", ["stray"], "Received: stray"),
        (
            "DirectRunner",
            ["--direct_num_workers", "two"],
            "--direct_num_workers: invalid int value: 'two'.$",
        ),
    ],
)
def test_bad_flags(runner, flags, message, capfd):
    with pytest.raises(InputError, match=message) as raised:
        make_pipeline(runner, flags)
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_beam_that_is_missing():
    code = (
        "import sys\n"
        "sys.modules['apache_beam'] = None\n"
        "from gdd_keras import generate\n"
        "sys.exit(generate.main(sys.argv[1:]))"
    )
    flags = ["--model=m", "--output=o", "--format=tfds", "--runner=Direct"]
    done = subprocess.run(
        [sys.executable, "-c", code, *flags], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: Apache Beam must be installed")
    assert "`pip install .[beam]`" in done.stderr
    assert done.stderr.count("\n") == 1
