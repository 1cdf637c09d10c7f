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
# 3. boxes that are turned.
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
    Hit,
    RotatedBoxGIoULoss,
    SummedVolume,
    box_giou,
    box_iou,
    box_nms,
    box_pair_iou,
    compute_average_precision,
    compute_dwell,
    decode_rotated_boxes,
    dwell_intervals,
    dwell_time,
    encode_rotated_boxes,
    expected_dwell_time,
    mask_box_dice,
    mask_rotated_box_dice,
    rotated_box_giou,
    rotated_box_iou,
    rotated_nms,
)
from softoverlap.rotated import circumscribed

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
# ## 3. Boxes that are turned
# Two ribs lie side by side, aslant in the image, as cars are parked. They share nothing, but the
# upright boxes around them do, and suppression takes them for one.

# %%
ribs = torch.tensor([[10.0, 10.0, 12.0, 3.0, torch.pi / 4], [12.5, 7.5, 12.0, 3.0, torch.pi / 4]])
upright, confidence = circumscribed(ribs).float(), torch.tensor([0.9, 0.8])
share = box_iou(upright, upright)[0, 1].item()
print(f"IoU of the upright boxes {share:.2f}, of the ribs {rotated_box_iou(ribs, ribs)[0, 1]:.2f}")
assert share > 0.3
assert rotated_box_iou(ribs, ribs)[0, 1] == 0
assert box_nms(upright, confidence, 0.3).tolist() == [0]
assert rotated_nms(ribs, confidence, 0.3).tolist() == [0, 1]

# %% [markdown]
# The IoU of two sets that are apart is 0 and says nothing more. GIoU takes off the empty share of
# the convex hull around both: it has a gradient to centre, edges and angle wherever the box is.

# %%
box = torch.tensor([[25.0, 4.0, 8.0, 5.0, 0.0]], requires_grad=True)
before = (
    rotated_box_iou(box.detach(), ribs[:1]).item(),
    rotated_box_giou(box.detach(), ribs[:1]).item(),
)
optimizer = torch.optim.Adam([box], lr=0.2)
for _ in range(400):
    optimizer.zero_grad()
    RotatedBoxGIoULoss()(box, ribs[:1]).backward()
    optimizer.step()
after = rotated_box_iou(box.detach(), ribs[:1]).item()
print(f"IoU {before[0]:.2f}, GIoU {before[1]:.2f}; after training IoU {after:.2f}")
assert before[0] == 0 > before[1]
assert after > 0.9

# %% [markdown]
# A box that turns on has an angle that jumps from one end of its range to the other. Its code, with
# cosine and sine of twice the angle, does not jump, and is decoded to the same box.

# %%
turn = torch.linspace(0, 360, 721)
boxes = ribs[:1].repeat(721, 1)
boxes[:, 4] = torch.deg2rad((turn + 90) % 180 - 90)
codes = encode_rotated_boxes(boxes, ribs[:1].expand(721, 5))
decoded = decode_rotated_boxes(codes, ribs[:1].expand(721, 5))
assert boxes[:, 4].diff().abs().max() > 3
assert codes.diff(dim=0).abs().max() < 0.02
assert rotated_box_iou.pairs(decoded, boxes).min() > 0.999

figure, axes = plt.subplots(figsize=(7, 2.6), layout="constrained")
axes.plot(turn, boxes[:, 4], ":", label="angle in its range")
axes.plot(turn, codes[:, 4], label="cosine of twice the turn from the anchor")
axes.plot(turn, codes[:, 5], label="sine")
axes.set(xlabel="how far the box has turned, degrees")
axes.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# Average precision and FROC take oriented hits: a box with the mirrored angle lies in the same
# upright box and still misses. And a soft mask meets an oriented box exactly.

# %%
mirrored = ribs[:1] * torch.tensor([1.0, 1.0, 1.0, 1.0, -1.0])
label, hit = torch.zeros(1, dtype=torch.long), Hit(rotated_box_iou, 0.5)
assert torch.allclose(circumscribed(mirrored), circumscribed(ribs[:1]))
for rib, expected in ((ribs[:1], 1), (mirrored, 0)):
    scan = {"box": rib, "label": label, "label_scores": torch.ones(1)}
    precision = compute_average_precision([scan], [{"box": ribs[:1], "label": label}], hit=hit)
    assert precision.mean == expected

x, y = torch.meshgrid(torch.arange(20) - 9.5, torch.arange(20) - 9.5, indexing="ij")
soft = torch.sigmoid(6 * (1 - ((x + y) ** 2 / 72 + (x - y) ** 2 / 4.5)))[None]
dice = mask_rotated_box_dice(soft, torch.cat([ribs[:1], mirrored]))[0]
print(f"Dice of a soft rib and its box {dice[0]:.2f}, and the mirrored box {dice[1]:.2f}")
assert dice[0] > 0.7 > 0.4 > dice[1]
