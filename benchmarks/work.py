"""Counts the multiply-adds of a traced function from its graph."""

import math

import tensorflow as tf

__all__ = ["multiply_adds"]

_CALLS = ("f", "then_branch", "else_branch", "body", "cond")


def multiply_adds(function, *arguments):
    """Counts the multiply-adds of convolutions and matrix products.

    They are counted in the graph that TensorFlow traces, gradients included.
    What it drops from it later counts too: the gradient of a first layer by
    its inputs, which is one or two percent of a training step.
    All else (norms, activations, optimizers) moves memory and counts nothing.
    The body of a loop counts once, and all branches of a choice are counted:
    trace a function that loops once and has one branch.

    Args:
        function: Python function of tensors.
        *arguments: Nested structures of tensors, shapes as in use.

    Returns:
        Multiply-adds of one call, an int; twice as many floating-point
        operations.

    Raises:
        ValueError: If the shape of an operand is not known in the graph.
    """
    traced = tf.function(function, autograph=False).get_concrete_function(
        *arguments
    )
    return _count(traced.graph)


def _count(graph):
    return sum(map(_count_operation, graph.get_operations()))


def _count_operation(operation):
    """Counts one operation, and what it calls."""
    kind = operation.type
    if kind == "Conv2D":
        return _size(operation.outputs[0]) * _fan_in(operation.inputs[1].shape)
    if kind == "Conv2DBackpropInput":
        return _size(operation.inputs[2]) * _fan_in(operation.inputs[1].shape)
    if kind == "Conv2DBackpropFilter":
        return _size(operation.inputs[2]) * _fan_in(operation.outputs[0].shape)
    if kind in ("MatMul", "BatchMatMulV2"):
        transposed = operation.get_attr(
            "transpose_a" if kind == "MatMul" else "adj_x"
        )
        inner = operation.inputs[0].shape[-2 if transposed else -1]
        return _size(operation.outputs[0]) * inner
    return sum(_count(graph) for graph in _called_graphs(operation))


def _called_graphs(operation):
    """Yields the graphs of the functions that an operation calls."""
    node = operation.node_def
    names = [node.attr[key].func.name for key in _CALLS if key in node.attr]
    if "branches" in node.attr:
        names += [f.name for f in node.attr["branches"].list.func]
    for name in names:
        if name:
            yield operation.graph._get_function(name).graph


def _fan_in(kernel_shape):
    """Returns multiply-adds per output value of a convolution."""
    return math.prod(kernel_shape[:-1])


def _size(tensor):
    size = tensor.shape.num_elements()
    if size is None:
        raise ValueError(
            f"Every shape must be known. Received: {tensor.shape} of "
            f"{tensor.op.type} {tensor.name}."
        )
    return size
