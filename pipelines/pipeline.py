"""The pipeline: what depends on what."""

from tfx.components import Trainer
from tfx.components import Tuner
from tfx.dsl.experimental.conditionals import conditional
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.proto import pusher_pb2
from tfx.proto import trainer_pb2

from gdd_keras.config import config_to_json
from pipelines.components import BulkGenerator
from pipelines.components import DatasetGen
from pipelines.components import GeneratorEvaluator
from pipelines.components import VersionPusher
from pipelines.configs import PIPELINE_NAME

__all__ = ["create_pipeline"]


def create_pipeline(
    settings,
    pipeline_root,
    serving_directory,
    work_dir,
    metadata_connection_config=None,
    pipeline_name=PIPELINE_NAME,
    beam_pipeline_args=None,
    enable_cache=True,
):
    """Builds the pipeline for any orchestrator; touches nothing.

    DatasetGen -> Pretrainer (stage 1) -> Tuner -> Trainer (stage 2) ->
    GeneratorEvaluator -> Pusher, and, for a blessed model, BulkGenerator.

    Args:
        settings: `Settings`.
        pipeline_root: Folder or `gs://` URI of all artifacts.
        serving_directory: Where blessed versions are pushed.
        work_dir: Folder of unfinished training, which survives a crash.
        metadata_connection_config: Of ML Metadata; the orchestrators of
            Kubeflow bring their own.
        pipeline_name: Name in the metadata.
        beam_pipeline_args: Options of Apache Beam, a list of strings.
        enable_cache: Whether steps whose inputs did not change are skipped.

    Returns:
        `tfx.orchestration.pipeline.Pipeline`.
    """
    config = config_to_json(settings.config)
    custom_config = settings.custom_config(work_dir)
    dataset = DatasetGen(config=config, data_identity=settings.data_identity)
    # The test split is for reports; nothing in a pipeline sees it.
    shared = {
        "examples": dataset.outputs["examples"],
        "train_args": trainer_pb2.TrainArgs(splits=["train"]),
        "eval_args": trainer_pb2.EvalArgs(splits=["train"]),
        "custom_config": custom_config,
    }
    pretrainer = Trainer(
        run_fn="pipelines.module_file.pretrain_fn", **shared
    ).with_id("Pretrainer")
    components = [dataset, pretrainer]
    hyperparameters = None
    if settings.space:
        tuner = Tuner(
            tuner_fn="pipelines.module_file.tuner_fn",
            base_model=pretrainer.outputs["model"],
            **shared,
        )
        components.append(tuner)
        hyperparameters = tuner.outputs["best_hyperparameters"]
    trainer = Trainer(
        run_fn="pipelines.module_file.run_fn",
        base_model=pretrainer.outputs["model"],
        hyperparameters=hyperparameters,
        **shared,
    )
    evaluator = GeneratorEvaluator(
        examples=dataset.outputs["examples"],
        model=trainer.outputs["model"],
        config=config,
        threshold=settings.threshold,
        serving_directory=serving_directory,
        code=settings.code,
    )
    pusher = VersionPusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(
                base_directory=serving_directory
            )
        ),
    ).with_id("Pusher")
    components += [trainer, evaluator, pusher]
    if settings.distilled_ipc:
        blessing = evaluator.outputs["blessing"].future()[0]
        with conditional.Cond(blessing.custom_property("blessed") == 1):
            generator = BulkGenerator(
                model=trainer.outputs["model"],
                ipc=settings.distilled_ipc,
                seed=settings.config.run.seed,
                code=settings.code,
            )
        components.append(generator)
    return tfx_pipeline.Pipeline(
        pipeline_name=pipeline_name,
        pipeline_root=pipeline_root,
        components=components,
        enable_cache=enable_cache,
        metadata_connection_config=metadata_connection_config,
        beam_pipeline_args=beam_pipeline_args or [],
    )
