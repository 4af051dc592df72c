"""tod report and --report: from real runs to a page, with names that come from anyone."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import FILES, make_pictures, run
from tests.support.hostile_names import NAMES
from tests.support.pages import harmless
from tests.support.waiting import wait_until
from tod.system.text import shown


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_file, pictures):
    """A run with its log, its page and its trained model, in a folder of its own."""
    folder = tmp_path_factory.mktemp("run")
    shutil.copy(tiny_file, folder / "tiny.tod")
    done = run(
        "net_runner", "-f", "tiny.tod", "-d", pictures, "-c", 60, "--eval-every", 5,
        "--patience", 3, "--target-accuracy", 1, "--no-cache", "--log", "run.jsonl",
        "--report", "page.html",
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "wrote the report: page.html" in done.stderr
    assert "report" not in done.stdout
    return folder


def accuracy(text: str) -> float:
    return float(re.search(r"accuracy on validation data = ([\d.]+)", text)[1])


def test_the_page_of_a_training(trained, pictures):
    page = harmless((trained / "page.html").read_text())
    again = run("net_runner", "-f", trained / "tiny_trained.tod", "-d", pictures)
    before = run("net_runner", "-f", trained / "tiny.tod", "-d", pictures)
    assert f"{100 * accuracy(again.stdout):.1f} % right answers on 12" in page.text
    assert f", {100 * accuracy(before.stdout):.1f} % before." in page.text
    assert "early stop" in page.text
    assert re.search(r"training\d+ cycles in [\d.]+ s", page.text)
    assert re.search(r"frozen part60 pictures in [\d.]+ s", page.text)


def test_the_page_of_a_log_shows_the_same_run(trained, pictures):
    done = run("tod", "report", "run.jsonl", "-d", pictures, "-o", "log.html", cwd=trained)
    assert done.returncode == 0, done.stderr
    from_log, live = (
        re.sub(r"[\d.]+ m?s|20\d\d-.*?\.", "", harmless((trained / name).read_text()).text)
        for name in ("log.html", "page.html")
    )
    assert from_log == live


def test_a_log_is_found_from_another_folder(trained, pictures, tmp_path):
    done = run("tod", "report", trained / "run.jsonl", "-d", pictures, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Before and after" in (tmp_path / "report.html").read_text()


def test_a_model_alone(trained, pictures, tmp_path):
    out = tmp_path / "one.html"
    model = trained / "tiny_trained.tod"
    done = run("tod", "report", model, "-d", pictures, "-o", out, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["report"] == str(out)
    assert said["bytes"] == out.stat().st_size < 2_000_000
    assert said["pictures"] == 12
    page = harmless(out.read_text())
    assert "#curves" not in page.values("href")
    assert "All runs of this model" in page.text
    more = run(
        "tod", "report", model, "-d", pictures, "-o", out, "-q", "--before", trained / "tiny.tod"
    )
    assert more.stdout == f"{out}\n"
    assert more.stderr == ""
    assert "#before" in harmless(out.read_text()).values("href")


def test_a_model_that_was_never_trained(tiny, pictures, tmp_path):
    out = tmp_path / "one.html"
    done = run("tod", "eval", "-f", tiny, "-d", pictures, "--report", out)
    assert done.returncode == 0, done.stderr
    page = harmless(out.read_text())
    assert "never trained" in page.text
    assert f"{100 * accuracy(done.stdout):.1f} % right answers" in page.text


def test_a_run_that_goes_on_has_all_its_cycles(tiny, pictures, tmp_path):
    common = ("-d", pictures, "-s", 10, "--log", tmp_path / "run.jsonl", "--target-accuracy", 1)
    run("net_runner", "-f", tiny, "-c", 10, *common, check=True)
    run("net_runner", "-f", tiny, "-c", 20, *common, "--resume",
        "--report", tmp_path / "page.html", check=True)  # fmt: skip
    text = harmless((tmp_path / "page.html").read_text()).text
    assert "It was resumed once" in text
    assert "Training ended after cycle 20" in text


@pytest.mark.parametrize(
    ("arguments", "code", "wanted"),
    [
        (["none.tod"], 4, "none.tod: no such file\nhint: give the log of a training"),
        (["none.jsonl"], 4, "none.jsonl: no such file\nhint: give the log of a training"),
        (["empty.jsonl"], 4, "empty.jsonl: it holds no record of a run\nhint: give the log"),
        (["tiny.tod", "-f", "tiny.tod"], 2, "is no log of a run"),
        (["started.jsonl"], 2, "has saved no trained model yet"),
        (["gone.jsonl"], 2, "gone.tod, is not there"),
        (["tiny.tod", "-o", "page.txt"], 2, "has to end in .html"),
        (["tiny.tod", "-o", "no/where.html"], 4, "the folder does not exist"),
        (["tiny.tod", "--before", "none.tod"], 4, "none.tod"),
        (["tiny.tod", "--before", "empty.jsonl"], 4, "not a readable .tod file"),
    ],
)
def test_what_goes_wrong_is_said(tiny, pictures, arguments, code, wanted):
    started = '{"record":"notice","text":"x"}\n'
    gone = '{"record":"saved","kind":"model","path":"gone.tod","cycle":1}\n'
    for name, text in (("empty", ""), ("started", started), ("gone", gone)):
        (tiny.parent / f"{name}.jsonl").write_text(text)
    done = run("tod", "report", *arguments, "-d", pictures, cwd=tiny.parent)
    assert done.returncode == code, done.stderr
    assert wanted in done.stderr
    assert "Traceback" not in done.stderr
    assert "read:" not in done.stderr  # before any is looked at
    assert not list(tiny.parent.glob("*.html"))


def test_a_report_that_could_not_be_written_is_refused_before_the_work(tiny, pictures):
    done = run("net_runner", "-f", tiny, "-d", pictures, "-c", 5, "--report", tiny)
    assert done.returncode == 2
    assert "has to end in .html" in done.stderr
    assert not tiny.with_name("tiny_trained.tod").exists()


def possible(name: str) -> str:
    """A file's name that the disk takes, as near to the given one as can be."""
    kept = "".join(c for c in name.replace("/", "_") if c != "\0" and not "\ud800" <= c < "\udc80")
    encoded = os.fsencode(kept)
    if len(encoded) > 200:
        encoded = encoded[:200].decode("utf-8", "ignore").encode()
    return os.fsdecode(encoded)


def test_200_hostile_files_and_classes_are_harmless(tiny, tmp_path):
    """On a real disk, through every command that makes a page."""
    root = tmp_path / "pictures"
    classes = ("<script>alert(1)<script>", '"><img src=x onerror=alert(1)>', "&lt;b&gt;'")
    rng = np.random.default_rng(0)
    for number, name in enumerate(NAMES):
        folder = root / classes[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        colour = np.array([[200, 40, 40], [40, 180, 40], [40, 40, 200]][number % 3])
        pixels = np.clip(colour + rng.integers(-90, 91, (20, 20, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "one.png")
        os.replace(tmp_path / "one.png", folder / f"{number}{possible(name)}.png")
    assert len(list(root.rglob("*.png"))) == 200
    page = tmp_path / '"><b>.html'
    done = run("net_runner", "-f", tiny, "-d", root, "-c", 5, "--report", page)
    assert done.returncode == 0, done.stderr
    found = harmless(page.read_text())
    for name in classes:
        assert shown(name) in found.text
    assert page.stat().st_size < 2_000_000


def test_eval_prints_by_class_and_what_is_taken_for_what(trained, pictures):
    done = run("tod", "eval", "-f", trained / "tiny_trained.tod", "-d", pictures)
    first, *rest = done.stdout.splitlines()
    assert accuracy(first) > 0
    text = "\n".join(rest)
    assert re.search(r"class +pictures +precision +recall +F1", text)
    assert re.search(r"^is \\ taken for +1 +2 +3$", text, re.M)
    matrix = [
        [0 if word == "." else int(word) for word in found[1].split()]
        for found in re.finditer(r"^\d \w+ +((?:[\d.] *)+)$", text, re.M)
    ]
    line = run("tod", "eval", "-f", trained / "tiny_trained.tod", "-d", pictures, "--json").stdout
    said = json.loads(line.splitlines()[-1])
    assert said["confusion"] == matrix
    assert np.trace(matrix) == said["correct"]
    assert list(said["scores"]) == ["blue", "green", "red"]
    assert set(said["scores"]["red"]) == {"pictures", "precision", "recall", "f1"}
    quiet = run("tod", "eval", "-q", "-f", trained / "tiny_trained.tod", "-d", pictures)
    assert quiet.stdout.splitlines() == [first]


def test_eval_of_many_classes_prints_the_pairs(tiny, tmp_path):
    root = make_pictures(tmp_path / "pictures", per_class=5)
    for name in [f"class {i}" for i in range(12)]:
        shutil.copytree(root / "red", root / name)
        for file in (root / name).iterdir():
            pixels = np.asarray(Image.open(file)).copy()
            pixels[0, 0] = [int(name.split()[1]), 0, 0]
            Image.fromarray(pixels).save(file)
    done = run("tod", "eval", "-f", tiny, "-d", root, "--no-cache")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^is +taken for +pictures +of$", done.stdout, re.M)
    assert "is \\ taken for" not in done.stdout


def test_the_log_tells_when_and_at_what_rate(trained):
    records = [json.loads(line) for line in Path(trained / "run.jsonl").read_text().splitlines()]
    seconds = [record["seconds"] for record in records]
    assert seconds == sorted(seconds)
    assert {r["lr"] for r in records if r["record"] == "cycle_done"} == {0.1}
    for record in records:
        if record["record"] == "evaluated":
            assert bool(record["confusion"]) == (record["split"] == "validation")


@pytest.mark.parametrize(
    ("file", "wanted"),
    [("numbers.tod", "R2 of each quantity"), ("several_classes.tod", "yes as yes")],
)
def test_other_answers_than_one_class(pictures, tmp_path, file, wanted):
    """Two numbers for each picture; and yes or no for each class."""
    model = Path(shutil.copy(FILES / file, tmp_path / "model.tod"))
    data = Path(shutil.copytree(pictures, tmp_path / "data"))
    if file == "numbers.tod":
        files = sorted(p.relative_to(data).as_posix() for p in data.rglob("*.png"))
        lines = [f"{name},{len(name)},{i % 7}" for i, name in enumerate(files)]
        (data / "targets.csv").write_text("\n".join(["file,<b>length,turn", *lines]))
    page = tmp_path / "page.html"
    done = run("net_runner", "-f", model, "-d", data, "-c", 10, "--report", page)
    assert done.returncode == 0, done.stderr
    found = harmless(page.read_text())
    assert wanted in found.text
    assert found.values("src")
    evaluated = run("tod", "eval", "-f", tmp_path / "model_trained.tod", "-d", data)
    assert evaluated.returncode == 0, evaluated.stderr
    assert ("precision" in evaluated.stdout) == (file != "numbers.tod")


def test_a_checkpoint_has_a_report_too(tiny, pictures, tmp_path):
    run("net_runner", "-f", tiny, "-d", pictures, "-c", 4, "-s", 2, check=True)
    checkpoint = tiny.with_name("tiny_trained_2.tod")
    done = run("tod", "report", checkpoint, "-d", pictures, "-o", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    assert "never trained" not in harmless((tmp_path / "page.html").read_text()).text


def test_classes_that_were_added_are_no_reason_to_fail(tiny, pictures, tmp_path):
    """The model before knows fewer of them: the page says so."""
    few = Path(shutil.copytree(pictures, tmp_path / "few"))
    shutil.rmtree(few / "red")
    run("net_runner", "-f", tiny, "-d", few, "-c", 4, check=True)
    done = run(
        "net_runner", "-f", tiny.with_name("tiny_trained.tod"), "-d", pictures, "-c", 4,
        "--add-classes", "-o", tmp_path / "more.tod", "--report", tmp_path / "page.html",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = harmless((tmp_path / "page.html").read_text()).text
    assert "was not compared" in text
    assert "unknown to the model: red" in text


def test_pictures_that_find_no_room_are_left_out(trained, pictures, call, monkeypatch, tmp_path):
    """Also those that are shown in several places."""
    room_bytes = 20_000
    monkeypatch.setattr("tod.report.examination.THUMBNAIL_BYTES", room_bytes)
    page = tmp_path / "page.html"
    arguments = ("report", trained / "tiny_trained.tod", "-d", pictures, "-o", page)
    done = call("tod", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = harmless(page.read_text())
    sizes = [len(source.split(",")[1]) for source in found.values("src")]
    assert 0 < sum(sizes) <= room_bytes * 4 / 3 + 4 * len(sizes)
    assert "no picture" in found.text


def test_the_page_of_an_evaluation_is_of_the_pictures_that_were_scored(tiny, pictures, tmp_path):
    """--seed splits a plain folder; the page has the same split and the same head."""
    page = tmp_path / "page.html"
    done = run("tod", "eval", "-f", tiny, "-d", pictures, "--seed", 5, "--report", page)
    assert done.returncode == 0, done.stderr
    total = sum(int(n) for n in re.findall(r"^(?:blue|green|red) +(\d+)", done.stdout, re.M))
    wanted = f"{100 * accuracy(done.stdout):.1f} % right answers on {total} "
    assert wanted in harmless(page.read_text()).text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("quiet", [[], ["-q"]])
def test_an_interrupted_run_has_its_page(tiny, pictures, number, quiet):
    command = [Path(sys.executable).with_name("net_runner"), "-f", tiny, "-d", pictures]
    page, log = tiny.with_name("page.html"), tiny.with_name("run.jsonl")
    options = ["-c", 100000, "--eval-every", 50, "--target-accuracy", 1, "--seed", 3, *quiet]
    process = subprocess.Popen(
        [*map(str, [*command, *options, "--report", page, "--log", log])],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(lambda: log.is_file() and '"cycle":100,' in log.read_text())
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    (saved,) = tiny.parent.glob("tiny_trained_*.tod")
    assert f"error: stopped after cycle {saved.stem.rpartition('_')[2]} of 100000" in errors
    assert "the report shows what was done until the interruption" in errors
    assert "Traceback" not in errors
    shown = harmless(page.read_text()).text
    assert saved.name in shown
    assert "The run was interrupted after cycle" in shown
    assert "never trained" not in shown
    done = run("net_runner", "-f", saved, "-d", pictures, "--json")
    score = json.loads(done.stdout.splitlines()[-1])
    wanted = f"{100 * score['accuracy']:.1f} % right answers on {score['total']} validation"
    assert wanted in shown


def test_a_run_that_ends_before_its_first_cycle_has_none(tiny, tmp_path):
    tree = make_pictures(tmp_path / "big", per_class=20, side_px=500)
    page = tiny.with_name("page.html")
    process = subprocess.Popen(
        [Path(sys.executable).with_name("net_runner"), "-f", tiny, "-d", tree, "-c", "5",
         "--report", page, "--no-cache", "-t", "1"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "no cycle was run" in errors
    assert not page.exists()
