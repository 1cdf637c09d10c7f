"""Write the tables of the stored run into `docs/reliability.md`: `python docs/reliability.py`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("reliability.md")
STORED = Path(__file__).parents[1] / "benchmarks/results/fuzz.json"

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
        f"{stored['files']} files in {len(stored['families'])} families went through five commands "
        f"in {stored['processes']} processes: {ends}. The longest took "
        f"{stored['worst_seconds']:.0f} s for its whole family, the largest held "
        f"{stored['worst_mebibytes']:.0f} MiB."
    )


def _families(families: dict[str, Any]) -> str:
    rows = []
    for name, family in families.items():
        runs = family["commands"].values()
        refused = " / ".join(str(run["refused"]) for run in runs)
        rows.append((WHAT[name], family["files"], refused, *_worst(runs)))
    commands = " / ".join(next(iter(families.values()))["commands"])
    head = ("family", "files", f"refused by {commands}", "longest, s", "largest, MiB")
    return _lines(head, rows)


def _commands(families: dict[str, Any]) -> str:
    rows = []
    for command in next(iter(families.values()))["commands"]:
        runs = [family["commands"][command] for family in families.values()]
        statuses = ", ".join(map(str, sorted({run["status"] for run in runs})))
        rows.append(
            (f"`{command}`", len(runs), statuses, sum(r["refused"] for r in runs), *_worst(runs))
        )
    head = ("command", "processes", "statuses", "refused", "longest, s", "largest, MiB")
    return _lines(head, rows)


def _worst(runs: Any) -> tuple[str, str]:
    longest, largest = (max(run[key] for run in runs) for key in ("seconds", "mebibytes"))
    return f"{longest:.0f}", f"{largest:.0f}"


def _lines(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = (head, ("---",) * len(head), *rows)
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in lines)


def with_tables(page: str, stored: dict[str, Any]) -> str:
    """The page with each table between its marks written anew."""
    for name, table in tables(stored).items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        block = f"{begin}\n{table}\n{end}"
        pattern = f"{re.escape(begin)}.*?{re.escape(end)}"
        page, count = re.subn(pattern, lambda _, block=block: block, page, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"{PAGE} must have the mark {begin} once, found {count}")
    return page


if __name__ == "__main__":
    figures = json.loads(STORED.read_text(encoding="utf-8"))
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), figures), encoding="utf-8")
