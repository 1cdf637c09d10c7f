import pytest
import torch
from monai.apps.detection.networks.retinanet_network import RetinaNet

from softoverlap.for_monai import ExactAnchorGenerator, lesion_retinanet


def test_the_default_network_is_small_and_starts_at_one_percent():
    network = lesion_retinanet()
    assert isinstance(network, RetinaNet)
    assert 4e5 < sum(parameter.numel() for parameter in network.parameters()) < 6e5
    with torch.no_grad():
        outputs = network(torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0)))
    for level in outputs["classification"]:
        assert 0.005 < level.sigmoid().mean() < 0.02


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_maps_have_strides_four_and_eight(spatial_dims):
    network = lesion_retinanet(spatial_dims=spatial_dims, in_channels=2, num_classes=3)
    outputs = network(torch.zeros(1, 2, *[16] * spatial_dims))
    assert [tuple(level.shape[2:]) for level in outputs["classification"]] == [
        (4,) * spatial_dims,
        (2,) * spatial_dims,
    ]
    assert [level.shape[1] for level in outputs["classification"]] == [9, 9]
    assert [level.shape[1] for level in outputs["box_regression"]] == [6 * spatial_dims] * 2


def test_flat_voxels_stride_less_along_the_thick_axis():
    network = lesion_retinanet(
        strides=((2, 2, 1), (2, 2, 2), 2), anchor_sizes=((6.0, 6.0, 3.0), 12.0)
    )
    assert network.size_divisible == (8, 8, 4)
    images = torch.zeros(1, 1, 16, 16, 8)
    outputs = network(images)
    anchors = network.anchor_generator(images, outputs["classification"])[0]
    assert len(anchors) == 2 * (4 * 4 * 4 + 2 * 2 * 2)
    assert (anchors[0, 3:] - anchors[0, :3]).tolist() == [6, 6, 3]
    assert (anchors[-1, 3:] - anchors[-1, :3]).tolist() == [24, 24, 24]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3"),
        ({"channels": (16, 30, 64)}, "channels must be multiples of 8"),
        ({"feature_channels": 12}, "feature_channels must be multiples of 8"),
        ({"strides": (2, 2)}, "strides must hold one stride for each stage"),
        ({"num_levels": 4}, r"num_levels must lie in \[1, 3\]"),
        ({"anchor_sizes": (0.0,)}, "must be positive"),
        ({"anchor_sizes": ()}, "anchor_sizes must hold at least one"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        lesion_retinanet(**options)


def test_anchors_of_every_edge_are_exact_where_monai_rounds():
    from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape

    shapes = [(1.0, 3.0, 5.0), (7.0, 2.5, 4.0)]
    images, maps = torch.zeros(1, 1, 8, 8, 8), [torch.zeros(1, 1, 2, 2, 2)]
    exact = ExactAnchorGenerator((1.0,), shapes)(images, maps)[0]
    monai = AnchorGeneratorWithAnchorShape((1,), shapes)(images, maps)[0]
    assert (exact[:2, 3:] - exact[:2, :3]).tolist() == [list(shape) for shape in shapes]
    assert not torch.equal(exact, monai)
    assert ((exact - monai).abs() <= 0.5).all()


def test_anchors_equal_monai_where_it_has_nothing_to_round():
    from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape

    images = torch.zeros(2, 1, 16, 8, 24)
    maps = [torch.zeros(2, 1, 4, 2, 6), torch.zeros(2, 1, 2, 1, 3)]
    shapes = [(4.0, 8.0, 4.0), (6.0, 6.0, 2.0)]
    exact = ExactAnchorGenerator((1.0, 2.0), shapes)(images, maps)
    monai = AnchorGeneratorWithAnchorShape((1, 2), shapes)(images, maps)
    assert torch.equal(exact[0], monai[0])
    assert len(exact) == 2


def test_anchors_of_an_odd_stride_lie_on_the_centres_of_the_cells():
    anchors = ExactAnchorGenerator((1.0,), ((1.0, 1.0),))(
        torch.zeros(1, 1, 3, 6), [torch.zeros(1, 1, 1, 2)]
    )[0]
    assert anchors.tolist() == [[1, 1, 2, 2], [1, 4, 2, 5]]


def test_anchors_stay_in_float32_when_the_features_do_not():
    images = torch.zeros(1, 1, 512, 8, dtype=torch.bfloat16)
    anchors = ExactAnchorGenerator((1.0,), ((5.0, 5.0),))(
        images, [torch.zeros(1, 1, 128, 2, dtype=torch.bfloat16)]
    )[0]
    assert anchors.dtype == torch.float32
    assert anchors[-1, 0].item() == 507.5


def test_a_grid_that_does_not_divide_the_image_is_refused():
    with pytest.raises(ValueError, match="images must have sizes that are multiples of the grid"):
        ExactAnchorGenerator((1.0,), ((5.0, 5.0),))(
            torch.zeros(1, 1, 9, 8), [torch.zeros(1, 1, 2, 2)]
        )


def test_levels_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="feature_maps must hold 1 levels, got 2"):
        ExactAnchorGenerator((1.0,), ((5.0, 5.0),))(
            torch.zeros(1, 1, 8, 8), [torch.zeros(1, 1, 2, 2)] * 2
        )
