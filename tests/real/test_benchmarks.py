"""The benchmarks of speed compare sides that do the same work, and measure what they say."""

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import bare_work, conversion, processes, torch_job, whole_job
from benchmarks.data import prepared
from tests.conftest import FILES, ROOT, make_pictures, run
from tests.support.tiny_models import tiny_backbone
from tod.data.dataset import Dataset
from tod.format import artifact

CYCLES = 40


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Pictures so noisy that no head gets all of them right."""
    folder = tmp_path_factory.mktemp("noisy")
    make_pictures(folder / "pictures", per_class=60, side_px=2, noise=255)
    run("tod", "prepare-dataset", folder / "pictures", folder / "out", "--size", 16, check=True)
    return folder / "out"


def accuracies(text: str) -> list[str]:
    """Of both evaluations on the test split, and of the one on the validation split."""
    found = re.findall(r"accuracy on (?:test|validation) data = ([0-9.]+)", text)
    assert len(found) == CYCLES // 20 + 1, text
    return found


@pytest.fixture
def ours(tiny, dataset):
    options = ["-c", CYCLES, "--target-accuracy", 1]
    done = run("net_runner", "-f", tiny, "-d", dataset, *options, check=True)
    found = accuracies(done.stdout)
    assert len(set(found)) > 1, "equal accuracies of all evaluations would prove nothing"
    return found


def test_the_yardstick_does_the_same_work(tiny, dataset, ours, capsys):
    bare_work.main(str(tiny), str(dataset), CYCLES)
    assert accuracies(capsys.readouterr().out) == ours


def test_without_a_test_the_last_cycle_is_validated(tiny, dataset, capsys):
    options = ["-c", 6, "--target-accuracy", 1]
    done = run("net_runner", "-f", tiny, "-d", dataset, *options, check=True)
    bare_work.main(str(tiny), str(dataset), 6)
    manifest, backbone = artifact.read(tiny).manifest, tiny_backbone().module
    torch_job.train("plain", manifest, backbone, Dataset.open(dataset), 6)
    lines = [line for line in done.stdout.splitlines() if line.startswith("accuracy on")]
    assert lines * 2 == capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("way", ["plain", "best"])
def test_torch_does_the_same_work(tiny, dataset, ours, way, capsys):
    manifest, backbone = artifact.read(tiny).manifest, tiny_backbone().module
    torch_job.train(way, manifest, backbone, Dataset.open(dataset), CYCLES)
    assert accuracies(capsys.readouterr().out) == ours


def test_no_two_pictures_of_a_large_set_are_equal(test_data):
    with prepared(1010, size_px=16) as folder:
        samples = Dataset.open(folder).samples
        contents = {s.sha256 for s in samples}
        read = [hashlib.sha256((folder / s.path).read_bytes()).hexdigest() for s in samples]
    assert len(samples) == len(contents) == 1010
    assert read == [s.sha256 for s in samples]
    assert not folder.exists()


def test_conversions_are_compared_on_pictures_that_nothing_was_trained_on(
    test_data, tmp_path, monkeypatch
):
    monkeypatch.setattr(conversion, "PER_CLASS", 3)
    assert len([*conversion.digits(tmp_path / "digits").glob("*/*.png")]) == 30
    places = Dataset.open(conversion.places(tmp_path / "places"), splits=True)
    assert len(places.split("validation")) == 1000
    trained = {sample.sha256 for sample in places.split("train")}
    assert not trained & {sample.sha256 for sample in places.split("validation")}
    pictures = make_pictures(tmp_path / "pictures")
    for name, letter in zip(("blue", "green", "red"), "abc", strict=True):
        (pictures / name).rename(pictures / letter)
    model = shutil.copy(FILES / "bound.tod", tmp_path)
    table = conversion.converted(Path(model), "tflite", pictures)
    for bits in ("float32", "dynamic", "int8", "fp16"):
        assert f"as_tflite_{bits}.tflite" in table


def test_peak_memory_and_seconds_are_those_of_the_child():
    """Measured by a small process: what this one has held counts as its children's peak."""
    child = "import time; x = bytearray(b'1') * (1 << 28); time.sleep(0.2); print('n = 7')"
    measure = f"""if True:
        import sys
        from benchmarks import processes
        done = processes.run([sys.executable, "-c", {child!r}])
        print(done.peak_mb, done.seconds, done.number("n"))"""
    told = subprocess.run([sys.executable, "-c", measure], cwd=ROOT, capture_output=True, text=True)
    peak_mb, seconds, number = told.stdout.split()
    assert 256 < float(peak_mb) < 300
    assert float(seconds) > 0.2
    assert number == "7"


def test_a_failing_command_stops_the_benchmark():
    with pytest.raises(SystemExit, match="boom"):
        processes.run([sys.executable, "-c", "raise SystemExit('boom')"])
    with pytest.raises(SystemExit, match="without 'cycle'"):
        processes.seconds_until([sys.executable, "-c", "print('other')"], "cycle")


def test_the_table_compares_within_a_round():
    def done(seconds: float) -> processes.Done:
        return processes.Done(seconds, 100, "accuracy on validation data = 0.9\n")

    found = {"cold": [done(2), done(4)], "best": [done(20), done(20)], "plain": [done(60)]}
    *_, cold, best, plain = whole_job.table(found).splitlines()
    assert cold == "| cold | 3.00 | 1 |  | 100 | 0.9 |"
    assert best == "| best | 20.00 | 7.5 |  | 100 | 0.9 |"
    assert plain == "| plain | 60.00 | 30 |  | 100 | 0.9 |"
