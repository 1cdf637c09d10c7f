"""Tensors of small whole numbers, which every dtype holds: masks, labels, boxes and the rest."""

from __future__ import annotations

import torch

EYE = torch.eye(4, dtype=torch.float64)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def block(*spatial, low=1, high=4):
    mask = torch.zeros(spatial, dtype=torch.float64)
    mask[tuple(slice(low, high) for _ in spatial)] = 1
    return mask


PRED, TRUTH = block(6, 6, 6), block(6, 6, 6, low=2, high=5)
PAIR = {"y_pred": PRED[None, None], "y": TRUTH[None, None]}
MASKS = torch.stack([block(6, 6), block(6, 6, low=2, high=5)])
LABELS = (MASKS[0] + MASKS[1])[None, None]
BOXES = tensor([[0, 0, 4, 4], [1, 2, 5, 5], [0, 1, 3, 4]])
OTHERS = tensor([[1, 1, 5, 5], [1, 2, 5, 5], [3, 1, 6, 6]])
ROTATED = tensor([[3, 3, 2, 4, 0], [4, 3, 4, 2, 1]])
OTHER_ROTATED = tensor([[3, 3, 4, 4, 0], [4, 4, 4, 2, 2]])
SQUARE = tensor([[2, 2], [8, 2], [8, 8], [2, 8]])
HOLE = tensor([[3, 3], [5, 3], [5, 5], [3, 5]])
ROTATED_CODES = tensor([[0, 1, 0, 1, 1, 0], [1, 0, 1, 0, 0, 1]])
SOFT = torch.cat([(BOXES - 1).clamp(min=0), BOXES + 1], dim=1)
CLASSES = tensor([0, 1, 0])
SCORES = tensor([1, 0, 1])
LOGITS = torch.stack([2 - MASKS[0], MASKS[0] + 1, 3 * MASKS[1]])[None]
RATERS = torch.stack([MASKS[0], MASKS[1], MASKS[0]])
CODES = tensor([[0, 1, 0, 1], [1, 0, 1, 0], [0, 0, 1, 1]])


def with_options(function, /, **options):
    return lambda **arguments: function(**(options | arguments))
