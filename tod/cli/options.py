"""The options that several commands share: one meaning, one text."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from tod.cli.frame import KEY_VARIABLE
from tod.format.schedule import EXAMPLES as SCHEDULES


class InitKind(str, Enum):
    imprint = "imprint"
    ridge = "ridge"


Model = Annotated[
    Path, typer.Option("-f", "--model", help="A .tod file: exported, checkpoint or trained.")
]
Data = Annotated[
    Path, typer.Option("-d", "--data", help="A prepared dataset, or a folder of class folders.")
]
Cycles = Annotated[
    int | None,
    typer.Option("-c", "-e", "--cycles", help="Training cycles in total; 0 only evaluates."),
]
SaveEvery = Annotated[
    int | None,
    typer.Option("-s", "--save-every", help="Save a checkpoint beside the output every N cycles."),
]
Keep = Annotated[
    int | None, typer.Option(help="How many checkpoints stay; older ones are removed (default: 3).")
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on from the newest good checkpoint (-s saves them); without one, begin.",
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "-v", "--verbose", help="Print the first 10 elements of each graph's inputs and outputs."
    ),
]
Batch = Annotated[int | None, typer.Option("-b", "--batch-size", help="Pictures in a batch.")]
Threads = Annotated[
    int | None,
    typer.Option(
        "-t", "--threads", help="Pictures looked at side by side (default: one per core)."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Trained model (default: <model>_trained.tod beside it)."),
]
Inference = Annotated[
    Path | None,
    typer.Option("-i", "--inference", help="Also write one ONNX file: pixels to probabilities."),
]
EvalEvery = Annotated[
    int | None, typer.Option(help="Cycles between evaluations on the test split (default: 20).")
]
Target = Annotated[
    float | None, typer.Option(help="Stop when the test accuracy is above this (default: 0.9).")
]
Patience = Annotated[
    int | None, typer.Option(help="Stop after K evaluations without a rise; 0 never (default: 0).")
]
Lr = Annotated[float | None, typer.Option("--lr", help="Learning rate (default: the model's).")]
Seed = Annotated[
    int | None,
    typer.Option(
        help="Of batches, a new head, a plain folder's split (default: the model's split, else 0)."
    ),
]
Accumulate = Annotated[
    int | None,
    typer.Option(
        help="Batches in a cycle, whose mean gradient makes one step (default: the model's)."
    ),
]
LrSchedule = Annotated[
    str | None,
    typer.Option("--schedule", help=f"Of the learning rate (default: the model's): {SCHEDULES}."),
]
Init = Annotated[
    InitKind | None,
    typer.Option(
        "--init", help="Set the head from the pictures before the first cycle, in closed form."
    ),
]
AddClasses = Annotated[
    bool,
    typer.Option(
        "--add-classes", help="Folders that the model does not know become new classes of it."
    ),
]
OnlyOnPower = Annotated[
    bool, typer.Option("--only-on-power", help="Work only while a socket or a charger feeds it.")
]
MinBattery = Annotated[
    float | None,
    typer.Option("--min-battery", help="Work only with so many percent in the battery."),
]
MaxTemperature = Annotated[
    float | None,
    typer.Option("--max-temperature", help="Work only while no sensor is hotter, in Celsius."),
]
Between = Annotated[
    str | None, typer.Option(help="Work only at this time of the day: 22:00-06:00.")
]
MaxMinutes = Annotated[
    float | None,
    typer.Option(help="End with what was reached after so many minutes of work."),
]
MaxMemory = Annotated[
    float | None,
    typer.Option("--max-memory", help="End when the process holds more MB of memory."),
]
NoWait = Annotated[
    bool,
    typer.Option(
        "--no-wait",
        help="End with code 8 instead of waiting until it suits; training saves a checkpoint.",
    ),
]
Nice = Annotated[bool, typer.Option("--nice", help="Let other programs go first (nice 10).")]
CacheDir = Annotated[
    Path | None,
    typer.Option(help="Keep the pictures' features here (default: .tod-cache in the data folder)."),
]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Look at every picture anew and keep nothing.")
]
RequireSignature = Annotated[
    Path | None,
    typer.Option(
        envvar=KEY_VARIABLE,
        help="Refuse a model that the holder of this Ed25519 key (its public part) has not signed.",
    ),
]
Log = Annotated[Path | None, typer.Option(help="Also write every record as a JSON line here.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")]
AsOneJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Quiet = Annotated[
    bool,
    typer.Option("-q", "--quiet", help="Only the final accuracy; what goes wrong is still said."),
]
