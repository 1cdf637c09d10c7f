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
# # How much do any two sets share?
# Overlap is the size of what two sets share over the size of what either covers. The sets need not
# be boxes, nor lie on a line that goes on for ever:
#
# 1. arcs, on axes that come round: angles, phases of a heart beat,
# 2. intervals of time, and for how long something is in view,
# 3. soft boxes, whose faces are uncertain: raters who disagree, detectors that know it.
#
# Each claim is asserted where it is made. The notebook takes seconds on a CPU.
#
# **To start it**, in a checkout of the package, with Python 3.11 or newer:
# ```sh
# pip install -c constraints.txt '.[tutorials]' jupyterlab
# jupyter lab tutorials/any_two_sets.ipynb
# ```
# As a script it runs too, without showing pictures: `python tutorials/any_two_sets.py`.
#
# Licence: Apache-2.0, as the package.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

import softoverlap
from softoverlap import (
    BoxGIoULoss,
    SoftBoxCRPSLoss,
    SummedVolume,
    box_giou,
    box_iou,
    box_nms,
    box_pair_iou,
    compute_dwell,
    compute_pdq,
    dwell_intervals,
    dwell_time,
    expected_dwell_time,
    mask_box_dice,
    soft_box_faces,
    soft_box_iou,
    soft_box_masks,
    soft_boxes,
    soft_boxes_from_raters,
)

torch.manual_seed(0)
print(f"softoverlap {softoverlap.__version__}, torch {torch.__version__}")

# %% [markdown]
# ## 1. Axes that come round
# In a series of cardiac images, end-diastole is the time around the R peak of the ECG, where one
# beat ends and the next begins. As a window of the beat it reaches from 0.95 to 1.05, and a network
# may say that it reaches from -0.04 to 0.06. On a plain axis the two have nothing in common.

# %%
truth, found = torch.tensor([[0.95, 1.05]]), torch.tensor([[-0.04, 0.06]])
plain, turning = box_iou(found, truth).item(), box_iou(found, truth, period=1.0).item()
print(f"IoU on a plain axis {plain:.2f}, with a period of one beat {turning:.2f}")
assert plain == 0
assert abs(turning - 0.09 / 0.11) < 1e-5

# %% [markdown]
# Two arcs can meet in two pieces; both count. And the arc around both is the shortest one, so GIoU
# falls until the arcs lie opposite each other, and rises again.

# %%
long = box_iou(torch.tensor([[0.0, 0.75]]), torch.tensor([[0.5, 1.25]]), period=1.0).item()
assert abs(long - 0.5) < 1e-6  # a quarter at either end

centre = torch.linspace(0, 1, 201)
arcs = torch.stack([centre - 0.05, centre + 0.05], dim=1)
score = box_giou(arcs, truth, period=1.0)[:, 0]
assert abs(centre[score.argmin()].item() - 0.5) < 0.11  # farthest from the R peak
assert torch.allclose(score, score.flip(0), atol=1e-5)  # as far one way as the other

figure, axes = plt.subplots(figsize=(7, 2.6), layout="constrained")
axes.plot(centre, score, label="with a period of one beat")
axes.plot(centre, box_giou(arcs, truth)[:, 0], ":", label="on a plain axis")
axes.set(xlabel="centre of the found window, beats", ylabel="GIoU with end-diastole")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# The period travels with the overlap: into losses, suppression, matching and hits. A loss that
# knows it moves a window the shorter way, across the R peak.

# %%
window = torch.tensor([[0.80, 0.90]], requires_grad=True)
loss, optimizer = BoxGIoULoss(period=1.0), torch.optim.SGD([window], lr=5e-4)
target, path = torch.tensor([[0.0, 0.1]]), []
for _ in range(400):
    path.append(window.detach().clone())
    optimizer.zero_grad()
    loss(window, target).backward()
    optimizer.step()
reached = box_iou(window.detach(), target, period=1.0).item()
print(f"from {path[0][0].tolist()} to {window[0].tolist()}: IoU {reached:.2f}")
assert window[0, 0] > 0.95  # upward, past the end of the beat
assert reached > 0.9

windows = torch.tensor([[0.95, 1.05], [-0.06, 0.04], [0.4, 0.6]])
kept = box_nms(windows, torch.tensor([0.9, 0.8, 0.7]), 0.5, period=1.0)
assert kept.tolist() == [0, 2]  # the second is the first one once more

# %% [markdown]
# A soft mask may live on a circle too: here the share of readers who call each tenth of a beat
# end-diastole. Boxes from any turn are scored exactly, and turning the origin changes nothing.

# %%
readers = torch.tensor([[1.0, 0.7, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.3, 0.9]])
beat = SummedVolume.from_masks(readers, periodic=True)
boxes = torch.tensor([[9.0, 12.0], [-1.0, 2.0], [0.0, 3.0]])
scores = mask_box_dice(beat, boxes)
turned = SummedVolume.from_masks(readers.roll(3, dims=1), periodic=True)
print(scores)
assert scores[0, 0] == scores[0, 1] > scores[0, 2]
assert torch.allclose(mask_box_dice(turned, boxes + 3), scores)

# %% [markdown]
# ## 2. Intervals of time
# `(start, end)` is a box of one axis: temporal IoU is `box_iou`. A whole small system measures for
# how long a lesion is in view of an endoscope: a tracker gives a box per frame, its IoU with the
# true box says whether the lesion is seen, runs of such frames are intervals, and their total is
# the dwell time. (For ball and player, the same lines give possession.)

# %%
fps, seconds = 25, 12
time = torch.arange(seconds * fps) / fps
lesion = torch.stack([40 + 5 * time, 60 + 0 * time, 70 + 5 * time, 90 + 0 * time], dim=1)
in_view = (time >= 1) & (time < 5) | (time >= 7) & (time < 9.5)
tracked = lesion + 2 * torch.randn(len(time), 1)
tracked[~in_view] += 200  # elsewhere
tracked[(time >= 2) & (time < 2.2)] += 200  # the track is lost for a moment
tracked[(time >= 10.5) & (time < 10.6)] -= 200  # and once seen where there is none

overlap = box_pair_iou(tracked, lesion)
simple = dwell_intervals(overlap, 0.5, fps=fps)
cleaned = dwell_intervals(overlap, (0.4, 0.6), max_gap=0.3, min_length=0.5, fps=fps)
by_hand = torch.tensor([[1.0, 5.0], [7.0, 9.5]])
for name, found in (("threshold alone", simple), ("gaps filled, flickers dropped", cleaned)):
    dwell = compute_dwell(found, by_hand)
    print(f"{name}: {len(found)} intervals, {dwell.seconds:.2f} s, error {dwell.seconds_error:+.2f}"
          f" s, temporal IoU {dwell.temporal_iou:.3f}")  # fmt: skip
dwell = compute_dwell(cleaned, by_hand)
assert len(cleaned) == 2 < len(simple)
assert abs(dwell.seconds_error) < 0.05
assert dwell.temporal_iou > compute_dwell(simple, by_hand).temporal_iou

# %%
figure, axes = plt.subplots(figsize=(7, 2.6), layout="constrained")
axes.stairs(overlap, torch.arange(len(time) + 1) / fps, color="black", label="IoU per frame")
for row, (found, color) in enumerate(((by_hand, "tab:green"), (cleaned, "tab:orange"))):
    bars = [(start, end - start) for start, end in found.tolist()]
    axes.broken_barh(bars, (-0.15 * row - 0.15, 0.1), color=color)
axes.set(xlabel="seconds", ylabel="IoU", ylim=(-0.35, 1))
axes.set_title("in view by hand (green) and as measured (orange)", fontsize=9)
plt.show()

# %% [markdown]
# If the tracker gives a probability per frame, the expected time in view is their sum over the
# frame rate, with a gradient. It is the mean over all films that could be, but not once gaps are
# filled.

# %%
probability = torch.tensor([0.9, 0.4, 0.8, 0.3])
films = (torch.rand(4000, 4) < probability).float()
plain_mean = np.mean([dwell_time(dwell_intervals(film, 1)) for film in films])
filled_mean = np.mean([dwell_time(dwell_intervals(film, 1, max_gap=1)) for film in films])
expected = expected_dwell_time(probability).item()
print(f"expected {expected:.2f}, mean {plain_mean:.2f}, with gaps filled {filled_mean:.2f} frames")
assert abs(plain_mean - expected) < 0.1
assert filled_mean > expected + 0.3

# %% [markdown]
# ## 3. Soft boxes
# Raters who box an infiltrating tumour agree on its clear side, and not on the one where it fades
# into its surroundings. A soft box holds the mean of each face and its deviation.

# %%
spread = torch.tensor([0.4, 0.4, 0.6, 4.0])
lesion = torch.tensor([12.0, 10.0, 28.0, 30.0])
raters = lesion + spread * torch.randn(12, 1, 4)
truth = soft_boxes_from_raters(raters)
mean, deviation = soft_box_faces(truth)
print("deviations", deviation[0].tolist())
assert deviation[0].argmax() == 3

clear, faded = mean + torch.tensor([0.0, 3, 0, 0]), mean + torch.tensor([0.0, 0, 0, -3])
hard = box_iou(torch.cat([clear, faded]), mean)[:, 0]
soft = soft_box_iou(soft_boxes(torch.cat([clear, faded])), truth)[:, 0]
print(f"3 voxels off on the clear side: IoU {hard[0]:.2f}, soft IoU {soft[0]:.2f}")
print(f"3 voxels off on the faded side: IoU {hard[1]:.2f}, soft IoU {soft[1]:.2f}")
assert torch.allclose(hard[0], hard[1])  # to a plain box both sides are alike
assert soft[1] > soft[0]  # where raters differ, it costs less
assert abs(soft_box_iou(truth, truth).item() - 1) < 1e-6

# %%
probability = soft_box_masks(truth, (40, 48))[0]
figure, axes = plt.subplots(figsize=(5, 3.6), layout="constrained")
axes.imshow(probability.numpy(), cmap="Greys", vmin=0, vmax=1, extent=(0, 48, 40, 0))
for low_row, low_column, high_row, high_column in raters[:, 0].tolist():
    rows, columns = [low_row, high_row, high_row, low_row], [low_column, low_column, high_column]
    axes.plot([*columns, high_column, low_column], [*rows, low_row], color="tab:green", lw=0.8)
axes.set_title("raters' boxes and their soft box", fontsize=9)
plt.show()
assert abs(mask_box_dice(probability[None], mean).item() - 1) < 0.2  # a soft mask like any other

# %% [markdown]
# A network can learn the deviations from one rater at a time. Its loss is the continuous ranked
# probability score of each face, which is lowest at the raters' own mean and deviation.

# %%
many = lesion + spread * torch.randn(300, 4)
learnt = (lesion + torch.tensor([2.0, -2.0, -3.0, 4.0])).reshape(1, 4).requires_grad_()
log_deviation = torch.zeros(1, 4, requires_grad=True)
optimizer, loss = torch.optim.Adam([learnt, log_deviation], lr=0.1), SoftBoxCRPSLoss()
for _ in range(250):
    optimizer.zero_grad()
    found = soft_boxes(learnt, log_deviation.exp()).expand(len(many), 8)
    loss(found, soft_boxes(many)).backward()
    optimizer.step()
print("learnt", log_deviation.exp()[0].tolist(), "raters", many.std(dim=0).tolist())
assert torch.allclose(log_deviation.exp()[0], many.std(dim=0), rtol=0.2)
assert torch.allclose(learnt[0], many.mean(dim=0), atol=0.5)

# %% [markdown]
# PDQ, the probability-based detection quality, rewards a detector that knows where it is unsure.
# Two detectors give the same box; only one of them says that its last face may be off.

# %%
drawn = [soft_box_masks(soft_boxes(box), (40, 48)).round() for box in many[:20, None]]
targets = [{"masks": mask, "label": torch.tensor([0])} for mask in drawn]
scores = {}
for name, claimed in (("sure", 0.4), ("honest", many.std(dim=0)[None])):
    found = {"box": soft_boxes(lesion[None], claimed), "label_scores": torch.tensor([[0.9]])}
    scores[name] = compute_pdq([found] * len(targets), targets)
    print(f"{name}: PDQ {scores[name].pdq:.2f}, spatial quality {scores[name].spatial:.2f}")
assert scores["honest"].pdq > scores["sure"].pdq
assert scores["honest"].tp == len(targets)
