"""The examples of the pages on sets beyond boxes run, and their pictures are drawn."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.scripts import loaded_script

ROOT = Path(__file__).parents[2]
SAID = {
    "periodic": ["[[0.]]", "[[1.]]", "tensor([0, 2])", "box_giou.with_(period=(360.0, None))"],
    "time": ["0.7778", "tensor([0, 1, 2])", "[2.8000, 8.0000]", "7.7 of 8.0", "0.1000, 0.1000"],
    "soft_boxes": [
        "[0.4714, 0.0000, 0.4714, 3.2660]",
        "[0.7739],",
        "[0.6863]]",
        "tensor([[1.]])",
        "tensor([[0.7351, 0.6451]])",
        "tensor([2])",
        "PDQ 0.14, spatial 0.02",
        "PDQ 0.81, spatial 0.72",
    ],
}


@pytest.mark.parametrize("page", SAID)
def test_the_examples_run_and_print_what_is_expected(page, capsys):
    text = (ROOT / "docs" / f"{page}.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(examples) == (4 if page == "soft_boxes" else 3)
    for code in examples:
        exec(compile(code, f"{page}.md", "exec"), {})
    printed = capsys.readouterr().out
    assert [said for said in SAID[page] if said not in printed] == []


@pytest.mark.parametrize("script", ["periodic", "dwell", "soft_boxes"])
def test_the_pictures_are_drawn(script, tmp_path):
    with loaded_script(f"docs/figures/{script}.py") as module:
        module.draw().savefig(tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").stat().st_size > 10_000
    assert (ROOT / "docs" / "figures" / f"{script}.png").exists()
