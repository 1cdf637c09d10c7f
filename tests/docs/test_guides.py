"""The guides' commands and code run one after the other, on scans of a few voxels."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
import warnings
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import RandGaussianNoised
from typer.testing import CliRunner

from softoverlap import box_iou, lesions_from_mask
from softoverlap.anchors import AnchorPlan
from softoverlap.app.cli import app
from softoverlap.app.train import load_checkpoint, training_config
from softoverlap.images import read_boxes, write_json
from tests.support.bundle_runs import tiny_scans
from tests.support.monai_detection import write_data
from tests.support.pages import blocks, commands, page_text, pictures, run_page
from tests.support.scripts import loaded_script

ROOT = Path(__file__).parents[2]
GUIDES = ("install.md", "train.md", "detect.md", "coming_from_monai.md", "bundle.md")
TINY = {"patch_size": [16] * 3, "channels": [8, 8], "feature_channels": 8, "batch_size": 2}
OPTIONS = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]


def softoverlap(words):
    """A command in this process, with a training of few steps and channels."""
    training = words[0] == "train" and "--dry-run" not in words
    if training:
        words = [*words, *OPTIONS, *(() if "--steps" in words else ("--steps", "2"))]
        words += () if "--plan" in words else ("--set", "strides=[2,2]")
        words += () if "runs/mine" in words else ("--set", "pictures=0")
        words += ("--set", "lowest_score=0.0") if "runs/brain" in words else ()  # so that it finds
        words = ["3" if word == "2000" else word for word in words]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output


def export(checkpoint, folder):
    """The half of an export that takes no ten seconds; the whole has a test of its own."""
    folder.mkdir()
    network = load_checkpoint(checkpoint, device="cpu").detector.network
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(network), folder / "model.ts")


def run(words):
    """A command of a guide: phantoms are tiny, and so is the plan."""
    name, *rest = words
    if words[:2] == ["softoverlap", "phantoms"]:
        folder, count = rest[rest.index("--output") + 1], rest[rest.index("--count") + 1]
        tiny_scans(Path(folder), count=min(int(count), 4))
    elif words[:2] == ["softoverlap", "plan"]:
        plan = AnchorPlan(strides=[[2] * 3, [4] * 3], sizes=[[[3] * 3], [[5] * 3, [8] * 3]])
        write_json(Path(rest[rest.index("--output") + 1]), plan.to_dict())
    elif words[:2] == ["softoverlap", "export"]:
        export(*map(Path, (rest[1], rest[3])))
    elif name == "softoverlap":
        softoverlap(rest)
    elif name == "mkdir":
        Path(*rest).mkdir()
    else:
        assert name == "cp"
        *sources, folder = rest
        for source in sources:
            for path in Path().glob(source):
                shutil.copy(path, folder)


def shortened(code):
    """A training in a script, of few steps and channels."""
    return code.replace(
        'settings={"steps": 1000}', f"settings={ {**TINY, 'steps': 2, 'pictures': 0} }"
    )


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_of_the_installation_run(here):
    run_page("install.md", run)
    assert (here / "phantom.png").read_bytes()[1:4] == b"PNG"


def test_the_extras_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.findall(r"^\| `(\w+)` \|", page_text("install.md"), flags=re.MULTILINE)
    assert set(named) == set(project["optional-dependencies"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder after the page on training."""
    folder = tmp_path_factory.mktemp("guides")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        _, code = blocks(page_text("data.md"), "python")[0]
        exec(compile(code, "data.md", "exec"), {})
        run_page("train.md", run, shortened)
    return folder


@pytest.mark.slow
def test_a_training_leaves_what_the_page_lists(trained):
    listed = re.findall(r"^\| `(.*?)`(?:, `(.*?)`)? \|", page_text("train.md"), flags=re.MULTILINE)
    names = [name for row in listed for name in row if name and not name.startswith("--")]
    assert len(names) >= 10
    for name in names:
        if name != "tensorboard/":
            pattern = name.rstrip("/").replace("=N", "=*")
            assert list((trained / "runs" / "mine").glob(pattern)), name


def test_the_augmentation_of_the_page_is_added_and_one_of_the_others_changed(here):
    (text,) = (text for _, text in blocks(page_text("train.md"), "yaml") if "noise.yaml" in text)
    Path("noise.yaml").write_text(text)
    (words,) = (
        words
        for _, text in blocks(page_text("train.md"), "sh")
        for words in commands(text)
        if "noise.yaml" in words
    )
    name, value = words[words.index("--set") + 1].split("=")
    before = training_config("d", "o")["train"]["augmentation"]
    made = training_config("d", "o", config=["noise.yaml"], settings={name: float(value)})
    after = made["train"]["augmentation"]
    changed = {**before[3], "factors": 0.4}
    assert after[:-1] == [*before[:3], changed, *before[4:]]
    assert changed["_target_"] == "RandScaleIntensityd"
    parsed = ConfigParser({"noise": after[-1]}).get_parsed_content("noise")
    assert isinstance(parsed, RandGaussianNoised)


@pytest.mark.slow
def test_the_commands_of_the_page_on_detection_run(trained, monkeypatch):
    monkeypatch.chdir(trained)
    run_page("detect.md", run)
    listed = re.findall(r"^\| `(.*?)`(?:, `(.*?)`)? \|", page_text("detect.md"), flags=re.MULTILINE)
    for name in (name for row in listed for name in row if name):
        assert (trained / "found" / name.replace("SCAN", "phantom-0000")).is_file(), name
    assert (trained / "results" / "report.html").is_file()
    check_classes(trained)


def check_classes(folder):
    """Boxes have the values of label maps, and are scored together and class by class."""
    files = (folder / "found_brain").glob("*_boxes.json")
    assert {label for path in files for label in read_boxes(path).labels.tolist()} == {1, 2}
    results = folder / "results"
    together, apart = (
        json.loads((results / name / "summary.json").read_text())
        for name in ("together", "by_class")
    )
    assert together["counts"]["lesions"] == 24
    assert "classes are not told apart" in (results / "together" / "methods.txt").read_text()
    lesions = {name: part["counts"]["lesions"] for name, part in apart["labels"].items()}
    assert lesions == {"1": 12, "2": 12}


@pytest.mark.slow
def test_the_list_of_the_tutorial_trains(here):
    (here / "luna").mkdir()
    path = write_data(here / "luna")
    listed = json.loads(path.read_text())
    for box in (box for part in listed.values() for entry in part for box in entry["box"]):
        box[:2] = -box[0], -box[1]  # LUNA16's millimetres point to LPS
    path.write_text(json.dumps(listed))
    scope = run_page("coming_from_monai.md", run, with_a_detector)
    assert scope["metric"].aggregate() == 1


def with_a_detector(code):
    """The line about the loss speaks of a detector of the reader's own."""
    made = "import torch\nfrom softoverlap import lesion_retinanet\n"
    made += "detector = RetinaNetDetector(lesion_retinanet())\n"
    return made + code if code.startswith("detector.") else code


def test_the_picture_of_a_turned_lesion_shows_what_the_page_says():
    with loaded_script("docs/figures/turned_lesion.py") as script:
        still, turned = script.turned(0.0), script.turned(script.ANGLE)
    assert torch.equal(still["box"].float(), still["boxes"].float())
    assert box_iou(turned["box"].float(), turned["boxes"].float()) < 0.5
    (anew,) = lesions_from_mask(turned["mask"][0].as_tensor(), spacing=(1.0, 1.0, 1.0))
    assert (turned["boxes"][0] - anew.box).abs().max() <= 1


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_has_a_picture_and_is_linked(guide):
    assert list(pictures(page_text(guide)))
    assert all(path.is_file() for path in pictures(page_text(guide)))
    assert f"\n{guide.removesuffix('.md')}\n" in page_text("index.md")
    assert f"](docs/{guide})" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_pictures_are_of_the_scans_that_the_page_says():
    with loaded_script("docs/figures/guides.py") as script:
        words = " ".join(page_text("train.md").split())
        assert f"a short run on {script.SCANS} such scans" in words


def test_lines_of_the_guides_are_short():
    for guide in GUIDES:
        assert max(map(len, page_text(guide).splitlines())) <= 120, guide
