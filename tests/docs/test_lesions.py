"""The page on lesions of a segmentation: its code and its commands run, its picture is drawn."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import torch
from typer.testing import CliRunner

from softoverlap.app.cli import app
from softoverlap.images import save_nifti
from tests.support.scripts import loaded_script
from tests.support.segmented import AFFINE, segmented_scan

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "lesions.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_examples_run_and_print_what_is_expected(capsys):
    for code in blocks("python"):
        exec(compile(code, "lesions.md", "exec"), {})
    printed = capsys.readouterr().out
    said = ["tensor([0.9474, 0.7500]", "CPM 1.00", "[0.6750, 0.3000]", "Brier 0.2"]
    assert [words for words in said if words not in printed] == []


def test_the_commands_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(6):
        truth, found = segmented_scan(number)
        side = "val" if number < 4 else "test"
        for name, mask in ((f"{side}_maps", found), (f"{side}_masks", truth)):
            Path(name).mkdir(exist_ok=True)
            save_nifti(Path(name, f"sub-{number}.nii.gz"), mask, AFFINE)
    for fold in range(3):
        Path(f"fold_{fold}").mkdir()
        save_nifti(Path(f"fold_{fold}", "sub-5.nii.gz"), found, AFFINE)
    Path("nnunet_predictions").mkdir()
    both = torch.stack([1 - found, found]).numpy().transpose(0, 3, 2, 1)
    np.savez("nnunet_predictions/sub-5.npz", probabilities=both)
    save_nifti(Path("nnunet_predictions/sub-5.nii.gz"), (found > 0.5).float(), AFFINE)
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    assert len(lines) >= 8
    for line in lines:
        result = CliRunner().invoke(app, shlex.split(line)[1:])
        assert result.exit_code == 0, (line, result.output)


def test_the_picture_is_drawn(tmp_path):
    with loaded_script("docs/figures/lesions.py") as module:
        module.draw().savefig(tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").stat().st_size > 10_000
    assert (ROOT / "docs" / "figures" / "lesions.png").exists()
    assert "figures/lesions.png" in PAGE
