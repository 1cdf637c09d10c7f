"""Draws the picture of the page "From any segmentation to a detector".

Run it from the project's root: python docs/figures/lesions.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from softoverlap import (
    HaloDice,
    LesionCandidate,
    MassAboveBackground,
    MaxProbability,
    MeanProbability,
    lesion_candidates,
)
from softoverlap.lesions import distances

HERE = Path(__file__).parent
COMPONENT, HALO = "#d55e00", "#0072b2"
SIZE, THRESHOLD, REACH = 33, 0.5, 3.0
SCORES = {
    "maximum": MaxProbability(),
    "mean": MeanProbability(),
    "dice (with its halo)": HaloDice(REACH),
    "mass (pixels of 1 mm²)": MassAboveBackground(REACH),
}


def maps() -> dict[str, torch.Tensor]:
    """What a network may say of a sure lesion, an unsure one, and a speck in hazy tissue."""
    place = torch.arange(SIZE) - SIZE // 2
    away = (place[:, None] ** 2 + place[None] ** 2).double().sqrt()
    speck = 0.2 + 0.77 * torch.exp(-((away / 2.2) ** 2))
    return {
        "a sure lesion": 0.97 * torch.sigmoid((6 - away) / 0.4),
        "an unsure lesion": 0.85 * torch.sigmoid((7 - away) / 1.6),
        "a speck in haze": speck * torch.sigmoid((14 - away) / 2),
    }


def draw() -> Figure:
    """The maps with component and halo above, and a panel for each score below."""
    images = maps()
    candidates = {name: _only(image) for name, image in images.items()}
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    places = figure.add_gridspec(2, 12, height_ratios=[1.5, 1])
    for number, (name, image) in enumerate(images.items()):
        panel = figure.add_subplot(places[0, 4 * number : 4 * number + 4])
        panel.imshow(image.numpy(), cmap="gray", vmin=0, vmax=1)
        component = candidates[name].components == 1
        for inside, color in (
            (distances(component, (1.0, 1.0)) <= REACH, HALO),
            (component, COMPONENT),
        ):
            _outline(panel, inside, color)
        panel.set(xticks=[], yticks=[])
        panel.set_title(name, fontsize=10)
    for number, (name, score) in enumerate(SCORES.items()):
        panel = figure.add_subplot(places[1, 3 * number : 3 * number + 3])
        values = [score(candidate) for candidate in candidates.values()]
        bars = panel.barh([0, -1, -2], values, color=["#777777", "#aaaaaa", COMPONENT], height=0.7)
        panel.bar_label(bars, [f"{value:.3g}" for value in values], padding=3, fontsize=8)
        panel.set_title(name, fontsize=9)
        panel.set(xlim=(0, 1.4 * max(values)), xticks=[])
        panel.set_yticks([0, -1, -2], ["sure", "unsure", "speck"], fontsize=8)
        panel.spines[["top", "right", "bottom"]].set_visible(False)
    return figure


def _only(image: torch.Tensor) -> LesionCandidate:
    (candidate,) = lesion_candidates(image, spacing=(1.0, 1.0), threshold=THRESHOLD)
    return candidate


def _outline(panel, inside: np.ndarray, color: str) -> None:
    """The edges of the voxels, not a smooth line through their centres."""
    for axis, other in ((0, 1), (1, 0)):
        padded = np.pad(inside, 1)
        steps = np.diff(padded.astype(int), axis=axis)
        for at in np.argwhere(steps):
            edge, start = at[axis] - 0.5, at[other] - 1.5
            line = [(edge, edge), (start, start + 1)]
            x, y = line if axis == 1 else line[::-1]
            panel.plot(x, y, color=color, lw=1.3, solid_capstyle="round")


if __name__ == "__main__":
    draw().savefig(HERE / "lesions.png", dpi=110)
