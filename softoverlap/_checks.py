"""Checks of tensors; each message names the argument, what was expected, what came.

Shapes and types are always checked. Values cost a pass and, on a GPU, a synchronisation:
`should_validate` is the one place that decides whether they are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import fields
from numbers import Real
from typing import Any, TypeVar

import torch
from torch import Tensor

from softoverlap._types import TAKEN, plain

_MANY = 1 << 13  # numbers; of fewer each operation has its price, not each number

_SWITCH, _SWITCH_OR_NONE = ("bool", bool), ("bool | None", bool | None)  # annotations

Refusal = TypeVar("Refusal", bound=Exception)


def should_validate(validate: bool | None, *tensors: Tensor) -> bool:
    """Whether to look at values: as asked, and by default where looking costs little."""
    return may_look(*tensors) if validate is None else validate


def may_look(*tensors: Tensor) -> bool:
    """Whether values may be looked at: all are on the CPU, and no graph is being made of them."""
    return all(tensor.device.type == "cpu" for tensor in tensors) and not is_traced()


def is_traced() -> bool:
    """Whether operations are recorded or mapped, so that no value may decide what follows.

    So under `torch.compile`, `torch.export`, `torch.jit.trace`, and the transforms of `torch.func`.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True
    return torch._C._functorch.maybe_current_level() is not None  # pyright: ignore


def refusal(argument: str, complaint: str, kind: type[Refusal] = ValueError) -> Refusal:
    """The error of an argument: its message begins with the argument's name.

    The name is kept as the error's `argument` too, so that the command line can tell it from other
    text and put its own name there. Other arguments within a message are written `` `name=` ``.

    Examples:
        >>> refusal("low", "must lie in (0, 0.5], got 1")
        ValueError('low must lie in (0, 0.5], got 1')
    """
    error = kind(f"{argument} {complaint}")
    error.__dict__["argument"] = argument
    return error


def own_error(error: BaseException) -> BaseException:
    """What went wrong: MONAI's transforms and parser raise `RuntimeError` from it."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def check_tensors(**tensors: object) -> None:
    """Every argument is a dense tensor of real numbers, of a type that is taken."""
    _check_tensors("numbers", tensors)


def _check_tensors(content: str, tensors: Mapping[str, object]) -> None:
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
        if value.is_complex():
            raise TypeError(f"{name} must hold real {content}, got dtype {value.dtype}")
        if value.dtype not in TAKEN:
            raise TypeError(f"{name} must be of a type that is computed in, got {value.dtype}")
        if value.layout != torch.strided:
            raise TypeError(f"{name} must be a dense tensor, got layout {value.layout}")
        if value.dtype == torch.uint64 and may_look(value) and bool((plain(value) < 0).any()):
            raise ValueError(f"{name} must hold integers below 2**63, got dtype {value.dtype}")


def check_same_shape(**tensors: Tensor) -> None:
    """All tensors have one shape, and at least a batch, a channel and a spatial axis."""
    check_tensors(**tensors)
    names, shapes = list(tensors), [tuple(tensor.shape) for tensor in tensors.values()]
    for name, shape in zip(names[1:], shapes[1:], strict=True):
        if shape != shapes[0]:
            raise ValueError(f"{name} must have the shape of {names[0]}, {shapes[0]}, got {shape}")


def check_rank(minimum: int, layout: str, **tensors: Tensor) -> None:
    """Every tensor has at least `minimum` axes; `layout` says which."""
    check_tensors(**tensors)
    for name, tensor in tensors.items():
        if tensor.ndim < minimum:
            raise ValueError(f"{name} must have shape {layout}, got shape {tuple(tensor.shape)}")


def check_probabilities(*, validate: bool | None = None, **masks: Tensor) -> None:
    """All values lie in [0, 1] and none is NaN; half precision is granted 1e-3."""
    check_tensors(**masks)
    if not should_validate(validate, *masks.values()):
        return
    for name, mask in masks.items():
        mask = plain(mask.detach())
        if mask.numel() == 0 or mask.dtype == torch.bool:
            continue
        low, high = (bound.item() for bound in torch.aminmax(mask))
        slack = slack_of(mask.dtype)
        if low != low or high != high:
            raise ValueError(f"{name} must hold probabilities in [0, 1], got NaN")
        if low < -slack or high > 1 + slack:
            hint = "; were logits passed?" if low < 0 else _labels_hint(mask)
            raise ValueError(
                f"{name} must hold probabilities in [0, 1], got values in [{low:g}, {high:g}]{hint}"
            )


def slack_of(dtype: torch.dtype) -> float:
    """How far beyond [0, 1] rounding may lift a probability of this type."""
    return 1e-3 if dtype in (torch.float16, torch.bfloat16) else 1e-6


def _labels_hint(mask: Tensor) -> str:
    whole = not mask.is_floating_point() or bool((mask == mask.round()).all())
    return "; are these labels (num_classes, one-hot) or values of 0-255?" if whole else ""


def check_finite(*, validate: bool | None = None, **tensors: Tensor) -> None:
    """No value is NaN or infinite."""
    check_tensors(**tensors)
    for name, tensor in tensors.items():
        if should_validate(validate, tensor) and not is_finite(tensor):
            raise ValueError(f"{name} must hold finite values, got NaN or infinity")


def is_finite(values: Tensor) -> bool:
    """Whether none is NaN or infinite; the extremes tell, sooner than a look at each."""
    values = plain(values.detach())
    if not values.is_floating_point() or not values.numel():
        return True
    return all(bool(torch.isfinite(extreme)) for extreme in torch.aminmax(values))


def check_gate(gate: float | int | None) -> None:
    """CIoU's gate is an IoU or None."""
    if gate is not None and not 0 <= gate <= 1:
        raise refusal("gate", f"must lie in [0, 1] or be None, got {gate}")


def check_boxes(*, validate: bool | None = None, ndim: int | None = None, **boxes: Tensor) -> None:
    """Boxes have shape (N, 2 * ndim); their values are finite and no maximum is below a minimum."""
    _check_paired_columns("coordinates", ndim, boxes)
    if not should_validate(validate, *boxes.values()):
        return
    for name, box in boxes.items():
        box = plain(box.detach())
        low, high = box.split(box.shape[1] // 2, dim=1)
        if not box.numel() or (box.is_floating_point() and _is_valid(box, low, high)):
            continue
        if not torch.isfinite(box).all():
            raise ValueError(f"{name} must hold finite coordinates, got NaN or infinity")
        inverted = (high < low).any(dim=1)
        if inverted.any():
            row = int(inverted.nonzero()[0, 0])
            raise ValueError(
                f"{name} must have every maximum at or above its minimum, "
                f"got {box[row].tolist()} in row {row}"
            )


def _is_valid(box: Tensor, low: Tensor, high: Tensor) -> bool:
    """Whether all is finite and no edge is below 0, in a pass for each."""
    bounds = torch.aminmax(box)
    finite = math.isfinite(bounds.min.item()) and math.isfinite(bounds.max.item())
    return finite and least_difference(high, low) >= 0


def least_difference(high: Tensor, low: Tensor) -> float:
    """The least of `high - low` of finite numbers; column by column where the columns are long."""
    if high.numel() < _MANY:
        return (high - low).min().item()
    columns = zip(high.unbind(-1), low.unbind(-1), strict=True)
    return min((above - below).min().item() for above, below in columns)


def check_solid_boxes(
    *, validate: bool | None = None, ndim: int | None = None, **boxes: Tensor
) -> None:
    """Boxes are boxes, and each of their edges is above 0."""
    check_boxes(validate=validate, ndim=ndim, **boxes)
    if not should_validate(validate, *boxes.values()):
        return
    for name, box in boxes.items():
        box = plain(box.detach())
        flat = (box[:, box.shape[1] // 2 :] <= box[:, : box.shape[1] // 2]).any(dim=1)
        if flat.any():
            row = int(flat.nonzero()[0, 0])
            raise ValueError(
                f"{name} must have edges above 0, got {box[row].tolist()} in row {row}"
            )


def check_codes(*, validate: bool | None = None, ndim: int | None = None, **codes: Tensor) -> None:
    """Codes have the shape of boxes, (N, 2 * ndim), and finite values."""
    _check_paired_columns("codes", ndim, codes)
    if not should_validate(validate, *codes.values()):
        return
    for name, code in codes.items():
        if not torch.isfinite(code.detach()).all():
            raise ValueError(f"{name} must hold finite codes, got NaN or infinity")


def _check_paired_columns(content: str, ndim: int | None, tensors: dict[str, Tensor]) -> None:
    _check_tensors(content, tensors)
    for name, tensor in tensors.items():
        expected = "(N, 2 * ndim)" if ndim is None else f"(N, {2 * ndim})"
        wrong = tensor.ndim != 2 or tensor.shape[1] == 0 or tensor.shape[1] % 2
        if wrong or (ndim is not None and tensor.shape[1] != 2 * ndim):
            raise ValueError(f"{name} must have shape {expected}, got {tuple(tensor.shape)}")
        if tensor.dtype == torch.bool:
            raise TypeError(f"{name} must hold real {content}, got dtype {tensor.dtype}")


def check_same_rows(**tensors: Tensor) -> None:
    """All tensors have as many rows."""
    counts = {name: int(tensor.shape[0]) for name, tensor in tensors.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"{' and '.join(counts)} must have as many rows, got {counts}")


def check_boolean(**values: object) -> None:
    """Every value is True or False, not just something that is true."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise refusal(name, f"must be True or False, got {value!r}", TypeError)


def check_booleans(settings: Any) -> None:
    """Every field of a dataclass that is annotated as a truth value, or as one or None, is so."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.type in _SWITCH or (field.type in _SWITCH_OR_NONE and value is not None):
            check_boolean(**{field.name: value})


def check_number(**values: object) -> None:
    """Every value is a real number; a truth value is none."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Real):
            raise refusal(name, f"must be a number, got {value!r}", TypeError)


def check_score(**values: float | int) -> None:
    """Every value is a score in [0, 1], or NaN for none."""
    for name, value in values.items():
        check_number(**{name: value})
        if not (0 <= value <= 1 or math.isnan(value)):
            raise refusal(name, f"must be a score in [0, 1] or NaN, got {value!r}")


def check_within(low: float | int, high: float | int, **values: float | int) -> None:
    """Every value lies in [low, high]."""
    for name, value in values.items():
        check_number(**{name: value})
        if not low <= value <= high:
            raise refusal(name, f"must lie in [{low:g}, {high:g}], got {value!r}")


def check_threshold(**thresholds: float | int) -> None:
    """Every threshold lies in (0, 1]: at 0 every voxel would be inside."""
    for name, value in thresholds.items():
        check_number(**{name: value})
        if not 0 < value <= 1:
            raise refusal(name, f"must lie in (0, 1], got {value!r}")


def check_weight(**weights: float | int) -> None:
    """Every weight is a finite number and at least 0."""
    for name, weight in weights.items():
        check_number(**{name: weight})
        if not 0 <= weight < float("inf"):
            raise refusal(name, f"must be at least 0 and finite, got {weight}")


def check_positive(**values: float | int) -> None:
    """Every value is a finite number above 0."""
    for name, value in values.items():
        check_number(**{name: value})
        if not 0 < value < float("inf"):
            raise refusal(name, f"must be above 0 and finite, got {value}")


def check_rotated_boxes(
    *, validate: bool | None = None, parameters: int | None = None, **boxes: Tensor
) -> None:
    """Oriented boxes have shape (N, 5) or (N, 7), finite values and edges of at least 0."""
    _check_tensors("parameters", boxes)
    for name, box in boxes.items():
        expected = (5, 7) if parameters is None else (parameters,)
        if box.ndim != 2 or box.shape[1] not in expected:
            layout = " or ".join(f"(N, {count})" for count in expected)
            raise ValueError(f"{name} must have shape {layout}, got {tuple(box.shape)}")
        if box.dtype == torch.bool:
            raise TypeError(f"{name} must hold real parameters, got dtype {box.dtype}")
    if not should_validate(validate, *boxes.values()):
        return
    for name, box in boxes.items():
        box, ndim = plain(box.detach()), (box.shape[1] - 1) // 2
        if not torch.isfinite(box).all():
            raise ValueError(f"{name} must hold finite parameters, got NaN or infinity")
        negative = (box[:, ndim : 2 * ndim] < 0).any(dim=1)
        if negative.any():
            row = int(negative.nonzero()[0, 0])
            raise ValueError(
                f"{name} must have edges of at least 0, got {box[row].tolist()} in row {row}"
            )


def check_axes(axes: object, ndim: int) -> None:
    """Directions of voxel axes: for each a letter of R or L, A or P, S or I, none of them twice."""
    if not isinstance(axes, str):
        raise refusal("axes", f"must be letters such as RAS, got {axes!r}", TypeError)
    pairs = [letters for letter in axes for letters in ("RL", "AP", "SI") if letter in letters]
    if not len(set(pairs)) == len(axes) == ndim:
        complaint = f"must name {ndim} of R or L, A or P, S or I, each once, got {axes!r}"
        raise refusal("axes", complaint)


def check_choice(name: str, value: object, choices: Collection[object]) -> None:
    """The value is one of the choices."""
    if value not in choices:
        raise refusal(name, f"must be one of {sorted(map(str, choices))}, got {value!r}")


def check_no_components(per_component: bool) -> None:
    """MONAI's `per_component` is False: a soft score has no threshold that would cut components."""
    if per_component:
        raise ValueError(
            "per_component must be False: components are cut by a threshold, "
            "which a soft metric does not have"
        )
