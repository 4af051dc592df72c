"""The command `tod convert`, for the workstation: a trained model in another runtime's format.

`model` is imported inside it: a device has none.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from tod.cli import options
from tod.cli.export import own_model
from tod.errors import ArtifactError, UsageError
from tod.report.tables import percent, print_table
from tod.system import outputs
from tod.system.files import write_whole
from tod.system.machine import require

_BITS = ("none", "dynamic", "weights", "int8", "fp16")
_SUFFIXES = {"onnx": ".onnx", "ort": ".ort", "tflite": ".tflite", "torch": ".pt",
             "nntrainer": ".bin"}  # fmt: skip
_PACKAGES = {
    "onnx": (("onnx", "workstation"),),
    "ort": (("onnx", "workstation"),),
    "tflite": (
        ("onnx", "convert"), ("ai_edge_litert", "convert"), ("ai_edge_quantizer", "convert"),
    ),
    "torch": (("onnx", "workstation"), ("torch", "workstation")),
    "nntrainer": (("onnx", "workstation"), ("torch", "workstation")),
}  # fmt: skip


class Format(str, Enum):
    onnx = "onnx"
    ort = "ort"
    tflite = "tflite"
    torch = "torch"
    nntrainer = "nntrainer"


def convert(
    file: Annotated[Path, typer.Argument(metavar="MODEL", help="A trained .tod file.")],
    to: Annotated[
        Format,
        typer.Option(
            "--to", metavar="<name>", help="The format: onnx, ort, tflite, torch, nntrainer."
        ),
    ],
    quantize: Annotated[
        str,
        typer.Option(
            metavar="<bits>",
            help="none, dynamic, weights (TFLite), int8, fp16; several with commas, or all.",
        ),
    ] = "none",
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="Pictures that quantization looks at (default: the train split of -d; without "
            "that, made by rule)."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("-d", "--data", help="Compare on the validation split of this dataset."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The file to make (default: beside the model)."),
    ] = None,
    ini: Annotated[
        Path | None,
        typer.Option(help="The INI file that the model came from, for nntrainer's weights."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="The .bin file of that export, for layers that did not train."),
    ] = None,
    max_drop: Annotated[
        float,
        typer.Option(
            help="Write nothing that is worse by more: in accuracy on -d, else in the share of "
            "pictures with the same answer.",
            min=0,
            max=1,
            metavar="<share>",
        ),
    ] = 0.02,
    splits: options.Splits = False,
    seed: options.Seed = None,
    require_signature: options.RequireSignature = None,
    as_json: options.AsOneJson = False,
    quiet: options.Quiet = False,
) -> None:
    """A trained model as one file for another runtime, compared with the original before it is
    written. Pixels go in as they are, probabilities come out.

    Example: tod convert model.tod --to tflite --quantize int8 -d dataset -o model.tflite

    Example: tod convert model.tod --to tflite --quantize all -d dataset

    Example: tod convert model.tod --to onnx

    Example: tod convert mnist.tod --to nntrainer --ini mnist.ini -o mnist.bin
    """
    variants = _variants(quantize, to.value)
    for module, extra in _PACKAGES[to.value]:
        require(module, extra)
    own_model()
    from model.convert.convert import Asked, Reports, check, refuse_worse, write_names
    from model.convert.convert import convert as converted
    from tod.data.dataset import Dataset
    from tod.data.opening import finish
    from tod.report.progress import progress_bar
    from tod.runtime.model import Model, open_dataset

    def say(text: str) -> None:
        if not quiet:
            print(text, file=sys.stderr, flush=True)

    check(to.value, variants)
    nntrainer = _nntrainer(to, ini, weights)
    if calibrate is not None and variants == ["none"]:
        raise UsageError("--calibrate belongs to --quantize: nothing else is calibrated")
    output = output or file.with_suffix(_SUFFIXES[to.value])
    names = write_names(output, variants)
    wanted = [outputs.Output("-o", path, _SUFFIXES[to.value]) for path in names.values()]
    if to is Format.torch:
        from model.convert.to_torch import MARK

        # Whoever names the weights my_net.pt may well have a my_net.py.
        wanted.append(outputs.Output("-o", output.with_suffix(".py"), ".py", mark=MARK.encode()))
    outputs.check(wanted, {"the model": file, "--ini": ini, "--weights": weights})
    model = Model.load(file, cache=False, require_signature=require_signature)
    model.parameters  # noqa: B018 - open classes are refused before any picture is read
    if data is None and calibrate is None:
        say("notice: comparing on pictures made by rule; -d DATA compares on real ones")
    with ExitStack() as stack:
        reading = progress_bar(stack, "read", quiet=quiet)
        compared = None
        if data is not None:
            compared = open_dataset(data, model, seed=seed, splits=splits, progress=reading)
            for notice in compared.notices:
                print(f"notice: {notice}", file=sys.stderr)
            compared = model.match(compared)
        asked = Asked(
            to.value, variants, max_drop,
            None if calibrate is None else finish(
                Dataset.opening(calibrate, columns=model.columns), reading
            ),
            compared, output.stem, nntrainer,
        )  # fmt: skip
        reports = Reports(
            progress_bar(stack, "pictures", quiet=quiet),
            progress_bar(stack, "layers", quiet=quiet), say,
        )  # fmt: skip
        found = converted(model, asked, reports)
    for variant in found.variants:
        if variant.problem is None:
            _write(names[variant.bits], variant.files)
    if as_json:
        _print_json(file, found, names)
    else:
        _print(file, found, names)
    refuse_worse(found, max_drop)


def _nntrainer(to: Format, ini: Path | None, weights: Path | None) -> Any:
    """What nntrainer's file of weights is for; None for other formats."""
    if to is not Format.nntrainer:
        if ini is not None or weights is not None:
            raise UsageError("--ini and --weights belong to --to nntrainer")
        return None
    if ini is None:
        raise UsageError(
            "--to nntrainer needs the INI file that the model was exported from",
            hint="add --ini FILE: a file of weights has no names, the INI file gives their order",
        )
    from model.convert.to_nntrainer import Target

    return Target(ini, weights)


def _variants(text: str, to: str) -> list[Any]:
    # Only TFLite has a form of its own for weights alone.
    every = [bits for bits in _BITS if bits != "weights" or to == "tflite"]
    asked = every if text == "all" else [part.strip() for part in text.split(",")]
    wrong = [bits for bits in asked if bits not in _BITS]
    if wrong:
        raise UsageError(
            f"--quantize {text}: {wrong[0]!r} is not known, wanted {', '.join(_BITS)} or all"
        )
    return list(dict.fromkeys(asked))


def _write(path: Path, files: dict[str, bytes]) -> None:
    """A file and what belongs to it, beside it."""
    for suffix, content in files.items():
        place = path if suffix == path.suffix.lower() else path.with_suffix(suffix)
        try:
            write_whole(place, content)
        except OSError as error:
            raise ArtifactError(
                f"{place}: cannot be written: {error.strerror or error}",
                hint="give another place with -o, or free some room",
            ) from error


def _print(file: Path, found: Any, names: dict[Any, Path]) -> None:
    rows = [_row(file.name, found.original)]
    rows += [
        _row(names[v.bits].name if v.problem is None else f"({v.bits}: not written)", v.measured)
        for v in found.variants
    ]
    columns = (
        "file", "bytes", "largest diff", "mean diff", "cosine", "same answer", found.metric,
        "median ms", "p90 ms",
    )  # fmt: skip
    print_table(f"on {found.source}, one thread:", columns, rows, dense=True)
    for variant in found.variants:
        if variant.float_layers:
            print(f"in float in {variant.bits} ({len(variant.float_layers)} layers):")
            print("\n".join(f"  {layer}" for layer in variant.float_layers))
        for suffix in [s for s in variant.files if s == ".py" and variant.problem is None]:
            print(f"the module to load it into: {names[variant.bits].with_suffix(suffix)}")
            print(
                f"it needs torch alone; what was trained of {found.network} has the names it has "
                "there (load_state_dict with strict=False)"
            )


def _row(name: str, m: Any) -> tuple[str, ...]:
    return (
        name, f"{m.bytes:,}", f"{m.largest:.1e}", f"{m.mean:.1e}", f"{m.cosine:.6f}",
        "-" if m.agreement is None else percent(m.agreement),
        "-" if m.accuracy is None else f"{m.accuracy:.4f}",
        f"{m.median_ms:.2f}", f"{m.p90_ms:.2f}",
    )  # fmt: skip


def _print_json(file: Path, found: Any, names: dict[Any, Path]) -> None:
    import msgspec

    variants = [
        {
            "quantize": v.bits, "path": str(names[v.bits]), "written": v.problem is None,
            "problem": v.problem, "drop": v.drop, "float_layers": v.float_layers,
            **asdict(v.measured),
        }
        for v in found.variants
    ]  # fmt: skip
    made = {
        "model": str(file), "network": found.network, "pictures": found.source,
        "metric": found.metric,
        "original": asdict(found.original), "variants": variants,
    }  # fmt: skip
    print(msgspec.json.encode(made).decode())
