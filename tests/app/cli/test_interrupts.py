"""Ctrl-C: heard by every command wherever it comes, also in a destructor, where Python drops it."""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
import threading

import pytest
import torch
from typer.testing import CliRunner

from softoverlap.app.cli import app, interrupts, viewer
from softoverlap.app.train import write_checkpoint
from softoverlap.images import write_boxes, write_phantoms
from softoverlap.phantoms import LesionPhantoms
from tests.support import report_results
from tests.support.checkpoints import small_detector
from tests.support.cohort_makers import write_cohort

NOTICE = "stopping after the {} in hand; press Ctrl-C again to stop at once\n"
ignores_what_python_drops = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


class _Interrupts:
    """Ctrl-C comes while this is destroyed."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)
        for _ in range(100):  # the handler runs in here
            pass


def interrupt_in_a_destructor():
    _Interrupts()


def interrupt_twice():
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)


@pytest.fixture
def interrupted(monkeypatch):
    """Interrupt a function as one of its calls begins; which calls came to their end."""

    def patch(place, interrupt=interrupt_in_a_destructor, at=2):
        module, _, names = place.partition(":")
        owner = importlib.import_module(module)
        *classes, name = names.split(".")
        for one in classes:
            owner = getattr(owner, one)
        real, begun, done = getattr(owner, name), [], []

        def function(*args, **options):
            begun.append(name)
            if len(begun) == at:
                interrupt()
            result = real(*args, **options)
            done.append(name)
            return result

        monkeypatch.setattr(owner, name, function)
        return done

    return patch


def run(*arguments, status=130):
    """Run the command in this process; what it printed, and the old handler is back."""
    before = signal.getsignal(signal.SIGINT)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    assert signal.getsignal(signal.SIGINT) is before
    return result.output


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What the commands read: three of each kind."""
    folder = tmp_path_factory.mktemp("files")
    write_cohort(folder / "cohort", 3)
    write_cohort(folder / "fewer", 2)
    report_results.write_cohort(folder / "page")
    write_phantoms(folder / "data", 3, seed=0, shape=(24, 24, 16))
    write_checkpoint(folder / "checkpoint.pt", small_detector(spacing=[1.0, 1.0, 1.5]))
    (folder / "marks").mkdir()
    for case in "abc":
        box = torch.tensor([[1.0, 2, 2, 5, 5, 4]])
        write_boxes(folder / "marks" / f"{case}.json", box, affine=torch.eye(4))
    return folder


ITEM_BY_ITEM = {
    "score": (
        "score cohort/pred cohort/truth --output OUT",
        "softoverlap.app.cohort.run:score_safely",
    ),
    "report": (
        "report page/results --output OUT.html",
        "softoverlap.app.report._worst_cards:_draw",
    ),
    "viewer": (
        "report page/results --viewer OUT", "softoverlap.app.report.viewer.folder:_write_volume",
    ),
    "boxes": ("boxes cohort/truth --output OUT", "softoverlap.app.cli.boxes:boxes_of_mask"),
    "convert": ("convert marks OUT.csv --from json --to csv", "softoverlap.images:read_box_files"),
    "fuse": ("fuse data --output OUT", "softoverlap.app.cli.fusing:fuse_files"),
    "inspect": ("inspect cohort/truth", "softoverlap.app.cli.images:contents_of"),
    "detect": (
        "detect checkpoint.pt data --output OUT --device cpu", "softoverlap.app.train.files:detect",
    ),
    "phantoms": ("phantoms --output OUT --count 3", "softoverlap.images.phantom_files:_write"),
    "train": (
        "train --data data --output OUT --validation 0 --patch 16 --batch 1 --steps 3 --device cpu",
        "softoverlap.for_monai.engine.inferer:DetectionLoss.forward",
    ),
}  # fmt: skip
KEPT = {
    "score": ("scores.jsonl", 3, "the same command goes on from there"),  # the settings, two cases
    "boxes": ("cases.csv", 3, "2 of 3 masks are done"),
    "fuse": ("fused.csv", 3, "2 of 3 cases are done"),
    "detect": ("scans.csv", 3, "2 of 3 scans are done"),
}


def arguments_of(command, files, output):
    """The words of the command line, with paths in place of names."""
    for word in command.split():
        if word.startswith("OUT"):
            yield f"{output}{word[3:]}"
        else:
            yield files / word if (files / word).exists() else word


@ignores_what_python_drops
@pytest.mark.parametrize("name", ITEM_BY_ITEM)
def test_ctrl_c_in_a_destructor_stops_a_command_after_what_is_in_hand(
    name, files, tmp_path, interrupted, capfd
):
    command, place = ITEM_BY_ITEM[name]
    output, done = tmp_path / "out", interrupted(place)
    text = run(*arguments_of(command, files, output))
    assert "interrupted" in text
    assert len(done) == 2
    what = {"train": "step", "inspect": "file"}.get(name, "case")
    assert NOTICE.format(what) in capfd.readouterr().err
    if name in KEPT:
        table, lines, words = KEPT[name]
        assert words in text
        assert len((output / table).read_text().splitlines()) == lines
    if name == "train":
        assert "no epoch is whole yet, so there is no checkpoint" in text
    if name in ("report", "convert"):
        assert not list(tmp_path.iterdir())


ALONE = {
    "fuse": (
        "fuse data/raters/phantom-0000_rater1.nii.gz data/raters/phantom-0000_rater2.nii.gz "
        "--output OUT.nii.gz",
        "softoverlap.app.cli.images:fuse_files",
    ),
    "dry run": ("score cohort/pred cohort/truth --dry-run", "softoverlap.app.cohort:find_pairs"),
    "status 1": ("score cohort/pred fewer/truth --dry-run", "softoverlap.app.cohort:find_pairs"),
}


@ignores_what_python_drops
@pytest.mark.parametrize("name", ALONE)
def test_ctrl_c_that_nothing_could_stop_gives_its_status(name, files, tmp_path, interrupted):
    command, place = ALONE[name]
    assert interrupted(place, at=1) == []
    text = run(*arguments_of(command, files, tmp_path / "out"))
    assert "interrupted: nothing was left to do" in text


@ignores_what_python_drops
def test_ctrl_c_before_the_first_case_stops_there(files, tmp_path, interrupted):
    done = interrupted("softoverlap.app.cohort.run:score_safely")
    interrupted("softoverlap.app.cohort:find_pairs", at=1)
    run(*arguments_of(ITEM_BY_ITEM["score"][0], files, tmp_path / "out"))
    assert not done
    assert not (tmp_path / "out").exists()


@ignores_what_python_drops
def test_ctrl_c_in_a_destructor_stops_the_viewer_too(files, monkeypatch):
    asked = []

    def interrupt_first():
        asked.append(len(asked))
        if len(asked) == 1:
            interrupt_in_a_destructor()
        interrupts.stop_if_interrupted()

    monkeypatch.setattr(viewer, "stop_if_interrupted", interrupt_first)
    text = run("report", files / "page" / "results", "--serve", status=0)
    assert text.endswith("stopped\n")
    assert len(asked) == 1


@ignores_what_python_drops
def test_ctrl_c_in_a_part_of_the_demo_ends_it_before_the_next(tmp_path, monkeypatch):
    parts = []

    def run_demo(output, options, *, say, **more):
        for part in ("phantoms", "training"):
            say(part)
            parts.append(part)
            interrupt_in_a_destructor()

    monkeypatch.setattr("softoverlap.app.demo.run_demo", run_demo)
    run("demo", "--output", tmp_path / "demo")
    assert parts == ["phantoms"]


@pytest.mark.parametrize("name", ["score", "boxes", "fuse", "detect"])
def test_a_second_ctrl_c_drops_what_is_in_hand_and_keeps_the_rest(
    name, files, tmp_path, interrupted
):
    command, place = ITEM_BY_ITEM[name]
    done = interrupted(place, interrupt_twice)
    text = run(*arguments_of(command, files, tmp_path / "out"))
    table, lines, words = KEPT[name]
    assert words.replace("2 of", "1 of") in text
    assert len((tmp_path / "out" / table).read_text().splitlines()) == lines - 1
    assert len(done) == 1


@ignores_what_python_drops
def test_what_was_scored_before_ctrl_c_is_not_scored_again(files, tmp_path, interrupted):
    command = list(arguments_of(ITEM_BY_ITEM["score"][0], files, tmp_path / "out"))
    interrupted(ITEM_BY_ITEM["score"][1])
    run(*command)
    assert "3 cases scored, 2 of them by an earlier run" in run(*command, status=0)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["n"] == 3


def test_phantoms_go_on_where_ctrl_c_ended_them(tmp_path, interrupted):
    interrupted("softoverlap.images.phantom_files:_write", interrupt_twice)
    command = ["phantoms", "--output", tmp_path, "--count", 2]
    run(*command)
    assert [path.name for path in (tmp_path / "boxes").iterdir()] == ["phantom-0000.json"]
    run(*command, status=0)
    assert len(list((tmp_path / "boxes").iterdir())) == len(LesionPhantoms(0, count=2))


def test_a_third_ctrl_c_ends_the_process_whatever_it_does():
    code = """if True:
        import signal
        from softoverlap.app.cli.interrupts import finish_first, hear_interrupts
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with hear_interrupts(), finish_first("case"):
            for _ in range(3):
                try:
                    signal.raise_signal(signal.SIGINT)
                except KeyboardInterrupt:
                    print("raised", flush=True)
        """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == -signal.SIGINT
    assert (result.stdout, result.stderr) == ("raised\n", NOTICE.format("case"))


def test_ctrl_c_stays_ignored_where_it_was_and_is_left_alone_beside_the_main_thread():
    before, seen = signal.signal(signal.SIGINT, signal.SIG_IGN), []

    def look():
        with interrupts.hear_interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    try:
        look()
        signal.signal(signal.SIGINT, before)
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIG_IGN, before]
