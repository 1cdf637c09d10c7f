"""Draws the picture of the page "nnU-Net, by one variable".

Run it from the project's root: python docs/figures/nnunet.py
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from softoverlap import LesionPhantoms, fuse_raters

HERE = Path(__file__).parent
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
REACH = 15  # voxels shown on each side of the lesion's centre


def draw() -> Figure:
    """A lesion of which raters differ: their outlines, their majority, and their share."""
    phantom = LesionPhantoms(3, count=8, spacing=(0.5, 0.5, 1.5))[6]
    lesion = max(phantom.lesions, key=lambda lesion: lesion.volume_mm3)
    row, column, plane = (round(float(place)) for place in lesion.centre)
    window = (
        slice(max(0, row - REACH), row + REACH),
        slice(max(0, column - REACH), column + REACH),
        plane,
    )
    raters = phantom.raters[:, window[0], window[1], plane]
    figure = Figure(figsize=(9, 3.3), layout="constrained")
    scan, majority, share = figure.subplots(1, 3)
    scan.imshow(phantom.image[window].numpy(), cmap="gray")
    for rater, colour in zip(raters, COLOURS, strict=True):
        if rater.any():
            scan.contour(rater.numpy(), levels=[0.5], colors=[colour], linewidths=1.2)
    scan.set_title("five raters: a 4D file of labels", fontsize=10)
    most = fuse_raters(raters, method="majority").numpy()
    majority.imshow(most, cmap="Greys", vmin=0, vmax=1)
    majority.set_title("labels: their majority", fontsize=10)
    shown = share.imshow(fuse_raters(raters).numpy(), cmap="Greys", vmin=0, vmax=1)
    share.set_title("SoftRaters: their share", fontsize=10)
    figure.colorbar(shown, ax=share, label="share of raters", shrink=0.85)
    for axes in (scan, majority, share):
        axes.set(xticks=[], yticks=[])
    return figure


if __name__ == "__main__":
    draw().savefig(HERE / "nnunet.png", dpi=110)
