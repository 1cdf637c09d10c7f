"""Kinds of target, half precision, accumulation, compilation and two processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from softoverlap.for_monai import lesion_target
from softoverlap.for_monai.detector.loss_terms import QualityFocal
from softoverlap.lesions import lesions_from_mask
from softoverlap.losses import BoxGIoULoss, QualityFocalLoss
from tests.support.detectors import SIZE, aware, tiny_detector
from tests.support.lesion_makers import ball_lesion, scene

WORKER = Path(__file__).parents[2] / "support" / "ddp_worker.py"


def target_of(kind):
    """An image and its target: boxes alone, a mask alone, or the masks of several raters."""
    balls = [ball_lesion(6, [3, 4, 5]), ball_lesion(8, [13, 12, 11])]
    image = scene(balls, SIZE)
    if kind == "boxes":
        target = lesion_target(balls)
        return image, {"boxes": target["boxes"], "labels": target["labels"]}
    mask = scene(balls, SIZE, noise=0.0)[0].clamp(0, 1)
    raters = torch.stack([mask > 0.5, mask > 0.2, mask > 2]).float() if kind == "raters" else None
    mask = raters.mean(dim=0) if kind == "raters" else mask
    threshold = 0.3 if kind == "raters" else 0.5
    lesions = lesions_from_mask(mask, spacing=(1.0, 1.0, 1.0), raters=raters, threshold=threshold)
    assert len(lesions) == 2
    return image, lesion_target(lesions)


@pytest.mark.parametrize("branch", [False, True])
@pytest.mark.parametrize("kind", ["boxes", "masks", "raters"])
def test_all_three_kinds_of_target_train(kind, branch):
    detector = aware() if branch else tiny_detector()
    image, target = target_of(kind)
    optimiser = torch.optim.AdamW(detector.parameters(), lr=3e-3)
    history = []
    for _ in range(12):
        loss = sum(detector(image[None], [target]).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append(loss.item())
    assert min(history[-3:]) < 0.95 * history[0]


def test_lesions_of_which_one_rater_in_three_knows_nothing_have_a_lower_existence():
    _, target = target_of("raters")
    assert [one.existence for one in target["lesions"]] == pytest.approx([2 / 3, 2 / 3])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["boxes", "masks", "empty"])
def test_half_precision_gives_finite_losses_and_gradients(dtype, kind):
    detector = aware()
    image, target = target_of("masks" if kind == "empty" else kind)
    target = lesion_target([]) if kind == "empty" else target
    try:
        with torch.autocast("cpu", dtype=dtype):
            detector.network.feature_extractor(image[None])
    except RuntimeError as error:
        pytest.skip(f"this build of torch has no convolution in {dtype}: {error}")
    with torch.autocast("cpu", dtype=dtype):
        losses = detector(image[None], [target])
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    (2**10 * sum(losses.values())).backward()
    for name, parameter in detector.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name


def summing(detector):
    """All losses are sums, so that a batch is the sum of its parts."""
    quality = QualityFocal()
    quality.reduction = "sum"
    detector.set_cls_loss(quality)
    detector.set_box_regression_loss(BoxGIoULoss("sum"), encode_gt=False, decode_pred=True)
    detector.set_box_quality_loss(QualityFocalLoss("sum"))
    return detector


def gradient_of(detector, batches):
    """Gradient after the backward passes of these batches, without a step between them."""
    detector.zero_grad()
    for images, targets in batches:
        sum(detector(images, targets).values()).backward()
    return torch.cat([p.grad.flatten() for p in detector.parameters()])


def test_with_sums_half_batches_accumulate_to_the_gradient_of_the_whole():
    detector = summing(aware())
    images, targets = zip(*map(target_of, ("boxes", "masks", "raters")), strict=True)
    images, targets = [*images, scene([], SIZE)], [*targets, lesion_target([])]
    images = torch.stack(images)
    whole = gradient_of(detector, [(images, targets)])
    halves = gradient_of(detector, [(images[:2], targets[:2]), (images[2:], targets[2:])])
    assert whole.abs().max() > 0
    assert (whole - halves).abs().max() < 1e-4 * whole.abs().max()


@pytest.mark.slow
def test_a_compiled_network_gives_the_losses_of_the_plain_one():
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("torch.compile needs a C++ compiler")
    plain, compiled = aware(), aware()
    compiled.network = torch.compile(compiled.network)
    image, target = target_of("masks")
    expected = plain(image[None], [target])
    found = compiled(image[None], [target])
    for key in expected:
        assert found[key].item() == pytest.approx(expected[key].item(), rel=1e-4)
    sum(found.values()).backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in compiled.parameters())


@pytest.mark.slow
def test_a_detector_of_a_compiled_network_knows_its_branch():
    from softoverlap.for_monai import SoftRetinaNetDetector

    assert SoftRetinaNetDetector(torch.compile(aware().network)).iou_branch


@pytest.mark.slow
def test_two_processes_of_which_one_has_no_lesion_end_with_the_same_weights(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    root = str(WORKER.parents[2])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    done = subprocess.run(
        [*command, "--nproc-per-node", "2", str(WORKER), str(tmp_path)],
        capture_output=True, text=True, timeout=240, env=environment, cwd=root, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert (first["lesions"], second["lesions"]) == (2, 0)
    for part in ("gradients", "weights"):
        assert torch.equal(first[part], second[part])
    assert first["gradients"].abs().max() > 0
    assert not torch.equal(first["weights"], first["start"])
    assert torch.equal(first["start"], second["start"])
