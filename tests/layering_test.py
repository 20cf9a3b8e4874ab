"""Keeps imports pointing one way: from the commands down to the settings."""

import ast
import graphlib
import pathlib
import subprocess
import sys

import gdd_keras

ROOT = pathlib.Path(gdd_keras.__file__).parent

# Modules and packages; each imports only from the lines above its own.
LAYERS = (
    {"config", "interruption", "machine", "quiet", "sampling"},
    {"memory", "schema"},
    {"files"},
    {"cli", "metadata", "run_directory", "strategy"},
    {"data", "inference", "losses", "signatures"},
    {"networks", "saved_model"},
    {"cgan", "callbacks", "export", "generator_api"},
    {"selection"},
    {"conversion", "distilled_sets", "distiller", "evaluation", "latents"},
    {"beam", "labeller", "monitoring"},
    {"difficulty", "training"},
    {"feasibility"},
    {"job", "tuning"},
    {"reporting"},
    {
        "convert",
        "distill",
        "evaluate",
        "generate",
        "label",
        "refit",
        "report",
        "reweight",
        "tune",
    },
)
WITHOUT_TENSORFLOW = (
    "cli",
    "config",
    "convert",
    "distill",
    "distilled_sets",
    "evaluate",
    "files",
    "generate",
    "interruption",
    "label",
    "machine",
    "memory",
    "metadata",
    "quiet",
    "refit",
    "report",
    "reporting",
    "reweight",
    "run_directory",
    "schema",
    "selection",
    "tune",
    "tuning.directory",
    "tuning.flags",
    "tuning.outcome",
    "tuning.space",
)


def modules():
    """Yields dotted name and syntax tree of every module."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = list(path.relative_to(ROOT.parent).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        yield ".".join(parts), ast.parse(path.read_text())


def imports(tree, names):
    """Returns the modules of the package that a module imports, anywhere."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                # `from gdd_keras import files` names a module.
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in names else node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return {name for name in found if name.split(".")[0] == "gdd_keras"}


def graph():
    trees = dict(modules())
    return {name: imports(tree, trees) for name, tree in trees.items()}


def part_of(name):
    """Returns the top-level module or package, `None` for the root."""
    return name.split(".")[1] if "." in name else None


def test_every_module_has_a_layer():
    parts = [part for layer in LAYERS for part in layer]
    assert len(parts) == len(set(parts))
    found = {part_of(name) for name in graph()} - {None}
    assert found == set(parts), "state the new module's layer above"


def test_imports_point_upwards():
    level = {part: i for i, layer in enumerate(LAYERS) for part in layer}
    wrong = [
        f"{name} imports {imported}"
        for name, found in graph().items()
        for imported in found
        if part_of(imported) not in (None, part_of(name))
        and level[part_of(imported)] >= level[part_of(name)]
    ]
    assert wrong == []


def test_package_does_without_pipelines():
    found = {
        name.split(".")[0]
        for _, tree in modules()
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert "tensorflow" in found
    assert not found & {"tfx", "ml_metadata", "kfp", "pipelines"}


def test_imports_have_no_cycle():
    order = list(graphlib.TopologicalSorter(graph()).static_order())
    assert order.index("gdd_keras.config") < order.index("gdd_keras.job")


def test_some_modules_do_without_tensorflow():
    code = "import sys\n"
    code += "".join(f"import gdd_keras.{m}\n" for m in WITHOUT_TENSORFLOW)
    code += (
        "heavy = {'tensorflow', 'keras', 'keras_tuner', 'sklearn'}\n"
        "heavy |= {'apache_beam', 'tensorflow_datasets'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert printed.stdout == "[]\n"
