"""Components of our own: thin, they call the library."""

import shutil

import apache_beam as beam
from tfx.components.pusher import component as pusher_component
from tfx.components.pusher import executor as pusher_executor
from tfx.dsl.component.experimental.annotations import BeamComponentParameter
from tfx.dsl.component.experimental.annotations import InputArtifact
from tfx.dsl.component.experimental.annotations import OutputArtifact
from tfx.dsl.component.experimental.annotations import Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.base import executor_spec
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils
from tfx.types import standard_artifacts
from tfx.utils import path_utils
from tfx.utils import proto_utils

from gdd_keras.beam import BeamSet
from gdd_keras.config import config_from_json
from gdd_keras.config import make_config
from gdd_keras.data import load_dataset
from gdd_keras.evaluation import evaluate_generator
from gdd_keras.evaluation import format_accuracy
from gdd_keras.evaluation import summarize
from gdd_keras.files import new_directory
from gdd_keras.files import next_version
from gdd_keras.files import write_json
from gdd_keras.files import write_text
from gdd_keras.generator_api import load_generator
from gdd_keras.metadata import method_name
from pipelines.examples import link_splits
from pipelines.examples import write_examples
from pipelines.paths import local_path
from pipelines.paths import shown

__all__ = ["BulkGenerator", "DatasetGen", "GeneratorEvaluator", "VersionPusher"]


@component
def DatasetGen(
    examples: OutputArtifact[standard_artifacts.Examples],
    config: Parameter[str],
    data_identity: Parameter[str],
):
    """Brings a data set in; the records of TFDS are linked, not copied.

    Args:
        examples: Gets one split for each of the data set's.
        config: JSON of a `Config`.
        data_identity: Changes with the data, so that it is read anew.
    """
    data = config_from_json(config, "config").data
    examples.splits = write_examples(data, local_path(examples.uri))


@component
def GeneratorEvaluator(
    examples: InputArtifact[standard_artifacts.Examples],
    model: InputArtifact[standard_artifacts.Model],
    evaluation: OutputArtifact[standard_artifacts.ModelEvaluation],
    blessing: OutputArtifact[standard_artifacts.ModelBlessing],
    config: Parameter[str],
    threshold: Parameter[float],
    serving_directory: Parameter[str],
    code: Parameter[str],
):
    """Blesses a generator that beats the threshold and the one in use.

    Networks are trained on generated images and scored on the held-out part
    of the training split: the choice of a model must not use the test split.
    The same seeds score both generators.

    Args:
        examples: Data set.
        model: The new generator.
        evaluation: Gets `evaluation.json`.
        blessing: Gets `BLESSED` or `NOT_BLESSED`.
        config: JSON of a `Config`; its evaluation section says how.
        threshold: Mean accuracy that is needed, in [0, 1].
        serving_directory: Versions in use, the highest counts; may be absent.
        code: Digest of the code.
    """
    config = make_config(
        base=config_from_json(config, "config"),
        dataset=str(local_path(examples.uri)),
    )
    dataset = load_dataset(config.data, config.run.seed)

    def score(path):
        generator = load_generator(path)
        return summarize(
            evaluate_generator(
                generator,
                dataset,
                config.evaluation,
                seed=config.run.seed,
                split="validation",
                verbose=0,
                method=method_name(generator.metadata.get("config")),
            )
        )

    candidate = score(local_path(path_utils.serving_model_path(model.uri)))
    in_use = None
    version = next_version(local_path(serving_directory)) - 1
    if version > 0:
        in_use = score(local_path(serving_directory) / str(version))
    accuracy = candidate["accuracy_mean"]
    blessed = accuracy >= threshold and (
        in_use is None or accuracy > in_use["accuracy_mean"]
    )
    print(f"new model: {format_accuracy(candidate)} on held-out images")
    if in_use is not None:
        print(f"version {version}: {format_accuracy(in_use)}")
    print(
        f"{'blessed' if blessed else 'not blessed'}; the threshold is "
        f"{threshold:.2%}",
        flush=True,
    )
    folder = local_path(evaluation.uri)
    write_json(
        folder / "evaluation.json",
        {
            "blessed": blessed,
            "threshold": threshold,
            "candidate": candidate,
            "in_use": in_use,
            "in_use_version": version or None,
        },
    )
    name = "BLESSED" if blessed else "NOT_BLESSED"
    write_text(local_path(blessing.uri) / name, "")
    blessing.set_int_custom_property("blessed", int(blessed))
    blessing.set_string_custom_property("current_model", model.uri)


class _VersionPusherExecutor(pusher_executor.Executor):
    """Pushes whole versions, numbered 1, 2, 3.

    TFX's own copies file by file into the final name, where a server may
    load half a model, and calls versions after the clock.
    """

    def Do(self, input_dict, output_dict, exec_properties):
        """Pushes the model if it is blessed; see the base class."""
        pushed = artifact_utils.get_single_instance(output_dict["pushed_model"])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            return
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(
            exec_properties["push_destination"], destination
        )
        directory = local_path(destination.filesystem.base_directory)
        source = local_path(self.GetModelPath(input_dict))
        version = directory / str(next_version(directory))
        for target in (local_path(pushed.uri), version):
            with new_directory(target) as folder:
                shutil.copytree(source, folder, dirs_exist_ok=True)
        print(f"pushed {shown(version)}", flush=True)
        self._MarkPushed(
            pushed,
            pushed_destination=str(version),
            pushed_version=version.name,
        )


class VersionPusher(pusher_component.Pusher):
    """TFX's `Pusher` to a folder, `<base_directory>/<integer version>/`."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(_VersionPusherExecutor)


@component(use_beam=True)
def BulkGenerator(
    model: InputArtifact[standard_artifacts.Model],
    distilled: OutputArtifact[standard_artifacts.Examples],
    ipc: Parameter[int],
    seed: Parameter[int],
    code: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
):
    """Generates a distilled set, as files of TFDS that are Examples too.

    Args:
        model: Exported generator.
        distilled: Gets the split `train`.
        ipc: Images per class.
        seed: Seed of the images.
        code: Digest of the code.
        beam_pipeline: TFX's.
    """
    # Workers elsewhere see the URI of a bucket, not where it is mounted.
    source = path_utils.serving_model_path(model.uri)
    with BeamSet(source, distilled.uri, ipc, seed=seed) as distilled_set:
        with beam_pipeline:
            distilled_set.attach(beam_pipeline)
        written = distilled_set.finish()
    distilled.splits = link_splits(local_path(distilled.uri))
    print(
        f"{written.num_images:,} images in {shown(distilled.uri)}", flush=True
    )
