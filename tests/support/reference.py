"""Naive float64 references: written to be obviously right, not fast, and sharing no code."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np


def reference_dice(a, b, empty=1.0):
    total = sum(map(float, np.ravel(a))) + sum(map(float, np.ravel(b)))
    return 2 * _minima(a, b) / total if total else empty


def reference_iou(a, b, empty=1.0):
    larger = sum(max(float(x), float(y)) for x, y in zip(np.ravel(a), np.ravel(b), strict=True))
    return _minima(a, b) / larger if larger else empty


def reference_tversky(pred, target, alpha, beta, empty=1.0):
    only_pred = sum(map(float, np.ravel(pred))) - _minima(pred, target)
    only_target = sum(map(float, np.ravel(target))) - _minima(pred, target)
    shared = _minima(pred, target)
    if not shared + only_pred + only_target:
        return empty
    weighted = shared + alpha * only_pred + beta * only_target
    return shared / weighted if shared else 0.0


def reference_mass(mask, box):
    """Every voxel's probability times the volume that it shares with the box."""
    ndim = mask.ndim
    total = 0.0
    for index in itertools.product(*map(range, mask.shape)):
        covered = 1.0
        for axis, voxel in enumerate(index):
            low, high = float(box[axis]), float(box[axis + ndim])
            covered *= max(0.0, min(high, voxel + 1) - max(low, voxel))
        total += float(mask[index]) * covered
    return total


def reference_mask_box_diou(mask, box, empty=1.0):
    """Soft IoU less the squared distance from the centre of mass over the squared diagonal."""
    ndim = mask.ndim
    mass, size = reference_mass(mask, box), float(sum(map(float, np.ravel(mask))))
    volume = math.prod(float(box[axis + ndim]) - float(box[axis]) for axis in range(ndim))
    union = size + volume - mass
    if not size:
        return 0.0 if volume else empty
    filled = [index for index in itertools.product(*map(range, mask.shape)) if mask[index] > 0]
    distance = diagonal = 0.0
    for axis in range(ndim):
        low, high = float(box[axis]), float(box[axis + ndim])
        centre = sum(float(mask[index]) * (index[axis] + 0.5) for index in filled) / size
        distance += ((low + high) / 2 - centre) ** 2
        places = [index[axis] for index in filled]
        diagonal += (max(high, max(places) + 1) - min(low, min(places))) ** 2
    return mass / union - distance / diagonal


def reference_box_volume(box):
    box = [Fraction(float(value)) for value in box]
    ndim = len(box) // 2
    volume = Fraction(1)
    for axis in range(ndim):
        volume *= box[axis + ndim] - box[axis]
    return volume


def reference_box_intersection(a, b):
    ndim = len(a) // 2
    low = [max(float(a[axis]), float(b[axis])) for axis in range(ndim)]
    high = [min(float(a[axis + ndim]), float(b[axis + ndim])) for axis in range(ndim)]
    if any(x > y for x, y in zip(low, high, strict=True)):
        return Fraction(0)
    return reference_box_volume([*low, *high])


def reference_box_iou(a, b):
    """Exact: in rational numbers."""
    shared = reference_box_intersection(a, b)
    union = reference_box_volume(a) + reference_box_volume(b) - shared
    return float(shared / union) if union else float(list(a) == list(b))


def reference_box_dice(a, b):
    total = reference_box_volume(a) + reference_box_volume(b)
    shared = reference_box_intersection(a, b)
    return float(2 * shared / total) if total else float(list(a) == list(b))


def reference_box_giou(a, b):
    ndim = len(a) // 2
    hull = [min(float(x), float(y)) for x, y in zip(a[:ndim], b[:ndim], strict=True)]
    hull += [max(float(x), float(y)) for x, y in zip(a[ndim:], b[ndim:], strict=True)]
    enclosing = reference_box_volume(hull)
    union = reference_box_volume(a) + reference_box_volume(b) - reference_box_intersection(a, b)
    penalty = (enclosing - union) / enclosing if enclosing else 0
    return reference_box_iou(a, b) - float(penalty)


def reference_box_iof(a, b):
    size = reference_box_volume(a)
    return float(reference_box_intersection(a, b) / size) if size else float(list(a) == list(b))


def reference_box_diou(a, b):
    return reference_box_iou(a, b) - float(_centre_penalty(a, b))


def reference_box_ciou(a, b, gate=None):
    iou, v = reference_box_iou(a, b), _aspect_difference(a, b)
    weight = v / (1 - iou + v) if v and (gate is None or iou > gate) else 0.0
    return reference_box_diou(a, b) - weight * v


def reference_box_eiou(a, b):
    edges = zip(_edges(a), _edges(b), _edges(_hull(a, b)), strict=True)
    shape = sum((x - y) ** 2 / hull**2 for x, y, hull in edges if hull)
    return reference_box_diou(a, b) - float(shape)


def reference_box_nwd(a, b, constant=12.7):
    edges = zip(_edges(a), _edges(b), strict=True)
    squared = _squared_distance(a, b) + sum((x - y) ** 2 for x, y in edges) / 4
    return math.exp(-math.sqrt(squared) / constant)


def _centre_penalty(a, b):
    diagonal = sum(edge**2 for edge in _edges(_hull(a, b)))
    return _squared_distance(a, b) / diagonal if diagonal else Fraction(0)


def _squared_distance(a, b):
    ndim = len(a) // 2
    total = Fraction(0)
    for axis in range(ndim):
        twice = [Fraction(float(box[axis])) + Fraction(float(box[axis + ndim])) for box in (a, b)]
        total += ((twice[0] - twice[1]) / 2) ** 2
    return total


def _aspect_difference(a, b):
    """The mean over all pairs of axes; a point is a cube."""
    pairs = list(itertools.combinations(range(len(a) // 2), 2))
    total = 0.0
    for i, j in pairs:
        angles = [
            math.atan2(edges[i], edges[j]) if edges[i] or edges[j] else math.pi / 4
            for edges in (_edges(a), _edges(b))
        ]
        total += 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
    return total / len(pairs) if pairs else 0.0


def _hull(a, b):
    ndim = len(a) // 2
    return [*map(min, a[:ndim], b[:ndim]), *map(max, a[ndim:], b[ndim:])]


def _edges(box):
    ndim = len(box) // 2
    return [Fraction(float(box[axis + ndim])) - Fraction(float(box[axis])) for axis in range(ndim)]


def reference_rotated_iou(a, b):
    """Exact for the float64 corners: polygons are clipped in rational numbers."""
    shared = reference_rotated_intersection(a, b)
    union = _rotated_volume(a) + _rotated_volume(b) - shared
    return float(shared / union) if union else float(list(a) == list(b))


def reference_rotated_iof(a, b):
    size = _rotated_volume(a)
    return float(reference_rotated_intersection(a, b) / size) if size else float(list(a) == list(b))


def reference_rotated_intersection(a, b):
    """Area, or volume for boxes with yaw."""
    a, b = list(map(float, a)), list(map(float, b))
    shared = _height_of(a, b)
    subject, window = _corners(a), _corners(b)
    if not shared or not _area(subject) or not _area(window):
        return Fraction(0)
    for start, stop in zip(window, window[1:] + window[:1], strict=True):
        subject = _clipped(subject, start, stop)
    return shared * _area(subject)


def _rotated_volume(box):
    return _area(_corners(list(map(float, box)))) * _height_of(box, box)


def _height_of(a, b):
    """Length that two boxes share on axis 2; 1 in the plane."""
    if len(a) == 5:
        return Fraction(1)
    centres, halves = ([Fraction(float(box[i])) for box in (a, b)] for i in (2, 5))
    low = max(c - h / 2 for c, h in zip(centres, halves, strict=True))
    high = min(c + h / 2 for c, h in zip(centres, halves, strict=True))
    return max(Fraction(0), high - low)


def _corners(box):
    """Counter-clockwise, rounded to float64."""
    ndim = (len(box) - 1) // 2
    (x, y), (w, h), angle = box[:2], box[ndim : ndim + 2], box[-1]
    cosine, sine = math.cos(angle), math.sin(angle)
    return [
        (
            Fraction(x + (i * w * cosine - j * h * sine) / 2),
            Fraction(y + (i * w * sine + j * h * cosine) / 2),
        )
        for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]


def _clipped(polygon, start, stop):
    """The part of a polygon on the left of the line from start to stop."""
    kept = []
    for p, q in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        side_p, side_q = _turn(start, stop, p), _turn(start, stop, q)
        if side_p >= 0:
            kept.append(p)
        if side_p * side_q < 0:
            t = side_p / (side_p - side_q)
            kept.append((p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])))
    return kept


def _turn(a, b, c):
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _area(polygon):
    turned = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return sum((p[0] * q[1] - q[0] * p[1] for p, q in turned), Fraction(0)) / 2


def _minima(a, b):
    return sum(min(float(x), float(y)) for x, y in zip(np.ravel(a), np.ravel(b), strict=True))


def reference_nms(boxes, scores, threshold, labels, overlap):
    """Indices of the boxes that stay, visited by falling score."""
    kept = []
    for candidate in sorted(range(len(boxes)), key=lambda k: (-scores[k], k)):
        rivals = [k for k in kept if labels[k] == labels[candidate]]
        if all(overlap(boxes[k], boxes[candidate]) <= threshold for k in rivals):
            kept.append(candidate)
    return kept


def reference_soft_nms(boxes, scores, labels, factor, score_threshold):
    """Indices and decayed scores; `factor` is what is left of a score, by the overlap."""
    left = dict(enumerate(scores))
    taken = []
    while left and max(left.values()) > score_threshold:
        best = min(left, key=lambda k: (-left[k], k))
        taken.append((best, left.pop(best)))
        for k in left:
            if labels[k] == labels[best]:
                left[k] *= factor(reference_box_iou(boxes[best], boxes[k]))
    return taken


def reference_clusters(boxes, scores, threshold, labels, weights, expected):
    """Boxes, scores and heads of weighted box clustering, in the order in which heads are found."""
    pool = sorted(range(len(boxes)), key=lambda k: (-scores[k], k))
    clusters = []
    while pool:
        head = pool[0]
        overlaps = {k: reference_box_iou(boxes[head], boxes[k]) for k in pool}
        members = [
            k for k in pool if k == head or (labels[k] == labels[head] and overlaps[k] > threshold)
        ]
        pool = [k for k in pool if k not in members]
        counts = [overlaps[k] * weights[k] for k in members]
        total = sum(c * scores[k] for c, k in zip(counts, members, strict=True))
        missing = max(0, np.mean([expected[k] for k in members]) - len(members))
        box = list(boxes[head])
        if total:
            weighted = zip(counts, members, strict=True)
            box = sum(c * scores[k] * np.array(boxes[k]) for c, k in weighted) / total
        size = sum(counts) + missing * np.mean(counts)
        clusters.append((list(box), total / size if size else 0.0, head))
    return clusters


def reference_max_overlap(quality, low, high):
    """Lesion of each anchor, -1 background, -2 ignore; without the guarantee for lesions."""
    owner = []
    for column in np.asarray(quality).T:
        best = max(range(len(column)), key=lambda k: (column[k], -k))
        value = column[best]
        owner.append(-1 if value < low else best if value >= high and value > 0 else -2)
    return owner


def reference_atss(quality, boxes, anchors, levels, num_candidates, center_in_gt=False):
    """Lesion by lesion, anchor by anchor; without the guarantee for lesions."""
    owner, top = [-1] * len(anchors), [0.0] * len(anchors)
    for lesion, box in enumerate(boxes):
        candidates, start = [], 0
        for count in levels:
            distance = [
                math.dist(_centre(box), _centre(anchor))
                for anchor in anchors[start : start + count]
            ]
            order = sorted(range(count), key=lambda k: distance[k])
            candidates += [start + k for k in order[:num_candidates]]
            start += count
        values = [quality[lesion][anchor] for anchor in candidates]
        threshold = np.mean(values) + (np.std(values, ddof=1) if len(values) > 1 else 0)
        for anchor, value in zip(candidates, values, strict=True):
            if center_in_gt and not _holds(box, _centre(anchors[anchor])):
                continue
            if value >= threshold - 1e-12 and value > top[anchor]:
                owner[anchor], top[anchor] = lesion, value
    return owner


def reference_task_aligned(
    quality, overlap, scores, boxes, anchors, topk, alpha, beta, center_in_gt
):
    """The top k of s^alpha * u^beta of each lesion; without the guarantee for lesions."""
    claims = [{} for _ in anchors]
    for lesion, box in enumerate(boxes):
        candidates = [
            anchor
            for anchor in range(len(anchors))
            if quality[lesion][anchor] > 0
            and overlap[lesion][anchor] > 0
            and (not center_in_gt or _holds(box, _centre(anchors[anchor])))
        ]
        aligned = {a: scores[lesion][a] ** alpha * overlap[lesion][a] ** beta for a in candidates}
        for anchor in sorted(candidates, key=lambda a: -aligned[a])[:topk]:
            claims[anchor][lesion] = overlap[lesion][anchor]
    return [max(claim, key=lambda k: (claim[k], -k)) if claim else -1 for claim in claims]


def reference_sim_ota(
    quality, overlap, scores, boxes, anchors, strides, candidates, radius, weight, penalty
):
    """Dynamic k of lowest cost of each lesion; `strides` holds the distance of places an anchor."""
    claims = [{} for _ in anchors]
    for lesion, box in enumerate(boxes):
        cost = {}
        for anchor in range(len(anchors)):
            u, s = overlap[lesion][anchor], scores[lesion][anchor]
            if quality[lesion][anchor] <= 0 or u <= 0:
                continue
            away = zip(_centre(box), _centre(anchors[anchor]), strict=True)
            outside = any(abs(x - y) >= radius * strides[anchor] for x, y in away)
            cost[anchor] = -math.log(s) - weight * math.log(u) + penalty * outside
        met = sorted((overlap[lesion][anchor] for anchor in cost), reverse=True)
        wanted = max(1, math.floor(sum(met[:candidates])))
        for anchor in sorted(cost, key=lambda a: cost[a])[:wanted]:
            claims[anchor][lesion] = cost[anchor]
    return [min(claim, key=lambda k: (claim[k], k)) if claim else -1 for claim in claims]


def _centre(box):
    ndim = len(box) // 2
    return [(float(box[axis]) + float(box[axis + ndim])) / 2 for axis in range(ndim)]


def _holds(box, point):
    ndim = len(box) // 2
    return all(box[axis] < point[axis] < box[axis + ndim] for axis in range(ndim))


def reference_mask_box_loss(mask, box, overlap, best=1.0, distance_weight=1.0):
    """`(1 - q)(1 + w d)` from sums over all voxels; the mask is not empty."""
    mass, size = reference_mass(mask, box), float(np.sum(mask, dtype=np.float64))
    volume = float(reference_box_volume(box))
    whole = (size + volume) / 2 if overlap == "dice" else size + volume - mass
    centre, support = _middle_and_support(mask)
    middle = [(float(low) + float(high)) / 2 for low, high in zip(*_halves(box), strict=True)]
    apart = sum((x - y) ** 2 for x, y in zip(centre, middle, strict=True))
    diagonal = sum(edge**2 for edge in _edges(_hull(list(box), support)))
    return (1 - mass / whole / best) * (1 + distance_weight * apart / diagonal)


def _middle_and_support(mask):
    """Centre of mass, and the tight box around all voxels above 0."""
    filled = [index for index in np.ndindex(*mask.shape) if mask[index] > 0]
    size = sum(float(mask[index]) for index in filled)
    axes = range(mask.ndim)
    centre = [sum(float(mask[i]) * (i[axis] + 0.5) for i in filled) / size for axis in axes]
    lower = [min(index[axis] for index in filled) for axis in axes]
    return centre, lower + [max(index[axis] for index in filled) + 1 for axis in axes]


def _halves(box):
    return list(box)[: len(box) // 2], list(box)[len(box) // 2 :]


def reference_coverage(box, shape):
    """The share of each voxel that the box fills."""
    ndim, covered = len(shape), np.zeros(shape)
    for index in np.ndindex(*shape):
        share = 1.0
        for axis, voxel in enumerate(index):
            low, high = float(box[axis]), float(box[axis + ndim])
            share *= max(0.0, min(high, voxel + 1) - max(low, voxel))
        covered[index] = share
    return covered


def reference_projection_loss(mask, box):
    covered, losses = reference_coverage(box, mask.shape), []
    for axis in range(mask.ndim):
        shadows = []
        for volume in (mask, covered):
            layers = np.moveaxis(volume, axis, 0).reshape(mask.shape[axis], -1)
            shadows.append([max(map(float, layer)) for layer in layers])
        total = sum(m * m + b * b for m, b in zip(*shadows, strict=True))
        shared = sum(m * b for m, b in zip(*shadows, strict=True))
        losses.append(1 - 2 * shared / total if total else 0.0)
    return sum(losses) / len(losses)


def reference_affinity_loss(mask, image, box, scale, threshold, dilation=1):
    """Over all pairs of voxels, whatever their distance."""
    voxels, terms = list(np.ndindex(*mask.shape)), []
    for number, first in enumerate(voxels):
        for second in voxels[number + 1 :]:
            steps = {abs(x - y) for x, y in zip(first, second, strict=True)}
            if not steps <= {0, dilation}:
                continue
            if not any(_centre_inside(voxel, box) for voxel in (first, second)):
                continue
            if math.exp(-abs(float(image[first]) - float(image[second])) / scale) < threshold:
                continue
            p, q = float(mask[first]), float(mask[second])
            terms.append(-math.log(max(p * q + (1 - p) * (1 - q), np.finfo(np.float64).eps)))
    return sum(terms) / len(terms) if terms else 0.0


def _centre_inside(voxel, box):
    low, high = _halves(box)
    return all(a <= v + 0.5 < b for a, v, b in zip(low, voxel, high, strict=True))


def reference_resample(values, affine, shape, grid, *, nearest):
    """Each voxel of the grid looked up in the volume: 0 outside it, clamped inside its border."""
    found = np.zeros(shape)
    last = np.array(values.shape) - 1
    for index in np.ndindex(*shape):
        world = grid[:3, :3] @ np.array(index) + grid[:3, 3]
        place = np.linalg.solve(affine[:3, :3], world - affine[:3, 3])
        if (place < -0.5).any() or (place > last + 0.5).any():
            continue
        place = place.clip(0, last)
        if nearest:
            found[index] = values[tuple(np.floor(place + 0.5).astype(int))]
            continue
        low = np.floor(place).astype(int).clip(0, np.maximum(last - 1, 0))
        part = place - low
        for corner in np.ndindex(2, 2, 2):
            weight = np.prod([p if c else 1 - p for p, c in zip(part, corner, strict=True)])
            found[index] += weight * values[tuple(np.minimum(low + corner, last))]
    return found
