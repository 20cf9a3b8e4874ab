"""Checks the examples in docstrings: that they parse, and that calls fit."""

import ast
import importlib
import inspect
import pathlib
import pkgutil
import re
import textwrap

import pytest

import gdd_keras

_ROOT = pathlib.Path(gdd_keras.__file__).parent


def _public_names():
    """Returns every public name of the package with its object."""
    names = {}
    for module in pkgutil.walk_packages([str(_ROOT)], "gdd_keras."):
        loaded = importlib.import_module(module.name)
        for name in getattr(loaded, "__all__", ()):
            names[name] = getattr(loaded, name)
    return names


def _examples():
    """Returns each example with a name for it."""
    examples = []
    for path in sorted(_ROOT.rglob("*.py")):
        blocks = re.findall(
            r"( *)```python\n(.*?)\1```", path.read_text(), re.S
        )
        for number, (_, block) in enumerate(blocks):
            name = f"{path.relative_to(_ROOT)}-{number}"
            examples.append(pytest.param(textwrap.dedent(block), id=name))
    return examples


def _check_calls(source, names):
    """Binds each call of a public name to its signature; counts them."""
    bound = 0
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        name = getattr(called, "attr", None) or getattr(called, "id", None)
        # `...` stands for arguments that an example leaves out.
        if name not in names or "..." in map(ast.unparse, node.args):
            continue
        positional = [None for _ in node.args]
        keywords = {keyword.arg: None for keyword in node.keywords}
        try:
            inspect.signature(names[name]).bind(*positional, **keywords)
        except TypeError as error:
            raise AssertionError(f"{ast.unparse(node)}: {error}") from error
        bound += 1
    return bound


@pytest.fixture(scope="module")
def public_names():
    return _public_names()


@pytest.mark.parametrize("source", _examples())
def test_example_calls_what_there_is(source, public_names):
    assert _check_calls(source, public_names)


def test_call_that_lacks_an_argument_is_found():
    def load(config, seed):
        pass

    with pytest.raises(AssertionError, match="missing a required argument"):
        _check_calls("load(config)", {"load": load})
