"""The page about anchors says what its picture's script finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from softoverlap.overlaps import mask_box_tversky
from tests.support.scripts import loaded_script

ROOT = Path(__file__).parents[2]
PAGE = " ".join((ROOT / "docs/anchors.md").read_text().split())


@pytest.fixture(scope="module")
def script():
    with loaded_script("docs/figures/tversky_pull.py") as module:
        yield module


def test_the_sides_of_the_page_are_those_of_the_picture(script):
    core, rim = 2 * script.CORE, 2 * script.RIM
    assert f"core of {core:.0f} voxels and a rim of {rim:.0f} voxels across" in PAGE
    assert script.UNSURE == 0.25
    mask = script.soft_lesion()
    dice, iou, milder, stronger = (
        script.best_side(mask, overlap) for _, overlap, _, _ in script.SETTINGS
    )
    assert dice == iou
    assert f"for Dice the best box is that of the core, {dice:.0f} voxels" in PAGE
    assert f"the best box has a mean side of {milder:.0f} voxels, with 0.1 and 0.9" in PAGE
    assert f"with 0.1 and 0.9 of {stronger:.0f}" in PAGE


@pytest.mark.parametrize("unsure", [0.15, 0.25, 0.4])
def test_a_smaller_alpha_never_has_a_smaller_best_box(script, unsure):
    mask = script.soft_lesion(unsure)
    sides = [
        script.best_side(mask, mask_box_tversky.with_(alpha=alpha, beta=1 - alpha))
        for alpha in (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
    ]
    assert sides == sorted(sides, reverse=True)
    assert sides[0] > 2 * script.CORE > sides[-1]


def test_the_picture_is_there():
    assert "figures/tversky_pull.png" in PAGE
    assert (ROOT / "docs/figures/tversky_pull.png").exists()
