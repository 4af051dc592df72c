"""The whole job against torch eager and against the bare work: the work W1, whole processes.

Run it with `python -m benchmarks.whole_job`; `--help` lists the choices, for example
`python -m benchmarks.whole_job --backbone efficientnet-b0 --rounds 5 --sides cold warm bare best`.
1000 BMPs of 224 px in 10 classes, 600 of them to train, 60 cycles of batch 32, the test split every
20, validation at the end; from process start to exit, round by round every side in turn.

Sides: `cold` and `warm` are `net_runner` without and with features in its cache, `bare` is
`benchmarks.bare_work`, `best` and `plain` are `benchmarks.torch_job`, `int8` is `cold` with
quantized features, `openvino` and `bf16` are `cold` with that engine. `cold+keep` and `bare+keep`
have the allocator's settings of `best`.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

from benchmarks.data import machine, prepared
from benchmarks.processes import KEEP_MEMORY, Done, module, program, run

# Sides that are `cold` with other options.
OPTIONS = {
    "openvino": ("--engine", "openvino"),
    "bf16": ("--engine", "openvino", "--precision", "bf16"),
}
SIDES = ("cold", "warm", "bare", "int8", *OPTIONS, "cold+keep", "bare+keep", "best", "plain")
VALIDATION = "accuracy on validation data"


def export(folder: Path, backbone: str, calibration: Path, *, int8: bool) -> Path:
    """A model of a backbone; weights that cannot be had without a network are random ones: speed
    does not depend on them."""
    model = folder / ("int8.tod" if int8 else "model.tod")
    options = ["--backbone", backbone, "-o", model]
    options += [] if backbone == "efficientnet-lite0" else ["--weights", "none"]
    options += ["--quantize", "int8", "--calibrate", calibration] if int8 else []
    run([program("tod"), "export", *options])
    return model


def command(side: str, folder: Path, dataset: Path, cycles: int) -> list[object]:
    """The command of one side, with everything as it finds it at its start."""
    model = folder / ("int8.tod" if side == "int8" else "model.tod")
    if side.startswith("bare"):
        return module("bare_work", model, dataset, cycles)
    if side in ("best", "plain"):
        return module("torch_job", side, model, dataset, cycles)
    cache = folder / "cache"
    if side != "warm":
        shutil.rmtree(cache, ignore_errors=True)
    extra = OPTIONS.get(side, ())
    return net_runner(model, dataset, "-c", cycles, "--cache-dir", cache, *extra)


def net_runner(model: Path, dataset: Path, *options: object) -> list[object]:
    """Ours, without early stopping."""
    return [
        program("net_runner"), "-f", model, "-d", dataset, "--target-accuracy", 1, *options
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.whole_job")
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plain-rounds", type=int, default=1, help="it takes minutes")
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--cycles", type=int, default=60)
    options = parser.parse_args()
    sides = sorted(options.sides, key=SIDES.index)
    if "warm" in sides and "cold" not in sides:
        parser.error("warm takes the features that cold has left in the cache: choose both")
    found: dict[str, list[Done]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as place, prepared(options.pictures) as dataset:
        folder = Path(place)
        for int8 in {side == "int8" for side in sides}:
            export(folder, options.backbone, dataset, int8=int8)
        for number in range(options.rounds):
            for side in sides:
                if side == "plain" and number >= options.plain_rounds:
                    continue
                keep = KEEP_MEMORY if side == "best" or side.endswith("+keep") else {}
                done = run(command(side, folder, dataset, options.cycles), keep)
                found[side].append(done)
                print(f"{side} {done.seconds:.2f} s", flush=True)
    print(f"\n{machine()}\n{options.backbone}, {options.pictures} pictures\n")
    print(table(found))


def table(found: dict[str, list[Done]]) -> str:
    """Markdown: medians, and the ratios to `cold` and `bare` within a round."""
    lines = ["| side | seconds | against cold | against bare | peak MB | validation |"]
    lines.append("|---|---|---|---|---|---|")
    for side, rounds in found.items():
        seconds = statistics.median(done.seconds for done in rounds)
        peak = statistics.median(done.peak_mb for done in rounds)
        ratios = [ratio(rounds, found.get(other, [])) for other in ("cold", "bare")]
        accuracy = rounds[-1].number(VALIDATION)
        cells = [f"{seconds:.2f}", *ratios, f"{peak:.0f}", accuracy]
        lines.append(f"| {side} | {' | '.join(cells)} |")
    return "\n".join(lines)


def ratio(rounds: list[Done], others: list[Done]) -> str:
    """The median over rounds of the ratio of seconds; empty if the other side did not run."""
    pairs = [a.seconds / b.seconds for a, b in zip(rounds, others, strict=False)]
    return f"{statistics.median(pairs):.3g}" if pairs else ""


if __name__ == "__main__":
    main()
