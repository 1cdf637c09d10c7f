"""The score from which on a box is a finding, as a result says it in words."""

from __future__ import annotations

import math

from softoverlap.app.train.evaluation import Evaluation

NO_GAIN = 1.0
"""The score that stands for none: a probability above which no box lies."""


def chosen_threshold(result: Evaluation, scans: int, kind: str = "validation") -> tuple[float, str]:
    """The score threshold of an evaluation, and how it was chosen.

    Args:
        result: What `evaluate` found, with the operating point that was asked for.
        scans: Number of scans that it was found on.
        kind: What these are: validation, or training if there are none.

    Returns:
        The threshold, 1 where no score gains anything; and the rule in words, `"given"` for a
        threshold that was given.

    Examples:
        >>> import torch
        >>> from softoverlap.app.train.evaluation import evaluate
        >>> scan = {"box": torch.tensor([[0.0, 4.0]]), "label": torch.tensor([0])}
        >>> result = evaluate([{**scan, "label_scores": torch.tensor([0.5])}], [scan])
        >>> chosen_threshold(result, 1)
        (0.5, 'f1 on 1 validation scan')
    """
    threshold, rule = result.point.threshold, result.point.rule
    words = f"{scans} {kind} scan" + ("" if scans == 1 else "s")
    if math.isinf(threshold):
        threshold, words = NO_GAIN, f"{words}, where no score gains anything"
    return threshold, "given" if rule is None else f"{rule} on {words}"
