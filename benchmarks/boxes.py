"""Boxes against boxes: IoU and GIoU of all pairs, oriented IoU, suppression, against the peers.

Peers are MONAI, shapely (if it is installed) and a sort-based polygon clipper. Prints ratios of one
run, all sides taking turns, and the peak memory as a multiple of the output. On the CPU all run on
one thread, oriented boxes also on all there are.
"""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable
from functools import partial

import monai.data.box_utils as monai_boxes
import torch
from _measure import arguments, seconds, store
from _sorted_clipping import corners, sorted_iou
from torch import Tensor

from softoverlap import overlaps
from softoverlap.suppression import box_nms, rotated_nms, soft_nms, weighted_box_clustering

ALL_THREADS = torch.get_num_threads()
ROWS, COLUMNS, ORIENTED, ALIGNED = 2000, 20_000, 10_000, 1_000_000
OURS: dict[str, Callable] = {"box_iou": overlaps.box_iou, "box_giou": overlaps.box_giou}
THEIRS: dict[str, Callable] = {name: getattr(monai_boxes, name) for name in OURS}


def random_boxes(count: int, seed: int, device: str) -> Tensor:
    """3D boxes in an image of 100 voxels a side."""
    generator = torch.Generator().manual_seed(seed)
    low = 100 * torch.rand(count, 3, generator=generator)
    sides = 4 + 12 * torch.rand(count, 3, generator=generator)
    return torch.cat([low, low + sides], dim=1).to(device)


def random_oriented(count: int, seed: int, room: float, device: str) -> Tensor:
    """2D boxes with centres in a square of side `room`."""
    generator = torch.Generator().manual_seed(seed)
    place = room * torch.rand(count, 2, generator=generator)
    sides = 2 + 4 * torch.rand(count, 2, generator=generator)
    angle = 6.28 * torch.rand(count, 1, generator=generator)
    return torch.cat([place, sides, angle], dim=1).to(device)


def with_backward(score: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    """The score, and the gradients of its sum to both."""
    a, b = a.detach().requires_grad_(), b.detach().requires_grad_()
    return torch.autograd.grad(score(a, b).sum(), (a, b))[0]


def peak_memory(name: str, backward: bool, ours: bool, device: str) -> float:
    """Peak memory of one call, over that of the output; on the CPU in a process of its own."""
    if device.startswith("cuda"):
        return _peak(name, backward, ours, device)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (name, backward, ours, device))


def _peak(name: str, backward: bool, ours: bool, device: str) -> float:
    score = (OURS if ours else THEIRS)[name]
    run = partial(with_backward, score) if backward else score
    a, b = random_boxes(ROWS, 0, device), random_boxes(COLUMNS, 1, device)
    run(a[:20], b)  # what is loaded once does not count
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    before = _bytes_at_most(device)
    run(a, b)
    return (_bytes_at_most(device) - before) / (ROWS * COLUMNS * a.element_size())


def _bytes_at_most(device: str) -> int:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def pairwise(device: str) -> dict[str, object]:
    """All pairs of 2000 and 20,000 boxes in 3D."""
    kinds = [(name, backward) for backward in (False, True) for name in OURS]
    peaks = {  # first: a process is born with the peak of the one that starts it
        kind: {side: peak_memory(*kind, side == "ours", device) for side in ("ours", "monai")}
        for kind in kinds
    }
    a, b = random_boxes(ROWS, 0, device), random_boxes(COLUMNS, 1, device)
    figures: dict[str, object] = {}
    for name, backward in kinds:
        memory, runs = peaks[name, backward], {"ours": OURS[name], "monai": THEIRS[name]}
        if backward:
            runs = {side: partial(with_backward, score) for side, score in runs.items()}
        runs = {side: partial(run, a, b) for side, run in runs.items()}
        what = f"{name}, {'forward + backward' if backward else 'forward'}"
        figures[what] = _compared(what, seconds(runs, device, repeats=3 if backward else 5))
        figures[what]["peak_memory_over_output"] = memory
        print("  peak memory over output: ours {ours:.2f}, MONAI {monai:.2f}".format(**memory))
    return figures


def oriented(device: str) -> dict[str, object]:
    """10,000 aligned pairs of oriented boxes, one centre within the reach of the other.

    The sort-based clipper shares its larger tensors among threads, ours are too small for that, so
    the comparison depends on their number: one, and all there are.
    """
    figures = {}
    for threads in sorted({1, ALL_THREADS}):
        torch.set_num_threads(threads)
        print(f"oriented boxes, threads: {threads}")
        figures[f"threads: {threads}"] = _oriented(device)
    torch.set_num_threads(1)
    return figures


def _oriented(device: str) -> dict[str, object]:
    a, b = (random_oriented(ORIENTED, seed, 4.0, device) for seed in (0, 1))
    ours = partial(overlaps.rotated_box_pair_iou, validate=False)
    difference = (ours(a, b) - sorted_iou(a, b)).abs()
    forward = {"ours": partial(ours, a, b), "sorted": partial(sorted_iou, a, b)}
    if device == "cpu" and (iou := _shapely_iou(a, b)) is not None:
        forward["shapely"] = iou
    both = {
        "ours": partial(with_backward, ours, a, b),
        "sorted": partial(with_backward, sorted_iou, a, b),
    }
    return {
        "median_difference_to_sorted": difference.median().item(),
        "forward": _compared("oriented IoU, forward", seconds(forward, device)),
        "forward + backward": _compared("oriented IoU, forward + backward", seconds(both, device)),
    }


def _shapely_iou(a: Tensor, b: Tensor) -> Callable[[], object] | None:
    try:
        import shapely
    except ImportError:
        return None

    def iou() -> object:
        polygons = [shapely.polygons(corners(boxes.double()).numpy()) for boxes in (a, b)]
        shared = shapely.area(shapely.intersection(*polygons))
        return shared / (sum(map(shapely.area, polygons)) - shared)

    return iou


def suppression(device: str) -> dict[str, object]:
    """2000 boxes in 3D against MONAI; 10,000 oriented ones, sparse and crowded."""
    boxes = random_boxes(2000, 2, device)
    scores = torch.rand(10_000, generator=torch.Generator().manual_seed(3)).to(device)
    few = scores[:2000]
    figures: dict[str, object] = {}
    nms = {
        "ours": partial(box_nms, boxes, few, 0.2),
        "monai": partial(monai_boxes.non_max_suppression, boxes, few, 0.2),
    }
    assert nms["ours"]().tolist() == nms["monai"]().tolist()
    times = seconds(nms, device, repeats=3)
    figures["2000 boxes in 3D"] = _compared("NMS of 2000 boxes in 3D", times)
    rest = {
        "soft_nms, 2000 in 3D": partial(soft_nms, boxes, few),
        "weighted_box_clustering, 2000 in 3D": partial(weighted_box_clustering, boxes, few, 0.2),
    }
    crowd = torch.cat([boxes[:, :3] / 25, boxes[:, :3] / 25 + 10], dim=1)
    rest["box_nms, 2000 in 3D that all meet"] = partial(box_nms, crowd, few, 0.2)
    for room in (400.0, 20.0):
        many = random_oriented(10_000, 4, room, device)
        kind = "sparse" if room > 100 else "crowded"
        for threshold in (0.1, 0.7):
            run = partial(rotated_nms, many, scores, threshold)
            rest[f"rotated_nms, 10,000 {kind}, threshold {threshold}"] = run
    figures["seconds"] = seconds(rest, device, repeats=3)
    for name, value in figures["seconds"].items():
        print(f"{name}: {value:.2f} s")
    return figures


def aligned(device: str) -> dict[str, object]:
    """A million aligned pairs, forward + backward, in float32 and bfloat16."""
    figures: dict[str, object] = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (random_boxes(ALIGNED, seed, device).to(dtype) for seed in (5, 6))
        names = ("iou", "giou", "diou", "ciou", "eiou", "nwd")
        runs = {
            name: partial(
                with_backward,
                partial(getattr(overlaps, f"box_pair_{name}"), validate=False),
                a,
                b,
            )
            for name in names
        }
        runs["MONAI's box_pair_giou"] = partial(with_backward, monai_boxes.box_pair_giou, a, b)
        c, d = (random_oriented(ALIGNED, seed, 4.0, device).to(dtype) for seed in (5, 6))
        rotated = partial(overlaps.rotated_box_pair_iou, validate=False)
        if device.startswith("cuda"):
            runs["rotated_iou"] = partial(with_backward, rotated, c, d)
        times = seconds(runs, device, repeats=5)
        kind = str(dtype).removeprefix("torch.")
        figures[kind] = {f"{name}, milliseconds": 1e3 * value for name, value in times.items()}
        figures[kind]["giou: monai_over_ours"] = times["MONAI's box_pair_giou"] / times["giou"]
        print(f"{ALIGNED:,} aligned pairs, {kind}, forward + backward:")
        print("  " + ", ".join(f"{name} {1e3 * value:.2f} ms" for name, value in times.items()))
    return figures


def _compared(what: str, times: dict[str, float]) -> dict[str, object]:
    figures: dict[str, object] = {"milliseconds": {n: 1e3 * value for n, value in times.items()}}
    print(f"{what}: ours {1e3 * times['ours']:.1f} ms")
    for peer in times.keys() - {"ours"}:
        figures[f"{peer}_over_ours"] = times[peer] / times["ours"]
        print(f"  {peer} takes {times[peer] / times['ours']:.1f} times as long")
    return figures


if __name__ == "__main__":
    device = arguments(__doc__ or "").device
    torch.set_num_threads(1)
    figures: dict[str, object] = {"pairwise": pairwise(device)}  # first: memory is read from here
    figures["oriented"] = oriented(device)
    figures["suppression"] = suppression(device)
    figures["aligned"] = aligned(device)
    store("boxes", device, figures)
