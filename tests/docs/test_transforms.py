"""The page "Lesions through MONAI's transforms": its examples run, and give what it says."""

from __future__ import annotations

import re
from pathlib import Path

import torch

import softoverlap

PAGE = (Path(__file__).parents[2] / "docs/transforms.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def run(code):
    scope = {}
    exec(compile(code, "transforms.md", "exec"), scope)
    return scope


def test_the_example_gives_patches_with_both_lesions(capsys):
    torch.manual_seed(0)
    batch = run(EXAMPLES[0])["batch"]
    assert batch["image"].shape == (4, 1, 32, 32, 24)
    assert len(batch["boxes"]) == len(batch["lesions"]) == 4
    found = {lesion.existence for lesions in batch["lesions"] for lesion in lesions}
    assert found == {0.5, 1.0}
    assert "existence 0.5" in capsys.readouterr().out


def test_a_box_comes_back_flipped():
    out = run(EXAMPLES[1])
    boxes = out["transforms"](out["item"])["boxes"]
    expected = torch.tensor([[18.75, 9.25, 5.75, 25.25, 15.75, 12.25]])
    torch.testing.assert_close(boxes, expected, atol=1e-4, rtol=0)


def test_every_transform_is_on_the_page():
    named = set(re.findall(r"`(\w+)`", PAGE))
    offered = {n for n in softoverlap.__all__ if n.endswith(("sd", "Mapd"))}
    assert offered == {n for n in named if n in offered}
    assert len(offered) == 6
