"""What a plan asks of a scan: size, voxels and lesions, along the axes of the training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from softoverlap._checks import refusal
from softoverlap.app.train.orientation import Turn
from softoverlap.images import LoadedCase
from softoverlap.lesion import Lesion


@dataclass(frozen=True)
class ScanFacts:
    """What a plan asks of a scan; its voxels are not kept.

    Args:
        name: Name of the case.
        shape: Voxels along each axis.
        spacing: Edges of a voxel in mm.
        lesions: Its lesions in voxels, possibly none.
        axes: Where its voxel axes point, such as `"RAS"`, or None if that is not known.

    Examples:
        >>> ScanFacts("sub-01", (64, 64, 32), (1.0, 1.0, 2.0), []).name
        'sub-01'
    """

    name: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    lesions: Sequence[Lesion]
    axes: str | None = None


def scan_facts(case: LoadedCase, *, axes: str = "RAS") -> ScanFacts:
    """What a plan asks of a case of a training folder.

    Args:
        case: What `load_case` read.
        axes: Where the voxel axes of the training point; the case is turned to them, as the bundle
            turns it.

    Returns:
        Shape, spacing and lesions, along these axes.

    Raises:
        ValueError: If `axes` does not name each direction once.

    Examples:
        >>> import tempfile
        >>> from softoverlap.images import find_cases, load_case, write_phantoms
        >>> folder = tempfile.mkdtemp()
        >>> write_phantoms(folder, 1, seed=0)
        >>> scan_facts(load_case(find_cases(folder).cases[0])).shape
        (96, 96, 64)
    """
    turn, shape = Turn.to(axes, case.affine), tuple(case.image.shape[-3:])
    lesions = [turn.lesion(lesion, shape) for lesion in case.lesions]
    return ScanFacts(case.name, turn.row(shape), turn.row(case.spacing), lesions, axes)


def check_axes_alike(scans: Sequence[ScanFacts]) -> None:
    """A median of edges along axes that point elsewhere means nothing."""
    other = next((scan for scan in scans if scan.axes != scans[0].axes), None)
    if other is not None:
        complaint = "must have axes that point alike"
        one = scans[0]
        raise refusal(
            "scans", f"{complaint}, got {one.axes} of {one.name} and {other.axes} of {other.name}"
        )


def without_flat_axis(scans: Sequence[ScanFacts]) -> Sequence[ScanFacts]:
    """The scans in 2D, if every one has a single voxel along one and the same axis."""
    sides = zip(*(scan.shape for scan in scans), strict=True)
    flat = next((axis for axis, side in enumerate(sides) if set(side) == {1}), None)
    return scans if flat is None else [_in_plane(scan, flat) for scan in scans]


def _in_plane(scan: ScanFacts, flat: int) -> ScanFacts:
    """The scan without this axis, its lesions with areas in place of volumes."""
    keep = [axis for axis in range(len(scan.shape)) if axis != flat]
    return replace(
        scan,
        shape=tuple(scan.shape[axis] for axis in keep),
        spacing=tuple(scan.spacing[axis] for axis in keep),
        lesions=[_lesion_in_plane(each, flat, keep, scan.spacing[flat]) for each in scan.lesions],
        axes=scan.axes and "".join(scan.axes[axis] for axis in keep),
    )


def _lesion_in_plane(lesion: Lesion, flat: int, keep: list[int], thickness: float) -> Lesion:
    ndim = lesion.crop.ndim
    return replace(
        lesion,
        crop=lesion.crop.sum(dim=flat).clamp(max=1),
        box=lesion.box[keep + [axis + ndim for axis in keep]],
        offset=lesion.offset[keep],
        centre=lesion.centre[keep],
        volume_mm3=lesion.volume_mm3 / thickness,
    )
