"""FreeSurfer's MGH, and the pairs .hdr and .img: Analyze, or NIfTI in two files."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from softoverlap.images._nibabel import nibabel_values
from softoverlap.images.geometry import check_affine
from softoverlap.images.nifti import placed_nifti

MGH_SUFFIXES = (".mgz", ".mgh")
PAIR_SUFFIXES = (".img", ".hdr")
_NO_SIDE = "does not say which side is left: it is read as nibabel does"


def read_mgh_or_pair(
    path: Path, *, wanted: int
) -> tuple[np.ndarray, Float64[Tensor, "4 4"], tuple[str, ...]]:
    """Values (D, H, W) or (C, D, H, W), the affine in RAS mm, and notes.

    `wanted` is the number of bytes of a value that is returned, which counts for the memory.
    """
    if path.suffix.lower() in MGH_SUFFIXES:
        image, values, said = nibabel_values(path, "MGH", nibabel.MGHImage, wanted=wanted)
        is_placed = bool(image.header["goodRASFlag"])  # type: ignore[index]
    else:
        image, values, said = nibabel_values(path, "Analyze", nibabel.AnalyzeImage, wanted=wanted)
        if isinstance(image, nibabel.Nifti1Pair):
            values, affine, notes = placed_nifti(path, image, values)
            return values, affine, (*said, *notes)
        is_placed = path.with_suffix(".mat").exists()  # SPM's affine, which nibabel reads
    values = np.moveaxis(values, 3, 0) if values.ndim == 4 else values
    affine = check_affine(
        torch.from_numpy(np.array(image.affine, dtype=np.float64)), name=f"the affine of {path}"
    )
    return values, affine, said if is_placed else (*said, f"{path} {_NO_SIDE}")
