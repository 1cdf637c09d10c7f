"""Pictures are judged by their artists: where rectangles, contours and steps lie."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from softoverlap.app.report import plot_case, plot_froc, save_figure
from softoverlap.app.report._style import FOUND, TRUTH
from softoverlap.measures import FROCInterval, compute_froc

IMAGE = torch.rand(8, 20, 30, generator=torch.Generator().manual_seed(3))
BOX = torch.tensor([[2.0, 4.0, 6.0, 5.0, 9.0, 16.0]])
SPACING = (3.0, 1.0, 0.5)


def rectangles(axes):
    """(left, top, width, height) of each box."""
    patches = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return [(*patch.get_xy(), patch.get_width(), patch.get_height()) for patch in patches]


def froc(scores=(0.9, 0.8, 0.7), lesions=2):
    """A true box, a false one, a true one."""
    cubes = torch.tensor([[0.0, 0, 0, 4, 4, 4], [40, 0, 0, 44, 4, 4], [20, 0, 0, 24, 4, 4]])
    labels = torch.zeros(3, dtype=torch.long)
    prediction = {"box": cubes, "label": labels, "label_scores": torch.tensor(scores)}
    target = {"box": cubes[[0, 2]][:lesions], "label": labels[:lesions]}
    return compute_froc([prediction], [target])


def test_a_box_lies_in_each_plane_where_its_corners_say():
    planes = plot_case(IMAGE, spacing=SPACING, truth_boxes=BOX).axes
    assert rectangles(planes[0]) == [(6.0, 4.0, 10.0, 5.0)]
    assert rectangles(planes[1]) == [(6.0, 2.0, 10.0, 3.0)]
    assert rectangles(planes[2]) == [(4.0, 2.0, 5.0, 3.0)]


def test_the_picture_fills_the_image_in_half_open_voxel_coordinates():
    planes = plot_case(IMAGE, spacing=SPACING).axes
    assert [tuple(axes.images[0].get_extent()) for axes in planes] == [
        (0, 30, 20, 0),
        (0, 30, 8, 0),
        (0, 20, 8, 0),
    ]
    assert [axes.images[0].get_array().shape for axes in planes] == [(20, 30), (8, 30), (8, 20)]


def test_each_plane_has_the_aspect_of_its_voxels_in_millimetres():
    planes = plot_case(IMAGE, spacing=SPACING).axes
    assert [axes.get_aspect() for axes in planes] == [1 / 0.5, 3 / 0.5, 3 / 1]


def test_each_plane_shows_the_slice_through_the_centre():
    planes = plot_case(IMAGE, spacing=SPACING, centre=(7.9, 0.0, 12.5)).axes
    for axes, expected in zip(planes, (IMAGE[7], IMAGE[:, 0], IMAGE[:, :, 12]), strict=True):
        assert np.array_equal(axes.images[0].get_array(), expected.numpy())


@pytest.mark.parametrize(("depth", "drawn"), [(1.9, 0), (2.0, 1), (4.9, 1), (5.0, 0)])
def test_a_box_is_drawn_only_where_a_plane_cuts_it(depth, drawn):
    figure = plot_case(IMAGE, spacing=SPACING, found_boxes=BOX, centre=(depth, 1.0, 1.0))
    assert len(rectangles(figure.axes[0])) == drawn


def test_a_box_of_part_of_a_voxel_is_drawn_in_that_voxel_plane():
    box = torch.tensor([[2.4, 4.0, 6.0, 2.6, 9.0, 16.0]])
    figure = plot_case(IMAGE, spacing=SPACING, found_boxes=box, centre=(2.9, 5.0, 7.0))
    assert rectangles(figure.axes[0]) == [(6.0, 4.0, 10.0, 5.0)]


def test_scores_are_written_above_found_boxes_and_existence_below_true_ones():
    figure = plot_case(
        IMAGE,
        spacing=SPACING,
        truth_boxes=BOX,
        existence=torch.tensor([0.6]),
        found_boxes=BOX + 0.5,
        scores=torch.tensor([0.876]),
    )
    below, above = figure.axes[0].texts
    assert (below.get_text(), below.xy) == ("0.6", (6.0, 9.0))
    assert (above.get_text(), above.xy) == ("0.88", (6.5, 4.5))


def test_the_contour_runs_where_a_step_of_the_mask_crosses_the_level():
    mask = torch.zeros(8, 20, 30)
    mask[2:5, 4:9, 6:16] = 1
    figure = plot_case(IMAGE, spacing=SPACING, soft_mask=mask, truth_boxes=BOX)
    half = figure.axes[0].collections[0].get_paths()[1].vertices
    assert half.min(axis=0) == pytest.approx([6.0, 4.0])
    assert half.max(axis=0) == pytest.approx([16.0, 9.0])


def test_a_contour_is_closed_where_the_mask_reaches_the_edge():
    figure = plot_case(IMAGE, spacing=SPACING, soft_mask=torch.ones(8, 20, 30))
    half = figure.axes[0].collections[0].get_paths()[1].vertices
    assert half.min(axis=0) == pytest.approx([0.0, 0.0])
    assert half.max(axis=0) == pytest.approx([30.0, 20.0])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [0.0, 0.2, 0.3])
def test_a_faint_or_empty_mask_has_only_the_contours_that_it_reaches(value):
    mask = torch.zeros(8, 20, 30)
    mask[4, 10, 15] = value
    figure = plot_case(IMAGE, spacing=SPACING, soft_mask=mask, centre=(4.0, 10.0, 15.0))
    assert len(figure.axes[0].collections) == (value > 0.25)


def test_the_legend_names_what_is_drawn():
    mask = torch.zeros(8, 20, 30)
    mask[3, 6, 11] = 0.6
    figure = plot_case(IMAGE, spacing=SPACING, soft_mask=mask, truth_boxes=BOX, found_boxes=BOX[:0])
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["soft mask 0.25", "soft mask 0.5", "true box"]
    away = plot_case(IMAGE, spacing=SPACING, truth_boxes=BOX, centre=(7.0, 19.0, 29.0))
    assert not away.legends
    assert not plot_case(IMAGE, spacing=SPACING).legends


def test_names_with_dollar_signs_are_words_and_no_formulas(tmp_path):
    name = "b_$x^$.nii.gz and $\\none$"
    for number, figure in enumerate(
        (plot_case(IMAGE, spacing=SPACING, title=name), plot_froc({name: froc()}))
    ):
        save_figure(figure, tmp_path / f"{number}.png")
    assert figure.legends[0].get_texts()[0].get_text().startswith(name)


def test_a_second_row_shows_the_place_enlarged_and_keeps_scores_to_itself():
    given = {"found_boxes": BOX, "scores": torch.tensor([0.5]), "centre": (3.0, 6.0, 26.0)}
    axes = plot_case(IMAGE, spacing=SPACING, zoom=6.0, **given).axes
    assert len(axes) == 6
    assert (axes[3].get_xlim(), axes[3].get_ylim()) == ((18.0, 30.0), (9.0, 3.0))
    assert rectangles(axes[0]) == [(18.0, 3.0, 12.0, 6.0)]
    assert rectangles(axes[3]) == [(6.0, 4.0, 10.0, 5.0)]
    assert [len(one.texts) for one in axes] == [0, 0, 0, 1, 1, 0]
    assert len(plot_case(IMAGE, spacing=SPACING, zoom=24.0, **given).axes) == 3


@pytest.mark.bad_input
@pytest.mark.parametrize("zoom", [0.0, -1.0, math.nan, math.inf])
def test_a_zoom_that_is_no_length_is_named(zoom):
    with pytest.raises(ValueError, match="zoom must be a positive number of mm, got"):
        plot_case(IMAGE, spacing=SPACING, zoom=zoom)


def test_contours_leave_no_rim_about_the_image():
    mask = torch.zeros(8, 20, 30)
    mask[2:5, 4:9, 6:16] = 1
    axes = plot_case(IMAGE, spacing=SPACING, soft_mask=mask, centre=(3.0, 6.0, 8.0)).axes[0]
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 30), (20, 0))


def test_a_title_stands_above_the_planes():
    assert plot_case(IMAGE, spacing=SPACING, title="sub-01").get_suptitle() == "sub-01"


def test_the_first_curve_lies_on_top():
    lines = plot_froc({"ours": froc(), "other": froc()}).axes[0].lines
    orders = [line.get_zorder() for line in lines]
    assert orders[0] == orders[1] > orders[2] == orders[3]


def test_true_and_found_boxes_differ_in_colour_and_in_dashes():
    figure = plot_case(IMAGE, spacing=SPACING, truth_boxes=BOX, found_boxes=BOX)
    truth, found = figure.axes[0].patches
    assert to_hex(truth.get_edgecolor()) != to_hex(found.get_edgecolor())
    assert truth.get_linestyle() != found.get_linestyle()


def test_a_scan_of_one_value_and_one_slice_is_drawn(tmp_path):
    figure = plot_case(torch.zeros(1, 4, 5), spacing=SPACING, soft_mask=torch.ones(1, 4, 5))
    save_figure(figure, tmp_path / "flat.png")
    assert (tmp_path / "flat.png").stat().st_size > 0


def test_a_box_beyond_the_image_does_not_widen_the_picture(tmp_path):
    wide = torch.tensor([[-3.0, -5.0, -7.0, 11.0, 30.0, 50.0]])
    figure = plot_case(IMAGE, spacing=SPACING, found_boxes=wide, scores=torch.tensor([0.5]))
    save_figure(figure, tmp_path / "wide.png")
    assert figure.axes[0].get_xlim() == (0, 30)
    assert figure.axes[0].get_ylim() == (20, 0)


def test_inputs_are_left_as_they_are():
    image, mask, box = IMAGE.clone(), (IMAGE > 0.9).float(), BOX.clone()
    plot_case(image, spacing=SPACING, soft_mask=mask, truth_boxes=box)
    assert torch.equal(image, IMAGE)
    assert torch.equal(box, BOX)


def test_the_froc_is_drawn_as_the_steps_that_it_is():
    line, marks = plot_froc(froc()).axes[0].lines
    assert line.get_drawstyle() == "steps-post"
    assert line.get_ydata().tolist() == [0.5, 0.5, 1.0, 1.0]
    assert line.get_xdata().tolist() == pytest.approx([1 / 16, 1.0, 1.0, 9.6])
    assert marks.get_ydata().tolist() == list(froc().sensitivity)


def test_a_bootstrap_interval_is_a_band_around_its_curve():
    curve = froc()
    assert not plot_froc(curve).axes[0].collections
    ends = torch.tensor([[0.0, 1.0, 4.0], [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]], dtype=torch.float64)
    interval = FROCInterval(0.95, 9, ((0.1, 0.5),) * 7, (0.1, 0.5), *ends)
    (band,) = plot_froc(replace(curve, interval=interval)).axes[0].collections
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices.round(6).tolist()}
    assert corners == {(1, 0.2), (4, 0.3), (4, 0.7), (1, 0.6)}  # a logarithmic axis has no 0


def test_each_named_curve_is_in_the_legend_with_its_cpm():
    axes = plot_froc({"soft": froc(), "hard": froc((0.7, 0.8, 0.9))}).axes[0]
    names = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert names == [f"soft (CPM {froc().cpm:.3f})", f"hard (CPM {froc((0.7, 0.8, 0.9)).cpm:.3f})"]
    assert len({line.get_color() for line in axes.lines}) == 2


def test_rates_below_one_are_labelled_as_fractions():
    axes = plot_froc(froc()).axes[0]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["1/8", "1/4", "1/2", "1", "2", "4", "8"]


def test_a_curve_without_lesions_is_named_as_such(tmp_path):
    figure = plot_froc(froc(lesions=0))
    save_figure(figure, tmp_path / "none.png")
    assert figure.legends[0].get_texts()[0].get_text() == "FROC (no lesions)"


def test_a_figure_is_written_whole_in_one_step(tmp_path):
    path = tmp_path / "froc.png"
    path.write_bytes(b"old")
    save_figure(plot_froc(froc()), path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [path]


def test_a_wrong_path_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"path must end in .png, got .*froc.pdf"):
        save_figure(plot_froc(froc()), tmp_path / "froc.pdf")
    with pytest.raises(FileNotFoundError, match="the folder of .*froc.png must exist"):
        save_figure(plot_froc(froc()), tmp_path / "missing" / "froc.png")


def test_without_matplotlib_the_error_says_what_to_install():
    script = "import sys; sys.modules['matplotlib'] = None; import softoverlap.app.report"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 1
    assert "pip install 'softoverlap[report]'" in result.stderr


def test_drawing_leaves_no_figure_open():
    before = pyplot.get_fignums()
    plot_case(IMAGE, spacing=SPACING)
    plot_froc(froc())
    assert pyplot.get_fignums() == before


def test_values_that_cannot_be_drawn_are_named():
    with pytest.raises(ValueError, match="image must hold finite values"):
        plot_case(torch.full((2, 2, 2), math.nan), spacing=SPACING)
    with pytest.raises(ValueError, match=r"soft_mask must hold probabilities in \[0, 1\]"):
        plot_case(IMAGE, spacing=SPACING, soft_mask=IMAGE * 5)
    with pytest.raises(ValueError, match="spacing must hold three positive"):
        plot_case(IMAGE, spacing=(1.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="spacing must hold three positive"):
        plot_case(IMAGE, spacing=(1.0, 1.0))
    with pytest.raises(ValueError, match="scores must come with found_boxes"):
        plot_case(IMAGE, spacing=SPACING, scores=torch.tensor([0.5]))
    for centre in ((8.0, 1.0, 1.0), (-0.1, 1.0, 1.0), (1.0, 1.0), (math.nan, 1.0, 1.0)):
        with pytest.raises(ValueError, match="centre must be a point in an image of"):
            plot_case(IMAGE, spacing=SPACING, centre=centre)
    with pytest.raises(ValueError, match="froc must hold at least one curve"):
        plot_froc({})


@pytest.mark.bad_input
def test_wrong_shapes_and_types_are_named():
    with pytest.raises(ValueError, match=r"image must have shape \(D, H, W\), got \(8, 20\)"):
        plot_case(IMAGE[..., 0], spacing=SPACING)
    with pytest.raises(ValueError, match="soft_mask must have the shape of image"):
        plot_case(IMAGE, spacing=SPACING, soft_mask=IMAGE[:2])
    with pytest.raises(ValueError, match=r"truth_boxes must have shape \(N, 6\)"):
        plot_case(IMAGE, spacing=SPACING, truth_boxes=BOX[:, :4])
    with pytest.raises(ValueError, match=r"existence must have shape \(1,\), a number a box"):
        plot_case(IMAGE, spacing=SPACING, truth_boxes=BOX, existence=torch.rand(2))
    with pytest.raises(TypeError, match="image must be a torch.Tensor, got ndarray"):
        plot_case(IMAGE.numpy(), spacing=SPACING)
    with pytest.raises(TypeError, match="froc must be a FROC or a dict of them, got list"):
        plot_froc([froc()])
    with pytest.raises(TypeError, match=r"froc\['ours'\] must be a FROC, got float"):
        plot_froc({"ours": 0.5})


RAS = torch.diag(torch.tensor([3.0, 1.0, 0.5, 1.0], dtype=torch.float64))


def letters(axes):
    return [text.get_text() for text in axes.texts]


def test_with_an_affine_planes_have_names_sides_and_places_in_mm():
    figure = plot_case(IMAGE, affine=RAS, truth_boxes=BOX)
    names = [axes.get_title() for axes in figure.axes]
    assert names == ["axial, S 5 mm", "coronal, A 6 mm", "sagittal, R 9 mm"]
    assert [letters(axes) for axes in figure.axes] == [["R", "L"], ["R", "L"], ["A", "P"]]
    low = RAS.clone()
    low[:3, 3] = torch.tensor([-30.0, -20, -15])
    names = [axes.get_title() for axes in plot_case(IMAGE, affine=low, truth_boxes=BOX).axes]
    assert names == ["axial, I 10 mm", "coronal, P 14 mm", "sagittal, L 21 mm"]


def test_with_an_affine_the_scan_is_turned_as_radiologists_look_and_boxes_with_it():
    given = {"truth_boxes": BOX, "soft_mask": (IMAGE > 0.5).float(), "centre": (3.5, 6.5, 11.5)}
    figure = plot_case(IMAGE, affine=RAS, **given)
    shown = IMAGE.permute(2, 1, 0).flip(0, 1, 2)  # from above, the front above, right on the left
    for axes, slice_ in zip(figure.axes, (shown[18], shown[:, 13], shown[:, :, 4]), strict=True):
        assert np.array_equal(axes.images[0].get_array(), slice_.numpy())
    (box,) = rectangles(figure.axes[0])
    assert box == pytest.approx((3.0, 11.0, 3.0, 5.0))
    assert figure.axes[0].get_aspect() == pytest.approx(1 / 3)
    scaled = plot_case(IMAGE, affine=RAS, zoom=6.0, **given)
    assert [axes.get_title() for axes in scaled.axes[3:]] == ["6 mm about the place"] * 3


def test_an_affine_that_runs_the_other_way_shows_the_same():
    turned = RAS.clone()
    turned[0, 0], turned[0, 3] = -3.0, 3.0 * (len(IMAGE) - 1)
    one, other = plot_case(IMAGE, affine=RAS), plot_case(IMAGE.flip(0), affine=turned)
    for axes, same in zip(one.axes, other.axes, strict=True):
        assert np.array_equal(axes.images[0].get_array(), same.images[0].get_array())
        assert letters(axes) == letters(same)


@pytest.mark.bad_input
def test_spacing_or_affine_is_needed():
    with pytest.raises(ValueError, match="spacing must be given where affine is not, got neither"):
        plot_case(IMAGE)
    with pytest.raises(ValueError, match="affine"):
        plot_case(IMAGE, affine=torch.zeros(4, 4))


def test_truth_and_found_have_one_colour_each():
    mask = torch.zeros(8, 20, 30)
    mask[2:5, 4:9, 6:16] = 1
    boxes = {"truth_boxes": BOX, "found_boxes": BOX}
    axes = plot_case(IMAGE, spacing=SPACING, soft_mask=mask, found_mask=mask, **boxes).axes[0]
    contours = [to_hex(one.get_edgecolor()[0]) for one in axes.collections]
    assert contours == [to_hex(patch.get_edgecolor()) for patch in axes.patches]
    assert contours == [TRUTH.lower(), FOUND.lower()]
