"""The command `report`: results as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from softoverlap.app.cli.app import app
from softoverlap.app.cli.console import CountBar, one_line_errors, plural, say
from softoverlap.app.cli.reading import reads_files
from softoverlap.app.cli.viewer import show_viewer


@app.command()
@one_line_errors
@reads_files
def report(
    results: Annotated[Path, typer.Argument(help="Folder of `softoverlap score`.")],
    output: Annotated[
        Path | None,
        typer.Option(help="The page; by default report.html in the folder of the results."),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(help="Scans to draw behind the masks: a folder, or a pattern with {case}."),
    ] = None,
    worst: Annotated[
        int,
        typer.Option(min=0, help="Cases to draw; of misses and false positives, at most 6."),
    ] = 12,
    title: Annotated[
        str | None, typer.Option(help="Title of the page; by default the name of the folder.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier page or viewer.")
    ] = False,
    viewer: Annotated[
        Path | None,
        typer.Option(help="Instead of the page: folder for a viewer, with copies of all scans."),
    ] = None,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Instead of the page: show the viewer on this computer."),
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of --serve; 0 picks a free one.")
    ] = 0,
) -> None:
    """Write the results of a cohort as one HTML page.

    The page opens in any browser, without network. It holds the summary with its
    intervals, charts, the worst misses, false positives and cases with pictures in
    three planes, and tables of cases and lesions to sort and filter. You can mail it
    and print it.

    The masks that were scored are read again for the pictures. A scan is drawn
    behind them if --images has one with the name of the case.

    With --serve, a browser on this computer shows scans, masks and boxes slice by
    slice, read from the original files. With --viewer, a folder gets the same with
    copies of the files, to give to others: double-click its index.html.

    softoverlap report results
    softoverlap report results --images scans/ --worst 20
    softoverlap report results --images "scans/{case}_flair.nii.gz" --output trial.html
    softoverlap report results --images scans/ --serve
    softoverlap report results --images scans/ --viewer to_radiology
    """
    if viewer is not None or serve:
        if output is not None:
            raise ValueError(
                "--output names the page, and cannot be combined with --viewer or --serve"
            )
        from softoverlap.app.report import read_viewer

        content = read_viewer(results, images=images, title=title)
        show_viewer(content, folder=viewer, serve=serve, port=port, overwrite=overwrite)
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
