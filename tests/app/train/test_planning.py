"""From scans to a plan: spacing, patch, memory and sampling."""

from dataclasses import replace

import pytest
import torch

from softoverlap import AnchorPlan
from softoverlap.app.train import ScanFacts, plan_scans
from softoverlap.app.train.planning import patch_bytes
from softoverlap.lesions import lesions_from_mask


def facts(boxes, shape=(48, 48, 24), spacing=(1.0, 1.0, 1.0), name="a"):
    mask = torch.zeros(shape)
    for low, high in boxes:
        mask[tuple(map(slice, low, high))] = 1
    return ScanFacts(name, shape, spacing, lesions_from_mask(mask, spacing=spacing))


SMALL = [((4, 4, 4), (7, 8, 6)), ((20, 21, 12), (24, 24, 15))]
PLANNED = plan_scans([facts(SMALL), facts(SMALL[:1], name="b")])


def test_a_plan_of_scans_has_every_field():
    plan = PLANNED.plan
    assert plan.spacing == (1.0, 1.0, 1.0)
    assert all(side % step == 0 for side, step in zip(plan.patch_size, (8, 8, 8), strict=True))
    assert plan.batch_size == 4
    assert plan.foreground == 0  # as a patch that is as large as the scan shows a lesion
    figures = plan.expected_quality
    assert figures["10–100 mm³"]["lesions"] == figures["all"]["lesions"] == 3
    assert figures["<10 mm³"] == {"lesions": 0}
    assert figures["all"]["median"] == pytest.approx(PLANNED.quality.median().item(), abs=1e-4)
    assert AnchorPlan.from_json(plan.to_json()) == plan


def test_no_anchor_is_better_than_the_best_box():
    assert (PLANNED.quality <= PLANNED.best + 1e-6).all()


def test_thick_slices_are_planned_at_the_median_spacing():
    thick = [
        facts(SMALL, spacing=(1.0, 1.0, z), shape=(48, 48, 24), name=str(z))
        for z in (3.0, 4.0, 5.0)
    ]
    plan = plan_scans(thick).plan
    assert plan.spacing == (1.0, 1.0, 4.0)
    assert set(plan.strides) <= {(2, 2, 1), (4, 4, 1), (8, 8, 2)}
    assert plan.patch_size[2] < plan.patch_size[0]


def test_images_of_one_slice_are_planned_in_2d():
    flat = facts([((4, 4, 0), (8, 7, 1)), ((20, 20, 0), (22, 25, 1))], (64, 64, 1))
    planned = plan_scans([flat])
    assert planned.plan.ndim == 2
    assert planned.plan.spacing == (1.0, 1.0)
    assert planned.plan.patch_size == (64, 64)
    assert planned.classes == ["10–100 mm²", "10–100 mm²"]


@pytest.mark.parametrize("thickness", [1.0, 5.0])
def test_lesions_of_one_slice_have_areas_whatever_its_thickness(thickness):
    boxes = [((4, 4, 0), (9, 9, 1)), ((20, 20, 0), (22, 24, 1))]
    thin = facts(boxes[:1], (64, 64, 1), (1.0, 1.0, 1.0), name="thin")
    planned = plan_scans([facts(boxes, (64, 64, 1), (1.0, 1.0, thickness)), thin])
    assert [lesion.volume_mm3 for lesion in planned.lesions] == pytest.approx([25, 8, 25])
    assert planned.classes == ["10–100 mm²", "<10 mm²", "10–100 mm²"]
    assert all(float(lesion.crop.max()) == 1 for lesion in planned.lesions)


def test_images_in_2d_are_brought_to_one_spacing_too():
    wide = facts([((4, 4, 0), (10, 10, 1))], (64, 64, 1), (2.0, 2.0, 1.0), name="wide")
    fine = [facts([((8, 8, 0), (20, 20, 1))], (64, 64, 1), name=name) for name in "ab"]
    planned = plan_scans([wide, *fine])
    assert planned.plan.spacing == (1.0, 1.0)
    assert planned.lesions[0].box.tolist() == planned.lesions[1].box.tolist() == [8, 8, 20, 20]


def test_lesions_that_no_box_is_asked_to_find_are_left_out():
    planned = plan_scans([facts([*SMALL, ((0, 30, 20), (40, 34, 22))])])
    assert planned.too_large == 1
    assert len(planned.lesions) == 2
    with pytest.raises(ValueError, match="at least one lesion up to 32 mm, got none in 1 scan"):
        plan_scans([facts([((0, 30, 20), (40, 34, 22))])])


def test_where_memory_is_short_fewer_patches_are_taken():
    one = patch_bytes(PLANNED.plan)
    scarce = plan_scans(
        [facts(SMALL)], memory_gb=2.5 * one / 1e9, patch_size=PLANNED.plan.patch_size[0] // 8 * 8
    )
    assert scarce.plan.batch_size >= 1
    assert plan_scans([facts(SMALL)], memory_gb=1e-6).plan.batch_size == 1


def test_a_larger_patch_takes_more_memory():
    plan = PLANNED.plan
    double = replace(plan, patch_size=[2 * side for side in plan.patch_size])
    assert patch_bytes(double) == pytest.approx(8 * patch_bytes(plan))


def test_where_patches_rarely_show_a_lesion_some_are_taken_around_one():
    planned = plan_scans([facts(SMALL[:1], (96, 96, 96))], patch_size=32)
    assert planned.shown < 0.1
    both = planned.shown * (1 - planned.plan.foreground) + planned.plan.foreground
    assert both == pytest.approx(2 / 3, abs=0.01)


def test_scans_without_lesions_leave_more_to_the_others():
    with_lesion, empty = facts(SMALL[:1], (96, 96, 96)), facts([], (96, 96, 96))
    planned = plan_scans([with_lesion] * 3 + [empty], patch_size=32)
    foreground = planned.plan.foreground
    shown = 3 / 4 * foreground + (1 - foreground) * planned.shown
    assert shown == pytest.approx(2 / 3, abs=0.01)
    assert plan_scans([with_lesion, empty, empty], patch_size=32).plan.foreground == 1


def test_scans_full_of_lesions_need_no_sampling():
    grid = [
        ((x, y, z), (x + 3, y + 3, z + 3))
        for x in range(0, 46, 6)
        for y in range(0, 46, 6)
        for z in (1, 9, 17)
    ]
    assert plan_scans([facts(grid)], patch_size=16).plan.foreground == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 13}, "patch_size must be multiples of the last stride"),
        ({"memory_gb": 0}, "memory_gb must be above 0"),
        ({"max_anchors_per_voxel": -1}, "max_anchors_per_voxel must be above 0"),
    ],
)
def test_settings_that_cannot_be_planned_with_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        plan_scans([facts(SMALL)], **options)
