"""Boxes, scores, affines and label maps that the tests of the formats share."""

from __future__ import annotations

import json
import math

import nibabel
import numpy as np
import pytest
import torch

from softoverlap.images import read_boxes

BOXES = torch.tensor(
    [[0.125, 1.0, 2.0, 3.3, 4.0, 5.5], [0.0, 0.0, 0.0, 7.0, 8.0, 9.0]], dtype=torch.float64
)
SCORES = torch.tensor([0.1, 1 / 3], dtype=torch.float64)
LABELS = torch.tensor([2, 0])


def affine_of(degrees=0.0, flips=(1, 1, 1), spacing=(0.7, 1.3, 2.5), swap=False):
    """Anisotropic, perhaps flipped, permuted, turned about two axes."""
    a, b = math.radians(degrees), math.radians(degrees / 2)
    first = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    second = np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = first @ second @ np.diag(np.array(flips) * spacing)
    if swap:
        affine[:3, :3] = affine[:3, [2, 0, 1]]
    affine[:3, 3] = 12.0, -30.5, 71.25
    return torch.from_numpy(affine)


AFFINES = {
    "plain": affine_of(),
    "flipped": affine_of(flips=(-1, 1, -1)),
    "permuted": affine_of(flips=(1, -1, 1), swap=True),
    "oblique": affine_of(20, flips=(1, -1, 1)),
}


def assert_same(found, boxes, scores=SCORES, labels=LABELS, *, tolerance=0.0):
    torch.testing.assert_close(found.boxes, boxes, rtol=0, atol=tolerance)
    assert (found.scores is None) == (scores is None)
    assert (found.labels is None) == (labels is None)
    if scores is not None:
        assert torch.equal(found.scores, scores)
    if labels is not None:
        assert torch.equal(found.labels, labels)


def label_map(path, values, affine=None):
    nibabel.save(
        nibabel.Nifti1Image(values.astype(np.uint16), np.eye(4) if affine is None else affine), path
    )


def refused_when_changed(path, change, message):
    """A file of boxes whose content is changed is refused with this message, which names it."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as error:
        read_boxes(path)
    assert path.name in str(error.value)
