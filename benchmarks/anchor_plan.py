"""What planned anchors reach on real lesions: planned on ten patients with MS, read on ten others.

Lesions are those of the raters' consensus at 1 mm (Lesjak et al. 2017, in
`../shared/data/open_ms`), 26-connected, with boxes of at most 32 mm. A plan is made of patients 01
to 10 and read on patients 11 to 20: the best soft Dice of each lesion with any anchor, and its
share of the best that any box has. Beside it stand the anchors of `lesion_retinanet` without a
plan, a plan made on the very lesions that are read, and all candidate shapes of the plan's finest
stride at once: with every orientation, and with one of each, as sorted edges. A step of a training
(forward, losses, backward, two patches of 48³) is timed with the plan and without. The table, the
sentences below it and the picture of lesions with their best anchors go into `docs/planning.md`.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations_with_replacement, product
from pathlib import Path

import torch
from _measure import seconds, store, write_block
from real_lesions import CLASSES, FOLDER, class_of, lesions_of
from torch import Tensor

from softoverlap import AnchorPlan, Lesion, plan_anchors
from softoverlap.anchors import best_box
from softoverlap.for_monai import SoftRetinaNetDetector, lesion_retinanet, lesion_target

EDGES = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0)
BUDGETS = (0.1, 0.25, 0.55, 1.1, 2.2)
MAIN = 0.55
GOAL, AMPLE = 0.95, 1.1
WITHOUT = AnchorPlan(
    strides=[(4, 4, 4), (8, 8, 8)],
    sizes=[[(e,) * 3 for e in (5, 8, 12)], [(e,) * 3 for e in (10, 16, 24)]],
)
KNOWING = f"planned on the lesions read, at most {MAIN:g}"
PAGE = Path(__file__).parents[1] / "docs/planning.md"
PICTURE = PAGE.parent / "figures/anchor_plan.png"
MARKS = "<!-- reach -->\n", "<!-- end of reach -->"
PATCH, PATCHES = 48, 2
HEAD = ("anchors", "a voxel", "mean", "median", "share of any box", "median of that", "< 10 mm³")


def patients(folder: Path, first: int, last: int) -> list[Lesion]:
    """Lesions of these patients."""
    paths = [
        folder / f"patient{number:02d}_native1mm_consensus_gt.nii.gz"
        for number in range(first, last + 1)
    ]
    return [lesion for path in paths for lesion in lesions_of(path)]


def all_shapes(stride: Sequence[int], orders) -> AnchorPlan:
    """All candidates of a level at once."""
    shapes = [[e * s for e, s in zip(edges, stride, strict=True)] for edges in orders]
    return AnchorPlan(strides=[stride], sizes=[shapes])


def figures_of(quality: Tensor, best: Tensor, lesions: Sequence[Lesion]) -> dict[str, object]:
    """What the table shows, and the mean and median of each class."""
    share = (quality.double() / best).clamp(max=1)
    by_class = {}
    for name in CLASSES:
        rows = torch.tensor([class_of(lesion.volume_mm3) == name for lesion in lesions])
        by_class[name] = {
            "lesions": int(rows.sum()),
            "mean": float(quality[rows].mean()),
            "median": float(quality[rows].median()),
            "share": float(share[rows].mean()),
        }
    return {
        "mean": float(quality.mean()),
        "median": float(quality.median()),
        "share": float(share.mean()),
        "median_share": float(share.median()),
        "classes": by_class,
    }


def study(folder: Path) -> dict[str, object]:
    """Figures of all sets of anchors."""
    planned_on, read_on = patients(folder, 1, 10), patients(folder, 11, 20)
    best = torch.tensor([best_box(lesion.crop).bound for lesion in read_on], dtype=torch.float64)
    plans = {f"{b:g}": plan_anchors(planned_on, max_anchors_per_voxel=b) for b in BUDGETS}
    stride = plans[f"{MAIN:g}"].strides[0]
    there = f"at stride {stride[0]}"
    every = all_shapes(stride, product(EDGES, repeat=3))
    sorted_ones = all_shapes(stride, combinations_with_replacement(EDGES, 3))
    named = {
        "without a plan": WITHOUT,
        **{f"planned, at most {budget}": plan for budget, plan in plans.items()},
        KNOWING: plan_anchors(read_on, max_anchors_per_voxel=MAIN),
        f"all {len(sorted_ones.sizes[0])} shapes with rising edges {there}": sorted_ones,
        f"all {len(every.sizes[0])} shapes {there}": every,
    }
    rows = {}
    for name, plan in named.items():
        rows[name] = {
            "anchors_per_voxel": plan.anchors_per_voxel,
            **figures_of(plan.quality(read_on), best, read_on),
        }
        print(name, rows[name]["mean"], flush=True)
    rows["any box"] = {"anchors_per_voxel": None, **figures_of(best, best, read_on)}
    main, last = rows[f"planned, at most {MAIN:g}"], list(rows)[-3:-1]
    return {
        "lesions": {"planned_on": len(planned_on), "read_on": len(read_on)},
        "plan": plans[f"{MAIN:g}"].to_dict(),
        "rows": rows,
        "step": step_seconds(plans[f"{MAIN:g}"], read_on),
        "reach": {name: {k: main[k] / rows[name][k] for k in ("mean", "median")} for name in last},
    }


def step_seconds(plan: AnchorPlan, lesions: Sequence[Lesion]) -> dict[str, float]:
    """Seconds of a step with the plan and without, in turns."""
    few = [
        replace(
            lesion,
            offset=lesion.offset % (PATCH // 2),
            box=lesion.box - (lesion.offset - lesion.offset % (PATCH // 2)).repeat(2),
        )
        for lesion in lesions[:10]
    ]
    target = lesion_target([lesion for lesion in few if float(lesion.box.max()) <= PATCH])
    images = torch.randn(PATCHES, 1, *[PATCH] * 3, generator=torch.Generator().manual_seed(0))

    def step(detector: SoftRetinaNetDetector) -> None:
        sum(detector(images, [target] * PATCHES).values()).backward()

    torch.manual_seed(0)
    made = {"without": {}, "with": {"plan": plan}}
    detectors = {k: SoftRetinaNetDetector(lesion_retinanet(**more)) for k, more in made.items()}
    return seconds({k: partial(step, each) for k, each in detectors.items()}, "cpu")


def block(figures: dict) -> str:
    """What stands between the marks of the page."""
    reach, step, lesions = figures["reach"], figures["step"], figures["lesions"]
    of_each = " and ".join(
        f"{100 * one['mean']:.0f} % of the mean of {name}" for name, one in reach.items()
    )
    name, share = list(reach)[-1], list(reach.values())[-1]["mean"]
    knowing, ample = (
        100 * figures["rows"][row]["mean"] / figures["rows"][name]["mean"]
        for row in (KNOWING, f"planned, at most {AMPLE:g}")
    )
    words = (
        f"Planned on {lesions['planned_on']} lesions, read on {lesions['read_on']} others. With at "
        f"most {MAIN:g} anchors a voxel the plan reaches {of_each}. "
        f"The goal, {100 * GOAL:.0f} % of the latter, is {'reached' if share >= GOAL else 'missed'}"
        f": a plan made on the very lesions that are read reaches {knowing:.0f} %, one with "
        f"{AMPLE:g} anchors a voxel {ample:.0f} %. A step of the training takes "
        f"{step['with'] / step['without']:.1f} times as long as without a plan."
    )
    return f"{table(figures)}\n\n{textwrap.fill(words, 110)}\n"


def table(figures: dict) -> str:
    """The rows as Markdown."""
    lines = [f"| {' | '.join(HEAD)} |", "|" + " --- |" * len(HEAD)]
    for name, row in figures["rows"].items():
        each = row["anchors_per_voxel"]
        numbers = [row[key] for key in ("mean", "median", "share", "median_share")]
        numbers.append(row["classes"]["< 10 mm³"]["mean"])
        cells = [name, "–" if each is None else f"{each:.3g}", *(f"{n:.2f}" for n in numbers)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(folder: Path, plan: AnchorPlan, path: Path) -> None:
    """The picture of the page: lesions that the plan was not made of."""
    from softoverlap.app.report import plot_plan, save_figure

    lesions = patients(folder, 11, 20)
    classes = [class_of(lesion.volume_mm3) for lesion in lesions]
    save_figure(plot_plan(plan, lesions, plan.quality(lesions), classes), path, dpi=90)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures = study(options.folder)
    store("anchor_plan", "cpu", figures)
    print(block(figures))
    write_block(PAGE, MARKS, block(figures))
    draw(options.folder, AnchorPlan.from_dict(figures["plan"]), PICTURE)
