"""The examples of the README run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
LINKS = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda code: code.split("import ")[-1][:24])
def test_an_example_of_the_readme_runs(example, capsys):
    exec(compile(example, "README.md", "exec"), {})
    assert "nan" not in capsys.readouterr().out


def test_there_is_an_example_for_loss_metric_overlap_and_anchors():
    for name in ("SoftDiceLoss", "SoftDiceMetric", "mask_box_dice", "anchor_quality"):
        assert any(name in example for example in EXAMPLES)


@pytest.mark.parametrize("link", LINKS)
def test_a_link_of_the_readme_leads_somewhere(link):
    assert (ROOT / link).exists()


@pytest.mark.parametrize("page", ["anchors", "weak_supervision"])
def test_the_examples_of_a_page_run(page):
    text = (ROOT / "docs" / f"{page}.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    whole = [code for code in examples if "import" in code]
    assert whole
    scope = {}
    for code in whole:
        exec(compile(code, f"{page}.md", "exec"), scope)
    losses = [scope[name] for name in ("loss", "losses") if name in scope]
    assert losses
