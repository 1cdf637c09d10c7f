"""What `softoverlap report` does with `--viewer` and `--serve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from softoverlap.app.cli.console import CountBar, plural, say
from softoverlap.app.cli.interrupts import forget_interrupts, stop_if_interrupted

if TYPE_CHECKING:
    from softoverlap.app.report import Viewer


def show_viewer(
    viewer: Viewer,
    *,
    folder: Path | None,
    serve: bool,
    port: int,
    overwrite: bool,
) -> None:
    """Write the viewer into the folder if there is one, and serve it if asked."""
    from softoverlap.app.report import ViewerServer, write_viewer

    if folder is not None:
        with CountBar("copying", len(viewer.layers), quiet=True) as bar:
            written = write_viewer(viewer, folder, overwrite=overwrite, progress=bar)
        for why in written.failed:
            say(f"not shown: {why}")
        copies = plural(len(viewer.layers) - len(written.failed), "copy").replace("copys", "copies")
        say(f"{written.index}: {written.size / 1e6:.1f} MB, with {copies} of scans and masks")
    if serve:
        with ViewerServer(viewer, port=port) as server:
            say(f"{server.url}\non this computer only; Ctrl-C stops it")
            server.service_actions = stop_if_interrupted  # asked twice a second
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                forget_interrupts()
                say("stopped")
