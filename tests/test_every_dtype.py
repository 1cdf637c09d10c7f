"""Every public function of tensors with every dtype, layout and extreme value.

What goes in finite comes out finite and equal to the float64 reference, or an error names the
argument. `tests/support/typed_calls.py` holds the calls; those of whole numbers are compared with
int64 and float64, those of fractions with the same fractions in float64.
"""

from __future__ import annotations

import dataclasses

import nibabel
import numpy as np
import pytest
import torch

import softoverlap as so
from softoverlap.measures import compute_bland_altman
from tests.support.typed_calls import CALLS, LEFT_OUT
from tests.support.typed_inputs import PAIR

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.bad_input]

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32)
WIDE = (torch.uint16, torch.uint32, torch.uint64)
HALF = (torch.float16, torch.bfloat16)
REFUSED = (torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2)
LAYOUTS = {
    "strided": lambda x: torch.stack([x, x + 1], dim=-1)[..., 0],
    "turned": lambda x: x.movedim(0, -1).contiguous().movedim(-1, 0),
    "channels last": lambda x: _channels_last(x),
    "with a gradient": lambda x: x.clone().requires_grad_(x.is_floating_point()),
    "parameter": lambda x: torch.nn.Parameter(x.clone(), requires_grad=x.is_floating_point()),
}
every_call = pytest.mark.parametrize("name", CALLS)


def _channels_last(x):
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.contiguous(memory_format=formats[x.ndim]) if x.ndim in formats else x


def tensors(result):
    """All numbers of a result, in order, as tensors."""
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, bool | int | float):
        return [torch.tensor(float(result), dtype=torch.float64)]
    if dataclasses.is_dataclass(result):
        result = vars(result)
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, list | tuple):
        return [number for part in result for number in tensors(part)]
    return []


def numbers(result):
    """The same as plain float64."""
    return [each.detach().double().as_subclass(torch.Tensor) for each in tensors(result)]


def attempt(call, changed):
    """The result of a call, or the error that refuses it by type or value."""
    try:
        return call(**changed)
    except (TypeError, ValueError) as error:
        return error


def outcome(call, changed):
    """The numbers of a call, or its error."""
    result = attempt(call, changed)
    return result if isinstance(result, Exception) else numbers(result)


def assert_same(found, expected, argument, rtol=1e-6):
    """The same numbers, or an error of the argument; what is refused as a reference may be so."""
    if isinstance(found, Exception):
        assert isinstance(expected, Exception) or argument in str(found), found
        return
    assert not isinstance(expected, Exception), expected
    assert len(found) == len(expected)
    for each, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(each, reference, rtol=rtol, atol=rtol, equal_nan=True)


def as_dtype(tensors, dtype):
    return {name: values.to(dtype) for name, values in tensors.items()}


@every_call
def test_all_arguments_in_one_type_give_the_value_of_int64_or_float64(name):
    call = CALLS[name]
    whole, exact = (
        outcome(call, as_dtype(call.arguments, d)) for d in (torch.int64, torch.float64)
    )
    assert not (isinstance(whole, Exception) and isinstance(exact, Exception)), exact
    for dtype in (*INTEGERS, *WIDE):
        found = outcome(call, as_dtype(call.arguments, dtype))
        assert isinstance(found, Exception) == isinstance(whole, Exception), found
        assert_same(found, whole, "")
    for dtype in (*HALF, torch.float32):
        found = outcome(call, as_dtype(call.arguments, dtype))
        assert isinstance(found, Exception) == isinstance(exact, Exception), found
        assert_same(found, exact, "", rtol=2e-2 if dtype in HALF else 1e-5)


@every_call
def test_a_single_argument_of_another_type_has_its_value_or_is_named(name):
    call = CALLS[name]
    for argument, values in call.arguments.items():
        word = argument.strip("[]'")
        whole = outcome(call, {argument: values.long()})
        hard = bool(((values == 0) | (values == 1)).all())
        for dtype in (torch.uint8, torch.uint16, *([torch.bool] if hard else [])):
            assert_same(outcome(call, {argument: values.to(dtype)}), whole, word)
        soft = outcome(call, {argument: values.double()})
        assert_same(outcome(call, {argument: values.bfloat16()}), soft, word, rtol=2e-2)
        for dtype in REFUSED:
            error = outcome(call, {argument: values.float().to(dtype)})
            assert isinstance(error, TypeError), dtype
            assert word in str(error), error
        error = outcome(call, {argument: values.to_sparse()})
        assert isinstance(error, TypeError), error
        assert word in str(error), error
        error = outcome(call, {argument: torch.full_like(values, 2.0**63).to(torch.uint64)})
        assert isinstance(error, TypeError | ValueError), error


@every_call
def test_the_layout_in_memory_changes_nothing(name):
    call = CALLS[name]
    expected = numbers(call())
    for layout in LAYOUTS.values():
        changed = {argument: layout(values) for argument, values in call.arguments.items()}
        assert_same(outcome(call, changed), expected, "no error", rtol=1e-12)
    for argument, values in call.arguments.items():
        expanded = values[:1].expand_as(values)
        copied = outcome(call, {argument: expanded.contiguous()})
        assert_same(outcome(call, {argument: expanded}), copied, argument, rtol=1e-12)


@every_call
def test_nothing_is_taken_or_refused_in_words(name):
    call = CALLS[name]
    outcome(call, {argument: values[:0] for argument, values in call.arguments.items()})
    outcome(call, {argument: values[..., :0] for argument, values in call.arguments.items()})
    for argument, values in call.arguments.items():
        outcome(call, {argument: values[:0]})


def of_nothing():
    """Each loss without items; those of masks also without voxels."""
    for name, call in CALLS.items():
        if "Loss" in name:
            yield name, {argument: values[:0] for argument, values in call.arguments.items()}
        without = {k: v[..., :0] for k, v in call.arguments.items() if v.shape[-1] == 6}
        if "Loss" in name and without:
            yield name, {**call.arguments, **without}


@pytest.mark.parametrize(("name", "nothing"), of_nothing())
def test_a_loss_of_nothing_is_0_and_attached_to_the_graph(name, nothing):
    leaf = next(iter(nothing))
    nothing = nothing | {leaf: nothing[leaf].clone().requires_grad_()}
    loss = CALLS[name](**nothing)
    loss.backward()
    assert nothing[leaf].grad.shape == nothing[leaf].shape
    assert not nothing[leaf].grad.any()
    if len(nothing[leaf]) and name in ("MaskBoxDiceLoss", "MaskBoxIoULoss", "SizePriorLoss"):
        assert loss.isfinite()  # their boxes are not nothing
    else:
        assert loss.item() == 0


def probabilities(call):
    """The arguments that hold 0 and 1 and may hold what lies between them."""
    return {
        name: values
        for name, values in call.arguments.items()
        if values.is_floating_point()
        and ((values == 0) | (values == 1)).all()
        and not set(name.split("'")) & {"boxes", "anchors", "label", "labels"}
    }


def extremes(dtype):
    """What stands for 0 and for 1."""
    limits = torch.finfo(dtype)
    least = limits.smallest_normal * limits.eps  # subnormal, if they are not flushed
    yield from ((least, 1), (least, least), (0, least), (0, 2 * least))
    yield from ((limits.tiny, 1), (limits.tiny, limits.eps), (0, limits.tiny))
    yield from ((limits.eps, 1 - limits.eps), (0, 1 - limits.eps / 2), (0.5, 1 - limits.eps))


SOFT = [name for name, call in CALLS.items() if probabilities(call)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SOFT)
def test_extreme_values_come_out_as_in_float64_with_finite_gradients(name, dtype):
    """The gradient is finite also where the slope is beyond the type: one over a subnormal sum."""
    call = CALLS[name]
    soft = probabilities(call)
    others = {k: v for k, v in call.arguments.items() if k not in soft and v.is_floating_point()}
    for low, high in extremes(dtype):
        drawn = {
            argument: torch.where(values == 1, torch.tensor(high), torch.tensor(low)).to(dtype)
            for argument, values in soft.items()
        }
        leaves = {argument: values.clone().requires_grad_() for argument, values in drawn.items()}
        expected = outcome(call, as_dtype({**others, **drawn}, torch.float64))
        result = attempt(call, {**as_dtype(others, dtype), **leaves})
        found = result if isinstance(result, Exception) else numbers(result)
        assert isinstance(found, Exception) == isinstance(expected, Exception), found
        assert_same(found, expected, "", rtol=1e-4)
        attached = [part.double().sum() for part in tensors(result) if part.requires_grad]
        if attached:
            leaves = list(leaves.values())
            gradients = torch.autograd.grad(sum(attached), leaves, allow_unused=True)
            assert all(each is None or each.isfinite().all() for each in gradients), (low, high)


def test_every_public_name_is_called_or_left_out_for_a_reason():
    called = {name.split(" ")[0].split(".")[0] for name in CALLS}
    assert called | LEFT_OUT.keys() >= set(so.__all__)
    assert LEFT_OUT.keys() <= set(so.__all__)


def test_arrays_and_lists_are_taken_where_they_are_said_to_be():
    pred, target = np.array([3, 1, 2], np.uint16), [1, 1, 4]
    expected = compute_bland_altman([3.0, 1.0, 2.0], [1.0, 1.0, 4.0])
    for array in (pred, pred[::-1][::-1], pred.astype(np.float16), pred.astype(">i4")):
        assert compute_bland_altman(array, target) == expected
    assert compute_bland_altman(torch.tensor([3, 1, 2]).bfloat16(), target) == expected
    with pytest.raises(TypeError, match="pred must hold real numbers, got type complex128"):
        compute_bland_altman(pred.astype(complex), target)
    with pytest.raises(TypeError, match="target must hold real numbers, got type <U1"):
        compute_bland_altman(pred, ["1", "1", "4"])


def test_a_file_is_read_in_every_type_that_holds_it_and_in_no_other(tmp_path):
    path = tmp_path / "a.nii"
    for stored in (np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float32):
        for value in (1, 200, 300, -1):
            if not np.can_cast(np.min_scalar_type(value), stored):
                continue
            values = np.full((2, 2, 2), value, stored)
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4), dtype=stored), path)
            for dtype in (*INTEGERS, *WIDE, torch.int64):
                limits = torch.iinfo(dtype)
                if limits.min <= value <= limits.max:
                    assert so.load_nifti(path, dtype=dtype).data.tolist() == values.tolist()
                    continue
                with pytest.raises(ValueError, match=f"must hold values that fit in {dtype}"):
                    so.load_nifti(path, dtype=dtype)
    for dtype in REFUSED:
        with pytest.raises(TypeError, match=f"dtype must be a type that is computed in.*{dtype}"):
            so.load_nifti(path, dtype=dtype)


@pytest.mark.parametrize("index", [-100, 255, 256, 65536, 2**40, 2**64 - 1, -1, 300.0])
def test_an_index_that_no_voxel_holds_ignores_nothing(index):
    labels = torch.tensor([[[0, 1, 2, 44, 156, 200]]])
    expected = so.compute_soft_dice(labels, labels, num_classes=201)
    logits = torch.arange(201 * 6.0).reshape(1, 201, 6).sin()
    options = {"softmax": True, "to_onehot_y": True}
    losses = (so.SoftDiceLoss, so.SoftIoULoss, so.SoftTverskyLoss, so.SoftDiceCELoss)
    expected_loss = {loss: loss(**options)(logits, labels) for loss in losses}
    for dtype in (torch.uint8, torch.int16, torch.int64, *WIDE, torch.float16, torch.float64):
        given = labels.to(dtype)
        if isinstance(index, int):
            found = so.compute_soft_dice(given, given, num_classes=201, ignore_index=index)
            torch.testing.assert_close(found, expected, equal_nan=True)
        for loss in losses:
            value = loss(**options, ignore_index=index)(logits, given)
            torch.testing.assert_close(value, expected_loss[loss], check_dtype=False)


@pytest.mark.parametrize(
    ("dtype", "last"),
    [(torch.uint8, 255), (torch.int8, 127), (torch.float16, 2050), (torch.bfloat16, 258)],
)
def test_classes_beyond_a_type_are_not_those_within_it(dtype, last):
    """300 is 44 in uint8, and 2049 is 2048 in float16."""
    labels = torch.tensor([[[0, 1, 44, last]]])
    classes = last + 50
    scores = so.compute_soft_dice(labels, labels, num_classes=classes)
    narrow = so.compute_soft_dice(labels.to(dtype), labels, num_classes=classes)
    torch.testing.assert_close(narrow, scores, equal_nan=True)
    logits = torch.arange(classes * 4.0).reshape(1, classes, 4).sin()
    loss = so.SoftDiceLoss(softmax=True, to_onehot_y=True)
    torch.testing.assert_close(loss(logits, labels.to(dtype)), loss(logits, labels))


def test_a_negative_label_is_refused_whatever_is_ignored():
    labels = torch.tensor([[[0, 1, -1, 2]]], dtype=torch.int8)
    with pytest.raises(ValueError, match="y_pred must hold labels from 0 to 2, got -1"):
        so.compute_soft_dice(labels, labels, num_classes=3, ignore_index=255)
    logits = torch.zeros(1, 3, 4)
    for loss in (so.SoftDiceLoss, so.SoftDiceCELoss):
        with pytest.raises(ValueError, match="target must hold labels from 0 to 2, got -1"):
            loss(softmax=True, to_onehot_y=True, ignore_index=255)(logits, labels)


def test_integers_beyond_int64_are_refused_by_name():
    huge = torch.tensor([[[2**63, 2**64 - 1]]], dtype=torch.uint64)
    with pytest.raises(ValueError, match=r"y_pred must hold integers below 2\*\*63"):
        so.compute_soft_dice(huge, huge, num_classes=3)


def test_what_is_not_asked_for_is_not_looked_at():
    """Types and layouts are: without them nothing could be computed."""
    with pytest.raises(TypeError, match="y_pred must be of a type that is computed in"):
        so.compute_soft_dice(PAIR["y_pred"].to(torch.float8_e5m2), PAIR["y"], validate=False)
