"""The map of the house names every room, and only what there is."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
NAMED = sorted(set(re.findall(r"`(softoverlap(?:\.\w+)+)", PAGE)))


def rooms():
    package = ROOT / "softoverlap"
    for path in [*package.iterdir(), *(package / "app").iterdir()]:
        if path.name.startswith(("_", ".")) or path == package / "app":
            continue
        if path.suffix == ".py" or (path / "__init__.py").exists():
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("room", sorted(rooms()))
def test_every_room_has_its_line(room):
    assert f"`{room}`" in PAGE


@pytest.mark.parametrize("name", NAMED)
def test_what_the_page_names_is_there(name):
    module, _, attribute = name.rpartition(".")
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        assert hasattr(importlib.import_module(module), attribute)
