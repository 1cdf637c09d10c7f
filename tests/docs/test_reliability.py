"""The page about damaged files says what the stored run says, and that run was of this corpus."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.fuzz.folders import COMMANDS, KINDS, commands_of
from tests.support.corpus import FAMILIES, SEED
from tests.support.scripts import loaded_script

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reliability.md").read_text()
STORED = json.loads((ROOT / "benchmarks/results/fuzz.json").read_text())
RUNS = [
    (family, command, run)
    for family, figures in STORED["families"].items()
    for command, run in figures["commands"].items()
]


def test_the_tables_of_the_page_are_the_stored_run():
    with loaded_script("docs/reliability.py") as script:
        assert set(script.WHAT) == set(KINDS)
        assert script.COMMANDS == COMMANDS
        assert script.with_tables(PAGE, STORED) == PAGE


def test_the_stored_run_was_of_every_family_and_command():
    assert STORED["seed"] == SEED
    assert [(family, command) for family, command, _ in RUNS] == [
        (kind, command) for kind in KINDS for command in commands_of(kind)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_stored_run_was_of_as_many_files_as_there_are(kind):
    assert STORED["families"][kind]["files"] == sum(1 for _ in KINDS[kind](SEED))


@pytest.mark.parametrize(("family", "command", "run"), RUNS)
def test_every_process_of_the_stored_run_kept_its_promises(family, command, run):
    assert run["status"] in (0, 1, 2)
    assert not run["traceback"]
    assert not run["stopped"]
    assert not run["unnamed"]
    assert run["mebibytes"] <= STORED["limits"]["mebibytes"]
    assert run["seconds"] <= STORED["limits"]["seconds"]


def test_the_limits_of_the_page_are_those_of_the_run():
    limits = STORED["limits"]
    assert f"{limits['mebibytes']} MiB" in PAGE
    assert f"{limits['seconds'] // 60} minutes" in PAGE
    assert sum(STORED["families"][name]["files"] for name in FAMILIES) == STORED["files"] >= 500


def test_the_page_can_be_found():
    assert "docs/reliability.md" in (ROOT / "README.md").read_text()
    assert re.search(r"^reliability$", (ROOT / "docs/index.md").read_text(), flags=re.MULTILINE)
