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
# 3. balls: nodules by centre and diameter, and hits by distance.
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
    SummedVolume,
    ball_centreness,
    ball_iou,
    box_ball_iou,
    box_giou,
    box_iou,
    box_nms,
    box_pair_iou,
    boxes_of_balls,
    compute_dwell,
    compute_froc,
    dwell_intervals,
    dwell_time,
    expected_dwell_time,
    mask_ball_dice,
    mask_box_dice,
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
# ## 3. Balls
# LUNA16 lists nodules by centre and diameter. A ball is given by the smallest box around it, so it
# goes wherever boxes go. Along a diagonal, two balls are apart long before their boxes are.

# %%
nodule = boxes_of_balls(torch.tensor([[0.0, 0.0, 0.0, 6.0]]))  # centre and diameter, mm
beside = boxes_of_balls(torch.tensor([[3.6, 3.6, 3.6, 6.0]]))
print(f"IoU of the balls {ball_iou(beside, nodule).item():.3f}, of their boxes "
      f"{box_iou(beside, nodule).item():.3f}")  # fmt: skip
assert ball_iou(beside, nodule) == 0 < box_iou(beside, nodule)
assert abs(box_ball_iou(nodule, nodule).item() - torch.pi / 6) < 1e-6  # a ball in its own box

# Voxels of any spacing do as well as mm, and shares of volumes are those of balls.
voxels = torch.tensor([0.7, 0.7, 2.5]).repeat(2)
inner = boxes_of_balls(torch.tensor([[1.0, 0.0, 0.0, 3.0]]))
assert abs(ball_iou(inner, nodule).item() - 1 / 8) < 1e-6
assert abs(ball_iou(inner / voxels, nodule / voxels).item() - 1 / 8) < 1e-6

# %% [markdown]
# LUNA16 counts a hit where a found centre is nearer to the nodule's than its radius, and ignores
# further ones on the same nodule. That is an overlap, too, so FROC takes it as any other. Here a
# detector places 120 candidates around 40 nodules, and 40 farther away: the curve is what the
# challenge counts.

# %%
nodules = torch.cat([60 * torch.rand(40, 3).round(decimals=1), 4 + 8 * torch.rand(40, 1)], dim=1)
nodules[:, 0] += 100 * torch.arange(40)  # so none lie in each other
near = nodules.repeat(3, 1) + torch.tensor([3.0, 3.0, 3.0, 0.0]) * torch.randn(120, 4)
candidates = torch.cat([near[:, :3], nodules[:, :3] + 20 * torch.randn(40, 3)])
scores = torch.cat([0.3 + 0.7 * torch.rand(120), torch.rand(40)])
points = torch.cat([candidates, torch.zeros(len(candidates), 1)], dim=1)  # of no size
froc = compute_froc(
    [{"box": boxes_of_balls(points), "label": torch.zeros(160), "label_scores": scores}],
    [{"box": boxes_of_balls(nodules), "label": torch.zeros(40)}],
    hit=Hit(ball_centreness, 0.5),
)
distance = (candidates[:, None] - nodules[:, :3]).norm(dim=2)
inside = distance < nodules[:, 3] / 2  # the challenge's own count
for level in (0.9, 0.6, 0.3):
    kept, point = scores >= level, int((froc.thresholds >= level).sum()) - 1
    found, false = inside[kept].any(dim=0).sum(), (~inside[kept].any(dim=1)).sum()
    print(f"score {level}: {found} of 40 nodules, {false} false")
    assert abs(froc.sensitivities[point].item() - found.item() / 40) < 1e-6
    assert froc.fps_per_scan[point].item() == false.item()

# %% [markdown]
# Between a soft mask and a ball, each voxel counts with the share of it that the ball fills,
# exactly, and the gradient moves centre and diameter. So a ball is fitted to what raters drew. The
# best one ends where the probability is half of its Dice, not at one half: each voxel above that
# adds more than it costs.

# %%
grid = torch.stack(torch.meshgrid(*[torch.arange(24) + 0.5] * 3, indexing="ij"))
drawn = torch.sigmoid(
    2 * (5 - (grid - torch.tensor([12.3, 11.0, 13.6]).view(3, 1, 1, 1)).norm(dim=0))
)
ball = torch.tensor([[9.0, 13.0, 12.0, 5.0]], requires_grad=True)
optimizer = torch.optim.Adam([ball], lr=0.1)
for _ in range(120):
    optimizer.zero_grad()
    (1 - mask_ball_dice(drawn[None], boxes_of_balls(ball), validate=False)).sum().backward()
    optimizer.step()
fitted = ball.detach()[0]
dice = mask_ball_dice(drawn[None], boxes_of_balls(ball.detach()), validate=False).item()
edge = torch.sigmoid(2 * (5 - fitted[3] / 2)).item()
print(f"centre {fitted[:3].tolist()}, diameter {fitted[3]:.2f}")
print(f"Dice {dice:.3f}; probability at the surface {edge:.2f}")
assert torch.allclose(fitted[:3], torch.tensor([12.3, 11.0, 13.6]), atol=0.05)
assert abs(edge - dice / 2) < 0.05
assert edge < 0.45
