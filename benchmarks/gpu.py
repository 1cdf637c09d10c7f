"""The kernels on a GPU against their targets: mask-box scores, and losses of volumes.

One command, a few minutes: values against the plain path first, then times, bandwidths and memory.
Every target is stored with what was measured and whether that reaches it. Without a GPU it says so
and ends with status 2; `--interpret` tries the script on the CPU, at tiny sizes, and stores none.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from functools import partial

INTERPRETED = "--interpret" in sys.argv
if INTERPRETED:
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported

import torch  # noqa: E402
from _measure import seconds, store  # noqa: E402
from mask_boxes import lesions_in, random_boxes  # noqa: E402
from monai.data.box_utils import box_iou  # noqa: E402
from monai.losses import DiceLoss  # noqa: E402
from torch import Tensor  # noqa: E402

from softoverlap import SoftDiceLoss, _triton, mask_box_dice, mask_box_iou  # noqa: E402
from softoverlap.mask_boxes import SummedVolume  # noqa: E402

DEVICE = "cpu" if INTERPRETED else "cuda"
REPEATS = 1 if INTERPRETED else 21
STEPS = 1 if INTERPRETED else 10
ACTIVATIONS = {"none": {}, "sigmoid": {"sigmoid": True}, "softmax": {"softmax": True}}
FORMS = {"min": {}, "product": {"intersection": "product"}, "squared": {"squared_pred": True}}

Figures = dict[str, object]


class Targets:
    """What is to be reached, and what was."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, object]] = {}

    def at_most(self, name: str, value: float, bound: float) -> None:
        """A target that is reached from above."""
        self._add(name, value, value <= bound, at_most=bound)

    def at_least(self, name: str, value: float, bound: float) -> None:
        """A target that is reached from below."""
        self._add(name, value, value >= bound, at_least=bound)

    def _add(self, name: str, value: float, reached: bool, **bound: float) -> None:
        self.found[name] = {"measured": value, **bound, "reached": reached}
        (kind, number), word = *bound.items(), "reached" if reached else "MISSED"
        word = "tried, not measured" if INTERPRETED else word
        print(f"  {word}: {name}: {value:.3g} ({kind.replace('_', ' ')} {number:g})", flush=True)


def plainly(run: Callable[[], object]) -> object:
    """What the plain path returns."""
    before = set(_triton.DEVICES)
    _triton.DEVICES.clear()
    try:
        return run()
    finally:
        _triton.DEVICES.update(before)


def with_gradients(function: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    inputs = tuple(each.detach().requires_grad_() for each in inputs)
    value = function(*inputs)
    return [value.detach(), *torch.autograd.grad(value.square().sum(), inputs)]


def differences(targets: Targets) -> Figures:
    """The largest difference from the plain path, relative to the largest value of its kind."""
    shape = (3, 5, 6, 7) if INTERPRETED else (3, 40, 48, 56)
    boxes = random_boxes(20 if INTERPRETED else 3000, shape[1:], (1, 9)).to(DEVICE)
    boxes = torch.cat([boxes, boxes[:10].round()])  # faces on voxel edges too
    masks = torch.rand(shape, device=DEVICE)
    cases: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...], float]] = {
        f"mask-box {score.__name__}": (score, (masks, boxes), 1e-5)
        for score in (mask_box_dice, mask_box_iou)
    }
    volumes = (1, 3, 4, 5, 6) if INTERPRETED else (2, 3, 33, 34, 35)
    for dtype, bound in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        pair = tuple(torch.rand(volumes, device=DEVICE).to(dtype) for _ in range(2))
        for activation, chosen in ACTIVATIONS.items():
            for form, settings in FORMS.items():
                loss = SoftDiceLoss(**chosen, **settings, reduction="none", validate=False)
                cases[f"{form}, {activation}, {dtype}"] = (loss, pair, bound)
    for name, (function, inputs, bound) in cases.items():
        run = partial(with_gradients, function, *inputs)
        sides = zip(run(), plainly(run), strict=True)  # type: ignore[arg-type]
        worst = max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) for a, b in sides)
        targets.at_most(f"difference from the plain path, {name}", worst, bound)
    return {"masks": list(shape), "boxes": len(boxes), "volumes": list(volumes)}


def copy_bandwidth() -> float:
    """Bytes read and written a second by a copy of a large tensor."""
    source = torch.ones((1 << 10) if INTERPRETED else (1 << 28), device=DEVICE)
    sink = torch.empty_like(source)
    time = seconds({"copy": lambda: sink.copy_(source)}, DEVICE, REPEATS)["copy"]
    return 2 * source.numel() * source.element_size() / time


def scores_against_box_iou(targets: Targets) -> Figures:
    """190,000 anchors and 12 lesions, of which one pair in a thousand meets."""
    shape, count = ((24, 24, 12), 200) if INTERPRETED else ((192, 192, 96), 190_000)
    anchors = random_boxes(count, shape, (4, 12)).to(DEVICE)
    lesions, masks = lesions_in(shape, 2 if INTERPRETED else 12)
    boxes, masks = torch.stack([each.box for each in lesions]).to(DEVICE), masks.to(DEVICE)
    tables = SummedVolume.from_lesions(lesions, device=DEVICE)
    sides = {
        "monai_box_iou": partial(box_iou, boxes, anchors),
        "tables_ready": partial(mask_box_dice, tables, anchors),
        "crops": lambda: mask_box_dice(SummedVolume.from_lesions(lesions, device=DEVICE), anchors),
        "whole_masks": partial(mask_box_dice, masks, anchors),
        "tables_of_whole_masks": partial(SummedVolume.from_masks, masks),
    }
    times = seconds(sides, DEVICE, REPEATS)
    for name in ("tables_ready", "crops", "whole_masks"):
        share = times[name] / times["monai_box_iou"]
        targets.at_most(f"190,000 x 12 over MONAI's box_iou, {name}", share, 0.2)
    return {"milliseconds": {name: 1e3 * value for name, value in times.items()}}


def dense_scores(targets: Targets) -> Figures:
    """A million boxes and 100 crops: 400 MB are written."""
    shape, count, masks = (192, 192, 96), 1_000_000, 100
    if INTERPRETED:
        shape, count, masks = (24, 24, 12), 300, 3
    lesions, _ = lesions_in(shape, masks, whole=False)
    tables = SummedVolume.from_lesions(lesions, device=DEVICE)
    boxes = random_boxes(count, shape, (4, 12)).to(DEVICE)
    wanted = boxes.clone().requires_grad_()
    scores = mask_box_dice(tables, wanted)
    upstream = torch.ones_like(scores)
    sides = {
        "forward": partial(mask_box_dice, tables, boxes),
        "backward": partial(torch.autograd.grad, scores, wanted, upstream, retain_graph=True),
    }
    times = seconds(sides, DEVICE, REPEATS)
    targets.at_most("10^6 x 100 dense, milliseconds", 1e3 * times["forward"], 0.5)
    targets.at_most("backward to boxes over forward", times["backward"] / times["forward"], 4)
    return {"milliseconds": {name: 1e3 * value for name, value in times.items()}}


def losses(targets: Targets, bandwidth: float) -> Figures:
    """Forward and backward: four reads and a write of the volume, and memory beyond the inputs.

    Steps follow each other without a wait, as in training.
    """
    shape, figures = (1, 3, 6, 6, 6) if INTERPRETED else (4, 3, 192, 192, 192), {}
    for dtype in (torch.float32, torch.bfloat16):
        target = torch.rand(shape, device=DEVICE)
        target = (target / target.sum(dim=1, keepdim=True)).to(dtype)
        input = torch.rand(shape, device=DEVICE).to(dtype).requires_grad_()
        for activation, chosen in ACTIVATIONS.items():
            modules = {"monai": DiceLoss(soft_label=True, **chosen)}
            for form, settings in FORMS.items():
                modules["ours"] = SoftDiceLoss(**chosen, **settings)
                name = f"{form}, {activation}, {str(dtype)[6:]}"
                runs = {side: partial(steps, m, input, target) for side, m in modules.items()}
                times = seconds(runs, DEVICE, max(1, REPEATS // 3))
                times = {side: time / STEPS for side, time in times.items()}
                moved = 5 * input.numel() * input.element_size() / times["ours"]
                memory = {side: peak(m, input, target) for side, m in modules.items()}
                figures[name] = {"seconds": times, "bytes_a_second": moved, "bytes": memory}
                targets.at_least(f"share of the copy's bandwidth, {name}", moved / bandwidth, 0.7)
                share = memory["ours"] / max(1, memory["monai"])
                targets.at_most(f"memory over MONAI's, {name}", share, 1 / 3)
    return figures


def steps(loss: Callable[[Tensor, Tensor], Tensor], input: Tensor, target: Tensor) -> None:
    for _ in range(STEPS):
        step(loss, input, target)


def step(loss: Callable[[Tensor, Tensor], Tensor], input: Tensor, target: Tensor) -> None:
    input.grad = None
    loss(input, target).backward()


def peak(loss: Callable[[Tensor, Tensor], Tensor], input: Tensor, target: Tensor) -> int:
    """Most bytes on the device during a step, beyond the inputs; the gradient counts."""
    if INTERPRETED:
        return 0
    input.grad = None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step(loss, input, target)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interpret", action="store_true", help="try the script without a GPU")
    parser.parse_args()
    if INTERPRETED:
        _triton.DEVICES.add("cpu")
    elif not torch.cuda.is_available():
        print("benchmarks/gpu.py measures on a GPU, and PyTorch finds none here", file=sys.stderr)
        return 2
    if not _triton.available(torch.zeros(1, device=DEVICE)):
        print("benchmarks/gpu.py measures kernels, and Triton does not work here", file=sys.stderr)
        return 2
    targets = Targets()
    figures: Figures = {"differences": differences(targets)}
    bandwidth = copy_bandwidth()
    figures["copy_bytes_a_second"] = bandwidth
    figures["box_iou"] = scores_against_box_iou(targets)
    figures["dense"] = dense_scores(targets)
    figures["losses"] = losses(targets, bandwidth)
    figures["targets"] = targets.found
    if INTERPRETED:
        json.dumps(figures)
    else:
        store("gpu", DEVICE, figures)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
