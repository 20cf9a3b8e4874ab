"""Several devices of one machine: the same numbers, from shares of a batch.

Each device, a replica, gets an equal share of every batch and draws the random
numbers that one device would draw for that share. Losses are means over the
share, gradients and statistics of batch normalisation are means over the
batch, so that a run differs from one on a single device by the order of
float32 sums alone. On a single device, nothing here adds an operation.
"""

import functools

import tensorflow as tf

from gdd_keras.config import InputError

__all__ = [
    "apply_gradients",
    "batch_rows",
    "combine",
    "describe_devices",
    "distribute",
    "draw_rows",
    "gradient_norm",
    "local_part",
    "mean_over_replicas",
    "num_replicas",
    "open_strategy",
    "run_in_replicas",
    "scalar",
]


def open_strategy(name, batch_size):
    """Returns what places variables and steps on devices.

    Args:
        name: `"none"` or `"mirrored"`: all GPUs that TensorFlow sees, else
            all of its CPU devices.
        batch_size: Images per step, which the devices share out.

    Returns:
        `tf.distribute.Strategy`; TensorFlow's own default for `"none"` and
        for a single device, where mirroring would only cost time.

    Raises:
        InputError: If the batch cannot be shared out equally.
    """
    if name == "none":
        return tf.distribute.get_strategy()
    names = _devices()
    if len(names) == 1:
        return tf.distribute.get_strategy()
    if batch_size % len(names):
        fitting = max(1, batch_size // len(names)) * len(names)
        raise InputError(
            "`batch_size` must be a multiple of the number of devices under "
            f"`--strategy mirrored`. Received: batch_size={batch_size} for "
            f"{len(names)} devices ({', '.join(names)}). Choose "
            f"{fitting} or {fitting + len(names)}, or fewer devices (for "
            "GPUs: CUDA_VISIBLE_DEVICES)."
        )
    return _mirrored(tuple(names))


def describe_devices(name, batch_size):
    """Returns a line that says which devices train, or `None` for `"none"`.

    Args:
        name: As in `open_strategy`.
        batch_size: As there.
    """
    if name == "none":
        return None
    names = _devices()
    if len(names) == 1:
        return (
            f"devices: only {names[0]}, so that `--strategy {name}` changes "
            "nothing"
        )
    return (
        f"devices: {', '.join(names)}, each with {batch_size // len(names)} "
        f"of the {batch_size} images of a step"
    )


def num_replicas():
    """Returns among how many devices a batch is shared out here."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def distribute(strategy, batches):
    """Returns the data set of `Model.fit` under a strategy.

    Every replica has a data set of its own, read on demand in the thread
    that trains: what `Strategy.experimental_distribute_dataset` gives splits
    the first axis, which is not always the batch's, and reads ahead in
    threads, see `training_batches`.

    Args:
        strategy: As from `open_strategy`.
        batches: Function giving the `tf.data.Dataset` of batches; called
            with `replica` and `num_replicas`, of that share of each.
    """
    if strategy.num_replicas_in_sync == 1:
        return batches()
    options = tf.distribute.InputOptions(
        experimental_replication_mode=(
            tf.distribute.InputReplicationMode.PER_REPLICA
        ),
        experimental_fetch_to_device=False,
    )
    return strategy.distribute_datasets_from_function(
        lambda context: batches(
            replica=context.input_pipeline_id,
            num_replicas=context.num_input_pipelines,
        ),
        options,
    )


def batch_rows(size):
    """Says which rows of the whole batch this replica has.

    Args:
        size: Rows of the share, an integer tensor.

    Returns:
        Rows of the whole batch, and the indices of the share's among them;
        `None` for all.
    """
    replicas = num_replicas()
    if replicas == 1:
        return size, None
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    return size * replicas, size * replica + tf.range(size)


def draw_rows(draw, size):
    """Draws numbers for the whole batch, and returns those of this share.

    Args:
        draw: Function of the number of rows.
        size: As in `batch_rows`.
    """
    count, rows = batch_rows(size)
    numbers = draw(count)
    return numbers if rows is None else tf.gather(numbers, rows)


def mean_over_replicas(values):
    """Returns the mean over replicas.

    Args:
        values: A replica's float tensors, or values of all replicas in
            `combine`.
    """
    if num_replicas() == 1:
        return values
    mean = tf.distribute.ReduceOp.MEAN
    context = tf.distribute.get_replica_context()
    if context is None:
        return tf.distribute.get_strategy().reduce(mean, values, axis=None)
    return context.all_reduce(mean, values)


def scalar(variable):
    """Returns the value of a scalar variable, outside of all replicas.

    Of a mirrored one, `int` and `float` know nothing.
    """
    return tf.convert_to_tensor(variable).numpy().item()


def local_part(values):
    """Returns the first replica's tensor, from within `combine`."""
    return tf.distribute.get_strategy().experimental_local_results(values)[0]


def apply_gradients(optimizer, gradients, variables):
    """Lets an optimizer move variables by the gradients of the whole batch.

    Args:
        optimizer: `keras.optimizers.Optimizer`, built.
        gradients: List of gradients of the mean over the share.
        variables: One per gradient.
    """
    replicas = num_replicas()
    if replicas > 1:
        # Keras's optimizers sum over replicas; see `TFOptimizer`.
        gradients = [g if g is None else g / replicas for g in gradients]
    optimizer.apply(gradients, variables)


def gradient_norm(gradients):
    """Returns the Euclidean norm of the gradients of the whole batch.

    Args:
        gradients: As in `apply_gradients`.
    """
    # The optimizer sums them once more, out of reach: a few MB per step.
    known = [gradient for gradient in gradients if gradient is not None]
    return tf.linalg.global_norm(mean_over_replicas(known))


def combine(function, *arguments):
    """Calls a function once for all replicas, where they meet.

    What synchronises replicas cannot do so inside TensorFlow's control flow.
    Control flow that starts here is outside of all replicas, and may go back
    into them with `run_in_replicas`.

    Args:
        function: Gets each argument as values of all replicas.
        *arguments: Nested structures of tensors.

    Returns:
        What the function returned, each replica its own part of it.
    """
    if num_replicas() == 1:
        return function(*arguments)
    return tf.distribute.get_replica_context().merge_call(
        lambda _, *values: function(*values), arguments
    )


def run_in_replicas(function, *arguments):
    """Calls a function in each replica, from within `combine`.

    Args:
        function: Gets a replica's part of each argument.
        *arguments: Values of all replicas.

    Returns:
        Values of all replicas.
    """
    if num_replicas() == 1:
        return function(*arguments)
    return tf.distribute.get_strategy().run(function, arguments)


@functools.cache
def _mirrored(names):
    """Returns the process's only strategy for these devices.

    Two of them would number their collective operations alike, and TensorFlow
    refuses a number that comes back with another shape.
    """
    return tf.distribute.MirroredStrategy(names)


def _devices():
    """Returns the names of the devices that `mirrored` uses."""
    devices = tf.config.list_logical_devices("GPU")
    devices = devices or tf.config.list_logical_devices("CPU")
    return [f"{device.device_type}:{i}" for i, device in enumerate(devices)]
