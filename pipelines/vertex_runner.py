"""Command: compiles the pipeline for Vertex AI or Kubeflow Pipelines 2."""

import sys

from gdd_keras import cli
from gdd_keras.config import InputError
from pipelines.arguments import add_arguments
from pipelines.arguments import import_tfx
from pipelines.arguments import open_data
from pipelines.arguments import read_settings

__all__ = ["main"]

_DESCRIPTION = """\
Compile the pipeline for Vertex AI Pipelines or Kubeflow Pipelines 2.

  python -m pipelines.vertex_runner --dataset digits --bucket gs://my-bucket \\
      --image gcr.io/my-project/gdd_keras --output pipeline.json

The image must hold this repository and the packages of
pipelines/requirements.txt, with the repository as its working folder. Buckets
are read and written through the folder /gcs, which Vertex AI mounts."""


def main(argv=None):
    """Runs the command; returns its exit code."""
    return cli.run_command(
        "vertex_runner",
        _DESCRIPTION,
        _add_arguments,
        _run,
        argv,
        package="pipelines",
    )


def _add_arguments(parser):
    parser.add_argument(
        "--bucket",
        required=True,
        metavar="URI",
        help="Bucket, or folder in one, of artifacts, unfinished work and "
        "pushed models: gs://...",
    )
    parser.add_argument(
        "--image",
        required=True,
        metavar="IMAGE",
        help="Container image of all components.",
    )
    parser.add_argument(
        "--output",
        default="pipeline.json",
        metavar="FILE",
        help="Job specification to write. Default: %(default)s.",
    )
    add_arguments(parser)


def _run(arguments):
    if not arguments.bucket.startswith("gs://"):
        raise InputError(
            "`--bucket` must be a URI of Cloud Storage. Received: "
            f"{arguments.bucket}. Write gs://BUCKET."
        )
    settings, name = open_data(read_settings(arguments))
    orchestration = import_tfx()
    orchestration.compile_pipeline(
        settings,
        arguments.bucket.rstrip("/"),
        name,
        arguments.image,
        arguments.output,
    )
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    sys.exit(main())
