"""What the detector learns from: the target of one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from softoverlap._checks import check_boxes, check_tensors, is_finite, should_validate
from softoverlap._types import plain
from softoverlap.anchors import Matches
from softoverlap.lesion import Lesion


def lesion_target(lesions: Sequence[Lesion], *, spatial_dims: int = 3) -> dict[str, Any]:
    """The detector's target for an image or a patch with these lesions, possibly none.

    Args:
        lesions: Lesions in coordinates of the image or patch (`crop_lesion`).
        spatial_dims: Number of spatial axes; needed where there is no lesion.

    Returns:
        `"boxes"`, float32 in voxels, shape (M, 2 * spatial_dims); `"labels"`, int64, shape (M,);
        `"lesions"`, the list. The keys are those of MONAI's detector; measures take them too.

    Raises:
        ValueError: If a lesion has another number of axes.

    Examples:
        >>> lesion_target([])["boxes"].shape
        torch.Size([0, 6])
    """
    for number, lesion in enumerate(lesions):
        if lesion.crop.ndim != spatial_dims:
            raise ValueError(
                f"lesions must have {spatial_dims} axes, got {lesion.crop.ndim} in lesion {number}"
            )
    boxes = [lesion.box.to("cpu", torch.float32) for lesion in lesions]
    return {
        "boxes": torch.stack(boxes) if boxes else torch.zeros(0, 2 * spatial_dims),
        "labels": torch.tensor([lesion.label for lesion in lesions], dtype=torch.int64),
        "lesions": list(lesions),
    }


def without_unlabelled(
    match: Matches,
    anchors: Float[Tensor, "anchors coords"],
    unlabelled: Shaped[Tensor, "1 *spatial"] | None,
) -> Matches:
    """The match, with background ignored whose anchor is centred where nobody has labelled.

    Args:
        match: Quality and lesion of each anchor.
        anchors: Their boxes in voxels, shape (N, 2 * ndim).
        unlabelled: Voxels without label, shape (1, *spatial), or None if all have one.

    Examples:
        >>> match = Matches(torch.zeros(2), torch.tensor([-1, -1]))
        >>> anchors = torch.tensor([[0.0, 2.0], [2.0, 4.0]])
        >>> without_unlabelled(match, anchors, torch.tensor([[0, 0, 1, 1]]) > 0).index
        tensor([-1, -2])
    """
    if unlabelled is None:
        return match
    there = centred_in(anchors, unlabelled) & (match.index == -1)
    return replace(match, index=match.index.masked_fill(there, -2))


def centred_in(
    boxes: Float[Tensor, "boxes coords"], voxels: Shaped[Tensor, "1 *spatial"]
) -> Bool[Tensor, "boxes"]:
    """Whether the centre of each box lies in one of these voxels.

    Examples:
        >>> centred_in(torch.tensor([[0.0, 2.0], [2.0, 9.0]]), torch.tensor([[1, 1, 1]]) > 0)
        tensor([ True, False])
    """
    inside = plain(voxels)[0].to(boxes.device) != 0
    low, high = plain(boxes).chunk(2, dim=1)
    shape = torch.tensor(inside.shape, device=boxes.device)
    centres = ((low + high) / 2).floor().long()
    seen = ((centres >= 0) & (centres < shape)).all(dim=1)
    places = torch.minimum(centres.clamp(min=0), shape - 1)
    return inside[tuple(places.unbind(dim=1))] & seen


def checked_targets(
    targets: Sequence[dict[str, Any]] | None,
    images: Sequence[Tensor] | Tensor,
    keys: tuple[str, str],
    num_classes: int,
    spatial_dims: int,
) -> list[dict[str, Any]]:
    """Checked copies of the targets, on the images' device; lesions stay where they are."""
    if targets is None or len(targets) != len(images):
        got = "none" if targets is None else str(len(targets))
        raise ValueError(f"targets must hold one dict for each of {len(images)} images, got {got}")
    return [
        _checked(target, f"targets[{number}]", keys, num_classes, spatial_dims, images[number])
        for number, target in enumerate(targets)
    ]


def _checked(
    target: dict[str, Any],
    name: str,
    keys: tuple[str, str],
    num_classes: int,
    ndim: int,
    image: Tensor,
) -> dict[str, Any]:
    missing = [key for key in keys if key not in target]
    if missing:
        raise ValueError(
            f"{name} must have the keys {list(keys)}, got {sorted(target)}; "
            f"set_target_keys names others, and lesion_target(lesions_from_mask(...)) makes "
            f"a target with 'boxes' and 'labels' from a mask"
        )
    box, label = target[keys[0]], target[keys[1]]
    check_tensors(**{f"{name}[{keys[0]!r}]": box, f"{name}[{keys[1]!r}]": label})
    box, label = plain(box), plain(label)
    box = box.reshape(0, 2 * ndim) if not box.numel() else box
    check_boxes(**{f"{name}[{keys[0]!r}]": box}, ndim=ndim)  # pyright: ignore[reportArgumentType]
    if not bool((box[:, ndim:] > box[:, :ndim]).all()):
        raise ValueError(f"{name}[{keys[0]!r}] must hold boxes with a volume, got a flat one")
    _check_labels(label, len(box), f"{name}[{keys[1]!r}]", num_classes)
    _check_lesions(target.get("lesions"), len(box), f"{name}['lesions']", ndim)
    _check_unlabelled(target.get("unlabelled"), f"{name}['unlabelled']", image)
    return {
        **target,
        "visible": _field(target.get("visible"), f"{name}['visible']", image),
        keys[0]: box.to(image.device, torch.float32),
        keys[1]: label.to(image.device, torch.int64),
    }


def _field(visible: Tensor | None, name: str, image: Tensor) -> Float[Tensor, "coords"]:
    """The field of view: by default the whole image."""
    shape = image.shape[1:]
    if visible is None:
        visible = torch.tensor([0] * len(shape) + list(shape))
    check_tensors(**{name: visible})
    if visible.ndim != 1:
        raise ValueError(f"{name} must have shape ({2 * len(shape)},), got {tuple(visible.shape)}")
    check_boxes(**{name: visible[None]}, ndim=len(shape))  # pyright: ignore[reportArgumentType]
    return plain(visible).to(image.device, torch.float32)


def _check_labels(label: Tensor, count: int, name: str, num_classes: int) -> None:
    if tuple(label.shape) != (count,) and not (count == 0 and label.numel() == 0):
        raise ValueError(f"{name} must have shape ({count},), one a box, got {tuple(label.shape)}")
    if label.numel() and label.is_floating_point():
        raise TypeError(f"{name} must hold integers, got dtype {label.dtype}")
    if label.numel() and not 0 <= int(label.min()) <= int(label.max()) < num_classes:
        raise ValueError(f"{name} must lie in [0, {num_classes - 1}], got {label.tolist()}")


def _check_lesions(lesions: object, count: int, name: str, ndim: int) -> None:
    if lesions is None:
        return
    if not isinstance(lesions, Sequence) or not all(
        isinstance(lesion, Lesion) for lesion in lesions
    ):
        raise TypeError(f"{name} must be a list of Lesion or None, got {type(lesions).__name__}")
    if len(lesions) != count:
        raise ValueError(f"{name} must hold a Lesion for each of {count} boxes, got {len(lesions)}")
    if any(lesion.crop.ndim != ndim for lesion in lesions):
        raise ValueError(f"{name} must hold lesions of {ndim} axes, got another number")


def _check_unlabelled(unlabelled: object, name: str, image: Tensor) -> None:
    if unlabelled is None:
        return
    shape = (1, *image.shape[1:])
    if not isinstance(unlabelled, Tensor) or tuple(unlabelled.shape) != shape:
        got = tuple(unlabelled.shape) if isinstance(unlabelled, Tensor) else type(unlabelled)
        raise ValueError(f"{name} must have shape {shape}, a value a voxel, got {got}")


def checked_images(images: list[Tensor] | Tensor) -> list[Tensor] | Tensor:
    """The images without MONAI's subclass; none may be missing or hold NaN."""
    if not isinstance(images, Tensor) and not isinstance(images, list):
        raise TypeError(
            f"input_images must be a tensor or a list of them, got {type(images).__name__}"
        )
    if not len(images):
        raise ValueError("input_images must hold at least one image, got none")
    for number, image in enumerate(images):
        check_tensors(**{f"input_images[{number}]": image})
        if should_validate(None, image) and not is_finite(image):
            raise ValueError(f"input_images[{number}] must hold finite values, got NaN or infinity")
    return plain(images) if isinstance(images, Tensor) else [plain(image) for image in images]
