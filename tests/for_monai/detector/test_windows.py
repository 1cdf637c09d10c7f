import pytest
import torch
from monai.inferers.inferer import SlidingWindowInferer

from softoverlap.for_monai import AlignedWindowInferer, SoftRetinaNetDetector, lesion_retinanet


def cell_means(image):
    """Two maps of strides 4 and 8: what lies in each cell, so that a shift shows."""
    return [torch.nn.functional.avg_pool2d(image, stride) for stride in (4, 8)]


@pytest.mark.parametrize("size", [(56, 40), (16, 64), (96, 72), (8, 8), (24, 24)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.3, 0.5, 0.9])
def test_maps_put_together_from_windows_are_those_of_the_whole_image(size, overlap):
    image = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))
    inferer = AlignedWindowInferer(24, 2, overlap, size_divisible=(8, 8))
    for windowed, whole in zip(inferer(image, cell_means), cell_means(image), strict=True):
        assert torch.allclose(windowed, whole, atol=1e-6)


@pytest.mark.parametrize("stride", [3, 5, 6, 7, 12])
def test_strides_that_are_no_power_of_two_stay_on_the_grid(stride):
    image = torch.rand(1, 1, 30 * stride, 17 * stride, generator=torch.Generator().manual_seed(0))
    inferer = AlignedWindowInferer(7 * stride, 4, 0.4, size_divisible=(stride, stride))
    pool = torch.nn.AvgPool2d(stride)
    assert torch.allclose(inferer(image, pool), pool(image), atol=1e-6)


def test_monais_own_windows_miss_the_grid():
    image = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    windowed = SlidingWindowInferer((24, 24), overlap=0.25)(image, cell_means)
    assert not torch.allclose(windowed[1], cell_means(image)[1], atol=1e-2)


def test_the_overlap_is_at_least_the_one_asked_for():
    inferer = AlignedWindowInferer((48, 32, 16), overlap=0.3, size_divisible=(8, 8, 4))
    assert inferer.steps == (32, 16, 8)


@pytest.mark.parametrize(
    ("size", "overlap", "seen"),
    [
        ((24, 24), 0.25, (16, 24)),
        ((8, 24), 0.25, (8, 24)),  # the whole image
        ((24, 24), 0.0, (8, 24)),
    ],
)
def test_a_window_of_one_stride_overlaps_the_next_all_the_same(size, overlap, seen):
    shapes = set()

    def network(windows):
        shapes.add(tuple(windows.shape[2:]))
        return cell_means(windows)

    image = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0))
    maps = AlignedWindowInferer((8, 24), 2, overlap, size_divisible=(8, 8))(image, network)
    assert shapes == {seen}
    for windowed, whole in zip(maps, cell_means(image), strict=True):
        assert torch.allclose(windowed, whole, atol=1e-6)


@pytest.mark.parametrize("size", [(32, 32, 32), (40, 24, 48), (21, 50, 33), (9, 9, 9)])
def test_windows_as_large_as_the_image_change_nothing(size):
    torch.manual_seed(0)
    detector = SoftRetinaNetDetector(lesion_retinanet()).eval()
    detector.set_box_selector_parameters(score_thresh=0.0, detections_per_img=20)
    detector.set_sliding_window_inferer([-(-side // 8) * 8 for side in size])
    image = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole, windowed = detector(image)[0], detector(image, use_inferer=True)[0]
    assert torch.equal(whole["boxes"], windowed["boxes"])
    assert torch.equal(whole["labels_scores"], windowed["labels_scores"])


def test_images_smaller_and_larger_than_a_window_are_taken():
    detector = SoftRetinaNetDetector(lesion_retinanet(spatial_dims=2)).eval()
    detector.set_box_selector_parameters(score_thresh=0.0, detections_per_img=5)
    detector.set_sliding_window_inferer(32, sw_batch_size=2, overlap=0.25)
    for size in [(20, 20), (70, 50), (16, 90)]:
        with torch.no_grad():
            found = detector(torch.randn(1, 1, *size), use_inferer=True)[0]
        assert (found["boxes"] <= torch.tensor(size * 2)).all()
        assert len(found["boxes"]) == 5


@pytest.mark.parametrize(
    ("roi_size", "overlap", "message"),
    [
        (20, 0.5, r"roi_size must be a multiple of the network's stride \(8, 8\)"),
        (-1, 0.5, "roi_size must be a multiple"),
        (24, 1.0, r"overlap must lie in \[0, 1\)"),
    ],
)
def test_windows_off_the_grid_are_refused(roi_size, overlap, message):
    with pytest.raises(ValueError, match=message):
        AlignedWindowInferer(roi_size, overlap=overlap, size_divisible=(8, 8))
