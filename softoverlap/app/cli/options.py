"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

BOX_FORMATS = "json, monai, nndetection, coco, csv, slicer or labelmap"

Seed = Annotated[int, typer.Option(min=0, help="Seed of weights, patches and phantoms.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
AtScore = Annotated[
    str,
    typer.Option(
        help="How the score threshold is chosen: f1 (highest F1), fp:1 (at most one false positive "
        "a scan, or another number), or the threshold itself."
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Read the files, and only print what would be written.")
]
