"""The page about formats runs, and its table says what the writers write."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from softoverlap.images import FORMATS, save_nifti, write_boxes

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/formats.md").read_text()
ROWS = {
    cells[0].strip("`"): cells
    for cells in (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.splitlines()
        if line.startswith("| `")
    )
}


def test_the_examples_of_the_page_run():
    scope: dict[str, object] = {}
    examples = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(examples) == 6
    for example in examples:
        exec(compile(example, "formats.md", "exec"), scope)


def test_the_table_names_every_format_and_its_files():
    assert set(ROWS) == set(FORMATS)
    for name, cells in ROWS.items():
        suffixes = re.findall(r"`(\.[a-z.]+)`", cells[1])
        assert tuple(suffixes) == FORMATS[name].suffixes
        assert cells[1].endswith("many cases" if FORMATS[name].many else "one case")


@pytest.fixture
def written(tmp_path):
    """The voxel of the page in every format."""
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0]))
    save_nifti(tmp_path / "scan.nii.gz", torch.zeros(12, 12, 12), affine)
    box = torch.tensor([[3.0, 5, 7, 4, 6, 8]])
    paths = {}
    for name, kind in FORMATS.items():
        paths[name] = tmp_path / f"{name}{kind.suffix}"
        write_boxes(paths[name], box, case="a", format=name, image=tmp_path / "scan.nii.gz")
    return paths


def numbers_of(text):
    return [json.loads(part) for part in re.findall(r"`(\[.*?\])`", text)]


def test_the_table_says_what_is_written(written):
    def content(name):
        return json.loads(written[name].read_text())

    with written["csv"].open(newline="") as stream:
        row = list(csv.reader(stream))[1]
    roi = content("slicer")["markups"][0]
    found = {
        "json": [content("json")["boxes"][0]["box"]],
        "coco": [content("coco")["annotations"][0]["bbox"]],
        "nndetection": np.load(written["nndetection"])["pred_boxes"].tolist(),
        "monai": content("monai")["validation"][0]["box"],
        "slicer": [roi["center"], roi["size"]],
    }
    for name, boxes in found.items():
        assert numbers_of(ROWS[name][3]) == boxes
    assert ROWS["csv"][3] == f"`{','.join(f'{float(number):g}' for number in row[3:])}`"
    values = np.asanyarray(nibabel.load(written["labelmap"]).dataobj)
    assert np.argwhere(values == 1).tolist() == [[3, 5, 7]]
    assert ROWS["labelmap"][3] == "value 1 at 3, 5, 7"
