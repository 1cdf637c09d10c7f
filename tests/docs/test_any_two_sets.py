"""The examples of the pages on any two sets run, and their pictures are drawn."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.scripts import loaded_script

ROOT = Path(__file__).parents[2]
SAID = {
    "periodic": ["[[0.]]", "[[1.]]", "tensor([0, 2])", "box_giou.with_(period=(360.0, None))"],
    "time": ["0.7778", "tensor([0, 1, 2])", "[2.8000, 8.0000]", "7.7 of 8.0", "0.1000, 0.1000"],
    "occlusion": [
        "[0.5000, 0.6400, 0.5000]", "[0.5000, 1.0000, 0.5000]", "[0.5000, 1.0000, 0.4667]",
        "'box_regression', 'classification'] True", "truncation=0.25, localisation=0.0909",
        "tensor([0.5000, 0.0000]) tensor([[-4.,  2.,  4., 10.]])",
    ],
    "regions": ["1100 mm²", "on plain axes 0.000", "soft 0.538", "False,  True,  True"],
    "oriented": [
        "tensor([0, 1])", "IoULoss False", "DIoULoss True", "tensor(True)", "1.0\n0.0", "0.8338",
    ],
    "soft_boxes": [
        "[0.4714, 0.0000, 0.4714, 3.2660]", "[0.7739],", "[0.6863]]", "tensor([[1.]])",
        "tensor([[0.7351, 0.6451]])", "tensor([2])", "PDQ 0.14, spatial 0.02",
        "PDQ 0.81, spatial 0.72",
    ],
    "lesion_losses": [
        "image 0.005, of the lesions 0.500", "(2, 1, 32, 32, 32) True",
        "share: calibration 0.00", "too sure: calibration",
    ],
    "balls": ["tensor([1])", "Hit(overlap=ball_iou, threshold=0.1", "[inf, 0.95, 0.9, 0.8, 0.7]"],
}  # fmt: skip


@pytest.mark.parametrize("page", SAID)
def test_the_examples_run_and_print_what_is_expected(page, capsys):
    text = (ROOT / "docs" / f"{page}.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(examples) >= 3
    for code in examples:
        exec(compile(code, f"{page}.md", "exec"), {})
    printed = capsys.readouterr().out
    assert [said for said in SAID[page] if said not in printed] == []


@pytest.mark.parametrize("page", SAID)
def test_the_pictures_are_drawn(page, tmp_path):
    script = {"time": "dwell"}.get(page, page)
    with loaded_script(f"docs/figures/{script}.py") as module:
        module.draw().savefig(tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").stat().st_size > 10_000
    assert (ROOT / "docs" / "figures" / f"{script}.png").exists()
