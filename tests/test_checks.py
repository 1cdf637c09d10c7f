"""The shared checks: what passes, what is refused, and that each message says what came."""

from __future__ import annotations

import dataclasses
import pickle
from functools import partial

import numpy as np
import pytest
import torch

from softoverlap import _checks as checks

BOXES = torch.tensor([[0.0, 0.0, 2.0, 3.0]])


def refused(check, *arguments, kind=ValueError, words=(), **options):
    """The check raises the kind of error, and its message has the words."""
    with pytest.raises(kind) as caught:
        check(*arguments, **options)
    for word in words:
        assert word in str(caught.value)
    return caught.value


def test_values_are_looked_at_as_asked_and_else_on_the_cpu_alone():
    cpu, other = torch.zeros(1), torch.zeros(1, device="meta")
    assert checks.should_validate(None, cpu)
    assert checks.should_validate(None)
    assert not checks.should_validate(None, cpu, other)
    assert checks.should_validate(True, other)
    assert not checks.should_validate(False, cpu)


@pytest.mark.bad_input
@pytest.mark.parametrize("value", [1, 1.0, [1.0], np.zeros(3), None])
def test_what_is_no_tensor_is_named_by_its_type(value):
    words = ("mask must be a torch.Tensor", f"got {type(value).__name__}")
    refused(checks.check_tensors, pred=torch.zeros(1), mask=value, kind=TypeError, words=words)


def test_tensors_and_their_subclasses_pass():
    checks.check_tensors(a=torch.zeros(1), b=torch.nn.Parameter(torch.zeros(1)))


@pytest.mark.bad_input
def test_shapes_must_agree_and_have_their_axes():
    a, b = torch.zeros(1, 2, 3), torch.zeros(1, 2, 4)
    checks.check_same_shape(pred=a, target=a)
    words = ("target must have the shape of pred", "(1, 2, 3)", "got (1, 2, 4)")
    refused(checks.check_same_shape, pred=a, target=b, words=words)
    refused(checks.check_same_shape, pred=a, target=[0], kind=TypeError, words=("target",))
    checks.check_rank(3, "(B, C, *spatial)", pred=a)
    words = ("pred must have shape (B, C, D, H)", "got shape (1, 2, 3)")
    refused(checks.check_rank, 4, "(B, C, D, H)", pred=a, words=words)
    checks.check_same_rows(boxes=BOXES, scores=torch.zeros(1))
    words = ("boxes and scores must have as many rows", "'scores': 2")
    refused(checks.check_same_rows, boxes=BOXES, scores=torch.zeros(2), words=words)


@pytest.mark.bad_input
def test_complex_numbers_are_refused():
    number = torch.zeros(2, dtype=torch.complex64)
    words = ("mask must hold real numbers", "got dtype torch.complex64")
    refused(checks.check_tensors, mask=number, kind=TypeError, words=words)
    refused(checks.check_probabilities, mask=number, kind=TypeError, words=words)
    checks.check_tensors(mask=torch.zeros(2))


@pytest.mark.parametrize(
    ("dtype", "slack"),
    [(torch.float16, 1e-3), (torch.bfloat16, 1e-3), (torch.float32, 1e-6), (torch.float64, 1e-6)],
)
def test_probabilities_may_miss_their_range_by_a_rounding(dtype, slack):
    for value in (-slack / 2, 0.0, 0.5, 1.0):
        checks.check_probabilities(mask=torch.tensor([value], dtype=dtype))
    for value in (-3 * slack, 1 + 20 * slack):
        wrong = torch.tensor([value], dtype=dtype)
        refused(checks.check_probabilities, mask=wrong, words=("mask must hold probabilities",))
        checks.check_probabilities(mask=wrong, validate=False)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.0, float("nan")], ("got NaN",)),
        ([-2.0, 0.5], ("got values in [-2, 0.5]", "were logits passed?")),
        ([0.0, 3.0], ("got values in [0, 3]", "are these labels", "0-255")),
        ([0.0, 1.5], ("got values in [0, 1.5]",)),
        ([0.0, float("inf")], ("got values in [0, inf]",)),
    ],
)
def test_a_wrong_probability_gets_a_hint_at_its_cause(values, words):
    refused(checks.check_probabilities, mask=torch.tensor(values), words=words)


def test_a_fraction_above_one_is_not_taken_for_a_label():
    error = refused(checks.check_probabilities, mask=torch.tensor([0.0, 1.5]))
    assert str(error) == "mask must hold probabilities in [0, 1], got values in [0, 1.5]"


def test_masks_without_values_and_truth_values_pass():
    checks.check_probabilities(a=torch.zeros(0, 3), b=torch.tensor([True, False]))


def test_finite_values_are_asked_for_by_name():
    checks.check_finite(values=torch.tensor([-1e30, 1e30]))
    for wrong in (float("nan"), float("inf"), -float("inf")):
        tensor = torch.tensor([0.0, wrong])
        words = ("values must hold finite values", "NaN or infinity")
        refused(checks.check_finite, values=tensor, words=words)
        checks.check_finite(values=tensor, validate=False)


def test_boxes_pass_and_so_do_none_and_flat_ones():
    checks.check_boxes(boxes=BOXES)
    checks.check_boxes(boxes=torch.zeros(0, 6), others=BOXES)
    checks.check_boxes(boxes=torch.tensor([[1, 1, 1, 4]]), ndim=2)
    checks.check_solid_boxes(boxes=BOXES, ndim=2)


@pytest.mark.bad_input
@pytest.mark.parametrize("shape", [(4,), (1, 3), (1, 0), (1, 2, 2)])
def test_boxes_of_another_shape_are_refused(shape):
    words = ("boxes must have shape (N, 2 * ndim)", f"got {shape}")
    refused(checks.check_boxes, boxes=torch.zeros(shape), words=words)
    refused(checks.check_codes, codes=torch.zeros(shape), words=("codes must have shape",))


@pytest.mark.bad_input
def test_boxes_of_another_dimension_or_type_are_refused():
    words = ("boxes must have shape (N, 6)", "got (1, 4)")
    refused(checks.check_boxes, boxes=BOXES, ndim=3, words=words)
    for dtype in (torch.bool, torch.complex64):
        words = ("boxes must hold real coordinates", f"got dtype {dtype}")
        refused(checks.check_boxes, boxes=BOXES.to(dtype), kind=TypeError, words=words)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([0, 0, float("nan"), 1], ("boxes must hold finite coordinates",)),
        ([0, 0, float("inf"), 1], ("boxes must hold finite coordinates",)),
        ([0, 3, 2, 1], ("maximum at or above its minimum", "[0.0, 3.0, 2.0, 1.0]", "row 1")),
    ],
)
def test_the_values_of_boxes_are_looked_at_unless_that_is_turned_off(row, words):
    boxes = torch.tensor([[0.0, 0, 1, 1], row])
    refused(checks.check_boxes, boxes=boxes, words=words)
    checks.check_boxes(boxes=boxes, validate=False)


def test_solid_boxes_have_no_flat_edge():
    flat = torch.tensor([[0.0, 0, 1, 1], [0, 2, 1, 2]])
    checks.check_boxes(boxes=flat)
    words = ("boxes must have edges above 0", "[0.0, 2.0, 1.0, 2.0] in row 1")
    refused(checks.check_solid_boxes, boxes=flat, words=words)
    checks.check_solid_boxes(boxes=flat, validate=False)


def test_codes_may_be_negative_but_not_infinite():
    checks.check_codes(codes=-BOXES)
    wrong = torch.tensor([[0.0, float("inf")]])
    refused(checks.check_codes, codes=wrong, words=("codes must hold finite codes",))
    checks.check_codes(codes=wrong, validate=False)


@pytest.mark.bad_input
def test_oriented_boxes_have_five_or_seven_finite_numbers_and_no_negative_edge():
    checks.check_rotated_boxes(a=torch.zeros(0, 5), b=torch.zeros(2, 7))
    words = ("boxes must have shape (N, 5) or (N, 7)", "got (1, 6)")
    refused(checks.check_rotated_boxes, boxes=torch.zeros(1, 6), words=words)
    words = ("boxes must have shape (N, 7), got (1, 5)",)
    refused(checks.check_rotated_boxes, boxes=torch.zeros(1, 5), parameters=7, words=words)
    refused(checks.check_rotated_boxes, boxes=torch.zeros(1, 5).bool(), kind=TypeError)
    negative, unknown = torch.zeros(2, 5), torch.zeros(2, 5)
    negative[1, 3], unknown[1, 4] = -1, float("nan")
    words = ("edges of at least 0", "in row 1")
    refused(checks.check_rotated_boxes, boxes=negative, words=words)
    refused(checks.check_rotated_boxes, boxes=unknown, words=("finite parameters",))
    checks.check_rotated_boxes(boxes=negative, validate=False)
    turned = torch.tensor([[0.0, 0, 1, 1, -9.0]])  # an angle may be negative
    checks.check_rotated_boxes(boxes=turned)


ABOVE = float("inf")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (checks.check_threshold, [1e-9, 0.5, 1, np.float32(0.5)], [0, -0.1, 1.1, ABOVE]),
        (checks.check_weight, [0, 0.5, 7, np.float64(2)], [-1e-9, ABOVE]),
        (checks.check_positive, [1e-9, 7], [0, -1, ABOVE]),
        (partial(checks.check_within, -1, 1), [-1, 0, 1], [-1.1, 1.1, float("nan")]),
        (checks.check_score, [0, 0.5, 1, float("nan")], [-0.1, 1.1, ABOVE]),
    ],
)
def test_numbers_have_their_range(check, good, bad):
    for value in good:
        check(setting=value)
    for value in bad:
        refused(check, other=good[0], setting=value, words=("setting must", f"got {value}"))
    for value in ("0.5", None, True, [0.5], 1j):
        refused(check, setting=value, kind=TypeError, words=("setting must be a number",))


def test_a_switch_is_true_or_false_and_not_what_python_takes_for_it():
    checks.check_boolean(setting=True, other=False)
    for value in ("no", 0, 1.0, None, np.bool_(True)):
        words = ("setting must be True or False", f"got {value!r}")
        refused(checks.check_boolean, setting=value, kind=TypeError, words=words)


def test_switches_among_settings_are_found_by_their_annotation():
    kinds = [("bool", "switch"), (bool, "switch"), ("bool | None", "rest"), (bool | None, "rest")]
    for kind, name in kinds:
        settings = dataclasses.make_dataclass("Settings", [("count", int), (name, kind)])
        checks.check_booleans(settings(1, True))
        refused(checks.check_booleans, settings(1, "no"), kind=TypeError, words=(f"{name} must",))
        if name == "rest":
            checks.check_booleans(settings(1, None))


@pytest.mark.parametrize("check", [checks.check_threshold, checks.check_weight])
def test_nan_is_no_number_in_a_range(check):
    refused(check, setting=float("nan"), words=("setting must", "got nan"))


def test_a_gate_is_a_share_or_none():
    for gate in (None, 0, 0.5, 1):
        checks.check_gate(gate)
    for gate in (-0.1, 1.1, float("nan")):
        refused(checks.check_gate, gate, words=("gate must lie in [0, 1] or be None",))


def test_a_choice_is_one_of_those_listed_in_order():
    checks.check_choice("method", "mean", ("staple", "mean"))
    checks.check_choice("normalize", None, ("best", None))
    words = ("method must be one of ['mean', 'staple']", "got 'median'")
    refused(checks.check_choice, "method", "median", ("staple", "mean"), words=words)


def test_the_error_of_an_argument_knows_its_name():
    error = refused(checks.check_threshold, low=2)
    assert error.argument == "low"
    assert str(error) == "low must lie in (0, 1], got 2"
    for kind in (ValueError, TypeError, FileNotFoundError, NotADirectoryError, ImportError):
        error = checks.refusal("output", "must be a folder", kind)
        assert type(error) is kind
        copied = pickle.loads(pickle.dumps(error))
        assert (str(copied), copied.argument) == ("output must be a folder", "output")
