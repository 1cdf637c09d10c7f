"""Write the tables of the stored run into `docs/reliability.md`: `python docs/reliability.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from _tables import markdown_table, with_block

PAGE = Path(__file__).with_name("reliability.md")
STORED = Path(__file__).parents[1] / "benchmarks/results/fuzz.json"

COMMANDS = ("inspect", "score", "boxes", "convert", "train")
_WORST = ("longest, s", "most, MiB")
WHAT = {
    "nifti": "NIfTI-1, `.nii` and `.nii.gz`: every field of the header, the stream, the values",
    "nifti2": "NIfTI-2: every field of the header, the regions",
    "nifti_pair": "`.hdr` and `.img`: fields, regions, one file without the other",
    "mgh": "FreeSurfer's `.mgh` and `.mgz`: every field of the header, the stream",
    "nrrd": "NRRD and `.nhdr`: every line of the header, encodings, data apart",
    "meta": "MHA and MHD: every line of the header, compressed data, data apart",
    "dicom": "DICOM series: every element in one slice and in all, stacks that are none",
    "image_places": "in place of images: links, folders, pipes, nothing, slices; odd names",
    "json": "our JSON: every key",
    "coco": "COCO: every key",
    "monai": "MONAI's lists: every key",
    "nndetection": "nnDetection's JSON: every key",
    "instances": "nnDetection's instances: every key",
    "slicer": "3D Slicer's markups: every key",
    "csv": "CSV: every column, and the text",
    "npz": "npz: every array, its header, the archive",
    "every_box": "all files of boxes at once, for the commands that take none",
    "box_places": "in place of boxes: links, folders, pipes, nothing; odd names",
}


def tables(stored: dict[str, Any]) -> dict[str, str]:
    """The two tables and the sentence of totals, by their mark."""
    return {
        "totals": _totals(stored),
        "families": _families(stored["families"]),
        "commands": _commands(stored["families"]),
    }


def _totals(stored: dict[str, Any]) -> str:
    ends = " and ".join(f"{n} with status {status}" for status, n in stored["statuses"].items())
    return (
        f"{stored['files']} files in {len(stored['families']) - 1} families went through five "
        f"commands in {stored['processes']} processes: {ends}. The longest took "
        f"{stored['worst_seconds']:.0f} s for its whole family, the largest held "
        f"{stored['worst_mebibytes']:.0f} MiB."
    )


def _families(families: dict[str, Any]) -> str:
    rows = []
    for name, family in families.items():
        runs = family["commands"]
        refused = (runs[command]["refused"] if command in runs else "" for command in COMMANDS)
        rows.append((WHAT[name], family["files"], *refused, *_worst(runs.values())))
    return markdown_table(("family", "files", *(f"`{name}`" for name in COMMANDS), *_WORST), rows)


def _commands(families: dict[str, Any]) -> str:
    rows = []
    for command in COMMANDS:
        takes = [family for family in families.values() if command in family["commands"]]
        runs = [family["commands"][command] for family in takes]
        statuses = ", ".join(map(str, sorted({run["status"] for run in runs})))
        files = sum(family["files"] for family in takes)
        rows.append((f"`{command}`", len(runs), files, statuses, *_worst(runs)))
    return markdown_table(("command", "processes", "files", "statuses", *_WORST), rows)


def _worst(runs: Any) -> tuple[str, str]:
    longest, largest = (max(run[key] for run in runs) for key in ("seconds", "mebibytes"))
    return f"{longest:.0f}", f"{largest:.0f}"


def with_tables(page: str, stored: dict[str, Any]) -> str:
    """The page with each table between its marks written anew."""
    for name, table in tables(stored).items():
        page = with_block(page, table, name, f"end of {name}")
    return page


if __name__ == "__main__":
    figures = json.loads(STORED.read_text(encoding="utf-8"))
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), figures), encoding="utf-8")
