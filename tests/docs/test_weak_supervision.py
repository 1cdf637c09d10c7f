"""The page "Learning from boxes" says what the stored run says, and its script works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks/weak_supervision.py"
STORED = json.loads((ROOT / "benchmarks/results/weak_supervision.json").read_text())
PAGE = (ROOT / "docs/weak_supervision.md").read_text()
WAYS = STORED["ways"]


def test_the_table_is_the_stored_run():
    lines = PAGE[PAGE.index("| learnt from |") :].splitlines()[2:]
    rows = [line.strip("| ").split(" | ") for line in lines]
    rows = rows[: next(k for k, line in enumerate(lines) if not line.startswith("|"))]
    expected = [
        [
            way,
            f"{figures['mean']:.3f}",
            f"{figures['lowest']:.3f} – {figures['highest']:.3f}",
            f"{100 * figures['share_of_masks']:.0f} %",
        ]
        for way, figures in WAYS.items()
    ]
    assert rows == expected


def test_the_settings_of_the_page_are_those_of_the_run():
    settings = STORED["settings"]
    assert len(settings["seeds"]) == 3
    for words in (
        f"{settings['training_scans']} scans",
        f"{settings['patch_side']}³",
        f"{settings['steps']} steps",
        f"weight of {settings['background_weight']:g}",
        f"between {settings['size_low']:g} and {settings['size_high']:g}",
        f"Dice would be {STORED['the boxes themselves']:.3f}",
    ):
        assert words in PAGE, words


def test_the_summaries_follow_from_the_runs():
    full = WAYS["masks"]["soft_dice"]
    for figures in WAYS.values():
        dice = figures["soft_dice"]
        assert figures["mean"] == pytest.approx(sum(dice) / len(dice))
        assert figures["lowest"] == min(dice)
        assert figures["highest"] == max(dice)
        assert figures["share_of_masks"] == pytest.approx(sum(dice) / sum(full))


def test_the_words_below_the_table_are_the_stored_run():
    boxes, filled = WAYS["boxes"], WAYS["filled boxes"]
    text = " ".join(PAGE.split())
    assert f"reaches {100 * boxes['share_of_masks']:.0f} % of the soft Dice" in text
    assert f"on the worst seed {100 * boxes['lowest_share_of_masks']:.0f} %" in text
    assert f"and {boxes['mean'] - filled['mean']:.2f} more than from filled boxes" in text
    assert WAYS["boxes, no size prior"]["mean"] < filled["mean"]
    maps = STORED["example"]["maps"]
    filling = {way: sum(int(v) for row in rows for v in row.split()) for way, rows in maps.items()}
    for way in ("boxes, no size prior", "boxes, neither"):
        assert filling[way] < filling["boxes"] / 2
    image_term = [
        a - b
        for a, b in zip(boxes["soft_dice"], WAYS["boxes, no image term"]["soft_dice"], strict=True)
    ]
    assert min(image_term) < 0 < max(image_term)  # no difference that three seeds could show


def test_boxes_reach_four_fifths_of_masks_and_beat_filled_boxes_on_every_seed():
    assert WAYS["boxes"]["lowest_share_of_masks"] >= 0.8
    for boxes, filled in zip(
        WAYS["boxes"]["soft_dice"], WAYS["filled boxes"]["soft_dice"], strict=True
    ):
        assert boxes > filled + 0.05


def test_the_picture_of_the_page_is_there():
    assert "figures/weak_supervision.png" in PAGE
    assert (ROOT / "docs/figures/weak_supervision.png").exists()


@pytest.mark.slow
def test_the_fast_setting_of_the_script_runs():
    before = (ROOT / "benchmarks/results/weak_supervision.json").read_bytes()
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, str(SCRIPT), "--fast"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
    )
    printed = json.loads(result.stdout[result.stdout.index("{\n") :])
    assert printed["fast"] is True
    assert set(printed["ways"]) == set(WAYS)
    assert all(0 < way["mean"] < 1 for way in printed["ways"].values())
    assert (ROOT / "benchmarks/results/weak_supervision.json").read_bytes() == before
