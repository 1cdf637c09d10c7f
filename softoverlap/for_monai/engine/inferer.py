"""The detector under MONAI's engines: called with targets in training, by windows in evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from monai.inferers.inferer import Inferer
from torch import Tensor, nn

from softoverlap.for_monai.transforms.collating import PerItem


class _Losses(dict[str, Tensor]):
    """The losses of a step; decollation gives each of its images all of them, as plain numbers."""

    ndim = 0

    def __init__(self, losses: Mapping[str, Tensor], images: int) -> None:
        super().__init__(losses)
        self.images = images

    def item(self) -> PerItem:
        numbers = {key: float(loss.detach()) for key, loss in self.items()}
        return PerItem([numbers] * self.images)


class DetectorInferer(Inferer):
    """Runs a detector for MONAI's `SupervisedTrainer` and `SupervisedEvaluator`.

    Args:
        windows: In evaluation, go window by window (`set_sliding_window_inferer` says which).

    Examples:
        >>> from softoverlap.for_monai import SoftRetinaNetDetector, lesion_retinanet, lesion_target
        >>> detector = SoftRetinaNetDetector(lesion_retinanet())
        >>> images = torch.zeros(1, 1, 16, 16, 16)
        >>> sorted(DetectorInferer()(images, detector.train(), [lesion_target([])]))
        ['box_regression', 'classification']
        >>> sorted(DetectorInferer(windows=False)(images, detector.eval())[0])
        ['boxes', 'labels', 'labels_scores']
    """

    def __init__(self, windows: bool = True) -> None:
        super().__init__()
        self.windows = windows

    def __call__(
        self,
        inputs: Tensor | list[Tensor],
        network: Callable[..., Any],
        targets: list[dict[str, Any]] | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """The losses in training, the detections in evaluation.

        Args:
            inputs: Images, shape (B, C, *spatial), or a list of images (C, *spatial_i).
            network: The detector, or its `DistributedDataParallel`.
            targets: In training a target for each image; not used in evaluation.
            args: Passed on to the detector.
            kwargs: Passed on to the detector.

        Returns:
            A dict of losses, each of shape (), or a list with the detections of each image.

        Examples:
            >>> from softoverlap.for_monai import SoftRetinaNetDetector, lesion_retinanet
            >>> detector = SoftRetinaNetDetector(lesion_retinanet()).eval()
            >>> detector.set_sliding_window_inferer(16)
            >>> len(DetectorInferer()(torch.zeros(1, 1, 20, 16, 16), detector))
            1
        """
        if getattr(network, "training", False):
            return _Losses(network(inputs, targets, *args, **kwargs), len(inputs))
        kwargs.setdefault("use_inferer", self.windows)
        return PerItem(network(inputs, *args, **kwargs))


class DetectionLoss(nn.Module):
    """The sum of a detector's losses, as the loss function of MONAI's `SupervisedTrainer`.

    Args:
        weights: Factors of losses by name; 1 for the others.

    Raises:
        ValueError: On use, if a loss is not finite, or a weight names none.

    Examples:
        >>> losses = {"classification": torch.tensor(0.5), "box_regression": torch.tensor(0.25)}
        >>> DetectionLoss({"box_regression": 2.0})(losses)
        tensor(1.)
    """

    def __init__(self, weights: Mapping[str, float | int] | None = None) -> None:
        super().__init__()
        self.weights = dict(weights or {})

    def forward(self, losses: Mapping[str, Tensor], targets: object = None) -> Float[Tensor, ""]:
        """The weighted sum; the targets, which the engine hands over, are already in the losses."""
        unknown = sorted(set(self.weights) - set(losses))
        if unknown:
            raise ValueError(f"weights must name losses among {sorted(losses)}, got {unknown}")
        terms = [loss * self.weights.get(key, 1.0) for key, loss in losses.items()]
        total = torch.stack(terms).sum()
        if not bool(torch.isfinite(total)):
            values = {key: float(loss.detach()) for key, loss in losses.items()}
            raise ValueError(
                f"training must give finite losses, got {values}: lower the learning rate or the "
                f"longest gradient"
            )
        return total
