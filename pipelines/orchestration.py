"""Runs the pipeline on this machine, or compiles it for Vertex AI."""

import dataclasses
import logging
import pathlib
import tempfile

from absl import logging as absl_logging
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata
from tfx.orchestration.local.local_dag_runner import LocalDagRunner

from gdd_keras.files import write_bytes
from gdd_keras.quiet import quiet_import
from gdd_keras.quiet import quiet_warnings
from pipelines.configs import PIPELINE_NAME
from pipelines.pipeline import create_pipeline

__all__ = ["Step", "compile_pipeline", "run_pipeline"]


@dataclasses.dataclass(frozen=True)
class Step:
    """What became of one component in the last run.

    Attributes:
        name: Its name in the pipeline.
        cached: Whether an earlier run answered for it.
        seconds: Time that it took.
    """

    name: str
    cached: bool
    seconds: float


def run_pipeline(
    settings, root, serving_directory, beam_options=(), cache=True
):
    """Runs the pipeline; every component says what it does.

    Args:
        settings: `Settings`.
        root: `pathlib.Path` of the folder of artifacts, metadata and
            unfinished work.
        serving_directory: `pathlib.Path` where blessed versions are pushed.
        beam_options: Options of Apache Beam, strings.
        cache: Whether steps whose inputs did not change are skipped.

    Returns:
        List of `Step`, in the order of the run.

    Raises:
        InputError: If a setting or the data cannot be used.
        RunError: If a loss becomes NaN.
    """
    root.mkdir(parents=True, exist_ok=True)
    connection = metadata.sqlite_metadata_connection_config(
        str(root / "metadata.db")
    )
    pipeline = create_pipeline(
        settings,
        pipeline_root=str(root / "artifacts"),
        serving_directory=str(serving_directory),
        work_dir=str(root / "work"),
        metadata_connection_config=connection,
        beam_pipeline_args=list(beam_options),
        enable_cache=cache,
    )
    _show_components()
    with quiet_warnings():
        LocalDagRunner().run(pipeline)
        return _last_run(connection)


def compile_pipeline(settings, bucket, name, image, file):
    """Writes the pipeline as a job of Vertex AI or Kubeflow Pipelines 2.

    Args:
        settings: `Settings`.
        bucket: `gs://...` that holds everything.
        name: Data set's name.
        image: Container image of all components.
        file: JSON file to write.
    """
    # Imported here: the local runner does without Kubeflow's packages.
    with quiet_import(), quiet_warnings():
        from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner

        pipeline = create_pipeline(
            settings,
            pipeline_root=f"{bucket}/artifacts/{name}",
            serving_directory=f"{bucket}/saved_models/{name}",
            work_dir=f"{bucket}/work/{name}",
        )
        with tempfile.TemporaryDirectory() as folder:
            compiled = pathlib.Path(folder) / "pipeline.json"
            kubeflow_v2_dag_runner.KubeflowV2DagRunner(
                kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(
                    default_image=image
                ),
                output_filename=str(compiled),
            ).run(pipeline)
            write_bytes(file, compiled.read_bytes())


class _ComponentNames(logging.Handler):
    """Prints the name of each component when it begins, and nothing else."""

    def emit(self, record):
        if record.msg == "Component %s is running.":
            print(f"\n{record.args[0]}", flush=True)


def _show_components():
    """Makes one line for each component of TFX's pages of messages."""
    absl_logging.set_verbosity(absl_logging.INFO)
    absl_logging.get_absl_handler().setLevel(logging.ERROR)
    logger = logging.getLogger("absl")
    # Libraries give the root logger a handler, which prints all again.
    logger.propagate = False
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    if not any(isinstance(h, _ComponentNames) for h in logger.handlers):
        logger.addHandler(_ComponentNames())


def _last_run(connection):
    """Returns the steps of the newest run in the metadata."""
    states = metadata_store_pb2.Execution
    with metadata.Metadata(connection) as handle:
        store = handle.store
        (newest,) = sorted(
            store.get_contexts_by_type("pipeline_run"),
            key=lambda context: context.id,
        )[-1:]
        names = {kind.id: kind.name for kind in store.get_execution_types()}
        return [
            Step(
                name=_node_name(store, execution, names),
                cached=execution.last_known_state == states.CACHED,
                # The clock may have been set back meanwhile.
                seconds=max(
                    0.0,
                    execution.last_update_time_since_epoch
                    - execution.create_time_since_epoch,
                )
                / 1000.0,
            )
            for execution in sorted(
                store.get_executions_by_context(newest.id),
                key=lambda execution: execution.id,
            )
        ]


def _node_name(store, execution, names):
    """Returns a component's name in the pipeline, `Pretrainer` for one."""
    for context in store.get_contexts_by_execution(execution.id):
        if context.name.startswith(f"{PIPELINE_NAME}."):
            return context.name.removeprefix(f"{PIPELINE_NAME}.")
    return names[execution.type_id].rpartition(".")[2]
