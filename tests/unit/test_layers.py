"""The house: who may import whom, one heavy dependency in one file, a small front door."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import tod

ROOT = Path(__file__).resolve().parents[2]
TRAINING = ("tod.training", "tod.runtime", "tod.data", "tod.format", "tod.system", "tod.errors")
RUNTIME, DATA, FORMAT = TRAINING[1:], TRAINING[2:], TRAINING[3:]
WRAP = ("model.transfer_net", "model.step", *RUNTIME)
# Each package with those that its files may import, beside their own and `tod` itself.
MAY_IMPORT = {
    "tod": TRAINING,  # the front door
    "tod.errors": (),
    "tod.system": ("tod.errors",),
    "tod.format": ("tod.system", "tod.errors"),
    "tod.data": FORMAT,
    "tod.runtime": DATA,
    "tod.training": RUNTIME,
    "tod.promotion": TRAINING,
    "tod.offload": TRAINING,
    "tod.benchmark": TRAINING,
    "tod.report": TRAINING,
    "tod.__main__": ("tod.cli",),
    "tod.cli": (*TRAINING, "tod.promotion", "tod.offload", "tod.benchmark", "tod.report"),
    "model.transfer_net": FORMAT,
    "model.networks": ("model.transfer_net", *RUNTIME),
    "model.step": RUNTIME,
    "model.train_wrap": ("model.transfer_net", "model.step", *RUNTIME),
    "model.lowering": ("model.train_wrap", "model.networks", *WRAP),
    "model.reduce": ("model.lowering", "tod.training", *RUNTIME),
    "model.convert": ("model.reduce", "model.networks", *RUNTIME),
    "model": ("model.networks", "model.lowering", "model.reduce", "model.train_wrap", *WRAP),
    "dataset_tools": DATA,
    "package_tools": ("package_templates", *DATA),
}
# What the commands of the workstation import inside a function, and no device has.
WORKSTATION = {
    "model",
    "dataset_tools",
    "package_tools",
    "torch",
    "torchvision",
    "onnx",
    "ai_edge_quantizer",
}
WORKSTATION_COMMANDS = {
    "convert.py",
    "export.py",
    "export_ini.py",
    "package.py",
    "prepare_dataset.py",
}
ONLY_IN = {
    "PIL": {"tod/data/image.py", "tod/data/colour.py"},
    "pillow_heif": {"tod/data/heif.py"},
    "openvino": {"tod/runtime/delegates/openvino.py"},
    "onnxruntime": {
        "tod/runtime/engine.py",
        "model/reduce/quantize.py",
        "model/convert/to_onnx.py",
    },
    "ai_edge_litert": {"tod/runtime/delegates/litert.py", "model/convert"},
    "ai_edge_quantizer": {"model/convert/tflite_quantize.py"},
    "flatbuffers": {"model/convert/tflite_file.py", "model/convert/tflite_metadata.py"},
    "paho": {"tod/offload/mqtt.py"},
    "rich": {"tod/report"},
    "typer": {"tod/cli"},
    "safetensors": {"tod/format/arrays.py"},
    "cryptography": {"tod/format/signature.py"},
    "google": {"tod/format/onnx_messages.py"},
    "onnxscript": {"model/lowering/lowering.py"},
    "onnx_ir": {"model/lowering/lowering.py"},
    "torchvision": {"model/networks/torchvision.py"},
    "sklearn": {"dataset_tools/sources.py"},
    "elftools": {"package_tools/libraries.py"},
    "packaging": {"package_tools/wheels.py"},
}
FILES = {
    file.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__"): (
        file
    )
    for folder in ("tod", "model", "dataset_tools", "package_tools")
    for file in sorted((ROOT / folder).rglob("*.py"))
}


def imports(file: Path, *, everywhere: bool) -> set[str]:
    """Dotted names that a file imports: anywhere in it, or when it is itself imported."""
    tree = ast.parse(file.read_text())
    nodes = ast.walk(tree) if everywhere else tree.body
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def module_of(name: str) -> str | None:
    """The file of ours that a dotted name leads to; None for other people's."""
    while name and name not in FILES:
        name = name.rpartition(".")[0]
    return name or None


def package_of(module: str) -> str:
    """The row of the table that a module belongs to."""
    return next(
        p for p in sorted(MAY_IMPORT, key=len, reverse=True) if f"{module}.".startswith(f"{p}.")
    )


@pytest.mark.parametrize("module", FILES)
def test_imports_run_downward(module):
    package = package_of(module)
    upward = {
        name
        for name in imports(FILES[module], everywhere=True)
        if (found := module_of(name)) not in (None, "tod")
        and package_of(found) not in (package, *MAY_IMPORT[package])
        and not (FILES[module].name in WORKSTATION_COMMANDS and name.split(".")[0] in WORKSTATION)
    }
    assert not upward


def test_no_circle():
    needs = {
        module: {m for n in imports(file, everywhere=True) if (m := module_of(n)) and m != module}
        for module, file in FILES.items()
    }
    # Who imports `tod.a.b` runs `tod/__init__.py`, which loads what it names when first asked.
    needs["tod"] = set()
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_no_file_is_long():
    long = {m: n for m, file in FILES.items() if (n := len(file.read_text().splitlines())) > 400}
    assert not long


@pytest.mark.parametrize("module", [name for name in FILES if name.startswith("tod")])
def test_the_device_never_imports_the_workstation(module):
    file = FILES[module]
    command = file.parent.name == "cli" and file.name in WORKSTATION_COMMANDS
    for name in imports(file, everywhere=not command):
        assert name.split(".")[0] not in WORKSTATION


@pytest.mark.parametrize("package", ONLY_IN)
def test_one_heavy_dependency_one_place(package):
    users = {
        file.relative_to(ROOT).as_posix()
        for file in FILES.values()
        if package in {name.split(".")[0] for name in imports(file, everywhere=True)}
    }
    places = {next((p for p in ONLY_IN[package] if f"{u}/".startswith(f"{p}/")), u) for u in users}
    assert places == ONLY_IN[package]


def test_front_door_is_small_sorted_and_complete():
    assert tod.__all__ == sorted(tod.__all__)
    assert len(tod.__all__) <= 15
    assert all(hasattr(tod, name) for name in tod.__all__)


def test_top_level_is_as_the_user_fixed_it():
    wanted = {"tod", "model", "dataset_tools", "scripts", "package_templates", "tests"}
    assert wanted <= {path.name for path in ROOT.iterdir() if path.is_dir()}
