"""The page on nnU-Net names the trainers there are; `make nnunet` runs its commands."""

from __future__ import annotations

import json
import re
from pathlib import Path

from softoverlap.for_nnunet import TRAINERS_FOLDER
from tests.support.pages import page_text, pictures
from tests.support.scripts import loaded_script

PAGE = page_text("nnunet.md")


def test_the_page_lists_every_trainer():
    (file,) = TRAINERS_FOLDER.glob("*.py")
    listed = re.findall(r"^\| `(nnUNetTrainer\w+)` \|", PAGE, flags=re.MULTILINE)
    assert sorted(listed) == re.findall(r" as (\w+)", file.read_text(encoding="utf-8"))


def test_no_loss_of_the_stored_run_took_more_of_a_step_than_the_page_says():
    stored = Path(__file__).parents[2] / "benchmarks/results/nnunet_loss.json"
    (percent,) = re.findall(r"no loss took more than (\d+) % of a step", " ".join(PAGE.split()))
    assert max(json.loads(stored.read_text())["share_of_step"].values()) < int(percent) / 100


def test_the_picture_is_drawn(tmp_path):
    with loaded_script("docs/figures/nnunet.py") as module:
        module.draw().savefig(tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").stat().st_size > 10_000
    assert all(path.exists() for path in pictures(PAGE))
