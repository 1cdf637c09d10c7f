"""Draws the picture of the page "Regions: polygons and densities".

Run it from the project's root: python docs/figures/regions.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softoverlap import highest_density_region, region_iou

HERE = Path(__file__).parent
FIRST, SECOND, GREY = "#009e73", "#d55e00", "#888888"
EXTENT = (-180, 180, -180, 180)
MODELS = (
    [(0.55, -63, -43, 13, 13), (0.40, -120, 130, 6, 8), (0.05, 57, 47, 20, 20)],
    [(0.40, -68, -38, 9, 16), (0.55, -105, 138, 6, 10), (0.05, 60, 42, 16, 16)],
)
"""Weight, centre in degrees, and concentration along both axes, of each component."""


def on_grid(model: list, cells: int, start: tuple[float, float] = (0.5, 0.5)) -> torch.Tensor:
    """A mixture of von Mises densities times the size of a cell."""
    edge = 2 * torch.pi / cells
    axes = [(torch.arange(cells).double() + one) * edge - torch.pi for one in start]
    total = torch.zeros(cells, cells, dtype=torch.float64)
    for weight, *component in model:
        phi, psi = (
            _von_mises(angles, *map(float, component[axis::2])) for axis, angles in enumerate(axes)
        )
        total += weight * phi[:, None] * psi
    return edge**2 * total


def _von_mises(angles: torch.Tensor, centre: float, concentration: float) -> torch.Tensor:
    peak = 2 * torch.pi * torch.special.i0e(torch.tensor(concentration).double())
    return torch.exp(concentration * ((angles - centre * torch.pi / 180).cos() - 1)) / peak


def draw(finest: int = 1024, repeats: int = 16) -> Figure:
    """Both densities and what they share on the torus, and errors over the size of the grid."""
    figure = Figure(figsize=(13, 3.9), layout="constrained")
    *panels, errors = figure.subplots(1, 4, width_ratios=[1, 1, 1, 1.25])
    pair = [on_grid(model, 360) for model in MODELS]
    names = ("first model", "second model", "shared")
    for panel, density, name in zip(panels, (*pair, torch.minimum(*pair)), names, strict=True):
        panel.imshow(density.sqrt().T.numpy(), origin="lower", extent=EXTENT, cmap="Greys")
        panel.set(xlabel="φ", xticks=range(-180, 181, 90), yticks=range(-180, 181, 90))
        panel.set_title(name, fontsize=10)
    panels[0].set_ylabel("ψ")
    for panel, density, color in zip(panels, pair, (FIRST, SECOND), strict=False):
        _outlined(panel, density, color)
    panels[0].plot([], [], color=FIRST, label="holds 98 %")
    panels[0].plot([], [], color=FIRST, ls=":", label="holds 99.95 %")
    panels[0].legend(fontsize=7, loc="lower right")
    soft, hard = region_iou(*pair), region_iou(*_regions(pair, 0.98))
    panels[2].set_title(f"shared: IoU {soft:.2f}, of 98 % regions {hard:.2f}", fontsize=10)
    _errors(errors, finest, repeats)
    return figure


def _regions(pair: list[torch.Tensor], level: float) -> list[torch.Tensor]:
    return [highest_density_region(density, level) for density in pair]


def _outlined(panel: Axes, density: torch.Tensor, color: str) -> None:
    for level, style in ((0.98, "-"), (0.9995, ":")):
        region = highest_density_region(density, level).double()
        panel.contour(region.T.numpy(), [0.5], colors=color, linestyles=style, extent=EXTENT)


def _errors(axes: Axes, finest: int, repeats: int) -> None:
    """The root mean square over grids that begin at random places."""
    measured = {
        "mass of one": (lambda pair: pair[0].sum(), GREY),
        "soft IoU": (lambda pair: region_iou(*pair), FIRST),
        "IoU of 98 % regions": (lambda pair: region_iou(*_regions(pair, 0.98)), SECOND),
    }
    fine = [on_grid(model, finest) for model in MODELS]
    truth = {name: measure(fine) for name, (measure, _) in measured.items()}
    sizes = [size for size in (8, 16, 32, 64, 128) if size < finest]
    generator = torch.Generator().manual_seed(0)
    grids = [
        [
            [on_grid(model, cells, (phi, psi)) for model in MODELS]
            for phi, psi in torch.rand(repeats, 2, generator=generator).tolist()
        ]
        for cells in sizes
    ]
    for name, (measure, color) in measured.items():
        found = [
            torch.stack([measure(pair) - truth[name] for pair in of_size]) for of_size in grids
        ]
        spread = [float(one.square().mean().sqrt()) for one in found]
        axes.loglog(sizes, spread, "o-", color=color, ms=4, label=name)
    for power, color, height in ((-2.5, FIRST, 2.0), (-1.5, SECOND, 6.0)):
        guide = [height * size**power for size in sizes]
        axes.loglog(sizes, guide, color=color, ls=":", lw=1, label=f"n^{power}")
    axes.set(xlabel="cells an axis, n", ylabel="error", ylim=(1e-9, 3), xticks=sizes)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    draw().savefig(HERE / "regions.png", dpi=110)
