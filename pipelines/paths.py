"""Where artifacts lie, for our code and for whoever reads the screen."""

import pathlib

from gdd_keras.config import InputError

__all__ = ["local_path", "shown"]

_GCS = "gs://"
_GCS_MOUNT = "/gcs/"


def local_path(uri):
    """Returns the path of an artifact's URI.

    Vertex AI mounts every bucket of Cloud Storage below `/gcs`.

    Args:
        uri: Local path, or `gs://bucket/...`.

    Returns:
        `pathlib.Path`.

    Raises:
        InputError: If it is a URI of another kind.
    """
    if uri.startswith(_GCS):
        return pathlib.Path(_GCS_MOUNT + uri.removeprefix(_GCS))
    if "://" in uri:
        raise InputError(
            "An artifact must lie in a local folder or in a bucket of Cloud "
            f"Storage. Received: {uri}. Choose another pipeline root."
        )
    return pathlib.Path(uri)


def shown(path):
    """Returns a path as it is said on the screen: relative where it can be.

    Args:
        path: Absolute path or URI.
    """
    here = pathlib.Path.cwd()
    path = pathlib.PurePath(path)
    return path.relative_to(here) if path.is_relative_to(here) else path
