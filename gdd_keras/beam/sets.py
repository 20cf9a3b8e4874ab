"""The Beam pipeline that writes the shards of a distilled set."""

import contextlib
import os
import threading

import apache_beam
from apache_beam.options.pipeline_options import DirectOptions
from apache_beam.utils.shared import Shared

from gdd_keras.beam.ports import local_ports
from gdd_keras.beam.urls import UrlSet
from gdd_keras.beam.urls import is_url
from gdd_keras.beam.urls import local_version
from gdd_keras.beam.urls import version_at
from gdd_keras.config import RunError
from gdd_keras.config import checked_integer
from gdd_keras.distilled_sets import PartialSet
from gdd_keras.distilled_sets import ShardedSet
from gdd_keras.distilled_sets import write_stored_shard
from gdd_keras.machine import prepare_tensorflow
from gdd_keras.machine import usable_cores
from gdd_keras.metadata import model_digest
from gdd_keras.metadata import read_metadata
from gdd_keras.quiet import quiet_import

__all__ = ["BeamSet", "read_model", "write_with_beam"]

_THREAD_VARIABLES = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")
_WATCH_SECONDS = 2.0


def read_model(path):
    """Returns where a generator is, and its metadata.

    Args:
        path: Version directory, its parent, or the URL of either.

    Returns:
        Pair of the version directory, `pathlib.Path` or URL, and a dict.

    Raises:
        InputError: If there is no exported generator.
    """
    version = version_at(path)
    with local_version(version) as local:
        return version, read_metadata(local)


def write_with_beam(
    pipeline,
    generator_path,
    directory,
    ipc,
    set_format="tfds",
    seed=0,
    num_shards=None,
    progress=None,
):
    """Writes a distilled set with a pipeline that has not run yet.

    The files are those of `write_distilled_set`, byte for byte.

    Args:
        pipeline: `apache_beam.Pipeline`; runs before this returns.
        generator_path: Version directory, or its parent; or a URL that Beam
            can read, such as `gs://bucket/saved_models/digits`. All workers
            must see it.
        directory: New or empty directory, or a URL that Beam can write. All
            workers must see it.
        ipc: Images per class.
        set_format: `tfds` or `tfrecord`.
        seed: Integer >= 0.
        num_shards: Number of files; `None` is one for every 10,000 images.
        progress: `None`, or a function of `(images done, images in all)`,
            called in a thread each time that shards are complete.

    Returns:
        A `DistilledSet`.

    Raises:
        InputError: If an argument is out of range, or the directory holds
            something.
        RunError: If the pipeline fails. Complete shards stay; the same call
            makes the missing ones.

    Example:
    ```python
    with_two = PipelineOptions(
        runner="DirectRunner",
        direct_num_workers=2,
        direct_running_mode="multi_processing",
    )
    pipeline = apache_beam.Pipeline(options=with_two)
    write_with_beam(pipeline, "saved_models/digits", "big", ipc=100)
    ```
    """
    with BeamSet(
        generator_path, directory, ipc, set_format, seed, num_shards
    ) as beam_set:
        if beam_set.missing():
            beam_set.attach(pipeline)
            try:
                with _watched(beam_set, progress):
                    pipeline.run().wait_until_finish()
            except Exception as error:
                reason = _reason(error)
                if reason == KeyboardInterrupt.__name__:
                    # Beam saw it in a worker that is a thread of ours.
                    raise KeyboardInterrupt from error
                raise RunError(
                    f"the Beam pipeline ended with {reason}. Complete shards "
                    "stay; the same command makes the missing ones."
                ) from error
        return beam_set.finish()


class BeamSet(ShardedSet):
    """A set that a pipeline of the caller's writes.

    For callers that run the pipeline themselves, such as a TFX component with
    a `BeamComponentParameter[beam.Pipeline]`. Arguments and errors are those
    of `write_with_beam`.

    Example:
    ```python
    with BeamSet("saved_models/digits", "big", ipc=100) as beam_set:
        with pipeline:
            beam_set.attach(pipeline)
        written = beam_set.finish()
    ```
    """

    def __init__(
        self,
        generator_path,
        directory,
        ipc,
        set_format="tfds",
        seed=0,
        num_shards=None,
    ):
        ipc = checked_integer("ipc", ipc, 1, 2**40)
        seed = checked_integer("seed", seed, 0, 2**63 - 1)
        self._version = version_at(generator_path)
        with local_version(self._version) as local:
            metadata = read_metadata(local)
            digest = model_digest(local)
        storage = UrlSet if is_url(directory) else PartialSet
        super().__init__(
            self._version,
            metadata,
            lambda identity: storage(directory, identity),
            ipc,
            set_format,
            seed,
            num_shards,
            digest,
        )

    def __enter__(self):
        with contextlib.ExitStack() as ports:
            ports.enter_context(local_ports())
            super().__enter__()
            self._ports = ports.pop_all()
        return self

    def __exit__(self, *error):
        self._ports.close()
        super().__exit__(*error)

    def attach(self, pipeline):
        """Adds to a pipeline what writes the missing shards.

        Args:
            pipeline: `apache_beam.Pipeline`.

        Returns:
            `PCollection` of the numbers of the written shards.
        """
        version = self._version
        if not is_url(version):
            # Workers may run in another directory.
            version = version.absolute()
        write = _WriteShard(
            version, self.plan, self.storage, _threads(pipeline.options)
        )
        return (
            pipeline
            | "Shard numbers" >> apache_beam.Create(self.missing())
            | "Spread" >> apache_beam.Reshuffle()
            | "Write shards" >> apache_beam.ParDo(write)
        )


class _WriteShard(apache_beam.DoFn):
    """Writes the shard of each number it gets."""

    def __init__(self, version, plan, storage, threads):
        self._version = version
        self._plan = plan
        self._storage = storage
        self._threads = threads
        self._shared = Shared()

    def setup(self):
        self._generator = self._shared.acquire(self._load)

    def process(self, element):
        write_stored_shard(self._generator, self._plan, self._storage, element)
        yield element

    def _load(self):
        """Loads the generator, once in every worker process."""
        if self._threads is not None:
            for variable in _THREAD_VARIABLES:
                # What the user set for the whole command counts.
                os.environ.setdefault(variable, str(self._threads))
        prepare_tensorflow()
        with quiet_import():
            from gdd_keras.generator_api import load_generator
        with local_version(self._version) as local:
            return load_generator(local)


def _threads(options):
    """Returns the threads of each worker, or `None` where cores are its own.

    Worker processes on one machine that all used all cores would mostly wait
    for each other.
    """
    direct = options.view_as(DirectOptions)
    if direct.direct_running_mode != "multi_processing":
        return None
    cores = usable_cores()
    # Beam starts one worker for every core if the number is 0.
    return max(1, cores // (direct.direct_num_workers or os.cpu_count()))


@contextlib.contextmanager
def _watched(beam_set, progress):
    """Reports the complete shards while the body runs."""
    if progress is None:
        yield
        return
    total = beam_set.plan.num_images
    ended = threading.Event()
    seen = -1

    def report():
        nonlocal seen
        done = beam_set.num_complete()
        if done != seen:
            seen = done
            progress(done, total)

    def watch():
        while not ended.wait(_WATCH_SECONDS):
            report()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    report()


def _reason(error):
    """Returns in one line why a pipeline failed.

    Beam's message is the traceback of the worker, with more below it.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in lines:
        if " [while running " in line:
            return line.partition(" [while running ")[0]
    return lines[-1] if lines else type(error).__name__
