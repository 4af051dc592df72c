"""tod doctor: one line for each thing that training here depends on, and the worst of them last."""

import json
import os
import re
from dataclasses import replace

import numpy as np
import pytest

from tests.conftest import run
from tests.unit.system.test_machine import tree
from tod.data.image import decodable
from tod.format import artifact as artifacts
from tod.format.arrays import arrays_from_bytes, arrays_to_bytes
from tod.format.artifact import read
from tod.runtime import doctor

SUPPLY = "sys/class/power_supply/BAT0"
MEMORY = "MemTotal: 8000000 kB\nMemAvailable: {} kB\n"


def found(root, artifact=None):
    return {finding.name: finding for finding in doctor.examine(artifact, root)}


def test_a_model_on_this_machine(tiny):
    done = run("tod", "doctor", tiny)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    names = [line.split("  ")[0] for line in lines]
    engines = [name for name in names if name.startswith("engine ")]
    assert [name for name in names if name not in engines] == [
        "processor", "Python", "C library", "onnxruntime", "numpy", "Pillow", "cores", "memory",
        "disk", "clock", "power", "temperature", "test vectors", "verdict",
    ]  # fmt: skip
    assert "the model wants" in lines[3]
    assert "train.onnx off by 0.0e+00" in lines[names.index("test vectors")]
    assert {"engine cpu", "engine openvino"} <= {*engines}
    for name in ("engine cpu", "engine openvino"):
        line = lines[names.index(name)]
        rate, cosine = re.search(
            r"([\d,]+) pictures a second, least cosine ([\d.]+)", line
        ).groups()
        assert int(rate.replace(",", "")) > 0
        assert float(cosine) > 0.99999
    assert lines[-1].endswith(("this machine can train", "can train; see the warnings"))


def test_json_without_a_model():
    said = json.loads(run("tod", "doctor", "--json").stdout)
    assert {finding["name"] for finding in said["findings"]} >= {"disk", "memory", "clock"}
    assert said["verdict"] in ("ok", "warn")


def test_what_is_wrong_ends_with_5_and_is_named(tiny):
    """A machine that computes something else, a model for a runtime of the future."""
    artifact = read(tiny)
    vectors = arrays_from_bytes(artifact.vectors, where="test")
    vectors["predict.onnx/out.logits"] += np.float32(1)
    future = replace(artifact.manifest, min_onnxruntime="99.0")
    artifacts.write(replace(artifact, vectors=arrays_to_bytes(vectors), manifest=future))
    done = run("tod", "doctor", tiny)
    assert done.returncode == 5
    assert "error: this machine cannot train: onnxruntime, test vectors" in done.stderr
    assert "hint: pip install --upgrade onnxruntime" in done.stderr
    assert done.stdout.splitlines()[-1].split("  ")[0] == "verdict"
    assert done.stdout.rstrip().endswith("wrong  this machine cannot train")
    said = json.loads(run("tod", "doctor", tiny, "--json").stdout)
    assert said["verdict"] == "wrong"


def test_a_damaged_file_is_refused_as_everywhere(tmp_path):
    file = tmp_path / "x.tod"
    file.write_bytes(b"PK")
    done = run("tod", "doctor", file)
    assert (done.returncode, done.stdout) == (4, "")


@pytest.mark.parametrize(
    ("files", "name", "verdict", "text"),
    [
        ({}, "power", "ok", "not reported"),
        ({f"{SUPPLY}/type": "Battery", f"{SUPPLY}/status": "Discharging",
          f"{SUPPLY}/capacity": "12"}, "power", "warn", "no mains, battery 12 %"),
        ({f"{SUPPLY}/type": "Battery", f"{SUPPLY}/status": "Charging",
          f"{SUPPLY}/capacity": "90"}, "power", "ok", "mains, battery 90 %"),
        ({"sys/class/thermal/thermal_zone0/temp": "91000"}, "temperature", "warn", "91 C"),
        ({"sys/class/thermal/thermal_zone0/temp": "45000"}, "temperature", "ok", "45 C"),
        ({"sys/fs/cgroup/cpu.max": "50000 100000"}, "cores", "warn", "time of 0.5"),
        ({"proc/meminfo": MEMORY.format(4000000)}, "memory", "ok", "4,096 MB available"),
        ({"proc/meminfo": MEMORY.format(50000)}, "memory", "wrong", "51 MB available"),
        ({"proc/meminfo": MEMORY.format(4000000), "sys/fs/cgroup/memory.max": "90000000"},
         "memory", "wrong", "limited to 90 MB"),
    ],
)  # fmt: skip
def test_sensors_and_limits(tiny, tmp_path, files, name, verdict, text):
    finding = found(tree(tmp_path / "root", files), read(tiny))[name]
    assert finding.verdict == verdict
    assert text in finding.value
    assert bool(finding.advice) == (verdict != "ok")


def test_the_estimate_of_memory_grows_with_what_it_counts(tiny):
    manifest = read(tiny).manifest
    least = doctor.needed_mb(manifest, 1_000_000, 1)
    assert doctor.needed_mb(manifest, 11_000_000, 1) == pytest.approx(least + 20)
    assert doctor.needed_mb(manifest, 1_000_000, 2) > least + 40
    larger = replace(manifest, step_bytes=manifest.step_bytes + 50_000_000)
    assert doctor.needed_mb(larger, 1_000_000, 1) == pytest.approx(least + 50)


def test_a_clock_that_was_never_set(tiny, tmp_path, monkeypatch):
    artifact = read(tiny)
    assert found(tmp_path, artifact)["clock"].verdict == "ok"
    tomorrow = os.stat(tiny).st_mtime + 10 * 86400
    os.utime(tiny, (tomorrow, tomorrow))
    assert found(tmp_path, artifact)["clock"].verdict == "warn"
    monkeypatch.setattr(doctor.time, "time", lambda: 100.0)
    clock = found(tmp_path)["clock"]
    assert (clock.verdict, clock.value) == ("warn", "1970-01-01 00:01:40 UTC")


def test_a_folder_that_cannot_be_written_to(tiny, tmp_path, monkeypatch):
    """As root every folder can; so the system's answer is given here."""
    if os.geteuid():
        tiny.parent.chmod(0o500)
    else:
        monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    disk = found(tmp_path, read(tiny))["disk"]
    tiny.parent.chmod(0o700)
    assert disk.verdict == "wrong"
    assert disk.value.endswith("cannot be written to")


def test_formats_are_tried_out():
    assert all(decodable()[name] for name in ("BMP", "JPEG", "PNG", "TIFF", "WEBP"))
