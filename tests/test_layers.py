"""The structure that DESIGN promises: imports run downward, one heavy dependency in one file."""

import ast
from pathlib import Path

import pytest

import tod

ROOT = Path(__file__).resolve().parent.parent
# Read from top to bottom: a module imports only from those above it.
LAYERS = [
    "errors", "names", "limits", "files", "container", "wire", "onnx_format", "machine", "timing",
    "isolated", "schedule", "manifest", "graph", "sampling", "scoring", "closed_form", "records",
    "conditions", "watch", "likeness", "picture_limits", "image", "contents", "cache",
    "dataset_files", "dataset", "state", "guard", "signature", "artifact", "engine", "features",
    "session", "plan", "checkpoints", "training", "__init__", "figures", "measurements",
    "benchmark", "report", "benchmark_report", "predict", "compare", "generations", "promotion",
    "describe", "verify", "doctor", "check", "command_line", "options", "net_runner",
    "export_options", "prepare_command", "export_command", "package_command", "sign_command",
    "doctor_command", "check_command", "promote_command", "cli",
]  # fmt: skip
ONLY_IN = {
    "PIL": {"tod/image.py"},
    "onnxruntime": {"tod/engine.py", "model/quantize.py"},
    "rich": {"tod/report.py"},
    "typer": {
        "tod/options.py",
        "tod/net_runner.py",
        "tod/prepare_command.py",
        "tod/export_options.py",
        "tod/package_command.py",
        "tod/sign_command.py",
        "tod/doctor_command.py",
        "tod/promote_command.py",
        "tod/check_command.py",
        "tod/cli.py",
    },
    "safetensors": {"tod/artifact.py"},
    "cryptography": {"tod/signature.py"},
    "google": {"tod/onnx_format.py"},
    "onnxscript": {"model/lowering.py"},
    "onnx_ir": {"model/lowering.py"},
    "torchvision": {"model/torchvision_backbones.py"},
    "sklearn": {"dataset_tools/sources.py"},
    "elftools": {"package_tools/libraries.py"},
    "packaging": {"package_tools/wheels.py"},
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


def test_every_module_has_its_layer():
    assert {file.stem for file in (ROOT / "tod").glob("*.py")} == set(LAYERS)


@pytest.mark.parametrize("module", LAYERS)
def test_imports_run_downward(module):
    for name in imports(ROOT / "tod" / f"{module}.py", everywhere=True):
        parts = name.split(".")
        if parts[0] == "tod" and len(parts) > 1:
            below = parts[1] if parts[1] in LAYERS else "__init__"
            assert LAYERS.index(below) < LAYERS.index(module), name


@pytest.mark.parametrize("file", sorted((ROOT / "tod").glob("*.py")), ids=lambda f: f.name)
def test_the_device_never_imports_the_workstation(file):
    allowed = file.name in {"prepare_command.py", "export_command.py", "package_command.py"}
    for name in imports(file, everywhere=not allowed):
        assert name.split(".")[0] not in {
            "torch",
            "torchvision",
            "model",
            "dataset_tools",
            "package_tools",
            "onnx",
        }


@pytest.mark.parametrize("package", ONLY_IN)
def test_one_heavy_dependency_one_file(package):
    users = {
        file.relative_to(ROOT).as_posix()
        for folder in ("tod", "model", "dataset_tools", "package_tools")
        for file in (ROOT / folder).glob("*.py")
        if package in {name.split(".")[0] for name in imports(file, everywhere=True)}
    }
    assert users == ONLY_IN[package]


def test_front_door_is_small_sorted_and_complete():
    assert tod.__all__ == sorted(tod.__all__)
    assert len(tod.__all__) <= 10
    assert all(hasattr(tod, name) for name in tod.__all__)


def test_top_level_is_as_the_user_fixed_it():
    wanted = {"tod", "model", "dataset_tools", "scripts", "package_templates", "tests"}
    assert wanted <= {path.name for path in ROOT.iterdir() if path.is_dir()}
