"""What the documents say is true: commands and code run, trees and tables are complete."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from benchmarks import fruit_price
from tests.commands.test_cli import COMMANDS
from tests.conftest import make_pictures, run
from tests.support.device_package import LAUNCHER
from tod.data.index import Index
from tod.format import graph, manifest, manifest_checks
from tod.runtime.delegates.table import DELEGATES
from tod.system import text as limits

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
FORMAT = (ROOT / "docs" / "format.md").read_text()


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.S)


def commands(block: str) -> list[list[str]]:
    return [shlex.split(line, comments=True) for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What a reader of the README has: a folder of pictures and one photo."""
    place = tmp_path_factory.mktemp("readme")
    make_pictures(place / "pictures", side_px=60)
    shutil.copy(place / "pictures" / "red" / "0.png", place / "photo.jpg")
    Image.open(place / "photo.jpg").save(place / "photo.jpg", "JPEG")
    return place


def test_the_two_commands_are_targets_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    for command in commands(blocks("sh")[0]):
        assert command[0] == "make"
        assert re.search(rf"^{command[1]}:", makefile, re.M)
        dry = subprocess.run(["make", "-n", *command[1:]], cwd=ROOT, capture_output=True)
        assert dry.returncode == 0


def test_make_demo_ends_with_before_and_after():
    done = subprocess.run(["make", "demo"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    untrained, *_, trained, reloaded = re.findall(r"on validation data = ([0-9.]+)", done.stdout)
    assert float(untrained) < 0.2
    assert trained == reloaded
    assert float(trained) > 0.8
    before, after = re.search(
        r"all 187 pictures[^0-9]*([0-9.]+) %[^0-9]*([0-9.]+) %", done.stdout
    ).groups()
    assert float(before) == pytest.approx(100 * float(untrained), abs=0.06)
    assert float(after) == pytest.approx(100 * float(trained), abs=0.06)
    page = Path(re.search(r"== The report, for any browser: (.*)$", done.stdout, re.M)[1])
    assert f"{after} % right answers" in page.read_text()


def test_every_command_of_the_readme_runs_in_order(folder, lite0_file):
    """What they export is, byte for byte, what another process exported."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ran = []
    for command in commands(blocks("sh")[1]):
        if command[0] == "pip":
            extra = re.fullmatch(r"\.\[(\w+)\]", command[-1])
            assert extra
            assert f"{extra[1]} = [" in (ROOT / "pyproject.toml").read_text()
            continue
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stderr)
        ran.append(command[:2])
    assert len(ran) == 7
    assert "<!doctype html>" in (folder / "report.html").read_text()
    assert (folder / "transfer_learning_trained.tod").is_file()
    assert (folder / "transfer_learning.tod").read_bytes() == lite0_file.read_bytes()
    # The page on inference goes on from here.
    code, _ = blocks("python", (ROOT / "docs" / "inference.md").read_text())
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shares = [float(x) for x in re.findall(r"[\d.]+(?:e-\d+)?", done.stdout)]
    assert len(shares) == 3
    assert sum(shares) == pytest.approx(1, abs=1e-3)


def test_the_fruit_of_the_inference_page_is_learned(tmp_path):
    """With fewer cycles than the page says."""
    page = (ROOT / "docs" / "inference.md").read_text()
    _, code = blocks("python", page)
    (tmp_path / "fruit_net.py").write_text(code)
    fruit_price.write_table(tmp_path / "fruit.csv")
    (tmp_path / "new.csv").write_text("apple,melon,grape\n2,1,3\n")
    (text,) = [block for block in blocks("sh", page) if "fruit.tod" in block]
    for command in commands(text.replace("-c 40000", "-c 3000")):
        done = run(*command, cwd=tmp_path)
        assert done.returncode == 0, (command, done.stderr)
    assert 90 < float(re.findall(r"[\d.]+", done.stdout.split("price")[-1])[0]) < 160


def test_the_python_of_the_readme_runs(folder):
    """After the commands above, in the same folder; ten lines, as promised."""
    _, code = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    accuracies = [float(x) for x in re.findall(r"^(?:un)?trained ([\d.]+)$", done.stdout, re.M)]
    assert accuracies[1] > accuracies[0]
    assert (folder / "my_model.tod").is_file()


def test_the_engines_of_the_inference_page_are_those_there_are():
    page = (ROOT / "docs" / "inference.md").read_text()
    for name, delegate in DELEGATES.items():
        (row,) = re.findall(rf"^\| `{name}` \|.*$", page, re.M)
        for cell in (delegate.platforms, delegate.precisions, delegate.install):
            assert cell in row


def test_the_own_network_of_the_readme_runs(folder):
    """Fifteen lines from a file to a trained model."""
    code, _ = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    (folder / "my_net.py").write_text(code)
    done = run("tod", "export", "my_net.py", "-o", "own.tod", cwd=folder)
    assert done.returncode == 0, done.stderr
    done = run("net_runner", "-f", "own.tod", "-d", "pictures", "-c", "20", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "accuracy on validation data" in done.stdout


def options(text: str) -> set[str]:
    """Whole ones: --head-std is no mention of --head."""
    return set(re.findall(r"--[a-z]+(?:-[a-z]+)*", text))


def help_of(*command: str) -> str:
    return run(*command, "--help", env={**os.environ, "COLUMNS": "200"}).stdout


def test_the_options_of_the_networks_page_are_those_of_export():
    page = options((ROOT / "docs" / "networks.md").read_text())
    known = options(help_of("tod", "export")) | options(help_of("tod", "convert"))
    assert page - known == {"--init", "--add-classes"}
    assert page >= {"--quantize", "--trainable"}


def test_the_options_of_the_inference_page_are_there():
    page = options((ROOT / "docs" / "inference.md").read_text()) - {"--use"}  # of onnxruntime
    used = ("convert", "predict", "export", "train", "compare")
    assert page <= set().union(*(options(help_of("tod", command)) for command in used))
    assert page >= {"--to", "--quantize", "--calibrate", "--max-drop"}


def test_the_table_lists_every_command():
    listed = re.findall(r"^\| `(?:tod )?([\w-]+)` \|", README, re.M)
    assert sorted(listed) == sorted([*COMMANDS, "net_runner"])


def test_the_tree_is_the_folder():
    tree = re.search(r"## Where things are\n\n```\n(.*?)```", README, re.S)[1]
    listed = {line.split("/")[0] for line in tree.splitlines() if line}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout
    folders = {line.split("/")[0] for line in tracked.splitlines() if "/" in line}
    if not folders:
        pytest.skip("not a git checkout")
    assert listed == {name for name in folders if not name.startswith(".")}


PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_the_figure_is_a_picture():
    root = ElementTree.parse(ROOT / "docs" / "how-it-works.svg").getroot()
    assert root.tag.endswith("svg")
    text = " ".join(root.itertext())
    assert all(name in text for name in manifest.GRAPHS)


@pytest.mark.parametrize(
    ("record", "part"), [(manifest.Manifest, "Manifest"), (Index, "dataset.json")]
)
def test_the_format_page_explains_every_field(record, part):
    """In the first column of the table of its part."""
    text = FORMAT.split(f"\n## {part}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?`) \|", text, re.M)
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert not set(record.__dataclass_fields__) - listed


def test_the_format_page_has_the_limits_of_the_code():
    assert f"at\nmost {graph.MAX_OPSET} and {graph.MAX_IR_VERSION} are read" in FORMAT
    assert f"| `manifest.json` | {manifest_checks._MAX_JSON_BYTES >> 20} MiB" in FORMAT
    assert f"| {limits.MAX_TEXT} characters" in FORMAT
    assert f"| {limits.MAX_ENTRIES:,}; tensors {manifest.MAX_TENSORS:,} |" in FORMAT
    assert f"included | {graph._MAX_VALUES:,} (" in FORMAT
    assert f"| {graph._MAX_TEXT_BYTES} bytes |" in FORMAT
    assert f"| {graph._MAX_NUMBERS} |" in FORMAT


def test_exit_codes_of_the_readme_are_those_of_the_help():
    from tod.cli.frame import EXIT_CODES

    said = re.sub(r"\s+", " ", README)
    assert EXIT_CODES.removeprefix("Exit codes: ") in said


def test_benchmarks_named_in_the_figures_exist():
    page = (ROOT / "docs/performance.md").read_text()
    names = set(re.findall(r"python -m benchmarks\.(\w+)", page))
    assert {"whole_job", "accuracy"} <= names <= {p.stem for p in (ROOT / "benchmarks").iterdir()}


def test_the_nightly_lines_of_the_devices_page_run(small_package, tmp_path):
    """As cron runs them, at two o'clock in the night and on power."""
    page = (ROOT / "docs" / "devices.md").read_text()
    lines = [found[1] for found in re.finditer(r"^(?:[0-9* ]+|@reboot) +(cd .*)$", page, re.M)]
    trains, again, promotes = lines
    assert trains == again
    home = tmp_path / "home"
    (home / "tod").mkdir(parents=True)
    package = home / "tod" / "package-arm64"
    shutil.copytree(small_package, package)
    # The launchers of this environment, as the package has no runtime.
    (package / "bin" / "tod").write_text(re.sub(r"net_runner(?=' \"\$@\")", "tod", LAUNCHER))
    supply = tmp_path / "root" / "sys/class/power_supply/ac"
    supply.mkdir(parents=True)
    (supply / "type").write_text("Mains\n")
    (supply / "online").write_text("1\n")
    ahead = (2 - time.gmtime().tm_hour) % 24  # where it is two o'clock now
    environment = {
        **os.environ, "HOME": str(home), "TZ": f"NIGHT-{ahead}",
        "TOD_SENSORS_ROOT": str(tmp_path / "root"),
    }  # fmt: skip
    for line in (trains, promotes):
        done = subprocess.run(
            ["sh", "-c", line], env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, (line, done.stderr)
        assert "paused" not in done.stderr
    trained = package / "model" / "transfer_learning_trained.tod"
    assert (package / "served.tod").read_bytes() == trained.read_bytes()


def test_the_options_of_the_devices_page_are_those_of_the_command():
    page = (ROOT / "docs" / "devices.md").read_text()
    part = page.split("## Only when it suits")[1].split("\n## ")[0]
    assert {"--between", "--resume"} <= options(part) <= options(help_of("net_runner"))
