"""The commands and the script of the guide to the bundle run, on scans of a few voxels."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import fire
import monai.bundle
import pytest

from softoverlap import bundles
from softoverlap.anchors import AnchorPlan
from softoverlap.bundles import LESION_DETECTION, LESION_SEGMENTATION
from softoverlap.images import write_json
from tests.support.bundle_runs import TINY, TRAINING, curve, tiny_scans
from tests.support.pages import page_text

ADDED = {"checkpoint.pt", "validation.json", "evaluation", "config.json", "train.log"}
"""What the command `train` leaves beside what the bundle does."""
DRAWN = {"curve.png", "pictures"}
"""What the tiny runs leave out; the guides' test sees them."""
PAGE = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def commands():
    """The lines of all shell blocks, each whole, with the folder of the bundle filled in."""
    folder = None
    for line in "\n".join(blocks("bash")).replace("\\\n", " ").splitlines():
        named = re.match(r"BUNDLE=.* import (\w+) as ", line)
        folder = getattr(bundles, named[1]) if named else folder
        if line.strip():
            yield line.replace("$BUNDLE", str(folder))


UNET = {"patch_size": [16] * 3, "channels": [8, 8, 8], "workers": 0}


def run_here(words):
    """A run of MONAI's command in this process, with a network and patches that are tiny."""
    if any(str(LESION_SEGMENTATION) in word for word in words):
        known = {} if any("inference.yaml" in word for word in words) else UNET
        return run_with(words, known)
    infers = any("inference.yaml" in word for word in words)
    planned = any("plan.json" in word for word in words)
    left_out = ("tensorboard", *(TRAINING if infers else ()), *(("strides",) if planned else ()))
    return run_with(words, {key: value for key, value in TINY.items() if key not in left_out})


def run_with(words, settings):
    tiny = [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    fire.Fire({"run": monai.bundle.run}, command=[*words, *tiny, "--logging_file", "False"])


def test_the_commands_of_the_page_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written = re.findall(r"```yaml\n(.*?)```", page_text("train.md"), flags=re.DOTALL)
    (mine,) = (text for text in written if "# mine.yaml" in text)
    Path("mine.yaml").write_text(mine)
    ran = []
    for line in commands():
        words = shlex.split(line)
        if words[:2] == ["softoverlap", "plan"]:
            plan = AnchorPlan(strides=[[2] * 3, [4] * 3], sizes=[[[3] * 3], [[5] * 3, [8] * 3]])
            write_json(words[words.index("--output") + 1], plan.to_dict())
        elif words[0] == "softoverlap":
            assert words == ["softoverlap", "phantoms", "--output", "phantoms", "--count", "8"]
            tiny_scans(tmp_path / "phantoms", count=8)
        elif words[:3] == ["python", "-m", "monai.bundle"]:
            run_here(words[3:])
            ran.append(words)
        else:  # what another test runs under torchrun, and where the bundle is
            assert words[0] == "torchrun" or line.startswith("BUNDLE=$(python -c ")
    assert len(ran) == 9
    assert [row["epoch"] for row in curve(tmp_path / "runs" / "mine")] == ["1", "2", "3"]
    listed = re.findall(r"^\| `([a-z]+(?:\.[a-z]+)?)/?` \|", page_text("train.md"), re.MULTILINE)
    for name in set(listed) - ADDED - DRAWN:
        assert (tmp_path / "runs" / "mine" / name).exists(), name
    assert len(list((tmp_path / "runs" / "mine" / "boxes").iterdir())) == 8
    assert len(list((tmp_path / "runs" / "unet" / "probabilities").iterdir())) == 8
    look, _ = blocks("python")
    scope = {}
    exec(look.replace("parser[", 'parser["workers"] = 0\nparser[', 1), scope)
    assert scope["batch"]["image"].shape == (4, 1, 48, 48, 48)


def test_the_script_of_the_page_prints_the_losses(capsys):
    _, code = blocks("python")
    exec(compile(code, "bundle.md", "exec"), {})
    assert capsys.readouterr().out.splitlines()[-1] == "['box_regression', 'classification']"


@pytest.mark.parametrize("name", re.findall(r"configs/(\w+\.yaml)", PAGE))
def test_the_files_that_the_page_names_are_there(name):
    assert (LESION_DETECTION / "configs" / name).is_file()
