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
# # From a folder of scans to a lesion detector
# A radiologist marks a lesion; another marks it larger; a third does not mark it at all. This
# notebook trains a detector on such lesions, from NIfTI files in a folder to boxes in a scan that
# nobody has labelled:
#
# 1. find scans and masks in a folder,
# 2. fuse the raters' masks into a soft one,
# 3. see what soft overlap tells of a box that IoU does not,
# 4. plan anchors by the lesions of the folder,
# 5. send a lesion through MONAI's transforms,
# 6. train, with a validation curve,
# 7. find lesions in scans that the training has not seen,
# 8. judge them by FROC, at a score that the validation chose,
# 9. write a page for the reader and markups for 3D Slicer,
# 10. run the checkpoint on a scan without labels.
#
# The scans are phantoms that softoverlap writes, so nothing is downloaded; one line changes them to
# a folder of yours.
#
# **To start it**, in a checkout of the package, with Python 3.11 or newer:
# ```sh
# pip install -c constraints.txt '.[tutorials]' jupyterlab
# jupyter lab tutorials/lesion_detection.ipynb
# ```
# As a script it runs too, without showing pictures: `python tutorials/lesion_detection.py`.
#
# Licence: Apache-2.0, as the package. The detector is an example, not for diagnosis.

# %% [markdown]
# ## Parameters
# `SOFTOVERLAP_TUTORIAL` picks the size. `cpu` takes about a quarter of an hour on two cores. `gpu`
# is for a GPU: patches of 128³ voxels in bfloat16, all scans cached, and scans larger than a
# window; it has not been run yet. `fast` takes a minute and checks that every step works: it trains
# a few steps, too few to find lesions.

# %% tags=["parameters"]
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads wait, and do not spin
setting = os.environ.get("SOFTOVERLAP_TUTORIAL", "cpu")
device = "auto"
seed = 0
sizes = {
    "fast": {
        "scans": {"seen": 5, "unseen": 2},
        "shape": (64, 64, 48),
        "plan": {"patch_size": 32},
        "train": {"steps": 8, "epoch_steps": 4, "val_interval": 1, "workers": 0},
    },
    "cpu": {
        "scans": {"seen": 60, "unseen": 16},
        "shape": (96, 96, 64),
        "plan": {"patch_size": 48},
        "train": {"steps": 600, "epoch_steps": 90, "val_interval": 1},
    },
    "gpu": {
        "scans": {"seen": 240, "unseen": 60},
        "shape": (192, 192, 160),
        "plan": {"patch_size": 128, "memory_gb": 40},
        "train": {"steps": 6000, "amp": True, "cache_rate": 1.0, "workers": 8},
    },
}
size = sizes[setting]

# %%
# %matplotlib inline
import json
import platform
import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import monai
import numpy as np
import torch
from matplotlib.patches import Rectangle
from monai.transforms import Affined, Compose, Flipd, SpatialCropd

import softoverlap
from softoverlap import (
    AnchorPlan,
    FuseRatersd,
    LesionInstancesd,
    LesionPhantoms,
    LesionsFromInstancesd,
    box_iou,
    mask_box_dice,
    mask_box_mass,
)
from softoverlap.anchors import best_box_in_image
from softoverlap.app.cohort import find_pairs, score_cohort
from softoverlap.app.report import plot_case, plot_froc, plot_plan, write_report
from softoverlap.app.train import (
    detect_files,
    evaluate,
    find_scans,
    fresh_detector,
    load_checkpoint,
    pick_device,
    plan_scans,
    scan_facts,
    scan_target,
    train,
)
from softoverlap.for_monai import LoadLesionCased
from softoverlap.images import (
    find_cases,
    load_case,
    read_table,
    save_nifti,
    split_of,
    write_json,
    write_phantoms,
)
from softoverlap.lesions import threshold_boxes

versions = {one.__name__: one.__version__ for one in (softoverlap, torch, monai)}
versions["python"] = platform.python_version()
print(f"setting {setting!r} on {pick_device(device)}, with {versions}")

# %% [markdown]
# ## 1. Scans in a folder
# A folder holds `images/`, and `masks/` or the masks of several `raters/`; nnU-Net's layout, the
# Decathlon's, BIDS and MONAI's lists of boxes are read as well. Scans to test on lie in a folder of
# their own. **The second line of this cell is the one to change for your scans**; those of other
# folders are left alone.

# %%
work = Path(tempfile.mkdtemp(prefix="lesions-"))  # all that is written goes here
seen, unseen = work / "seen", work / "unseen"  # yours: seen, unseen = Path("..."), Path("...")
for number, folder in enumerate((seen, unseen)):
    if folder.parent == work:
        count = size["scans"][folder.name]
        write_phantoms(folder, count, seed + 1_000_000 * number, shape=size["shape"])
table = find_cases(seen)
print(f"{len(table.cases)} scans, layout {table.layout!r}, classes {table.classes}")
for file in table.unpaired:
    print(f"left out: {file.path.name}, {file.reason}")

# %% [markdown]
# `load_case` reads a scan with its masks and finds the lesions: each has a soft crop, a tight box,
# a volume in mm³, and its existence, the share of raters that marked it. `softoverlap train --data
# FOLDER --dry-run` does this for the whole folder and says what does not fit.

# %%
facts = [scan_facts(load_case(case)) for case in table.cases]
shown = max(range(len(facts)), key=lambda scan: len(facts[scan].lesions))
case = load_case(table.cases[shown])
print(f"{sum(len(one.lesions) for one in facts)} lesions; in {case.name}:")
for lesion in case.lesions:
    print(f"{lesion.volume_mm3:6.0f} mm³, marked by {lesion.existence:.0%} of the raters")
plot_case(
    case.image,
    affine=case.affine,
    soft_mask=case.mask,
    truth_boxes=torch.stack([lesion.box for lesion in case.lesions]),
    existence=torch.tensor([lesion.existence for lesion in case.lesions]),
)

# %% [markdown]
# ## 2. Raters, fused
# `FuseRatersd` makes one soft mask of the raters' masks: by default the mean, at each voxel the
# share of raters that marked it. Majority votes, weights and STAPLE are there too. STAPLE asks what
# one true mask the raters meant, so its values are near 0 or 1: the disagreement is gone. The mean
# keeps it, and so the training learns from it.

# %%
item = FuseRatersd()(LoadLesionCased()({"case": table.cases[shown]}))
raters, mean = item["raters"].as_tensor(), item["mask"][0].as_tensor()
masks = [*raters, mean]
titles = [*(f"rater {number}" for number in range(1, len(raters) + 1)), "mean"]
if len(raters) >= 3:
    masks.append(FuseRatersd(method="staple")(item)["mask"][0].as_tensor())
    titles.append("STAPLE")
unsure = [float(((mask > 0.05) & (mask < 0.95)).sum() / (mask > 0).sum()) for mask in masks]
for title, share in list(zip(titles, unsure, strict=True))[len(raters) :]:
    print(f"{title}: {share:.0%} of the marked voxels are neither sure nor excluded")
assert torch.equal(mean, raters.mean(dim=0))
assert len(raters) < 3 or unsure[-1] < 0.5 * unsure[-2]

# %%
lesion = max(case.lesions, key=lambda one: float((one.crop * (1 - one.crop)).sum()))
*low, plane = lesion.centre.int().tolist()
row, column = (slice(max(0, middle - 12), middle + 12) for middle in low)
figure, panels = plt.subplots(1, len(masks), figsize=(1.7 * len(masks), 2), layout="constrained")
for panel, mask, title in zip(panels, masks, titles, strict=True):
    drawn = mask[row, column, plane]
    if title.startswith("rater"):
        panel.imshow(case.image[row, column, plane], cmap="gray")
        panel.contour(drawn, levels=[0.5], colors="tab:orange") if drawn.max() > 0.5 else None
    else:
        panel.imshow(drawn, cmap="gray", vmin=0, vmax=1)
    panel.set_title(title)
    panel.set_axis_off()

# %% [markdown]
# ## 3. What soft overlap tells of a box
# A detector learns from how well each anchor covers a lesion. Take an anchor half as long as a
# lesion's tight box, and slide it along the lesion. While it lies within the tight box, its IoU
# with that box is the same wherever it is: IoU sees only how much of the box is covered.
# `mask_box_dice` integrates the probability inside the anchor, and says where the raters agree.


# %%
def slide(lesion, axis, steps=401):
    """A box half as long as the tight box, moved along the axis; across it, as the best box."""
    low, high = lesion.box[[axis, axis + 3]].float()
    start = torch.linspace(float(1.5 * low - 0.5 * high), float(high), steps)
    anchors = best_box_in_image(lesion).float().repeat(steps, 1)
    anchors[:, axis], anchors[:, axis + 3] = start, start + (high - low) / 2
    within = (anchors[:, axis] > low + 1e-3) & (anchors[:, axis + 3] < high - 1e-3)
    return anchors, within


def gain(lesion, axis):
    """How much the soft Dice differs between places that have the same IoU."""
    anchors, within = slide(lesion, axis, steps=41)
    soft = mask_box_dice([lesion], anchors[within])[0]
    return float(soft.max() - soft.min())


every = sorted((one for scan in facts for one in scan.lesions), key=lambda one: one.volume_mm3)
large = every[-(len(every) // 3) :]
lesion, axis = max(((one, axis) for one in large for axis in range(3)), key=lambda p: gain(*p))
anchors, within = slide(lesion, axis)
anchors.requires_grad_()
soft, hard = mask_box_dice([lesion], anchors)[0], box_iou(lesion.box[None].float(), anchors)[0]
slopes = [
    torch.autograd.grad(score.sum(), anchors, retain_graph=True)[0][:, [axis, axis + 3]].sum(dim=1)
    for score in (soft, hard)
]
anchors, soft, hard = anchors.detach(), soft.detach(), hard.detach()

# %%
best = int(soft.where(within, -1.0).argmax())
worst = int(soft.where(within, 2.0).argmin())
other, across = (one for one in range(3) if one != axis)
layer = int(lesion.centre[across]) - int(lesion.offset[across])
picture = lesion.crop.select(across, layer)
picture = picture if axis < other else picture.T
left, down = int(lesion.offset[axis]), int(lesion.offset[other])
figure, (scan, curve) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
extent = (left, left + picture.shape[0], down + picture.shape[1], down)
scan.imshow(picture.T, cmap="gray", vmin=0, vmax=1, extent=extent)
for name, box, color in (
    ("tight box", lesion.box, "tab:green"),
    ("best place", anchors[best], "tab:blue"),
    ("worst place", anchors[worst], "tab:orange"),
):
    corner, edges = box[[axis, other]].tolist(), (box[3:] - box[:3])[[axis, other]].tolist()
    scan.add_patch(Rectangle(corner, *edges, fill=False, color=color, linewidth=2, label=name))
scan.set(xlim=(left - 2, extent[1] + 2), ylim=(extent[2] + 2, down - 2), facecolor="black")
scan.set(title="share of raters, a layer of the lesion", xlabel=f"axis {axis}, voxels")
figure.legend(loc="outside lower left", ncols=3, frameon=False)
place = anchors[:, [axis, axis + 3]].mean(dim=1)
curve.axvspan(float(place[within][0]), float(place[within][-1]), color="0.92")
curve.plot(place, soft, label="soft Dice of lesion and anchor")
curve.plot(place, hard, label="IoU of tight box and anchor", linestyle="--")
curve.set(xlabel="middle of the anchor, voxels (grey: within the tight box)", ylim=(0, 1))
curve.legend(frameon=False, loc="upper left")
print(f"IoU {float(hard[best]):.2f} at both, soft Dice {soft[best]:.2f} and {soft[worst]:.2f}")

# %% [markdown]
# Checked: within the tight box the IoU is flat and gives no gradient, while the soft Dice differs
# and leads to where the raters agree. It is exact at every real-valued place, so a finer step of
# the anchor makes finer steps of the curve, without jumps at voxel edges.

# %%
assert float(hard[within].max() - hard[within].min()) < 1e-4
assert float(slopes[1][within].abs().max()) < 1e-4
assert float(soft[best] - soft[worst]) > 0.15
assert float(slopes[0][within].abs().max()) > 0.02
assert float(anchors[best, axis]) < float(lesion.centre[axis]) < float(anchors[best, axis + 3])
finer = mask_box_dice([lesion], slide(lesion, axis, steps=801)[0])[0]
assert float(finer.diff().abs().max()) < 0.6 * float(soft.diff().abs().max())

# %% [markdown]
# ## 4. Plan the anchors
# No detector finds a lesion that no anchor covers. `plan_scans` (`softoverlap plan --data FOLDER`)
# chooses strides and anchor shapes by the exact overlap that they reach with the lesions of the
# scans to train on, and with them spacing, patch and sampling; the fifth of the patients on which
# the training will validate is left out. The numbers say how far an anchor can get: "any box" is
# the most that a box with the best of all faces reaches.

# %%
names = split_of(table, seen).fold.train
planned = plan_scans([one for one in facts if one.name in names], **size["plan"])
plan = planned.plan
write_json(work / "plan.json", plan.to_dict())
print(f"spacing {plan.spacing} mm, patches of {plan.patch_size}, {plan.batch_size} in a step")
for stride, shapes in zip(plan.strides, plan.sizes, strict=True):
    print(f"stride {stride}: {len(shapes)} shapes,", *(f"{a:g}×{b:g}×{c:g}" for a, b, c in shapes))
for name, row in plan.expected_quality.items():
    if row["lesions"]:
        words = f"best anchor {row['median']:.2f}, any box {row['any_box_median']:.2f}"
        print(f"{name:>12}: {row['lesions']:3} lesions, {words}")

# %%
plot_plan(plan, planned.lesions, planned.quality, planned.classes)

# %% [markdown]
# Checked: the plan covers the lesions better than the anchors that a detector without a plan has,
# cubes of 5, 8 and 12 voxels at stride 4 and twice that at stride 8; and no better than any box.

# %%
cubes = [[(edge,) * 3 for edge in edges] for edges in ((5, 8, 12), (10, 16, 24))]
usual = AnchorPlan(strides=[(4,) * 3, (8,) * 3], sizes=cubes).quality(planned.lesions)
means = [float(quality.double().mean()) for quality in (usual, planned.quality, planned.best)]
print("mean best soft Dice: without a plan {:.2f}, planned {:.2f}, any box {:.2f}".format(*means))
assert means[0] < means[1] <= means[2] + 1e-6

# %% [markdown]
# ## 5. A lesion through MONAI's transforms
# `LesionInstancesd` finds the lesions once: an instance map, and a table with a row a lesion. Then
# any spatial transform of MONAI's may run, on image and soft mask bilinearly, on the map to the
# nearest voxel, and `LesionsFromInstancesd` reads off what is left of each lesion. Here the largest
# lesion that is not near a border is cut out, also turned and enlarged, and cut in half.

# %%
keys, modes = ("image", "mask", "instances"), ("bilinear", "bilinear", "nearest")


def inner(lesions, shape):
    """The lesions far enough from the border for a patch of 24 voxels around them."""
    far = [one.centre.minimum(torch.tensor(shape) - one.centre).min() for one in lesions]
    return [one for one, distance in zip(lesions, far, strict=True) if distance > 13]


volumes = [
    max((one.volume_mm3 for one in inner(scan.lesions, scan.shape)), default=0.0) for scan in facts
]
item = FuseRatersd()(LoadLesionCased()({"case": table.cases[volumes.index(max(volumes))]}))
whole = LesionInstancesd(raters_key="raters")(item)
lesions = inner(LesionsFromInstancesd()(whole)["lesions"], item["image"].shape[1:])
lesion = max(lesions, key=lambda one: one.volume_mm3)
first = [max(int(middle) - 12, 0) for middle in lesion.centre]
cut = SpatialCropd(keys, roi_start=first, roi_end=[one + 24 for one in first])
turn = Affined(
    keys, rotate_params=(0.2, 0.3, 0.6), scale_params=(0.75,) * 3, mode=modes, padding_mode="zeros"
)
halve = SpatialCropd(keys, roi_start=(12, 0, 0), roi_end=(24, 24, 24))
ways = {"cut out": [cut], "turned and enlarged": [cut, turn], "cut in half": [cut, halve]}
read = LesionsFromInstancesd(min_visible=0)
patches = {name: Compose([*way, read])(whole) for name, way in ways.items()}
left = {}
for name, patch in patches.items():
    expected = torch.tensor([0.0 if name == "cut in half" else 12.0, 12.0, 12.0])
    left[name] = min(patch["lesions"], key=lambda one: float((one.centre - expected).norm()))
    edges = (left[name].box[3:] - left[name].box[:3]).int().tolist()
    print(f"{name:>20}: {left[name].volume_mm3:5.0f} mm³ in {edges} voxels")

# %%
figure, panels = plt.subplots(2, 3, figsize=(9, 5.6), layout="constrained")
for (name, patch), (top, bottom) in zip(patches.items(), panels.T, strict=True):
    plane, box = int(left[name].centre[2]), left[name].box.tolist()
    image, mask, instances = (patch[key][0, :, :, plane].as_tensor() for key in keys)
    top.imshow(image, cmap="gray")
    top.contour(mask, levels=[0.25, 0.5, 0.75], colors="tab:orange")
    bottom.imshow(instances.sign(), cmap="coolwarm", vmin=-2, vmax=2)
    for panel in (top, bottom):
        corner, edges = (box[1] - 0.5, box[0] - 0.5), (box[4] - box[1], box[3] - box[0])
        panel.add_patch(Rectangle(corner, *edges, fill=False, color="tab:blue", linewidth=2))
        panel.set_axis_off()
    top.set_title(name)

# %% [markdown]
# Above, image, soft mask and the target's box; below, the instance map: red the lesion's own
# voxels, blue those around it, through which the map survives resampling. Checked: a crop moves the
# box, a flip mirrors it, to the last digit; turning and enlarging keep the volume in mm³ and the
# existence; and of a lesion that is cut there is as much left as the soft mask has in the patch.

# %%
start, (one, turned, half) = torch.tensor(first), left.values()
assert torch.equal(one.box, lesion.box - start.repeat(2))
flipped = Compose([cut, Flipd(keys, spatial_axis=0), read])(whole)
mirrored = 24 - one.box[[3, 0]]
assert any(torch.equal(other.box[[0, 3]], mirrored) for other in flipped["lesions"])
assert abs(turned.volume_mm3 / lesion.volume_mm3 - 1) < 0.1
assert one.existence == turned.existence == half.existence == lesion.existence
window = torch.tensor([12.0, 0, 0, 24, 24, 24]) + start.repeat(2)
share = float(mask_box_mass([lesion], window[None])) / float(lesion.crop.sum())
assert abs(half.volume_mm3 / lesion.volume_mm3 - share) < 1e-3

# %% [markdown]
# ## 6. Train
# `train` runs MONAI's bundle `lesion_detection` of this package in this process, with the plan
# filled in: `SupervisedTrainer`, cached scans, patches around lesions and elsewhere, flips, and a
# validation by sliding windows on a fifth of the patients. Any name of the bundle's `train.yaml`
# may stand in `settings`: `{"matcher#num_candidates": 9}`, `{"box_loss": {"_target_": ...}}`. On
# the command line it is `softoverlap train --data FOLDER --plan plan.json --output run`.

# %%
run = work / "run"
settings = {"seed": seed, **size["train"]}
with warnings.catch_warnings(record=True) as told:
    trained = train(seen, run, plan=work / "plan.json", settings=settings, device=device)
for words in sorted({str(one.message) for one in told if one.category is UserWarning}):
    print("warning:", words)
print({name: trained.training[name] for name in ("steps", "planned", "stopped_by")})
print(sorted(path.name for path in run.iterdir()))

# %% [markdown]
# The run keeps its curves in `curve.csv`, in `curve.png`, and for TensorBoard where it is
# installed.


# %%
def column(name):
    """Steps and values of a column of the curve, where it has any."""
    rows = [row for row in read_table(run / "curve.csv").rows if row.get(name)]
    return [int(row["step"]) for row in rows], [float(row[name]) for row in rows]


loss, cpm = column("loss"), column("val_cpm")
if setting != "fast":
    figure, panels = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
    for panel, curve, name in (
        (panels[0], loss, "training loss"),
        (panels[1], cpm, "CPM on validation scans"),
    ):
        panel.plot(*curve, marker="o")
        panel.set(xlabel="step", title=name, ylim=(0, None))
assert min(len(loss[1]), len(cpm[1])) >= 2
assert setting == "fast" or loss[1][-1] < 0.8 * loss[1][0]
assert setting == "fast" or max(cpm[1]) > cpm[1][0]

# %% [markdown]
# ## 7. Find lesions in scans that the training has not seen
# A detector gives candidates with scores. From which score on is a box a finding? The validation
# scans decided: the score of the highest F1 there is kept in `checkpoint.pt`, with the rule.
# `detect_files` goes through each scan window by window and writes boxes, heat map and markups on
# the scan's own grid (`softoverlap detect run/checkpoint.pt FOLDER --output found`).

# %%
model, point = trained.model, trained.evaluation.point
if setting == "fast":
    print("A quick check: this detector has hardly been trained, and its figures are left out.")
else:
    print(f"findings have a score of at least {model.score_threshold:.3f}: {model.threshold_rule}")
    print(f"sensitivity {point.sensitivity:.2f}, precision {point.precision:.2f} there")
scans = find_scans([unseen], model.settings["in_channels"])
results = detect_files(model, scans, work / "found")
assert all(result.ok for result in results)
assert max(size["shape"]) > max(plan.patch_size)  # so there are several windows

# %%
tests = [load_case(case) for case in find_cases(unseen).cases]
found = [result.detections for result in results]
assert [result.path for result in results] == [case.image for case in find_cases(unseen).cases]
shown = max(range(len(tests)), key=lambda scan: len(tests[scan].lesions))
above = found[shown].above
most = 3 if setting == "fast" else None  # boxes, from the highest score on
plot_case(
    tests[shown].image,
    affine=tests[shown].affine,
    soft_mask=tests[shown].mask,
    truth_boxes=scan_target(tests[shown])["boxes"],
    existence=torch.tensor([lesion.existence for lesion in tests[shown].lesions]),
    found_boxes=found[shown].box[above][:most],
    scores=found[shown].scores[above][:most],
)

# %% [markdown]
# ## 8. FROC
# The FROC curve shows the share of lesions found against the false positives a scan; CPM is its
# mean over 1/8 to 8 of them. A box finds a lesion if its IoU with the tight box is at least 0.1,
# one rule in the whole package, and a lesion counts by the share of raters that marked it. Two
# baselines say what the numbers are worth: the same network with fresh weights, and a plain
# threshold.

# %%
fresh = fresh_detector({**model.settings, "lowest_score": 0.0}, seed=seed)  # fresh scores are low
level = float(np.quantile(load_case(table.cases[0]).image, 0.98))
predictions = {
    "trained": [one.prediction for one in found],
    "untrained": [
        one.detections.prediction for one in detect_files(fresh, scans, work / "untrained")
    ],
    "threshold": [threshold_boxes(case.image, level, spacing=case.spacing) for case in tests],
}
targets = [scan_target(case) for case in tests]
judged = {name: evaluate(boxes, targets) for name, boxes in predictions.items()}
at_chosen = evaluate(predictions["trained"], targets, at=model.score_threshold).point
if setting != "fast":
    for name, result in judged.items():
        print(f"{name:>10}: CPM {result.froc.cpm:.3f}, AP at IoU 0.1 {result.ap10:.3f}")
    print(f"at the chosen score: sensitivity {at_chosen.sensitivity:.2f},", end=" ")
    print(f"precision {at_chosen.precision:.2f}, {at_chosen.fps_per_scan:.2f} false a scan")

# %%
curves = {name: result.froc for name, result in judged.items()}
None if setting == "fast" else plot_froc(curves)

# %% [markdown]
# One seed and a few scans; `softoverlap demo` judges on more. What this run may claim is checked.

# %%
cpms = {name: result.froc.cpm for name, result in judged.items()}
assert setting == "fast" or cpms["trained"] > max(cpms["untrained"], cpms["threshold"])

# %% [markdown]
# ## 9. A page, and markups for 3D Slicer
# `score_cohort` scores the files of a folder (`softoverlap score found unseen/raters`), and
# `write_report` makes one HTML page of it, with intervals, the worst misses and false positives in
# pictures, and tables to sort. It needs no network. For 3D Slicer there is `CASE_boxes.mrk.json`
# beside each scan's boxes: drag it in with the scan, and each finding is a region of interest.

# %%
truth = unseen / ("raters" if (unseen / "raters").exists() else "masks")
scored = score_cohort(find_pairs(work / "found", truth).pairs, work / "results")
page = write_report(work / "results", work / "report.html", images=unseen / "images", worst=4)
print(f"{page.path.name}, {page.path.stat().st_size / 1e6:.1f} MB, with {page.pictures} pictures")
marked = json.loads((work / "found" / f"{tests[shown].name}_boxes.mrk.json").read_text())["markups"]
for region in marked[:3]:
    print(region["name"], [round(edge, 1) for edge in region["size"]], "mm")

# %% [markdown]
# Checked: the page counts as this notebook does, and Slicer gets the findings, not the candidates.

# %%
assert not scored.failed
assert scored.summary["froc"]["lesions"] == judged["trained"].froc.lesions
assert abs(scored.summary["froc"]["cpm"] - judged["trained"].froc.cpm) < 1e-6
assert len(marked) == int(above.sum())
assert all(region["coordinateSystem"] == "LPS" for region in marked)

# %% [markdown]
# ## 10. A scan without labels
# `checkpoint.pt` is all that another person needs: it holds the weights, and the axes, spacing,
# anchors and score that belong to them. Here it reads a new scan, of which there is no mask. On the
# command line: `softoverlap detect run/checkpoint.pt new.nii.gz --output new`.

# %%
phantom = LesionPhantoms(seed + 2_000_000, count=1, shape=size["shape"])[0]
save_nifti(work / "new.nii.gz", phantom.image, phantom.affine)  # or a scan of yours
again = load_checkpoint(run / "checkpoint.pt", device=device)
(result,) = detect_files(again, [work / "new.nii.gz"], work / "new")
above = result.detections.above
plot_case(
    phantom.image,
    affine=phantom.affine,
    found_boxes=result.detections.box[above][:most],
    scores=result.detections.scores[above][:most],
)

# %% [markdown]
# Checked: the checkpoint finds in a scan just what the trained detector found in it.

# %%
assert again.score_threshold == model.score_threshold
(repeated,) = detect_files(again, [results[shown].path], work / "again")
assert torch.allclose(repeated.detections.box, found[shown].box, atol=1e-3)
assert sorted(path.name for path in (work / "new").iterdir()) == [
    "detections.csv",
    "new_boxes.json",
    "new_boxes.mrk.json",
    "new_heatmap.nii.gz",
    "scans.csv",
]
