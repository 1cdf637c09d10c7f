"""Settings of a training run, checked on creation and stored in its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from softoverlap._checks import check_choice, check_threshold, refusal
from softoverlap.anchors import AnchorWeighting

_POSITIVE = ("batch_size", "steps", "learning_rate", "clip_norm", "save_seconds")
_NOT_NEGATIVE = ("weight_decay", "brightness", "seed")
_SHARES = ("warmup", "foreground", "score_threshold", "nms_threshold")
_TUPLES = ("patch_size", "spacing", "channels", "anchor_sizes")


@dataclass(frozen=True)
class TrainingConfig:
    """How a lesion detector is built and trained.

    The learning rate rises over the first `warmup` of the run and falls to zero along a cosine.
    The run ends after `steps`, or after `max_minutes` if that is earlier; the learning rate follows
    the one that is further on, so it always falls to zero.

    Args:
        patch_size: Voxels of a training patch and of a window of detection, one number or one an
            axis; multiples of the network's stride (8 as built here).
        batch_size: Patches in a step.
        steps: Steps of the optimizer.
        max_minutes: Time limit of the training in minutes, or None for none.
        learning_rate: Highest learning rate of AdamW.
        weight_decay: AdamW's weight decay, at least 0.
        warmup: Share of the run in which the learning rate rises, in [0, 1].
        clip_norm: Longest gradient; longer ones are scaled down.
        foreground: Share of patches around a lesion, in [0, 1]; the others are anywhere.
        flips: Flip patches along random axes.
        brightness: Spread of the random change of a patch's gain and offset, at least 0, in
            units of the image's own spread.
        intensity: `"scan"` to normalise each scan by its own mean and spread (MR), `"fixed"` by
            those of the training set (CT).
        spacing: Voxel edges in mm to train at, one an axis, or None for the median of the
            training set. Scans at another spacing are resampled.
        channels: Channels of each stage of the network.
        feature_channels: Channels of the feature pyramid and the heads.
        anchor_sizes: Edges of the anchors in voxels on the finest level.
        iou_branch: Let the network also predict how well each box fits, and rank by √(p·q). Low
            probabilities are lifted by the root, so raise `score_threshold` with it.
        amodal: Learn the whole box of a lesion that a patch cuts, not the visible part.
        mask_threshold: Lowest probability inside a lesion, in (0, 1], where masks are read for
            this training (`load_case`); kept with the checkpoint.
        score_target: The target of a box's score: `"hard"`, 1; `"existence"`, the share of
            raters that marked the lesion; `"quality"` or `"existence_quality"`, which learn more
            slowly (see `AnchorWeighting`).
        box_weight: The weight of a positive anchor in the regression loss (see `AnchorWeighting`).
        score_threshold: Lowest score of a detection, in [0, 1].
        nms_threshold: Highest IoU of two detections, in [0, 1].
        window_overlap: Least overlap of neighbouring windows of detection, in [0, 1).
        amp: On a GPU, compute in bfloat16 where it is safe.
        seed: Seed of the weights and of the patches, at least 0.
        save_seconds: Time between two checkpoints in seconds.

    Raises:
        TypeError: If a size is not a number.
        ValueError: If an argument is out of range; the message names it.

    Examples:
        >>> TrainingConfig(patch_size=32).patch_size
        (32, 32, 32)
    """

    patch_size: int | tuple[int, ...] = 48
    batch_size: int = 4
    steps: int = 1500
    max_minutes: float | None = None
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-4
    warmup: float = 0.1
    clip_norm: float = 5.0
    foreground: float = 0.6
    flips: bool = True
    brightness: float = 0.1
    intensity: str = "scan"
    spacing: tuple[float, ...] | None = None
    channels: tuple[int, ...] = (16, 32, 64)
    feature_channels: int = 32
    anchor_sizes: tuple[float, ...] = (5.0, 8.0, 12.0)
    iou_branch: bool = False
    amodal: bool = False
    mask_threshold: float = 0.5
    score_target: str = "hard"
    box_weight: str = "one"
    score_threshold: float = 0.02
    nms_threshold: float = 0.2
    window_overlap: float = 0.5
    amp: bool = True
    seed: int = 0
    save_seconds: float = 20.0

    def __post_init__(self) -> None:
        for name in _TUPLES:
            value = getattr(self, name)
            if isinstance(value, int | float):
                value = (value,) * 3
            object.__setattr__(self, name, None if value is None else tuple(value))
        _check_ranges(self)
        _check_axes(self)

    @property
    def patch(self) -> tuple[int, ...]:
        """Voxels of a patch, one number an axis."""
        return self.patch_size  # pyright: ignore[reportReturnType]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, as checkpoints and JSON hold them."""
        plain = asdict(self)
        return {key: list(v) if isinstance(v, tuple) else v for key, v in plain.items()}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> TrainingConfig:
        """The settings that `to_dict` wrote.

        Args:
            values: Values by the names of the arguments.

        Returns:
            The settings.

        Raises:
            ValueError: If a name is unknown.

        Examples:
            >>> TrainingConfig.from_dict(TrainingConfig(seed=3).to_dict()).seed
            3
        """
        unknown = sorted(set(values) - {field.name for field in fields(TrainingConfig)})
        if unknown:
            raise ValueError(f"config must hold arguments of TrainingConfig, got {unknown}")
        plain: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in values.items()
        }
        return TrainingConfig(**plain)


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """The device of this name, if it exists.

    Args:
        device: `"auto"` for the GPU if there is one, otherwise the CPU; or `"cpu"`, `"cuda"`,
            `"cuda:1"`, `"mps"`.

    Returns:
        The device.

    Raises:
        ValueError: If the name is wrong or the device does not exist.

    Examples:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        complaint = f"must be auto, cpu, or a GPU of this machine, got {device}: {reason}"
        raise refusal("device", complaint) from None
    return chosen


def _check_ranges(config: TrainingConfig) -> None:
    """Every number in its range; the message names the argument."""
    inf = float("inf")
    for names, fits, expected in (
        (_POSITIVE, lambda value: 0 < value < inf, "be above 0"),
        (_SHARES, lambda value: 0 <= value <= 1, "lie in [0, 1]"),
        (_NOT_NEGATIVE, lambda value: 0 <= value < inf, "be at least 0"),
        (("window_overlap",), lambda value: 0 <= value < 1, "lie in [0, 1)"),
        (("max_minutes",), lambda value: value is None or value > 0, "be above 0 or None"),
    ):
        for name in names:
            if not fits(getattr(config, name)):
                raise refusal(name, f"must {expected}, got {getattr(config, name)}")
    check_threshold(mask_threshold=config.mask_threshold)
    check_choice("intensity", config.intensity, ("scan", "fixed"))
    AnchorWeighting(target=config.score_target, box_weight=config.box_weight)


def _check_axes(config: TrainingConfig) -> None:
    """Three axes, patches that the network can halve, spacings in mm."""
    stride = 2 ** len(config.channels)
    if len(config.patch) != 3 or any(side < stride or side % stride for side in config.patch):
        raise refusal(
            "patch_size",
            f"must be a multiple of {stride}, the network's stride, on each of three axes, "
            f"got {config.patch}",
        )
    spacing = config.spacing
    if spacing is not None and (len(spacing) != 3 or not all(0 < edge < 100 for edge in spacing)):
        raise refusal("spacing", f"must hold three lengths in mm, got {spacing}")
