"""What every overlap is, whatever its family: one definition, shown and stored like a function."""

from __future__ import annotations

import copy
import doctest
import importlib
import inspect
import math
import os
import pickle
import pydoc
import subprocess
import sys
import typing
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st

import softoverlap
from softoverlap import (
    Hit,
    anchor_quality,
    box_nms,
    boxes,
    match_scan,
    overlaps,
    scores,
    soft_boxes,
)
from softoverlap.overlaps import (
    BoxOverlap,
    MaskBallOverlap,
    MaskBoxOverlap,
    MaskOverlap,
    MaskRotatedBoxOverlap,
    Overlap,
    RegionOverlap,
    RotatedBoxOverlap,
    SoftBoxOverlap,
    box_ciou,
    box_iou,
    box_nwd,
    box_pair_iou,
    mask_box_dice,
    mask_box_diou,
    mask_box_iou,
    mask_box_tversky,
    mask_dice,
    mask_tversky,
    overlap_named,
    region_dice,
    rotated_box_iou,
)
from softoverlap.regions import Polygon
from tests.support.strategies import box_batches

NAMED = [value for value in vars(overlaps).values() if isinstance(value, Overlap)]
CHANGED = [
    box_ciou.with_(gate=0.5),
    box_nwd.with_(constant=5.0),
    mask_box_dice.with_(empty=0.0),
    mask_box_tversky.with_(alpha=0.3, beta=0.7),
    mask_tversky.with_(alpha=0.0),
    region_dice.with_(period=40.0),
]
EVERY = [*NAMED, *CHANGED]
OF_MASKS = (MaskBoxOverlap, MaskBallOverlap, MaskRotatedBoxOverlap)
FORMS = [*NAMED, *(one.pairs for one in NAMED if one.pairs is not one)]
PAIRED = [one for one in EVERY if not isinstance(one, MaskOverlap)]
SEEDS = st.integers(0, 10**6)


def two_sets(overlap, seed=0, count=5):
    """As many of both, in float64: some meet, some are apart, some are empty."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.rand(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    if isinstance(overlap, RotatedBoxOverlap):
        return 4 * draw(count, 5), 4 * draw(count, 5)
    if isinstance(overlap, RegionOverlap):
        return tuple(_polygons(4 * draw(count, 1, 2), draw(count, 5, 1)) for _ in range(2))
    low, edge = 6 * draw(2, count, 2), 4 * draw(2, count, 2)
    edge[:, 0] = 0
    first, others = torch.cat([low, low + edge], dim=2)
    masks = (draw(count, 1, 7, 7) - 0.6).clamp(min=0) / 0.4
    masks[1] = 0
    if isinstance(overlap, SoftBoxOverlap):
        return soft_boxes(first, draw(count, 4)), soft_boxes(others, draw(count, 4))
    if isinstance(overlap, BoxOverlap):
        return first, others
    if isinstance(overlap, MaskRotatedBoxOverlap):
        return masks[:, 0], 4 * draw(count, 5)
    return (masks[:, 0], first) if isinstance(overlap, OF_MASKS) else (masks, masks.flip(0))


def _polygons(centres, reach):
    """Rings of five vertices, as far from the centre as they reach."""
    angles = torch.arange(5, dtype=torch.float64) * 2 * torch.pi / 5
    rings = centres + (0.2 + reach) * torch.stack([angles.cos(), angles.sin()], dim=1)
    return [Polygon(ring) for ring in rings]


def two_apart(overlap, seed=0):
    """Sets that share nothing, and are not empty."""
    generator = torch.Generator().manual_seed(seed)
    edge = 0.5 + 2 * torch.rand(2, 2, generator=generator, dtype=torch.float64)
    gap = 3 + 3 * torch.rand(2, generator=generator, dtype=torch.float64)
    near, far = torch.cat([torch.zeros(2), edge[0]]), torch.cat([gap, gap + edge[1]])
    if isinstance(overlap, RotatedBoxOverlap):
        turned = torch.tensor([0.3], dtype=torch.float64)
        return tuple(torch.cat([b[:2] * 2, edge[0], turned])[None] for b in (near, far))
    if isinstance(overlap, SoftBoxOverlap):
        return soft_boxes(near[None].double(), 0.5), soft_boxes(far[None].double(), 0.5)
    if isinstance(overlap, BoxOverlap):
        return near[None], far[None]
    if isinstance(overlap, RegionOverlap):
        centres = edge.new_tensor([[[0.0, 0.0]], [[6.0, 0.0]]])
        return tuple([one] for one in _polygons(centres, 2 * edge.new_ones(2, 5, 1)))
    mask = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    mask[..., :2, :2] = torch.rand(2, 2, generator=generator, dtype=torch.float64)
    if isinstance(overlap, MaskRotatedBoxOverlap):
        return mask[0], torch.cat([far[:2] * 2, edge[0], far[:1]])[None]
    if isinstance(overlap, OF_MASKS):
        return mask[0], far[None]
    return mask, mask.flip(2)


def test_every_family_has_members():
    for family in (BoxOverlap, RotatedBoxOverlap, *OF_MASKS, MaskOverlap, RegionOverlap):
        assert any(isinstance(one, family) for one in NAMED)
    assert len(NAMED) >= 17


@pytest.mark.parametrize("form", FORMS, ids=repr)
def test_a_form_shows_signature_and_docstring_like_a_function(form):
    shown = inspect.signature(form)
    doc = inspect.getdoc(form)
    for heading in ("Args:", "Returns:", "Raises:", "Examples:"):
        assert f"\n{heading}\n" in doc
    for name in shown.parameters:
        assert f"\n    {name}: " in doc
    assert "self" not in shown.parameters
    assert all(one.kind is not inspect.Parameter.VAR_KEYWORD for one in shown.parameters.values())
    assert shown.return_annotation is not inspect.Signature.empty
    assert "its range" not in doc
    help_page = pydoc.plain(pydoc.render_doc(form))
    assert f"\n{form.__name__}(" in help_page
    assert "Examples:" in help_page


@pytest.mark.parametrize("form", FORMS, ids=repr)
def test_the_types_of_a_form_are_read_like_those_of_a_function(form):
    hints, shown = typing.get_type_hints(form), inspect.signature(form)
    assert list(hints) == [*shown.parameters, "return"]
    assert hints["validate"] == (bool | None)
    assert not any(isinstance(hint, str) for hint in hints.values())


@pytest.mark.parametrize("form", FORMS, ids=repr)
def test_doctest_finds_the_examples_of_both_forms(form):
    finder = doctest.DocTestFinder(exclude_empty=True)
    module = importlib.import_module(form.__module__)
    found = {one.name.rpartition(".")[2]: one for one in finder.find(module)}
    overlap = form if isinstance(form, Overlap) else form.overlap
    source = "".join(example.source for example in found[form.__name__].examples)
    assert f"{overlap.name}" in source
    assert overlap.pairs is overlap or ".pairs(" in source


@pytest.mark.parametrize("overlap", [mask_box_iou, box_iou, box_nwd, mask_dice], ids=repr)
def test_an_aligned_form_is_that_of_the_overlap(overlap):
    name = overlap.name.replace("box_", "box_pair_")
    assert getattr(softoverlap, name) is overlap.pairs
    assert getattr(softoverlap, overlap.name) is overlap


@pytest.mark.parametrize("form", FORMS, ids=repr)
def test_a_named_form_is_stored_and_copied_as_itself(form):
    assert pickle.loads(pickle.dumps(form)) is form
    assert copy.deepcopy(form) is form
    assert copy.copy(form) is form


@pytest.mark.parametrize("overlap", CHANGED, ids=repr)
def test_an_overlap_with_other_parameters_is_stored_and_copied_as_an_equal_one(overlap):
    for other in (pickle.loads(pickle.dumps(overlap)), copy.deepcopy(overlap), copy.copy(overlap)):
        assert other == overlap
        assert hash(other) == hash(overlap)
        assert other.pairs == overlap.pairs
    restored = pickle.loads(pickle.dumps(overlap.pairs))
    sets = two_sets(overlap)
    assert torch.equal(restored(*sets), overlap.pairs(*sets))


@pytest.mark.parametrize("overlap", EVERY, ids=repr)
def test_the_text_of_an_overlap_makes_it_again(overlap):
    assert eval(repr(overlap), vars(overlaps)) == overlap
    assert eval(repr(overlap.pairs), vars(overlaps)) == overlap.pairs


def test_overlaps_are_equal_by_name_and_parameters():
    assert len({*EVERY}) == len(EVERY)
    assert box_nwd.with_(constant=5.0) == box_nwd.with_(constant=5.0) != box_nwd
    assert box_nwd.with_(constant=5.0).with_(constant=12.7) is box_nwd
    assert box_iou.with_() is box_iou
    assert mask_box_tversky.with_(alpha=1.0).with_(beta=2.0).parameters == {
        "alpha": 1.0,
        "beta": 2.0,
        "empty": 1.0,
    }
    assert box_iou.pairs != box_iou


@pytest.mark.parametrize("form", [box_iou, box_pair_iou, box_nwd.with_(constant=5.0)], ids=repr)
def test_an_overlap_does_not_change(form):
    with pytest.raises(AttributeError, match="cannot be changed; with_"):
        form.range = (0, 2)
    with pytest.raises(AttributeError, match="cannot be changed; with_"):
        del form.__doc__


@pytest.mark.parametrize("overlap", CHANGED, ids=repr)
def test_parameters_travel_with_the_overlap_or_come_with_the_call(overlap):
    named, sets = overlap_named(overlap.name), two_sets(overlap, seed=3)
    changed = overlap._changed()
    assert changed
    assert torch.equal(overlap(*sets), named(*sets, **changed))
    assert torch.equal(overlap.pairs(*sets), named.pairs(*sets, **changed))
    for name, value in changed.items():
        assert inspect.signature(overlap).parameters[name].default == value
        assert inspect.signature(overlap.pairs).parameters[name].default == value


def test_a_parameter_that_is_not_there_is_refused_like_that_of_a_function():
    sets = two_sets(box_iou)
    with pytest.raises(TypeError, match=r"box_iou\(\) got an unexpected keyword argument 'gate'"):
        box_iou(*sets, gate=0.5)
    with pytest.raises(TypeError, match=r"^box_iou\.with_\(\) got an unexpected .* 'gate'"):
        box_iou.with_(gate=0.5)
    for form in (box_iou.pairs, mask_dice, mask_box_dice, mask_box_dice.pairs):
        with pytest.raises(TypeError, match=rf"^{form.__name__}\(\) got an unexpected .* 'gate'"):
            form(*sets, gate=0.5)


@pytest.mark.bad_input
@pytest.mark.parametrize("overlap", NAMED, ids=repr)
def test_a_parameter_is_a_number_in_its_range(overlap):
    for name in overlap.parameters:
        kind = "length above 0, or .*" if name == "period" else "number"
        with pytest.raises(ValueError, match=f"^{name} must be a {kind}, got nan"):
            overlap.with_(**{name: math.nan})
    if "empty" in overlap.parameters:
        for call in (overlap.with_, partial(overlap.pairs, *two_sets(overlap))):
            for wrong in (-0.1, 1.1, math.inf):
                with pytest.raises(ValueError, match=r"^empty must lie in \[0, 1\], got"):
                    call(empty=wrong)
            with pytest.raises(TypeError, match="^empty must be a number, got 'x'"):
                call(empty="x")


def test_a_parameter_out_of_range_is_refused_in_every_form():
    sets = two_sets(box_nwd)
    with pytest.raises(ValueError, match="gate must lie in"):
        box_ciou.with_(gate=1.5)
    with pytest.raises(ValueError, match="constant must be above 0"):
        box_nwd.pairs(*sets, constant=0.0)
    with pytest.raises(ValueError, match="alpha must be at least 0"):
        mask_box_tversky.with_(alpha=-0.5)


@pytest.mark.parametrize("overlap", EVERY, ids=repr)
@given(seed=SEEDS)
def test_no_score_leaves_its_range(overlap, seed):
    low, high = overlap.range
    for score in (overlap(*two_sets(overlap, seed)), overlap(*two_apart(overlap, seed))):
        assert score.min() >= low
        assert score.max() <= high


@pytest.mark.parametrize("overlap", EVERY, ids=repr)
@given(seed=SEEDS)
def test_an_overlap_says_whether_it_is_zero_where_sets_are_apart(overlap, seed):
    score = overlap.pairs(*two_apart(overlap, seed))
    assert bool((score == 0).all()) == overlap.zero_apart


@pytest.mark.parametrize("overlap", PAIRED, ids=repr)
@given(seed=SEEDS)
def test_aligned_scores_are_the_diagonal(overlap, seed):
    sets = two_sets(overlap, seed)
    torch.testing.assert_close(overlap.pairs(*sets), overlap(*sets).diagonal(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("overlap", [one for one in EVERY if one.symmetric], ids=repr)
@given(seed=SEEDS)
def test_a_symmetric_overlap_lets_the_sets_change_places(overlap, seed):
    one, other = two_sets(overlap, seed)
    there, back = overlap.pairs(one, other), overlap.pairs(other, one)
    torch.testing.assert_close(there, back, atol=1e-12, rtol=0)


@pytest.mark.parametrize("overlap", [one for one in NAMED if not one.symmetric], ids=repr)
def test_an_overlap_that_is_not_symmetric_depends_on_the_order(overlap):
    if isinstance(overlap, OF_MASKS):
        return  # a mask and a box
    uneven = overlap.with_(alpha=1.0, beta=0.0) if overlap is mask_tversky else overlap
    one, other = two_sets(uneven)
    assert not torch.allclose(uneven.pairs(one, other), uneven.pairs(other, one))


@pytest.mark.parametrize("overlap", [one for one in NAMED if isinstance(one, BoxOverlap)], ids=repr)
@given(batch=box_batches(ndim=2), threshold=st.sampled_from([0.0, 0.1, 0.5, 0.9]))
def test_boxes_above_a_threshold_have_the_iou_that_the_overlap_promises(overlap, batch, threshold):
    above = overlap(batch, batch) > threshold
    if overlap.least_iou is not None:
        assert (box_iou(batch, batch)[above] >= overlap.least_iou(threshold) - 1e-12).all()


def test_the_weights_of_a_tversky_index_are_those_of_its_formula():
    mask, box = two_sets(mask_box_dice)
    for overlap in (mask_box_dice, mask_box_iou, CHANGED[3]):
        alpha, beta = overlap.tversky_weights
        expected = mask_box_tversky(mask, box, alpha=alpha, beta=beta)
        torch.testing.assert_close(overlap(mask, box), expected, atol=1e-12, rtol=0)
    assert mask_box_diou.tversky_weights is None


@pytest.mark.parametrize("overlap", NAMED, ids=repr)
def test_an_overlap_is_found_by_its_name(overlap):
    assert overlap_named(overlap.name) is overlap
    assert overlap_named(overlap) is overlap
    assert overlap_named(overlap.name, type(overlap)) is overlap


def test_short_names_are_those_of_mask_and_box():
    short = {name: overlap_named(name) for name in ("dice", "iou", "tversky", "diou")}
    assert list(short.values()) == [mask_box_dice, mask_box_iou, mask_box_tversky, mask_box_diou]


def test_a_wrong_name_lists_the_right_ones():
    with pytest.raises(ValueError, match=r"overlap must be one of \[.*'box_ciou'.*got 'box_ious'"):
        overlap_named("box_ious")
    with pytest.raises(
        ValueError, match=r"one of \['rotated_box_diou', .*'rotated_box_iou'\], got"
    ):
        overlap_named(box_iou, RotatedBoxOverlap)


@pytest.mark.bad_input
def test_what_is_neither_an_overlap_nor_a_name_is_refused():
    with pytest.raises(TypeError, match="overlap must be an overlap or its name, got 3"):
        overlap_named(3)


@pytest.mark.slow
@pytest.mark.parametrize("overlap", EVERY, ids=repr)
def test_aligned_scores_compile_to_one_graph(overlap):
    if isinstance(overlap, OF_MASKS):
        pytest.skip("tables and windows are cut to each mask, which is not traced")
    if isinstance(overlap, RegionOverlap):
        pytest.skip("polygons are records, which are looked at when they are made")
    torch.compiler.reset()
    sets = two_sets(overlap)
    compiled = torch.compile(overlap.pairs, fullgraph=True, backend="eager")
    score = compiled(*sets, validate=False)
    torch.testing.assert_close(score, overlap.pairs(*sets), atol=1e-12, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overlap",
    [box_iou, CHANGED[0], CHANGED[1], rotated_box_iou, CHANGED[3], mask_box_diou],
    ids=repr,
)
def test_scores_of_all_pairs_compile(overlap):
    torch.compiler.reset()
    sets = two_sets(overlap)
    score = torch.compile(lambda a, b: overlap(a, b, validate=False), backend="eager")(*sets)
    torch.testing.assert_close(score, overlap(*sets), atol=1e-12, rtol=0)


@pytest.mark.slow
def test_type_checkers_see_tensors_and_families(tmp_path):
    (tmp_path / "use.py").write_text("""
from typing import assert_type
from torch import Tensor
from softoverlap import box_iou, box_nwd, box_pair_ciou, mask_box_dice, mask_box_pair_iou, mask_dice
from softoverlap import rotated_box_iou
from softoverlap.overlaps import BoxOverlap, MaskBoxOverlap, overlap_named

def use(a: Tensor, b: Tensor) -> None:
    assert_type(box_iou(a, b, block_size=2), Tensor)
    assert_type(box_iou.pairs(a, b), Tensor)
    assert_type(box_pair_ciou(a, b, gate=0.5), Tensor)
    assert_type(box_nwd.with_(constant=5.0), BoxOverlap)
    assert_type(rotated_box_iou(a, b), Tensor)
    assert_type(mask_box_dice(a, b, empty=0.0, validate=False), Tensor)
    assert_type(mask_box_pair_iou(a, b), Tensor)
    assert_type(mask_dice(a, b), Tensor)
    assert_type(overlap_named("dice", MaskBoxOverlap), MaskBoxOverlap)
""")
    pytest.importorskip("pyright")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "use.py"]
    environment = {**os.environ, "PYTHONPATH": str(Path(softoverlap.__file__).parents[1])}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@partial(BoxOverlap, zero_apart=True)
def box_share_of_smaller(a, b):
    """Intersection over the smaller of two boxes.

    Examples:
        >>> box_share_of_smaller(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 9.0]]))
        tensor([[0.5000]])
    """
    smaller = torch.minimum(boxes.volume(a), boxes.volume(b))
    return scores.iof(boxes.intersection(a, b), smaller, empty=0.0), []


def test_an_overlap_of_ones_own_is_taken_wherever_ours_are():
    inner, outer = torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, 9.0]])
    assert box_share_of_smaller(inner, outer).item() == 1
    assert overlap_named("box_share_of_smaller") is box_share_of_smaller
    assert pickle.loads(pickle.dumps(box_share_of_smaller)) is box_share_of_smaller
    both = torch.cat([inner, outer])
    confidence = torch.tensor([0.6, 0.9])
    assert box_nms(both, confidence, 0.5, overlap=box_share_of_smaller).tolist() == [1]
    assert anchor_quality(inner, outer, overlap="box_share_of_smaller").item() == 1
    truth = {"box": outer, "label": torch.zeros(1)}
    found = {"box": inner, "label": torch.zeros(1), "label_scores": torch.ones(1)}
    for hit in (box_share_of_smaller, "box_share_of_smaller"):
        assert match_scan(found, truth, hit=hit, threshold=0.9).outcome.item() == 1


def test_an_overlap_needs_a_default_for_each_parameter():
    def box_scaled(a, b, *, scale):
        """Without one."""

    with pytest.raises(ValueError, match=r"a default for each parameter, got none: \['scale'\]"):
        BoxOverlap(box_scaled, zero_apart=True)


def test_the_same_parameters_give_the_same_thing():
    assert overlaps.box_nwd.with_(constant=3.0) is overlaps.box_nwd.with_(constant=3.0)


@pytest.mark.parametrize("other", [overlaps.rotated_box_iou, overlaps.box_iou.pairs])
def test_an_overlap_of_other_sets_is_refused_by_name(other):
    boxes = torch.tensor([[0.0, 2.0], [0.0, 9.0]])
    with pytest.raises(ValueError, match=r"overlap must be one of boxes.*, got "):
        box_nms(boxes, torch.tensor([0.6, 0.9]), 0.5, overlap=other)


def test_an_aligned_form_is_no_hit():
    with pytest.raises(ValueError, match=r"overlap must be one of boxes, .*, got box_iou.pairs"):
        Hit(overlaps.box_iou.pairs)


def test_an_overlap_cannot_take_the_name_of_another_modules():
    def box_iou(a, b):
        """Not ours."""

    with pytest.raises(ValueError, match=r"a name of its own, got box_iou, as one in softoverlap"):
        BoxOverlap(box_iou, zero_apart=True)
    assert overlap_named("box_iou") is overlaps.box_iou


def test_a_configuration_of_monai_makes_an_overlap_with_its_parameters():
    from monai.bundle import ConfigParser

    made = {"_target_": "softoverlap.mask_box_tversky.with_", "alpha": 0.3, "beta": 0.7}
    assert ConfigParser({"overlap": made}).get_parsed_content("overlap") == CHANGED[3]


def test_the_lowest_score_is_finite_but_where_it_depends_on_the_axes():
    assert [one.name for one in NAMED if math.isinf(one.range[0])] == ["box_eiou"]
