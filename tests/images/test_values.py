"""What numbers in a mask mean, and that nothing is guessed."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, strategies as st

from softoverlap.images import Volume, as_probabilities, value_kind

CHOICES = "`values=`: probabilities, percent, 0-255 or labels; .* with `label=`"


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0.0, 0.0], "binary"),
        ([1.0, 1.0], "binary"),
        ([0, 1], "binary"),
        ([False, True], "binary"),
        ([], "binary"),
        ([0.0, 0.25, 1.0], "probabilities"),
        ([1.0, 1.0 + 5e-7, 0.5], "probabilities"),
        ([0, 1, 2], "labels"),
        ([0.0, 3.0], "labels"),
        ([0, 254], "labels"),
        ([0, 14175], "labels"),
        ([0, 255], "0-255"),
        ([0, 128, 255], "0-255"),
        ([0.0, 127.5], "0-255"),
        ([0, 100], "percent"),
        ([0, 40, 100], "percent"),
        ([0.0, 37.5], "percent"),
        ([0.0, 1.5], "percent"),
        ([-1.0, 1.0], "other"),
        ([-0.01, 0.5], "other"),
        ([0.0, 255.5], "other"),
        ([0.0, float("nan")], "other"),
        ([0.0, float("inf")], "other"),
        ([0, 1 << 25], "other"),
        (list(range(600)), "other"),  # intensities of a scan
        (list(range(17)), "other"),  # none of them fills a region
        (list(range(16)), "labels"),
        (sorted(3 * list(range(512))), "labels"),
        (sorted(3 * list(range(513))), "other"),
        ([91.5, 142.0], "other"),  # a mask has a background
        ([11.5, 40.0], "other"),
        ([25.5, 142.0], "0-255"),
        ([10.0, 40.5], "percent"),
    ],
)
def test_values_are_named(values, kind):
    tensor = torch.tensor(values)
    assert value_kind(tensor) == kind
    if tensor.dtype == torch.float32:
        assert value_kind(tensor.double()) == kind


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int32, torch.float16])
def test_labels_are_labels_in_every_type(dtype):
    labels = torch.tensor([0, 1, 2, 7]).to(dtype)
    assert value_kind(labels) == "labels"
    assert as_probabilities(labels, label=7).tolist() == [0, 0, 0, 1]


def scan(low, high, *, noise, dtype=torch.float32):
    """Whole intensities of smooth tissue with noise; in a third of the slices air, all zero."""
    generator = torch.Generator().manual_seed(0)
    depth = torch.arange(24.0)[:, None, None] / 24
    values = low + (high - low) * depth + noise * torch.randn(24, 20, 16, generator=generator)
    values[:, :, :5] = 0
    return values.clamp(min=0).round().to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16, torch.uint16])
def test_the_intensities_of_a_scan_are_no_labels(dtype):
    for image in (scan(900, 1100, noise=20, dtype=dtype), scan(91, 142, noise=3, dtype=dtype)):
        assert 16 < len(image.long().unique()) <= 512
        assert value_kind(image) == "other"
        assert value_kind(torch.stack([image, image])) == "other"


@pytest.mark.parametrize(("scale", "kind"), [(255.0, "0-255"), (100.0, "percent")])
def test_fractions_of_a_scan_are_no_map_and_those_of_a_map_no_scan(scale, kind):
    places = torch.stack(torch.meshgrid(*3 * [torch.arange(24.0)], indexing="ij"))
    distance = (places - 12).norm(dim=0)
    for radius in (3, 10):
        assert value_kind(scale * torch.sigmoid(3 * (radius - distance))) == kind
    noise = torch.randn(24, 24, 24, generator=torch.Generator().manual_seed(0))
    head = torch.where(distance < 9, 0.35 * scale, 0.0) + 0.04 * scale * noise.abs()
    assert 0.5 * scale < float(head.max()) < scale
    assert value_kind(head) == value_kind(head[None].double()) == "other"


def test_a_soft_map_in_whole_numbers_is_no_label_map():
    places = torch.stack(torch.meshgrid(*3 * [torch.arange(24.0)], indexing="ij"))
    distance = (places - 12).norm(dim=0)
    soft = (
        (220 * torch.sigmoid(7 - distance)).clamp(max=209).round().byte()
    )  # with a wide plateau at its peak
    assert (soft == 209).sum() > 200
    assert len(soft.unique()) > 16
    assert value_kind(soft) == "other"


def parcels(count, *, highest, edge=24):
    """Regions around random points in a ball, as a parcellation has them."""
    generator = torch.Generator().manual_seed(0)
    places = torch.cartesian_prod(*3 * [torch.arange(float(edge))])
    centres = edge * torch.rand(count, 3, generator=generator)
    names = 1 + torch.randperm(highest, generator=generator)[:count]
    labels = names[torch.cdist(places, centres).argmin(dim=1)]
    labels[(places - edge / 2).norm(dim=1) > edge / 2] = 0
    return labels.reshape(edge, edge, edge)


@pytest.mark.parametrize(("count", "highest"), [(100, 2035), (30, 14175), (400, 400)])
def test_a_parcellation_is_a_label_map_however_many_structures_it_has(count, highest):
    labels = parcels(count, highest=highest, edge=32)
    assert len(labels.unique()) > 25
    assert value_kind(labels) == "labels"
    assert value_kind(labels.float()) == "labels"
    sheet = torch.where((labels > 0) & (torch.arange(32) % 5 < 2), labels, 0)  # two voxels thick
    assert value_kind(sheet) == "labels"


def test_lesions_of_a_voxel_each_are_labels_though_they_fill_no_region():
    labels = torch.zeros(40, 40, 40)
    labels[::4, ::4, 8] = torch.arange(1.0, 101).reshape(10, 10)
    labels[1, 0, 8] = 101  # and two that touch
    assert value_kind(labels) == "labels"


def test_many_blocks_are_one_tensor():
    values = torch.zeros((1 << 22) + 5)
    values[-1] = 2
    assert value_kind(values) == "labels"
    values[-1] = 0.5
    assert value_kind(values) == "probabilities"


@pytest.mark.parametrize("values", [[0, 1, 2], [0, 255], [0, 100], [0.0, 37.5]])
def test_doubt_is_an_error_with_the_choices(values):
    with pytest.raises(ValueError, match=rf"a\.nii must hold prob.*with {CHOICES}"):
        as_probabilities(torch.tensor(values), name="a.nii")


def test_the_guess_is_told():
    with pytest.raises(
        ValueError, match=r"whole numbers in \[0, 255\], which look like 0-255; say"
    ):
        as_probabilities(torch.tensor([0, 255]))
    with pytest.raises(ValueError, match=r"got values in \[-1, 0\.5\]: of logits, store the sig"):
        as_probabilities(torch.tensor([-1.0, 0.5]))


@pytest.mark.parametrize(
    ("values", "options", "expected"),
    [
        ([0.0, 0.3, 1.0], {}, [0.0, 0.3, 1.0]),
        ([False, True], {}, [0, 1]),
        ([0, 1], {"values": "probabilities"}, [0, 1]),
        ([0, 50, 100], {"values": "percent"}, [0, 0.5, 1]),
        ([0.0, 0.8], {"values": "percent"}, [0, 0.008]),  # nearly empty: no probability of 0.8
        ([0, 51, 255], {"values": "0-255"}, [0, 0.2, 1]),
        ([0, 1, 5], {"values": "labels"}, [0, 1, 1]),
        ([0, 1, 5], {"label": 5}, [0, 0, 1]),
        ([0, 1], {"label": 1}, [0, 1]),
        ([False, True], {"values": "labels"}, [0, 1]),
        ([False, True], {"label": 1}, [0, 1]),
        ([0, 1, 5], {"label": 4}, [0, 0, 0]),  # a scan without this label is normal
        ([0, 255], {"label": 255}, [0, 1]),
        (list(range(600)), {"values": "labels"}, [0] + 599 * [1]),  # that many lesions
        ([], {"values": "percent"}, []),
    ],
)
def test_values_become_probabilities_as_asked_for(values, options, expected):
    found = as_probabilities(torch.tensor(values), **options)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))


@given(
    st.lists(st.integers(0, 255), min_size=1),
    st.sampled_from([("0-255", 255.0), ("percent", 100.0)]),
)
def test_scales_are_divisions_and_leave_the_input_alone(numbers, scale):
    word, most = scale
    tensor = torch.tensor(numbers, dtype=torch.float64).clamp(max=most)
    before = tensor.clone()
    found = as_probabilities(tensor, values=word)
    assert found.dtype == torch.float64
    assert torch.equal(found, before / most)
    assert torch.equal(tensor, before)


def test_a_volume_gives_its_values_and_slack_is_cut():
    volume = Volume(torch.full((2, 2, 2), 1 + 5e-7), torch.eye(4, dtype=torch.float64))
    assert as_probabilities(volume).max() == 1


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([0.0, 1.2], {"values": "probabilities"}, r"hold probabilities in \[0, 1\], got values in"),
        ([0, 101], {"values": "percent"}, r"hold percent in \[0, 100\], got whole numbers in"),
        ([0, 256], {"values": "0-255"}, r"hold 0-255 in \[0, 255\], got"),
        ([0.0, float("nan")], {"values": "probabilities"}, r"got values in \[nan, nan\]"),
        ([0.0, 0.5], {"values": "labels"}, r"hold labels, whole numbers from 0 on, got values in"),
        ([0.0, float("nan")], {"label": 1}, "hold labels, whole numbers from 0 on"),
        ([0.0, float("inf")], {"label": 1}, "hold labels, whole numbers from 0 on"),
        ([0.0, 1.5], {"label": 1}, "hold labels, whole numbers from 0 on"),
        ([-1, 1], {"label": 1}, "hold labels, whole numbers from 0 on"),
        ([0, 1], {"values": "percents"}, "values must be one of"),
        ([0, 1], {"label": 0}, "label must be at least 1, since 0 is the background, got 0"),
        ([0, 1], {"label": 1, "values": "percent"}, "label goes with `values='labels'`, got 'perc"),
    ],
)
def test_what_is_not_as_asked_for_is_refused(values, options, message):
    with pytest.raises(ValueError, match=message):
        as_probabilities(torch.tensor(values), **options)


@pytest.mark.bad_input
def test_other_types_are_refused():
    with pytest.raises(TypeError, match=r"mask must be a torch\.Tensor, got list"):
        as_probabilities([0.0, 1.0])
    with pytest.raises(TypeError, match="must hold real numbers, got dtype torch.complex64"):
        value_kind(torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(TypeError, match="label must be a whole number, got 1.5"):
        as_probabilities(torch.tensor([0, 1]), label=1.5)


@pytest.mark.parametrize(("values", "high"), [("percent", 0.996), ("0-255", 0.9), ("0-255", 100.0)])
def test_a_scale_that_the_values_hardly_reach_is_doubted(values, high):
    mask = torch.tensor([0.0, high])
    with pytest.warns(UserWarning, match=f"mask is read as {values}, but its largest value is"):
        as_probabilities(mask, values=values)


def test_a_label_that_is_not_there_is_named_beside_those_that_are():
    labels = torch.tensor([0, 1, 2])
    with pytest.warns(UserWarning, match="mask has no label 20, only 1, 2"):
        assert not as_probabilities(labels, label=20).any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not as_probabilities(labels * 0, values="labels", label=20).any()
        as_probabilities(torch.tensor([0.0, 1.5]), values="percent")


@pytest.mark.parametrize("one", [1.00002, 1.0009])
def test_a_mask_of_0_and_1_that_was_stored_scaled_is_one(one):
    stored = torch.tensor([0.0, one, one])
    assert value_kind(stored) == "binary"
    with pytest.warns(UserWarning, match=f"stored scaled, .* {one} is read as 1"):
        assert as_probabilities(stored).tolist() == [0, 1, 1]
    assert value_kind(torch.tensor([0.0, 1.05])) == "percent"
    assert value_kind(torch.tensor([0.0, 0.5, one])) == "percent"
