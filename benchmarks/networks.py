"""Every network x depth: exported and compared with torch; the table of docs/networks.md.

Run it with `python -m benchmarks.networks`, or with names to do only those. Random weights, 64 px.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from model.export import export_backbone
from model.networks.load import load_backbone
from model.step.optimizers import SGD
from tod.errors import TodError

SIDE_PX = 64
SMALL = ("mobilenet_v2", "mobilenet_v3_small", "resnet18", "shufflenet_v2_x1_0")
NAMES = (
    "efficientnet-lite0",
    "efficientnet-b0",
    *(
        f"torchvision:{name}"
        for name in (
            *SMALL,
            "mobilenet_v3_large",
            "resnet50",
            "regnet_y_400mf",
            "convnext_tiny",
            "vit_b_16",
            "efficientnet_v2_s",
            *(f"efficientnet_b{i}" for i in range(8)),
        )
    ),
)


def cell(name: str, depth: str) -> str:
    """Largest difference to torch of one network and depth, and what a picture's features take."""
    base = load_backbone(name, weights="none", size_px=SIDE_PX)
    with tempfile.TemporaryDirectory() as folder:
        made = export_backbone(
            Path(folder, "x.tod"), base, optimizer=SGD(0.02, dampening=0.01), trainable=depth
        )
    return f"{made.differences.largest:.0e}"


def main() -> None:
    chosen = [name for name in NAMES if not sys.argv[1:] or name in sys.argv[1:]]
    print("| network | head | last:1 | last:2 | all |")
    print("|---|---|---|---|---|")
    for name in chosen:
        depths = ["head", "last:1", "last:2"]
        depths += ["all"] if name.endswith(SMALL) else []
        cells, start = [], time.perf_counter()
        for depth in depths:
            try:
                cells.append(cell(name, depth))
            except TodError as error:
                cells.append(f"refused: {error.problem}")
        cells += [""] * (4 - len(cells))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
