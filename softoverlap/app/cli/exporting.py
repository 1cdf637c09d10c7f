"""The command `export`: a trained network for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from softoverlap.app.cli.app import app
from softoverlap.app.cli.cases import check_checkpoint, check_folder
from softoverlap.app.cli.console import one_line_errors, say


@app.command()
@one_line_errors
def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint of `softoverlap train` or of the bundle.")
    ],
    output: Annotated[Path, typer.Option(help="Folder for the two files.")],
    config: Annotated[
        list[Path] | None,
        typer.Option(help="A file of your own that follows the bundle's inference.yaml."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export.")
    ] = False,
) -> None:
    """Write a trained network as TorchScript and ONNX.

    OUTPUT/model.ts      for PyTorch, also without this package
    OUTPUT/model.onnx    for other programs

    Both take images (B, C, D, H, W) whose sides are multiples of the network's
    stride, and return classification logits and codes of boxes, level by level.
    Anchors, thresholds and suppression stay outside; the page "Detect" of the
    documentation has the code for them. It needs the extra `train`.

    softoverlap export runs/mine/checkpoint.pt --output runs/mine/exported
    """
    from softoverlap.app.train import load_checkpoint
    from softoverlap.for_monai import export_network

    check_folder(output)
    check_checkpoint(checkpoint)
    there = [name for name in ("model.ts", "model.onnx") if (output / name).exists()]
    if there and not overwrite:
        raise FileExistsError(f"{output / there[0]} is there already: pass --overwrite")
    model = load_checkpoint(checkpoint, device="cpu", config=config or ())
    try:
        files = export_network(model.detector.network, output)
    except ModuleNotFoundError as error:
        raise ValueError(str(error)) from error
    for file in files:
        say(f"written: {file}")
