"""The tod command: help, and what info, verify, predict, compare and merge print."""

import json
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import typer

from tests.conftest import FILES, run
from tod.cli.app import app
from tod.data.dataset import Dataset
from tod.format import arrays, artifact

COMMANDS = sorted(
    [command.name or command.callback.__name__ for command in app.registered_commands]
    + [group.name for group in app.registered_groups]
)


@pytest.fixture
def trained(tiny, pictures):
    run("net_runner", "-f", tiny, "-d", pictures, "-c", 40, "-s", 20)
    return tiny.with_name("tiny_trained.tod")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_the_exit_codes(command):
    done = run("tod", command, "--help")
    assert done.returncode == 0
    assert f"Example: tod {command} " in done.stdout
    assert "Exit codes: 0 done" in done.stdout


def test_version():
    done = run("tod", "--version")
    assert re.fullmatch(r"tod 0\.1\.0, onnxruntime [\d.]+, Python [\d.]+\n", done.stdout)


def test_python_m_tod_is_the_command(tiny, tmp_path):
    for arguments in (["--version"], ["info", tiny, "--json"], ["info", tmp_path / "none.tod"]):
        module = run("python", "-m", "tod", *arguments)
        command = run("tod", *arguments)
        assert module.returncode == command.returncode
        assert (module.stdout, module.stderr) == (command.stdout, command.stderr)


@pytest.mark.parametrize(
    ("program", "words", "wanted"),
    [("net_runner", "net_runner --res", "--resume"), ("tod", "tod promo", "promote")],
)
def test_a_shell_can_complete(program, words, wanted):
    assert "--install-completion" in run(program, "--help").stdout
    asked = {
        f"_{program.upper()}_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": "1",
    }
    assert run(program, env={**os.environ, **asked}).stdout.split() == [wanted]


def test_train_and_eval_are_net_runner(tiny, pictures):
    first = run("net_runner", "-f", tiny, "-d", pictures, "-c", 60)
    saved = tiny.with_name("tiny_trained.tod").read_bytes()
    second = run("tod", "train", "-f", tiny, "-d", pictures)
    assert second.stdout == first.stdout
    assert tiny.with_name("tiny_trained.tod").read_bytes() == saved
    evaluated = run("tod", "eval", "-f", tiny.with_name("tiny_trained.tod"), "-d", pictures)
    assert evaluated.stdout.splitlines()[0] == first.stdout.splitlines()[-1]


def test_train_continues_a_checkpoint_to_its_own_total(tiny, pictures):
    run("tod", "train", "-f", tiny, "-d", pictures, "-c", 90, "-s", 80, "--target-accuracy", 1)
    done = run("tod", "train", "-f", tiny.with_name("tiny_trained_80.tod"), "-d", pictures)
    assert done.stdout.splitlines()[0].startswith("81: Loss is")
    assert any(line.startswith("90: Loss is") for line in done.stdout.splitlines())


def test_info(tiny, trained):
    fresh, after = run("tod", "info", tiny), run("tod", "info", trained)
    checkpoint = run("tod", "info", tiny.with_name("tiny_trained_20.tod"))
    assert "chosen on the device" in fresh.stdout
    assert "head: 9 per class parameters; 408 frozen" in fresh.stdout
    assert "8 numbers, 0.0 KiB for a picture" in fresh.stdout
    assert "3: blue, green, red" in after.stdout
    assert "head: 27 parameters; 408 frozen" in after.stdout
    assert "sgd, lr 0.1, momentum 0.9, dampening 0.01" in after.stdout
    assert "velocity.head.weight" in after.stdout
    assert "history" in after.stdout
    assert "checkpoint of tiny.tod" in checkpoint.stdout
    assert "cycle 20 of 40, seed 0" in checkpoint.stdout
    manifest = json.loads(run("tod", "info", trained, "--json").stdout)
    assert manifest["class_names"] == ["blue", "green", "red"]
    assert manifest["history"][0]["validation_accuracy"] > 0.3


def test_verify(trained):
    done = run("tod", "verify", trained)
    assert done.returncode == 0, done.stderr
    for graph in ("features.onnx", "train.onnx", "predict.onnx"):
        assert re.search(rf"{graph} .* 0\.0e\+00", done.stdout), done.stdout
    found = json.loads(run("tod", "verify", trained, "--json").stdout)
    assert [verdict["graph"] for verdict in found] == [
        "features.onnx", "train.onnx", "predict.onnx",
    ]  # fmt: skip


def test_verify_notices_a_machine_that_computes_wrongly(tiny):
    """Expected outputs that this machine does not reach: exit 5."""
    found = artifact.read(tiny)
    vectors = arrays.arrays_from_bytes(found.vectors, where="x")
    name = "predict.onnx/out.logits"
    vectors[name] = vectors[name] + np.float32(0.1) * np.abs(vectors[name]).max()
    artifact.write(replace(found, vectors=arrays.arrays_to_bytes(vectors)))
    done = run("tod", "verify", tiny)
    assert done.returncode == 5
    assert "predict.onnx by 0.0" in done.stderr


def test_predict(trained, pictures, tmp_path):
    files = [pictures / name / "1.png" for name in ("red", "green", "blue")]
    done = run("tod", "predict", "-f", trained, *files, "--top", 2)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r" %", done.stdout)) == 6
    lines = run("tod", "predict", "-f", trained, *files, "--json").stdout.splitlines()
    answers = [json.loads(line) for line in lines]
    assert [answer["classes"] for answer in answers] == [["red"], ["green"], ["blue"]]
    assert all(0 < a["probabilities"][0] <= 1 and a["time_ms"] > 0 for a in answers)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"rotten")
    done = run("tod", "predict", "-f", trained, bad, files[0], tmp_path / "none.png")
    assert done.returncode == 3
    assert "red" in done.stdout  # the good one is answered all the same
    assert f"{bad}: not a picture (a text file)" in done.stderr
    assert "none.png: cannot be read: No such file" in done.stderr


def test_predict_with_open_classes(tiny, pictures):
    done = run("tod", "predict", "-f", tiny, pictures / "red" / "1.png")
    assert done.returncode == 2
    assert "it is not trained yet" in done.stderr


def test_compare(tiny, trained, pictures):
    done = run("tod", "compare", tiny, trained, "-d", pictures)
    assert done.returncode == 0, done.stderr
    total = next(line for line in done.stdout.splitlines() if "all 12 pictures" in line)
    before, after, change = (float(x) for x in re.findall(r"[-+]?\d+\.\d", total))
    assert after > before
    assert change == pytest.approx(after - before, abs=0.11)
    rows = json.loads(run("tod", "compare", tiny, trained, "-d", pictures, "--json").stdout)
    assert rows[1]["accuracy"] * 100 == pytest.approx(after, abs=0.06)
    assert run("tod", "compare", tiny, "-d", pictures).returncode == 2


def test_compare_a_model_with_its_onnx_file(tiny, trained, pictures, tmp_path):
    """And with one whose classes are open, which cannot answer."""
    from tod.runtime.model import Model

    onnx = tmp_path / "trained.onnx"
    Model.load(trained).save_inference(onnx)
    done = run("tod", "compare", trained, onnx, tiny, "-d", pictures, "--json", "-q")
    assert done.returncode == 0, done.stderr
    same, other, fresh = json.loads(done.stdout)
    assert same["accuracy"] == other["accuracy"]
    assert same["by_class"] == other["by_class"]
    assert same["agreement"] == other["agreement"] == 1
    assert fresh["agreement"] < 1
    assert fresh["cost"] is None
    for path, row in ((trained, same), (onnx, other)):
        assert row["cost"]["file_mb"] == pytest.approx(path.stat().st_size / 1e6)
        timing = row["cost"]["timing"]
        assert 0 < timing["median_ms"] <= timing["p90_ms"] <= timing["p99_ms"]
        assert row["cost"]["load_ms"] > 0
        assert row["cost"]["peak_mb"] > 20
    shown = run("tod", "compare", onnx, trained, "-d", pictures, "-q").stdout
    assert "agreement" in shown
    assert "peak MB" in shown


def test_compare_layers(tiny, pictures, tmp_path):
    """The layer whose weights are others is at the top, of a table and of the whole list."""
    again, noisy = tmp_path / "again.tflite", FILES / "bound_int8.tflite"
    again.write_bytes((FILES / "bound.tflite").read_bytes())
    (pictures_too := tmp_path / "pictures").mkdir()
    shutil.copytree(pictures, pictures_too, dirs_exist_ok=True)
    lost = next(iter(Dataset.open(pictures_too).split("validation"))).path
    command = ["tod", "compare", FILES / "bound.tod", again, noisy, "-d", pictures_too, "--layers"]
    assert run(*command).returncode == 0
    (pictures_too / lost).write_bytes(b"rotten")
    done = run(*command, "--json", "-q")
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)
    assert (first["model"], second["model"]) == (str(again), str(noisy))
    assert first["pictures"] == second["pictures"]
    assert first["layers"][0]["growth"] < 1e-5 < second["layers"][0]["growth"]
    growths = [one["growth"] for one in second["layers"]]
    assert growths == sorted(growths, reverse=True)
    assert set(second["layers"][0]) == {
        "layer", "operators", "value", "error", "cosine", "before", "growth"
    }  # fmt: skip
    shown = run(*command, "-q").stdout
    assert f"bound_int8.tflite beside bound.tod, {second['pictures']} pictures: the " in shown
    top = next(line for line in shown.split("bound_int8.tflite")[1].splitlines() if "│" in line)
    assert second["layers"][0]["layer"] in top
    done = run("tod", "compare", tiny, FILES / "deep.tod", "-d", pictures, "--layers", "-q")
    assert done.returncode == 2
    assert "none of its layers is known by name in" in done.stderr


def test_compare_on_pictures_that_were_prepared_for_another_size(trained, pictures, tmp_path):
    """One of them was damaged since."""
    from tod.runtime.model import Model

    onnx, dataset = tmp_path / "trained.onnx", tmp_path / "dataset"
    Model.load(trained).save_inference(onnx)
    assert run("tod", "prepare-dataset", pictures, dataset, "--size", 19, "-q").returncode == 0
    lost = Dataset.open(dataset).split("validation")[0].path
    (dataset / lost).write_bytes(b"rotten")
    done = run("tod", "compare", trained, onnx, "-d", dataset, "--json", "-q")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("does not count: ") == 1
    assert lost in done.stderr
    first, second = json.loads(done.stdout)
    assert first["by_class"] == second["by_class"]
    assert second["agreement"] == 1


def test_compare_refuses_models_of_different_splits(tiny, pictures):
    outputs = [tiny.with_name(f"{seed}.tod") for seed in (1, 2)]
    for seed, output in zip((1, 2), outputs, strict=True):
        run("tod", "train", "-f", tiny, "-d", pictures, "-c", 2, "--seed", seed, "-o", output)
    done = run("tod", "compare", *outputs, "-d", pictures)
    assert done.returncode == 2
    assert "seeds [1, 2]" in done.stderr


def test_merge(tiny, trained, pictures, tmp_path):
    """A checkpoint becomes a whole model that needs nothing beside it."""
    whole = tmp_path / "whole.tod"
    done = run("tod", "merge", tiny.with_name("tiny_trained_20.tod"), "-o", whole)
    assert done.returncode == 0, done.stderr
    assert artifact.read(whole).manifest.kind == "model"
    again = run("tod", "merge", whole, "-o", tmp_path / "again.tod")
    assert again.returncode == 2
    assert "is no checkpoint: it is a whole model already" in again.stderr
    history = artifact.read(whole).manifest.history
    assert [(e.stopped, e.kept_cycle, e.split_seed) for e in history] == [("merged", 20, 0)]
    evaluated = run("tod", "eval", "-f", whole, "-d", pictures)
    assert evaluated.returncode == 0, evaluated.stderr


def test_progress_without_a_terminal_is_plain_lines(pictures, tmp_path):
    done = run("tod", "prepare-dataset", pictures, tmp_path / "out", "--size", 16)
    assert done.stderr.splitlines()[-1] == "pictures: 60 of 60"
    assert "\x1b" not in done.stderr + done.stdout
    assert "\r" not in done.stderr


def test_no_colour_when_asked(trained, pictures):
    environment = {**os.environ, "NO_COLOR": "1"}
    done = run("tod", "info", trained, env=environment)
    assert "\x1b" not in done.stdout


def leaves(command, name=""):
    """Every command with its options, by long name."""
    if hasattr(command, "commands"):
        for word, inner in command.commands.items():
            yield from leaves(inner, f"{name} {word}".strip())
    else:
        yield name, {p.opts[-1]: p for p in command.params if p.opts and p.opts[-1][:2] == "--"}


def test_help_of_every_command_fits_a_terminal(call, tmp_path, monkeypatch):
    """80 columns cut no word, so that what it says can be typed."""
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("", *(name for name, _ in leaves(typer.main.get_command(app)))):
        shown = call("tod", *name.split(), "--help", cwd=tmp_path).stdout
        assert "…" not in shown, name
        assert "--debug" in shown, name


def test_a_wrong_choice_is_told_in_our_words(call, tmp_path):
    done = call("tod", "convert", "x.tod", "--to", "web", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: Invalid value for '--to': 'web' is not one of 'onnx', 'ort', 'tflite', 'torch', "
        "'nntrainer'.\n"
        "hint: tod convert --help lists what there is\n"
    )


def test_an_option_has_one_meaning_in_every_command():
    commands = dict(leaves(typer.main.get_command(app)))
    short = {"--model": "-f", "--data": "-d", "--output": "-o", "--quiet": "-q", "--threads": "-t"}
    for name, options in commands.items():
        for long, letter in short.items():
            # What export calls a model is a function of the user's own file.
            if long in options and (name, long) != ("export", "--model"):
                assert letter in options[long].opts, f"{name} {long}"
    for long in ("--quiet", "--threads", "--require-signature", "--cache-dir", "--no-cache"):
        texts = {
            options[long].help
            for name, options in commands.items()
            if long in options and (name, long) != ("benchmark", "--threads")  # a list of numbers
        }
        assert len(texts) == 1, f"{long}: {texts}"
    assert "60; of net_runner 0" in commands["train"]["--cycles"].help
    without_json = {name for name, options in commands.items() if "--json" not in options}
    assert without_json == set()
    shapes = {name: options["--json"].help for name, options in commands.items()}
    lines = {name for name, text in shapes.items() if text == "JSON lines on stdout."}
    offload = {"offload send", "offload receive", "offload status"}
    assert lines == {"train", "eval", "predict", "promote", "rollback"} | offload
    arrays = {name for name, text in shapes.items() if text == "One JSON array on stdout."}
    assert arrays == {"compare", "verify", "cache info"}
    long_work = {"train", "eval", "check", "compare", "report", "benchmark", "promote", "package"}
    for name in (*long_work, "prepare-dataset", "export"):
        assert "--quiet" in commands[name], name
