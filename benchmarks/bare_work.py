"""The yardstick: the bare work of a training run, as a good engineer would write it by hand.

Run it with `python -m benchmarks.bare_work MODEL.tod DATASET [CYCLES]`. Each picture is decoded
once, the same graphs run in stock onnxruntime with its defaults, 60 cycles of batch 32, the test
split every 20, validation at the end. No check, no cache, no report, nothing saved; batches and new
head are those of `net_runner -c 60 --target-accuracy 1`, so the accuracies are the same.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

TEST_EVERY, PICTURES_AT_ONCE = 20, 8


def main(model: str, dataset: str, cycles: int = 60) -> None:
    archive = zipfile.ZipFile(model)
    manifest = json.loads(archive.read("manifest.json"))
    look, step, head = (
        onnxruntime.InferenceSession(archive.read(f"{name}.onnx"))
        for name in ("features", "train", "predict")
    )
    index = json.loads(Path(dataset, "dataset.json").read_bytes())
    files = sorted(index["files"], key=lambda file: (file["label"], file["sha256"]))
    side = manifest["input"]["size_px"]
    rows = []
    for start in range(0, len(files), PICTURES_AT_ONCE):
        names = [Path(dataset, file["file"]) for file in files[start : start + PICTURES_AT_ONCE]]
        images = [Image.open(name).convert("RGB") for name in names]
        resized = [i if i.size == (side, side) else i.resize((side, side), 3) for i in images]
        rows.append(look.run(["features"], {"pixels": np.stack([*map(np.asarray, resized)])})[0])
    features, labels = np.concatenate(rows), np.array([file["label"] for file in files])
    places = {
        s: np.array([f["split"] == s for f in files]) for s in ("train", "test", "validation")
    }

    tensors = manifest["tensors"]
    state = {}
    for tensor, stream in zip(tensors, np.random.SeedSequence(0).spawn(len(tensors)), strict=True):
        shape = [len(index["classes"]) if n == "classes" else n for n in tensor["shape"]]
        normal = np.random.Generator(np.random.Philox(stream)).standard_normal(shape)
        state[tensor["name"]] = np.array(normal * tensor["init"]["std"], tensor["dtype"])
    parameters = [tensor["name"] for tensor in tensors if tensor["role"] == "parameter"]

    def evaluate(split: str, state: dict) -> float:
        feeds = {name: state[name] for name in parameters}
        logits = head.run(["logits"], {**feeds, "features": features[places[split]]})[0]
        accuracy = float(np.mean(logits.argmax(axis=1) == labels[places[split]]))
        print(f"accuracy on {split} data = {accuracy:.6g}")
        return accuracy

    inputs, answers = features[places["train"]], labels[places["train"]]
    batch = manifest["batch_size"]
    deals = range(-(-cycles * batch // len(inputs)))
    streams = [np.random.Philox(np.random.SeedSequence([0, deal])) for deal in deals]
    order = np.concatenate([np.argsort(s.random_raw(len(inputs)), kind="stable") for s in streams])
    outputs, lr = [f"next.{name}" for name in state], np.array(manifest["optimizer"]["lr"], "f")
    best, kept = -1.0, None
    for cycle in range(1, cycles + 1):
        drawn = order[(cycle - 1) * batch : cycle * batch]
        feeds = {"features": inputs[drawn], "labels": answers[drawn], "lr": lr}
        state = dict(zip(state, step.run(outputs, {**feeds, **state}), strict=True))
        if cycle % TEST_EVERY == 0 and (accuracy := evaluate("test", state)) >= best:
            best, kept = accuracy, state
    evaluate("validation", kept or state)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
