"""Folders of damaged files in a process each: a status, a line for each file, no traceback."""

from __future__ import annotations

import pytest

from tests.fuzz.folders import COMMANDS
from tests.fuzz.runs import run
from tests.support.corpus import FAMILIES, SEED

EVERY = {"meta": 9, "coco": 16}
"""A part of two families, which stands for the rest: `make fuzz` runs all of them."""


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("family", EVERY)
def test_a_command_names_every_damaged_file_and_goes_on(tmp_path, family, command):
    if family == "coco" and command in ("boxes", "train"):
        pytest.skip("takes no boxes")
    items = list(FAMILIES[family](SEED))[:: EVERY[family]]
    ended = run(family, command, items, tmp_path / "work")
    assert ended.holds, ended.line()
    assert ended.status == 1
    assert 0 < ended.refused < len(items)
