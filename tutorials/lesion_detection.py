# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Finding lesions that raters disagree about
# A radiologist marks a lesion; another marks it larger; a third does not mark it at all. This
# notebook follows such lesions from the scan to a trained detector and its FROC curve, step by
# step:
#
# 1. look at a scan and what its five raters marked,
# 2. turn the raters' mean, a soft mask, into lesions,
# 3. slide a box over a fuzzy lesion and watch the exact overlap,
# 4. see which anchors serve a lesion, and how well,
# 5. train MONAI's RetinaNet on it,
# 6. find lesions in scans it has not seen, and judge the result.
#
# The scans are phantoms that softoverlap makes: no data is downloaded.

# %% [markdown]
# ## Parameters
# `SOFTOVERLAP_TUTORIAL` picks the size: `cpu` (about five minutes on two cores), `gpu` (larger
# patches and more steps) or `fast` (a minute; it shows every step, and finds little).

# %% tags=["parameters"]
import os

setting = os.environ.get("SOFTOVERLAP_TUTORIAL", "cpu")
device = "auto"
seed = 0
sizes = {
    "fast": {"scans": 4, "unseen": 2, "shape": (56, 56, 40), "patch": 32, "steps": 30},
    "cpu": {
        "scans": 64,
        "unseen": 16,
        "shape": (96, 96, 64),
        "patch": 48,
        "steps": 1500,
        "minutes": 4.5,
    },
    "gpu": {
        "scans": 200,
        "unseen": 48,
        "shape": (96, 96, 96),
        "patch": 96,
        "steps": 3000,
        "minutes": 20,
    },
}
size = sizes[setting]

# %%
# %matplotlib inline
from dataclasses import replace

import matplotlib.pyplot as plt
import torch

from softoverlap import (
    ATSSMatcher,
    LesionPhantoms,
    Volume,
    anchor_quality,
    box_iou,
    mask_box_dice,
)
from softoverlap.anchors import best_box
from softoverlap.app.report import plot_case, plot_froc
from softoverlap.app.train import (
    TrainingConfig,
    TrainingScan,
    build_detector,
    choose_threshold,
    detect,
    evaluate,
    scan_target,
    train,
)
from softoverlap.lesions import threshold_boxes

# %% [markdown]
# ## 1. A scan and its raters
# Each phantom has texture, a bias field, bright vessels and bright cysts that no rater marks, and
# up to six lesions. Five simulated raters draw larger or smaller, waver along the edge, and
# overlook small and faint lesions. The truth is their mean: at each voxel the share of raters
# that marked it.

# %%
phantoms = LesionPhantoms(seed, count=size["scans"], shape=size["shape"])
phantom = next(scan for scan in phantoms if len(scan.lesions) >= 2)
boxes = torch.stack([lesion.box for lesion in phantom.lesions])
existence = torch.tensor([lesion.existence for lesion in phantom.lesions])
plot_case(
    phantom.image,
    affine=phantom.affine,
    soft_mask=phantom.mask,
    truth_boxes=boxes,
    existence=existence,
)

# %%
lesion = max(phantom.lesions, key=lambda one: one.volume_mm3)
plane = int(lesion.centre[2])
figure, panels = plt.subplots(1, 6, figsize=(12, 2.4), layout="constrained")
row, column = (slice(max(0, int(c) - 14), int(c) + 14) for c in lesion.centre[:2].tolist())
for number, panel in enumerate(panels):
    panel.imshow(phantom.image[row, column, plane], cmap="gray")
    marked = phantom.mask if number == 5 else phantom.raters[number]
    levels = [0.25, 0.5, 0.75] if number == 5 else [0.5]
    if marked[row, column, plane].max() > 0:
        panel.contour(marked[row, column, plane], levels=levels, colors="tab:orange")
    panel.set_title("all: 0.25, 0.5, 0.75" if number == 5 else f"rater {number + 1}")
    panel.set_axis_off()

# %% [markdown]
# ## 2. From a soft mask to lesions
# `lesions_from_mask` cuts the soft mask into lesions: each has a soft crop with its offset, a
# tight box, its centre of mass, its volume in mm³, and its existence, the share of raters that
# marked it.

# %%
for number, one in enumerate(phantom.lesions):
    edges = (one.box[3:] - one.box[:3]).int().tolist()
    print(
        f"lesion {number}: {one.volume_mm3:6.0f} mm³ in a box of {edges} voxels, "
        f"marked by {one.existence:.0%} of the raters"
    )

# %% [markdown]
# ## 3. Slide a box over a fuzzy lesion
# `mask_box_dice` integrates the probability inside a box of real-valued corners, exactly: the
# curve below has no steps. The IoU with the tight box, which detectors match anchors by, knows
# only where the box ends. The best box for the soft Dice is smaller than the tight box: it gives
# up the voxels that few raters marked.

# %%
tight = lesion.box.float()
best, best_score, _ = best_box(lesion.crop)
best = best.float() + torch.cat([lesion.offset, lesion.offset])
shift = torch.linspace(-20, 20, 401)
moving = tight + shift[:, None] * torch.tensor([1.0, 0, 0, 1.0, 0, 0])
soft = mask_box_dice([lesion], moving)[0]
hard = box_iou(tight[None], moving)[0]
figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
axes.plot(shift, soft, label="soft Dice of lesion and box")
axes.plot(shift, hard, label="IoU of tight box and box")
axes.axhline(best_score, color="tab:blue", linestyle=":", label="best soft Dice of any box")
axes.set(xlabel="shift along axis 0, voxels", ylabel="overlap", ylim=(0, 1.05))
axes.legend()
print(f"soft Dice of the tight box {float(soft[200]):.3f}, of the best box {best_score:.3f}")

# %% [markdown]
# Two claims, checked: no box beats the best one, and the largest step of the curve shrinks with
# the step of the box (a rounded box would jump).

# %%
assert float(soft.max()) <= best_score + 1e-6
assert float((soft[1:] - soft[:-1]).abs().max()) < 0.02

# %% [markdown]
# ## 4. Anchors, and how well they serve
# A detector chooses among anchors: boxes of a few sizes on a grid. `anchor_quality` scores each
# against each lesion and divides by the best that any box can reach, since even a perfect box
# around a ragged lesion is mostly background. `ATSSMatcher` then lets every lesion pick its own
# threshold, and gives every lesion at least one anchor.

# %%
stride, edges = 4, (5.0, 8.0, 12.0)
grid = [torch.arange(stride / 2, voxels, stride) for voxels in phantom.image.shape]
centres = torch.cartesian_prod(*grid).repeat_interleave(len(edges), dim=0)
half = torch.tensor(edges).repeat(len(centres) // len(edges))[:, None] / 2
anchors = torch.cat([centres - half, centres + half], dim=1)
quality = anchor_quality(phantom.lesions, anchors)
matches = ATSSMatcher()(
    quality,
    boxes,
    anchors,
    num_locations_per_level=[len(anchors) // len(edges)],
    num_anchors_per_loc=len(edges),
)
print(f"{len(anchors)} anchors, {int(matches.positive.sum())} positive")
for number in range(len(phantom.lesions)):
    served = matches.quality[matches.index == number]
    print(f"lesion {number}: {len(served)} anchors, best quality {float(served.max()):.2f}")
assert set(range(len(phantom.lesions))) <= set(matches.index.tolist())

# %% [markdown]
# ## 5. Train
# The detector is MONAI's RetinaNet, about half a million parameters, on patches around lesions
# and elsewhere. Scans without lesions take part. `TrainingScan` holds an image with its affine,
# and its lesions; for your own NIfTI files, `softoverlap train --data FOLDER` makes them. An eighth
# of the scans is kept for validation.


# %%
def as_scan(name, phantom):
    return TrainingScan(name, Volume(phantom.image, phantom.affine), phantom.lesions)


scans = [as_scan(f"phantom {number}", one) for number, one in enumerate(phantoms)]
kept = max(1, len(scans) // 8)
validation, scans = scans[:kept], scans[kept:]
config = TrainingConfig(
    patch_size=size["patch"], steps=size["steps"], max_minutes=size.get("minutes"), seed=seed
)
losses = []
model = train(scans, config, device=device, progress=lambda state: losses.append(state.loss))

# %%
window = max(1, len(losses) // 30)
smooth = torch.tensor(losses).unfold(0, window, 1).mean(dim=1)
figure, axes = plt.subplots(figsize=(6, 2.6), layout="constrained")
axes.plot(torch.arange(len(smooth)) + window / 2, smooth)
axes.set(xlabel="step", ylabel=f"loss, mean of {window} steps", ylim=(0, None))
third = len(losses) // 3
first, last = (float(torch.tensor(part).mean()) for part in (losses[:third], losses[-third:]))
print(f"mean loss of the first third {first:.3f}, of the last {last:.3f}")
assert setting == "fast" or last < first

# %% [markdown]
# ## 6. Find lesions in unseen scans
# A detector gives hundreds of candidates with scores. From which score on is a box a finding? The
# validation scans decide: the score of the highest F1 is kept with the detector.

# %%
model, on_validation = choose_threshold(model, validation)
point = on_validation.point
print(f"findings are boxes with a score of at least {point.threshold:.3f}: {model.threshold_rule}")
print(f"sensitivity {point.sensitivity:.2f}, precision {point.precision:.2f} there")

# %% [markdown]
# Now scans of another seed, with another panel of raters.

# %%
unseen = LesionPhantoms(seed + 1_000_000, count=size["unseen"], shape=size["shape"])
tests = [as_scan(f"unseen {number}", one) for number, one in enumerate(unseen)]
found = [detect(model, scan.image) for scan in tests]
shown = max(range(len(tests)), key=lambda number: len(tests[number].lesions))
above = found[shown].above
plot_case(
    tests[shown].image.data,
    affine=tests[shown].image.affine,
    soft_mask=unseen[shown].mask,
    truth_boxes=scan_target(tests[shown])["boxes"],
    existence=torch.tensor([one.existence for one in tests[shown].lesions]),
    found_boxes=found[shown].box[above],
    scores=found[shown].scores[above],
)

# %% [markdown]
# The FROC curve shows the share of lesions found against the false positives a scan. Two
# baselines on the same scans say what the numbers are worth: the same network untrained, and a
# plain threshold with connected components, which the bright vessels and cysts defeat.

# %%
targets = [scan_target(scan) for scan in tests]
unfiltered = replace(config, score_threshold=0.0)  # fresh scores are near 0.01: none is cut
untrained = build_detector(unfiltered, model.spacing, model.intensity)
level = float(torch.stack([scan.image.data for scan in scans[:4]]).quantile(0.98))
predictions = {
    "trained": [one.prediction for one in found],
    "untrained": [detect(untrained, scan.image).prediction for scan in tests],
    "threshold": [
        threshold_boxes(scan.image.data, level, spacing=scan.image.spacing) for scan in tests
    ],
}
judged = {name: evaluate(one, targets) for name, one in predictions.items()}
for name, result in judged.items():
    line = f"CPM {result.froc.cpm:.3f}   AP@0.1 {result.ap10:.3f}   AP@0.5 {result.ap50:.3f}"
    print(f"{name:>10}: {line}")
plot_froc({name: result.froc for name, result in judged.items()})

# %%
point = evaluate(predictions["trained"], targets, at=model.score_threshold).point
print(f"at the score that validation chose: sensitivity {point.sensitivity:.2f}, precision")
print(f"{point.precision:.2f}, {point.fps_per_scan:.2f} false positives a scan")

# %% [markdown]
# One seed and a few scans: `softoverlap demo` judges on more, and `benchmarks/demo_seeds.py`
# repeats it over seeds and stores the spread. What this run can claim is checked here; the fast
# setting is too short to claim anything about lesions.

# %%
if setting != "fast":
    assert judged["trained"].froc.cpm > 0.6
    assert judged["untrained"].froc.cpm < 0.3
    assert judged["threshold"].froc.cpm < 0.3
