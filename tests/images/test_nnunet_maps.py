"""Probability maps of nnU-Net: axes, grid and classes, and what is refused; no pickle is read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from softoverlap.images import find_maps, load_nnunet_map, maps_left_out, save_nifti

AFFINE = torch.diag(torch.tensor([-1.0, 1.0, 2.5, 1.0], dtype=torch.float64))


def classes():
    """Probabilities of two classes in voxels of (x, y, z), and of the background."""
    lesion, cyst = torch.zeros(2, 8, 7, 5)
    lesion[1:3, 2:4, 3] = 0.9
    cyst[5, 5, 1:4] = 0.7
    cyst[1, 2, 3] = 0.1
    return torch.stack([1 - lesion - cyst, lesion, cyst])


def as_nnunet(folder, channels, *, name="case", segmentation=None, **arrays):
    """The three files of a case; the pickle is no pickle."""
    if segmentation is None:
        segmentation = channels.argmax(dim=0).float()
    save_nifti(folder / f"{name}.nii.gz", segmentation, AFFINE)
    (folder / f"{name}.pkl").write_bytes(b"not to be read")
    arrays = arrays or {"probabilities": channels.numpy().transpose(0, 3, 2, 1)}
    np.savez_compressed(folder / f"{name}.npz", **arrays)
    return folder / f"{name}.npz"


def test_the_axes_are_those_of_the_segmentation(tmp_path):
    path = as_nnunet(tmp_path, classes())
    for label in (1, 2):
        found = load_nnunet_map(path, label=label)
        torch.testing.assert_close(found.data, classes()[label])
        assert torch.equal(found.affine, AFFINE)
    torch.testing.assert_close(load_nnunet_map(path).data, classes()[1:].sum(dim=0))


def test_regions_are_chosen_by_number(tmp_path):
    whole = classes()[1:].sum(dim=0)
    regions = torch.stack([whole, classes()[1]])
    path = as_nnunet(tmp_path, regions, segmentation=(whole >= 0.5).float())
    torch.testing.assert_close(load_nnunet_map(path, label=2).data, classes()[1])
    with pytest.raises(ValueError, match="2 channels that do not add up to 1, as regions do"):
        load_nnunet_map(path)
    with pytest.raises(ValueError, match="label must be left out for .*case.npz, whose channels"):
        load_nnunet_map(path, label=2, regions=False)
    one = as_nnunet(tmp_path, whole[None], segmentation=(whole >= 0.5).float())
    torch.testing.assert_close(load_nnunet_map(one).data, whole)


def test_a_folder_gives_each_case_once(tmp_path):
    as_nnunet(tmp_path, classes())
    save_nifti(tmp_path / "other.nii.gz", torch.zeros(2, 2, 2), AFFINE)
    (tmp_path / "notes.txt").touch()
    assert [path.name for path in find_maps([tmp_path])] == ["case.npz", "other.nii.gz"]
    named = [tmp_path / "case.nii.gz", tmp_path / "case.npz"]
    assert find_maps(named) == [tmp_path / "case.npz"]
    assert [file.path.name for file in maps_left_out([tmp_path])] == ["notes.txt"]


@pytest.mark.bad_input
@pytest.mark.parametrize("label", [0, 3])
def test_a_class_that_is_not_there_is_refused(tmp_path, label):
    path = as_nnunet(tmp_path, classes())
    with pytest.raises(ValueError, match=f"label must be one of 1 to 2 .*, got {label}"):
        load_nnunet_map(path, label=label)


@pytest.mark.bad_input
def test_without_its_segmentation_a_map_lies_nowhere(tmp_path):
    path = as_nnunet(tmp_path, classes())
    (tmp_path / "case.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match="the segmentation that nnU-Net writes beside it"):
        load_nnunet_map(path)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("channels", "words"),
    [
        (classes().flip(1), "of the 7 voxels that this marks it lacks 7: are they of one"),
        (classes().permute(0, 2, 1, 3), r"must have the grid of case.nii.gz, \(8, 7, 5\)"),
        (2 * classes(), r"must hold probabilities in \[0, 1\]"),
        (classes() * torch.nan, r"must hold probabilities in \[0, 1\]"),
        (classes()[0], r"shape \(classes, z, y, x\), got float32 of shape \(5, 7, 8\)"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(tmp_path, channels, words):
    array = channels.numpy().transpose() if channels.ndim == 3 else None
    array = channels.numpy().transpose(0, 3, 2, 1) if array is None else array
    path = as_nnunet(tmp_path, classes(), probabilities=array)
    with pytest.raises(ValueError, match=words):
        load_nnunet_map(path)


@pytest.mark.bad_input
def test_pickles_and_other_arrays_are_refused(tmp_path):
    path = as_nnunet(tmp_path, classes(), softmax=np.zeros(3))
    with pytest.raises(ValueError, match="must hold an array 'probabilities', got softmax"):
        load_nnunet_map(path)
    pickled = np.array([{"a": 1}], dtype=object)
    path = as_nnunet(tmp_path, classes(), probabilities=pickled)
    with pytest.raises(ValueError, match="readable npz without pickles"):
        load_nnunet_map(path)
