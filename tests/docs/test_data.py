"""The page about training data runs, and lists every layout."""

from __future__ import annotations

import re
from pathlib import Path

from softoverlap.images import LAYOUTS

PAGE = (Path(__file__).parents[2] / "docs/data.md").read_text()


def test_the_examples_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    examples = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        exec(compile(example, "data.md", "exec"), scope)


def test_the_table_names_every_layout():
    named = re.findall(r"^\|[^|]+\| `(\w+)` \|", PAGE, flags=re.MULTILINE)
    assert tuple(named) == tuple(LAYOUTS)
