"""The meaning of the numbers in a mask: probabilities, 0 and 1, labels, or another scale."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap._checks import check_choice, check_tensors, refusal
from softoverlap._types import is_number, plain
from softoverlap.images._intensities import (
    LARGEST_LABEL,
    MAX_LABELS,
    MOST_FLOOR,
    as_of_tissue,
    blocks,
    bounds,
    is_whole,
    labels_or_other,
)
from softoverlap.images.geometry import Volume
from softoverlap.images.noted import Noted, warned

VALUES = ("auto", "probabilities", "percent", "0-255", "labels")
"""The ways in which `as_probabilities` can read values."""

NEAR_WHOLE = 0.1
"""How far labels may be from whole numbers that were stored scaled, as 2 that reads as 2.00003."""

NEAR_ONE = 1e-3
"""The same for a mask of 0 and 1: 1.05 is no mask, and 1.00002 is."""

_SCALES = {"percent": 100.0, "0-255": 255.0}
_SLACK = 1e-6


def value_kind(data: Shaped[Tensor, "*shape"]) -> str:
    """The kind of the values, by their looks.

    | kind | values |
    | --- | --- |
    | `"binary"` | only 0 and 1, or only 0 |
    | `"probabilities"` | in [0, 1], with fractions |
    | `"labels"` | whole numbers from 0, some above 1, few distinct ones or in regions (see below) |
    | `"percent"` | 0 to 100 with fractions; whole numbers with maximum 100 |
    | `"0-255"` | 0 to 255 with fractions, above 100; whole numbers with maximum 255 |
    | `"other"` | anything else: negative values, NaN, intensities |

    Whole numbers with up to 16 distinct values are labels. With 17 to 512 distinct values they are
    labels if they form regions, as structures do and intensities do not: for half of the labels, at
    least a third of the neighbours that are not background have the same label. Values with
    fractions are not percent or 0-255 if the lowest is above a tenth of the scale, or, of 1000 or
    more, if over a fifth lie between a tenth and nine tenths of it, as the tissue of a scan does.

    Labels that were stored scaled count as the whole numbers they are near (2 for 2.00003).

    This is a guess: the values of a nearly empty map in percent may all be below 1.

    Args:
        data: Values of any real type, any shape.

    Returns:
        One of the six words.

    Raises:
        TypeError: If data is not a tensor of real numbers.

    Examples:
        >>> value_kind(torch.tensor([0.0, 1.0])), value_kind(torch.tensor([0.0, 0.3]))
        ('binary', 'probabilities')
        >>> value_kind(torch.tensor([0, 1, 2])), value_kind(torch.tensor([0, 255]))
        ('labels', '0-255')
    """
    check_tensors(data=data)
    values = plain(data).detach()
    if not values.numel() or values.dtype == torch.bool:
        return "binary"
    whole_labels = unscaled(values)
    values = values if whole_labels is None else whole_labels
    low, high = bounds(values)
    if not (low >= -_SLACK and high < float("inf")):  # NaN too
        return "other"
    whole = is_whole(values)
    if high <= 1 + _SLACK:
        return "binary" if whole else "probabilities"
    if whole:
        return {100.0: "percent", 255.0: "0-255"}.get(high) or labels_or_other(values, int(high))
    kind, scale = ("percent", 100) if high <= 100 else ("0-255", 255)
    if high > scale or low > MOST_FLOOR * scale or as_of_tissue(values, scale):
        return "other"
    return kind


def as_probabilities(
    data: Volume | Shaped[Tensor, "*shape"],
    *,
    values: str = "auto",
    label: int | None = None,
    name: str = "mask",
) -> Float[Tensor, "*shape"]:
    """The values as probabilities, if it is clear how to read them.

    Masks of 0 and 1 and probabilities are returned as they are. For anything else, pass `values`: a
    guess for each file would fail for a nearly empty map in percent, which looks like
    probabilities. Masks of 0 and 255 are `"0-255"`, those of 0 and 100 `"percent"`.

    Args:
        data: Values of any real type, any shape.
        values: `"auto"` accepts only binary values and probabilities; `"percent"` divides by 100,
            `"0-255"` by 255; `"labels"` returns 1 for every label, or for the chosen one.
        label: The label to use, a whole number; implies `values="labels"`.
        name: Name of the data for messages, usually its file.

    Returns:
        Probabilities in [0, 1], same shape, float32, or float64 if the values are; the values
        themselves if nothing changes.

    Raises:
        TypeError: If data is neither a volume nor a tensor of real numbers.
        ValueError: If the values are ambiguous, or cannot be read as asked. The message names the
            choices.

    Examples:
        >>> as_probabilities(torch.tensor([0, 1, 1]))
        tensor([0., 1., 1.])
        >>> as_probabilities(torch.tensor([0.0, 50.0, 100.0]), values="percent")
        tensor([0.0000, 0.5000, 1.0000])
        >>> as_probabilities(torch.tensor([0, 1, 2]), label=2)
        tensor([0., 0., 1.])
    """
    return warned(noted_probabilities(data, values=values, label=label, name=name))


def noted_probabilities(
    data: Volume | Shaped[Tensor, "*shape"],
    *,
    values: str = "auto",
    label: int | None = None,
    name: str = "mask",
    arguments: tuple[str, str] = ("values", "label"),
    floating: bool = True,
) -> Noted[Shaped[Tensor, "*shape"]]:
    """`as_probabilities` that returns its warnings as notes.

    Messages name `arguments`: those of the public function that choose values and label. Where
    results need not be `floating`, those of whole numbers may be truth values.
    """
    tensor = data.data if isinstance(data, Volume) else data
    check_choice("values", values, VALUES)
    check_tensors(**{name: tensor})
    numbers, notes = plain(tensor).detach(), ()
    if label is not None:
        values = _with_label(values, label)
    if values in ("auto", "labels", "probabilities"):
        numbers, notes = without_scale(numbers, name)
    mask, more = _as_probabilities(numbers, values, label, name, arguments)
    if floating and mask.dtype == torch.bool:
        mask = mask.to(_float(numbers))
    return mask, (*notes, *more)


def _as_probabilities(
    numbers: Tensor, values: str, label: int | None, name: str, arguments: tuple[str, str]
) -> Noted[Tensor]:
    """The numbers as `values` says."""
    if values == "auto":
        kind = value_kind(numbers)
        if kind not in ("binary", "probabilities"):
            raise ValueError(_choices(numbers, kind, name, arguments))
        values = "probabilities"
    if values == "labels":
        return _labelled(numbers, label, name)
    return _scaled(numbers, values, name)


def unscaled(values: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"] | None:
    """The whole numbers of labels that were stored scaled; None if the values are none.

    A label map that is saved as an array of floats under an integer header is stored with a slope,
    which few whole numbers survive. Each label is then one value near a whole number.
    """
    if not values.is_floating_point() or not values.numel():
        return None
    low, high = bounds(values)
    near = NEAR_WHOLE if high > 1.5 else NEAR_ONE
    if not (low >= -near and 1 + _SLACK < high < LARGEST_LABEL) or is_whole(values):
        return None
    seen: set[float] = set()
    for block in blocks(values):
        if bool(((block - block.round()).abs() > near).any()):
            return None
        seen.update(block.unique().tolist())
        if len(seen) > MAX_LABELS:
            return None
    return values.round() if len(set(map(round, seen))) == len(seen) else None


def without_scale(numbers: Tensor, name: str) -> Noted[Tensor]:
    """Scaled labels as whole numbers, with a note on the largest."""
    whole_labels = unscaled(numbers)
    if whole_labels is None:
        return numbers, ()
    high = float(numbers.max())
    note = (
        f"{name} holds whole numbers that were stored scaled, and are rounded: {high:.7g} is read "
        f"as {round(high)}; store label maps as integers"
    )
    return whole_labels, (note,)


def _with_label(values: str, label: int) -> str:
    if type(label) is not int:
        raise TypeError(f"label must be a whole number, got {label!r}")
    if label < 1:
        raise refusal("label", f"must be at least 1, since 0 is the background, got {label}")
    if values not in ("auto", "labels"):
        raise refusal("label", f"goes with `values='labels'`, got {values!r}")
    return "labels"


def _labelled(numbers: Tensor, label: int | None, name: str) -> Noted[Tensor]:
    """1 for every label, or for the chosen one."""
    if numbers.numel() and numbers.dtype != torch.bool:
        low, high = bounds(numbers)
        if not (0 <= low <= high < float("inf") and is_whole(numbers)):
            raise ValueError(
                f"{name} must hold labels, whole numbers from 0 on, got {_seen(numbers)}"
            )
    inside = numbers > 0 if label is None else is_number(numbers, label)
    notes = ()
    if label is not None and not inside.any() and numbers.any():
        labels = [f"{value:g}" for value in numbers.unique().tolist() if value]
        more = ", …" if len(labels) > 5 else ""
        notes = (f"{name} has no label {label}, only {', '.join(labels[:5])}{more}",)
    return (inside.to(_float(numbers)) if numbers.is_floating_point() else inside), notes


def _scaled(numbers: Tensor, values: str, name: str) -> Noted[Tensor]:
    """Probabilities, percent or 0-255 as probabilities."""
    scale, notes = _SCALES.get(values, 1.0), ()
    if numbers.dtype == torch.bool:
        return numbers if scale == 1 else numbers.float() / scale, ()
    if numbers.numel():
        low, high = bounds(numbers)
        if not -_SLACK * scale <= low <= high <= scale * (1 + _SLACK):
            raise ValueError(f"{name} must hold {values} in [0, {scale:g}], got {_seen(numbers)}")
        if scale > 1 and 0 < high <= (1 if values == "percent" else 100):
            notes = (
                f"{name} is read as {values}, but its largest value is {high:g}, "
                f"{high / scale:.2g} of 1: is that right?",
            )
        if scale == 1 and low >= 0 and high <= 1:
            return _zeros_and_ones(numbers), ()
    return (numbers.to(_float(numbers)) / scale).clamp(0, 1), notes


def _zeros_and_ones(numbers: Tensor) -> Tensor:
    """Probabilities as they are, and truth values for whole numbers, for bytes without a copy."""
    if numbers.is_floating_point():
        return numbers
    return numbers.view(torch.bool) if numbers.dtype == torch.uint8 else numbers.bool()


def _float(numbers: Tensor) -> torch.dtype:
    return torch.float64 if numbers.dtype == torch.float64 else torch.float32


def _seen(numbers: Tensor) -> str:
    low, high = bounds(numbers)
    return f"{'whole numbers' if is_whole(numbers) else 'values'} in [{low:g}, {high:g}]"


def _choices(numbers: Tensor, kind: str, name: str, arguments: tuple[str, str]) -> str:
    expected = f"{name} must hold probabilities in [0, 1] or a mask of 0 and 1, got"
    if bool((numbers < 0).any()):  # no way to read them fits
        return f"{expected} {_seen(numbers)}: of logits, store the sigmoid or the softmax"
    guess = "" if kind == "other" else f", which look like {kind}"
    return (
        f"{expected} {_seen(numbers)}{guess}; say how to read them with `{arguments[0]}=`: "
        f"probabilities, percent, 0-255 or labels; or name the one label to take with "
        f"`{arguments[1]}=`"
    )
