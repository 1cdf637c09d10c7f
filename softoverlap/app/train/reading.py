"""All scans of a training read once before it begins: what they hold, and whether they can be used."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import torch

from softoverlap._checks import refusal
from softoverlap.app.train.facts import scan_facts
from softoverlap.images import Case, LoadedCase, load_case


@dataclass(frozen=True)
class CheckedScans:
    """What the scans to train on hold.

    Args:
        scans: Number of scans to train on.
        lesions: Number of lesions in them.
        spacing: Median of the voxels' edges in mm, axis by axis, along the axes of the training.
        intensity: Mean and standard deviation of all their intensities, for each channel.
    """

    scans: int
    lesions: int
    spacing: tuple[float, ...]
    intensity: tuple[tuple[float, ...], tuple[float, ...]]


def check_scans(
    cases: Iterable[Case],
    train: Collection[str],
    validation: Collection[str],
    *,
    threshold: float | int = 0.5,
    axes: str | None = "RAS",
    tell: Callable[[str, LoadedCase | None, list[str]], None] | None = None,
) -> CheckedScans:
    """Read every scan of both parts; all bad ones are told before the error comes.

    Args:
        cases: Cases of a data set.
        train: Names of those to train on.
        validation: Names of those to validate on.
        threshold: Lowest probability inside a lesion.
        axes: Where the voxel axes of the training point, or None as stored.
        tell: Called with the name of each scan, what was read, or None, and notes or the error.

    Returns:
        What the scans to train on hold.

    Raises:
        ValueError: If a scan cannot be used, or there is no lesion to train on.

    Examples:
        >>> import tempfile
        >>> from softoverlap.images import find_cases, write_phantoms
        >>> folder = tempfile.mkdtemp()
        >>> write_phantoms(folder, 1, seed=0, shape=(32, 32, 24))
        >>> check_scans(find_cases(folder).cases, ["phantom-0000"], []).spacing
        (1.0, 1.0, 1.5)
    """
    edges: list[tuple[float, ...]] = []
    moments: list[torch.Tensor] = []
    lesions, bad, count = 0, 0, 0
    for case in cases:
        if case.name not in train and case.name not in validation:
            continue
        count += 1
        loaded, notes = _opened(case, threshold)
        if tell is not None:
            tell(case.name, loaded, notes)
        if loaded is None:
            bad += 1
        elif case.name in train:
            lesions += len(loaded.lesions)
            edges.append(_edges(loaded, axes))
            moments.append(_moments(loaded.channels))
    if bad:
        raise ValueError(f"{bad} of {count} cases cannot be used, see above")
    if not edges:
        raise refusal("data", "must hold at least one scan to train on, got none")
    if not lesions:
        raise ValueError(
            f"train needs at least one lesion in {len(edges)} scans, found none at "
            f"`threshold={threshold:g}`: every mask is empty or named above"
        )
    spacing = torch.tensor(edges, dtype=torch.float64).quantile(0.5, dim=0)
    return CheckedScans(
        len(edges), lesions, tuple(round(float(edge), 6) for edge in spacing), _pooled(moments)
    )


def _opened(case: Case, threshold: float | int) -> tuple[LoadedCase | None, list[str]]:
    """The case with notes about it, or None and the error."""
    try:
        loaded = load_case(case, threshold=float(threshold))
        return loaded, list(loaded.notes)
    except (ValueError, OSError) as error:
        return None, [str(error)]


def _edges(case: LoadedCase, axes: str | None) -> tuple[float, ...]:
    """Edges of a voxel along the axes of the training."""
    return case.spacing if axes is None else scan_facts(case, axes=axes).spacing


def _moments(channels: torch.Tensor) -> torch.Tensor:
    """Mean and mean square of each channel, shape (2, C)."""
    values = channels.flatten(1).double()
    return torch.stack([values.mean(dim=1), values.square().mean(dim=1)])


def _pooled(moments: list[torch.Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means and standard deviations over scans, each counting alike; a spread is never 0."""
    mean, square = torch.stack(moments).mean(dim=0)
    spread = (square - mean.square()).clamp(min=0).sqrt()
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    return tuple(mean.tolist()), tuple(spread.tolist())
