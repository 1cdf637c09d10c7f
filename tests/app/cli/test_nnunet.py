"""The command nnunet: a folder, fit for a variable of the environment."""

from __future__ import annotations

import subprocess
import sys

from softoverlap.for_nnunet import TRAINERS_FOLDER


def test_it_prints_the_folder_and_nothing_else_and_needs_no_nnunet():
    command = [sys.executable, "-m", "softoverlap", "nnunet"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{TRAINERS_FOLDER}\n"
    assert done.stderr == ""
    assert [path.suffix for path in TRAINERS_FOLDER.iterdir() if path.is_file()] == [".py"]
