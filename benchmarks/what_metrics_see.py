"""What each metric sees: 20 patients' lesions against altered versions of themselves.

The truth is the consensus of three raters at 1 mm (Lesjak et al. 2017, in
`../shared/data/open_ms`), cut to the part around the lesions. Each version changes one thing; the
figure is the metric's mean over the patients (CPM and AP: of all of them at once).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from _measure import store
from monai.metrics import compute_dice
from scipy import ndimage
from torch import Tensor

from softoverlap import measures as metrics
from softoverlap.for_monai import ThresholdedHausdorff, ThresholdedSurfaceDice
from softoverlap.images import load_nifti
from softoverlap.lesions import lesions_from_mask

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "open_ms"
SPACING, MARGIN, SMALL_MM3, FALSE_RADIUS = (1.0, 1.0, 1.0), 12, 20, 3
CUT = {"threshold": 0.5, "spacing": SPACING}


def shifted(mask: np.ndarray) -> np.ndarray:
    """By 1 mm along the first axis."""
    return np.roll(mask, 1, axis=0)  # the margin is empty


def eroded(mask: np.ndarray) -> np.ndarray:
    """The voxels whose six neighbours are all inside."""
    return ndimage.binary_erosion(mask > 0).astype(np.float32)


def dilated(mask: np.ndarray) -> np.ndarray:
    """And all voxels with a face on the lesion."""
    return ndimage.binary_dilation(mask > 0).astype(np.float32)


def blurred(mask: np.ndarray) -> np.ndarray:
    """By a Gaussian of 1 mm, without its far tail."""
    soft = ndimage.gaussian_filter(mask, 1.0)
    return np.where(soft < 0.01, 0, soft).astype(np.float32)


def unsure(mask: np.ndarray) -> np.ndarray:
    """The right voxels at 0.6."""
    return 0.6 * mask


def without_small(mask: np.ndarray) -> np.ndarray:
    """Lesions of less than 20 mm³ are missed."""
    labels, count = ndimage.label(mask > 0, np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    return np.where(sizes[labels] >= SMALL_MM3, mask, 0).astype(np.float32)


def with_false(mask: np.ndarray) -> np.ndarray:
    """One ball of 3 mm too many, as far from the lesions as the image allows."""
    far = ndimage.distance_transform_edt(mask == 0)
    inner = tuple(slice(FALSE_RADIUS + 1, -FALSE_RADIUS - 1) for _ in range(3))
    place = np.array(np.unravel_index(far[inner].argmax(), far[inner].shape)) + FALSE_RADIUS + 1
    grid = np.indices(mask.shape) - place[:, None, None, None]
    return np.where((grid**2).sum(axis=0) <= FALSE_RADIUS**2, 1, mask).astype(np.float32)


VERSIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "itself": lambda mask: mask,
    "shifted": shifted,
    "eroded": eroded,
    "dilated": dilated,
    "blurred": blurred,
    "at 0.6": unsure,
    "small missed": without_small,
    "one too many": with_false,
}

OF_MASKS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "soft Dice": metrics.compute_soft_dice,
    "soft IoU": metrics.compute_soft_iou,
    "MONAI's Dice of ≥ 0.5": lambda p, y: compute_dice((p >= 0.5).float(), y),
    "thresholded Dice": metrics.ThresholdedDice(),
    "expected Dice": metrics.ExpectedDice(),
    "best-threshold Dice": lambda p, y: metrics.BestThresholdDice(
        thresholds=None, target_threshold=0.5
    )(p, y),
    "lesion-wise Dice": lambda p, y: metrics.compute_lesionwise_dice(p, y, **CUT),
    "panoptic quality": lambda p, y: metrics.PanopticQuality(**CUT)(p, y),
    "lesion recall": lambda p, y: metrics.LesionRecall(**CUT)(p, y),
    "false positives": lambda p, y: metrics.FalsePositives(**CUT)(p, y),
    "surface Dice at 1 mm": ThresholdedSurfaceDice(tolerance=1.0, include_background=True, **CUT),
    "Hausdorff 95 (mm)": ThresholdedHausdorff(include_background=True, **CUT),
    "volume bias (ml)": lambda p, y: metrics.VolumeBias(spacing=SPACING)(p, y),
    "Brier": metrics.Brier(),
    "calibration error": metrics.CalibrationError(),
}
OF_BOXES = ("CPM", "AP at IoU 0.1", "AP at IoU 0.5")


def truth_of(path: Path) -> np.ndarray:
    """A patient's consensus, cut to the part around the lesions."""
    mask = load_nifti(path).data.numpy()
    (window,) = ndimage.find_objects((mask > 0).astype(int))
    return np.pad(mask[window], MARGIN)


def boxes_of(mask: np.ndarray) -> dict[str, Tensor]:
    """The lesions' boxes, each with its highest probability as score."""
    lesions = lesions_from_mask(torch.from_numpy(mask), spacing=SPACING, threshold=0.5)
    boxes = torch.stack([one.box for one in lesions]) if lesions else torch.zeros(0, 6)
    scores = torch.tensor([float(one.crop.max()) for one in lesions])
    return {"box": boxes, "label": torch.zeros(len(boxes)), "label_scores": scores}


def of_boxes(found: list[dict[str, Tensor]], truth: list[dict[str, Tensor]]) -> dict[str, float]:
    """The figures of detection, of all patients at once."""
    precision = metrics.compute_average_precision(found, truth, thresholds=(0.1, 0.5))
    values = (metrics.compute_froc(found, truth).cpm, *precision.per_threshold.values())
    return dict(zip(OF_BOXES, values, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=20, help="how many patients")
    patients = parser.parse_args().patients
    paths = sorted(FOLDER.glob("*_mni_lesions.nii.gz"))[:patients]
    truths = [truth_of(path) for path in paths]
    target_boxes = [boxes_of(truth) for truth in truths]
    figures: dict[str, dict[str, float]] = {}
    for version, alter in VERSIONS.items():
        altered = [alter(truth) for truth in truths]
        pairs = [
            tuple(torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in pair)
            for pair in zip(altered, truths, strict=True)
        ]
        scores = {
            name: torch.stack([compute(*pair).double().flatten()[0] for pair in pairs])
            for name, compute in OF_MASKS.items()
        }
        figures[version] = {name: values.nanmean().item() for name, values in scores.items()}
        figures[version] |= of_boxes([boxes_of(mask) for mask in altered], target_boxes)
        print(version, {name: round(value, 4) for name, value in figures[version].items()})
    store("what_metrics_see", "cpu", {"patients": len(paths), "versions": figures})


if __name__ == "__main__":
    main()
