"""The command `report`: results as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from softoverlap.app.cli.app import app
from softoverlap.app.cli.console import CountBar, one_line_errors, plural, say
from softoverlap.app.cli.viewer import show_viewer


@app.command()
@one_line_errors
def report(
    results: Annotated[Path, typer.Argument(help="Folder of `softoverlap score`.")],
    output: Annotated[
        Path | None, typer.Option(help="The page; by default report.html in that folder.")
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(help="Scans behind the masks: a folder, or a pattern with {case}."),
    ] = None,
    worst: Annotated[int, typer.Option(min=0, help="Number of cases to draw.")] = 12,
    title: Annotated[
        str | None, typer.Option(help="Title of the page; by default the folder's name.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier page or viewer.")
    ] = False,
    viewer: Annotated[
        Path | None,
        typer.Option(help="In place of the page: folder for a viewer, with copies of all scans."),
    ] = None,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="In place of the page: show the viewer on this machine."),
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of --serve; 0 takes a free one.")
    ] = 0,
) -> None:
    """Write the results of a cohort as one HTML page.

    The page opens in any browser, without network: the summary with its
    intervals, charts, the worst cases with pictures in three planes, and tables
    of cases and lesions to sort and filter. It can be sent by mail and printed.

    Masks are read again to be drawn, from where they were scored. A scan is
    drawn behind them where --images has one that is named after the case.

    With --serve, a browser on this machine shows scans, masks and boxes slice by
    slice, from where the files lie. With --viewer, a folder holds the same with
    copies of them, to hand over: its index.html opens by a double click.

    softoverlap report results
    softoverlap report results --images scans/ --worst 20
    softoverlap report results --images "scans/{case}_flair.nii.gz" --output trial.html
    softoverlap report results --images scans/ --serve
    softoverlap report results --images scans/ --viewer to_radiology
    """
    if viewer is not None or serve:
        if output is not None:
            raise ValueError("--output names the page, and goes without --viewer and --serve")
        show_viewer(
            results, folder=viewer, serve=serve, port=port, images=images, title=title,
            overwrite=overwrite,
        )  # fmt: skip
        return
    from softoverlap.app.report import write_report

    with CountBar("drawing", worst, quiet=True) as bar:
        written = write_report(
            results, output, images=images, worst=worst, title=title, overwrite=overwrite,
            progress=bar,
        )  # fmt: skip
    for case, why in written.without.items():
        say(f"not drawn: {case}: {why}")
    size = written.path.stat().st_size / 1e6
    say(f"{written.path}: {size:.1f} MB, {plural(written.pictures, 'picture')}")
