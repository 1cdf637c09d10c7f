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
# 3. boxes of which a part is out of view,
# 4. regions: polygons with holes, and densities, on a plane or a torus,
# 5. boxes that are turned,
# 6. soft boxes, whose faces are uncertain: raters who disagree, detectors that know it,
# 7. balls: nodules by centre and diameter, and hits by distance.
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
    AmodalBoxLoss,
    BoxGIoULoss,
    Hit,
    Polygon,
    RotatedBoxGIoULoss,
    SoftBoxCRPSLoss,
    SummedVolume,
    amodal_iou_bound,
    ball_centreness,
    ball_iou,
    box_ball_iou,
    box_giou,
    box_iou,
    box_nms,
    box_pair_iou,
    boxes_of_balls,
    compute_average_precision,
    compute_dwell,
    compute_froc,
    compute_iou_errors,
    compute_pdq,
    decode_rotated_boxes,
    dwell_intervals,
    dwell_time,
    encode_rotated_boxes,
    expected_dwell_time,
    highest_density_region,
    mask_ball_dice,
    mask_box_dice,
    mask_rotated_box_dice,
    region_dice,
    region_iou,
    rotated_box_giou,
    rotated_box_iou,
    rotated_nms,
    soft_box_faces,
    soft_box_iou,
    soft_box_masks,
    soft_boxes,
    soft_boxes_from_raters,
    visible_box,
    visible_fraction,
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
# ## 3. Boxes that are not wholly in view
# The border of an endoscopic image cuts one polyp, an instrument lies amid another one, and a third
# is behind two instruments side by side. How much of each is in view is exact, and what both
# instruments hide is hidden once.

# %%
polyps = torch.tensor([[-4.0, 2, 4, 10], [10, 10, 20, 20], [22, 4, 28, 10]])
image = torch.tensor([0.0, 0, 32, 32])
tools = torch.tensor([[12.0, 12, 18, 18], [25, 0, 27, 30], [26, 0, 32, 30]])
in_view = visible_fraction(polyps, image, occluders=tools)
print("in view", in_view.tolist())
assert torch.allclose(in_view, torch.tensor([0.5, 0.64, 0.5]))

# %% [markdown]
# A detector that draws nothing but what it sees reaches no higher IoU with the whole polyp. Where
# planes cut the polyp, its visible part is a box, and reaches that. Around the instrument amid, the
# tight box of the visible part is the whole box again: it covers what is hidden, and reaches 1.

# %%
tight = visible_box(polyps, image, occluders=tools)
reached = box_pair_iou(tight, polyps)
bound = amodal_iou_bound(in_view)
print("bound", bound.tolist(), "tight boxes reach", reached.tolist())
assert torch.allclose(reached[[0, 2]], bound[[0, 2]])
assert reached[1] == 1 > bound[1]
assert torch.allclose(reached, amodal_iou_bound(visible_fraction(polyps, tight)))

places = torch.rand(20000, 2, 2).sort(dim=1).values * torch.tensor([6.0, 12])  # in the image
within = torch.cat([places[:, 0], places[:, 1]], dim=1)
best = box_iou(within, polyps[:1]).max()
print(f"the best of 20000 boxes in the image reaches {best:.3f}")
assert 0.4 < best <= bound[0]

# %% [markdown]
# `AmodalBoxLoss` learns the whole box: its part in view, and the share that this is, follow from
# it. Here a box starts as the visible part and finds the rest.

# %%
drawn = tight[:1].clone().requires_grad_()
loss, optimizer = AmodalBoxLoss(), torch.optim.SGD([drawn], lr=0.5)
for _ in range(200):
    optimizer.zero_grad()
    loss(drawn, polyps[:1], visible=image).backward()
    optimizer.step()
whole = box_pair_iou(drawn.detach(), polyps[:1])[0].item()
print(f"IoU with the whole polyp {reached[0]:.2f} at first, {whole:.2f} in the end")
assert whole > 0.9

# %% [markdown]
# Is a low IoU the fault of the detector? What it loses is split into truncation, what is out of
# view, and localisation, what it drew badly.

# %%
moved = tight + torch.tensor([0.0, 1, 0, 1])
label = torch.zeros(3)
target = {"box": polyps, "label": label, "visible": image, "occluders": tools}
rows = []
for found in (tight, moved, polyps):
    prediction = {"box": found, "label": label, "label_scores": torch.ones(3)}
    rows.append(compute_iou_errors([prediction], [target]))
exact, shifted, amodal = rows
assert abs(exact.localisation) < 1e-6 < exact.truncation
assert shifted.localisation > 0.1
assert amodal.iou == 1
for row in rows:
    assert abs(row.iou + row.truncation + row.localisation - 1) < 1e-6

figure, axes = plt.subplots(figsize=(7, 2), layout="constrained")
names = ["visible parts", "the same, moved", "whole boxes"]
axes.barh(names, [row.iou for row in rows], color="tab:green", label="IoU")
left = [row.iou for row in rows]
axes.barh(names, [row.truncation for row in rows], left=left, color="tab:red", label="truncation")
left = [row.iou + row.truncation for row in rows]
axes.barh(names, [row.localisation for row in rows], left=left, label="localisation")
axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
axes.invert_yaxis()
plt.show()

# %% [markdown]
# ## 4. Regions
# A lesion that enhances at its rim is drawn as a contour with a hole. `Polygon` takes both, and
# the overlap of two of them is exact: here a disc of 20 mm with a core of 10 mm, drawn with 180
# vertices, against one that lies 4 mm beside it.

# %%
angle = torch.arange(180, dtype=torch.float64) * 2 * torch.pi / 180
circle = torch.stack([angle.cos(), angle.sin()], dim=1)
rim = Polygon(20 * circle, holes=[10 * circle])
beside = torch.tensor([4.0, 0.0])
moved = Polygon(20 * circle + beside, holes=[10 * circle + beside])


def lens(first, second, apart):
    """The area that two discs share, if their edges cross."""
    if apart <= abs(first - second):
        return np.pi * min(first, second) ** 2
    if apart >= first + second:
        return 0.0
    halves = [(r**2 - s**2 + apart**2) / (2 * apart) for r, s in ((first, second), (second, first))]
    return sum(
        r**2 * np.arccos(d / r) - d * np.sqrt(r**2 - d**2)
        for r, d in zip((first, second), halves, strict=True)
    )


shared = lens(20, 20, 4) - 2 * lens(20, 10, 4) + lens(10, 10, 4)
expected = shared / (np.pi * (20**2 - 10**2))
score = region_dice(rim, moved).item()
print(f"area {rim.area:.0f} mm², Dice {score:.4f}, of true circles {expected:.4f}")
assert abs(score - expected) < 1e-3
assert abs(region_dice(rim, Polygon(20 * circle)).item() - 2 * 300 / (300 + 400)) < 1e-6

# %% [markdown]
# The score has a gradient to every vertex, so a contour can be fitted: a coarse ring of twelve
# vertices grows onto the rim's outline.

# %%
ring = (5 * circle[::15] + torch.tensor([6.0, 3.0])).requires_grad_()
goal, optimizer, fitted = Polygon(20 * circle), torch.optim.Adam([ring], lr=0.5), []
for _ in range(120):
    optimizer.zero_grad()
    loss = 1 - region_iou(Polygon(ring), goal)
    loss.backward()
    optimizer.step()
    fitted.append(1 - loss.item())
best = Polygon(20 * circle[::15]).area / goal.area  # of a regular one inside
print(f"IoU from {fitted[0]:.3f} to {fitted[-1]:.3f}; of twelve vertices on the outline {best:.3f}")
assert fitted[-1] > best

# %% [markdown]
# With `period=` the region lies on a torus. In ECG-gated imaging that also follows the breath, each
# sample has a phase of both, and an image is made of a window of the two. This one was planned
# around the R peak and the end of expiration; as the heart beats faster in inspiration, what was
# acquired leans. On plain axes the two never meet.

# %%
plan = Polygon(torch.tensor([[-0.1, -0.15], [0.1, -0.15], [0.1, 0.15], [-0.1, 0.15]]))
found = Polygon(torch.tensor([[0.82, 0.85], [1.02, 0.85], [1.12, 1.15], [0.92, 1.15]]))
gated = region_iou(found, plan, period=1.0).item()
print(f"IoU on plain axes {region_iou(found, plan).item():.2f}, on the torus {gated:.3f}")
assert region_iou(found, plan) == 0
step = (torch.arange(3000) + 0.5) / 3000  # of the breath
lean = -0.18 + (step - 0.85 + (step < 0.5)) / 3  # where the acquired window begins
covered = ((step + 0.15) % 1 < 0.3) * (torch.minimum(lean + 0.2, torch.tensor(0.1))
                                       - torch.maximum(lean, torch.tensor(-0.1)))  # fmt: skip
share = covered.mean().item()
assert abs(gated - share / (2 * 0.06 - share)) < 1e-3

# %% [markdown]
# ### Two models of allowed angles
# A Ramachandran plot shows which backbone angles (φ, ψ) of a protein are possible: a region on a
# torus. Two models of it are mixtures of von Mises densities, around the α helix (−63°, −43°), the
# β strand (−120°, 130°) and the left-handed helix (57°, 47°) (Ramachandran et al. 1963; Lovell et
# al. 2003). Weights and widths were chosen for this tutorial.

# %%
FIRST = [(0.55, -63, -43, 13, 13), (0.40, -120, 130, 6, 8), (0.05, 57, 47, 20, 20)]
SECOND = [(0.40, -68, -38, 9, 16), (0.55, -105, 138, 6, 10), (0.05, 60, 42, 16, 16)]
"""Weight, centre in degrees, and concentration along both axes, of each component."""


def von_mises(angles, centre, concentration):
    centre, concentration = (torch.tensor(float(each)).double() for each in (centre, concentration))
    scaled = torch.exp(concentration * ((angles - centre.deg2rad()).cos() - 1))
    return scaled / (2 * torch.pi * torch.special.i0e(concentration))


def on_grid(model, cells, start=(0.0, 0.0)):
    """The density times the size of a cell, on cells per axis that begin somewhere in a cell."""
    edge = 2 * torch.pi / cells
    phi, psi = ((torch.arange(cells).double() + one) * edge - torch.pi for one in start)
    return edge**2 * sum(
        weight * von_mises(phi, *centre[::2])[:, None] * von_mises(psi, *centre[1::2])
        for weight, *centre in model
    )


LEVELS = {"favoured": 0.98, "allowed": 0.9995}
fine = [on_grid(model, 2048) for model in (FIRST, SECOND)]
truth = {"soft": region_iou(*fine).item()}
for name, level in LEVELS.items():
    regions = [highest_density_region(density, level) for density in fine]
    truth[name] = region_iou(*regions).item()
    for density, region in zip(fine, regions, strict=True):
        assert level <= density[region].sum() < level + 1e-5  # the smallest that holds the level
print({name: round(value, 4) for name, value in truth.items()})

# %%
shown = [on_grid(model, 360) for model in (FIRST, SECOND)]
panels = {"first model": shown[0], "second model": shown[1], "shared": torch.minimum(*shown)}
extent = (-180, 180, -180, 180)
figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained", sharey=True)
for panel, (name, density) in zip(axes, panels.items(), strict=True):
    panel.imshow(density.sqrt().T, origin="lower", extent=extent, cmap="Greys")
    panel.set(title=name, xlabel="φ", xticks=range(-180, 181, 90), yticks=range(-180, 181, 90))
    if name != "shared":
        for level, color in zip(LEVELS.values(), ("tab:green", "tab:orange"), strict=True):
            region = highest_density_region(density, level).double()
            panel.contour(region.T, [0.5], colors=color, extent=extent)
axes[0].set_ylabel("ψ")
figure.suptitle("hard regions of 98 % (green) and 99.95 % (orange)", fontsize=10)
plt.show()

# %% [markdown]
# How fine must a grid be? A density is smooth and comes round, so its mass converges faster than
# any power of the number n of cells an axis. The minimum of two has a kink where they are equal:
# its error falls as n^−2 at worst, and as n^−2.5 on average over grids that begin anywhere. The
# level of a hard region cuts through cells: n^−1 at worst, n^−1.5 on average.

# %%
sizes, generator = [32, 64, 128, 256], torch.Generator().manual_seed(0)
errors = {name: [] for name in ("mass", *truth)}
for cells in sizes:
    off = {name: [] for name in errors}
    for start in torch.rand(16, 2, generator=generator).tolist():
        pair = [on_grid(model, cells, start) for model in (FIRST, SECOND)]
        off["mass"].append(pair[0].sum().item() - 1)
        off["soft"].append(region_iou(*pair).item() - truth["soft"])
        for name, level in LEVELS.items():
            hard = [highest_density_region(density, level) for density in pair]
            off[name].append(region_iou(*hard).item() - truth[name])
    for name, values in off.items():
        errors[name].append(np.sqrt(np.mean(np.square(values))))

slopes = np.polyfit(np.log(sizes), np.log([errors[name] for name in truth]).T, 1)[0]
orders = dict(zip(truth, slopes.tolist(), strict=True))
print("order of the error:", {name: round(order, 2) for name, order in orders.items()})
assert max(errors["mass"]) < 1e-9
assert -3 < orders["soft"] < -2
assert all(-2 < orders[name] < -1 for name in LEVELS)
assert all(errors["soft"][i] < min(errors[name][i] for name in LEVELS) for i in range(len(sizes)))

figure, axes = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
for name, values in errors.items():
    axes.loglog(sizes, values, "o-", label=name)
axes.set(xlabel="cells per axis", ylabel="error of the IoU, or of the mass")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# Polygons and grids say the same. The level line of a single component has a closed form, so its
# region is a polygon on the torus, and the β strand's lies across the seam.

# %%


def outline(centre, concentration, drop, vertices=400):
    """Where the density of a component is exp(-drop) of its maximum, in degrees."""
    across = torch.linspace(0, 2 * torch.pi, vertices + 1).double()[:-1]
    share = drop * across.cos().square()  # of the drop, by the first axis
    turns = zip((share, drop - share), concentration, (across.cos(), across.sin()), strict=True)
    offset = [torch.acos(1 - part / k) * side.sign() for part, k, side in turns]
    return Polygon(torch.rad2deg(torch.stack(offset, dim=1)) + torch.tensor(centre))


strands = [outline((-120.0, 130.0), (6, 8), 3.0), outline((-105.0, 138.0), (6, 10), 3.0)]
exact = region_iou(*strands, period=360.0).item()
for cells in (90, 720):
    sets = [
        on_grid([(1, *centre, *k)], cells, (0.5, 0.5))
        for centre, k in (((-120, 130), (6, 8)), ((-105, 138), (6, 10)))
    ]
    hard = [density >= density.max() * np.exp(-3.0) for density in sets]
    print(f"IoU of {cells}² cells {region_iou(*hard).item():.4f}, of polygons {exact:.4f}")
assert abs(region_iou(*hard).item() - exact) < 2e-3
turned = Polygon(strands[1].outer + torch.tensor([0.0, 360.0]))  # the same, from another turn
assert region_iou(strands[0], turned).item() == 0
assert abs(region_iou(strands[0], turned, period=360.0).item() - exact) < 1e-9

# %% [markdown]
# ## 5. Boxes that are turned
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

# %% [markdown]
# ## 6. Soft boxes
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

# %% [markdown]
# ## 7. Balls
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
