"""MONAI's own training of a detector on boxes (its tutorial on LUNA16), call by call.

One import differs: the detector and its network are of this package, so that no torchvision is
needed. Scans and boxes are made here; a test runs it in a process of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel
import numpy as np
import torch
from monai.apps.detection.metrics.coco import COCOMetric
from monai.apps.detection.metrics.matching import matching_batch
from monai.apps.detection.transforms.dictionary import (
    AffineBoxToImageCoordinated,
    AffineBoxToWorldCoordinated,
    BoxToMaskd,
    ClipBoxToImaged,
    ConvertBoxToStandardModed,
    MaskToBoxd,
    RandCropBoxByPosNegLabeld,
    RandFlipBoxd,
    RandRotateBox90d,
    StandardizeEmptyBoxd,
)
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
from monai.data import DataLoader, Dataset, box_utils
from monai.data.utils import no_collation
from monai.transforms import (
    Compose,
    DeleteItemsd,
    EnsureChannelFirstd,
    EnsureTyped,
    LoadImaged,
    Orientationd,
    RandRotated,
    RandScaleIntensityd,
    ScaleIntensityd,
)
from monai.utils import set_determinism

# from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from softoverlap.for_monai import SoftRetinaNetDetector as RetinaNetDetector, lesion_retinanet

PATCH = (16, 16, 16)


def data_list(folder, count=2):
    """Scans with bright blocks, and the centre and size of each in world coordinates."""
    generator, affine = np.random.default_rng(0), np.diag([-1.0, 1.0, 2.0, 1.0])
    entries = []
    for number in range(count):
        scan = generator.normal(0, 0.1, (24, 20, 16)).astype(np.float32)
        boxes = []
        for low in generator.integers(2, 9, (2, 3)):
            scan[tuple(slice(first, first + 5) for first in low)] += 1
            centre = affine[:3, :3] @ (low + 2) + affine[:3, 3]
            boxes.append([*centre.tolist(), 5.0, 5.0, 10.0])
        path = folder / f"scan{number}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(scan, affine), path)
        entries.append({"image": str(path), "box": boxes, "label": [0] * len(boxes)})
    return entries


def loading():
    """Scans and boxes on one grid, as MONAI's tutorial loads them."""
    return [
        LoadImaged("image", image_only=False),
        EnsureChannelFirstd("image"),
        EnsureTyped(["image", "box"], dtype=torch.float32),
        EnsureTyped("label", dtype=torch.long),
        StandardizeEmptyBoxd(box_keys="box", box_ref_image_keys="image"),
        Orientationd("image", axcodes="RAS", labels=None),
        ScaleIntensityd("image"),
        ConvertBoxToStandardModed("box", mode="cccwhd"),
        AffineBoxToImageCoordinated("box", box_ref_image_keys="image", affine_lps_to_ras=False),
    ]


def augmentation():
    """Patches, flips, quarter turns, and any turn by way of masks of the boxes."""
    return [
        RandCropBoxByPosNegLabeld(
            "image", box_keys="box", label_keys="label", spatial_size=PATCH, whole_box=True,
            num_samples=2, pos=1, neg=1,
        ),
        RandFlipBoxd("image", box_keys="box", box_ref_image_keys="image", prob=0.5),
        RandRotateBox90d("image", "box", "image", prob=0.75, spatial_axes=(0, 1)),
        BoxToMaskd("box", "mask", "label", "image", min_fg_label=0, ellipse_mask=True),
        RandRotated(
            ["image", "mask"], range_x=0.5, prob=0.2, mode=["bilinear", "nearest"],
            keep_size=True, padding_mode="zeros",
        ),
        MaskToBoxd("box", "mask", "label", min_fg_label=0),
        ClipBoxToImaged("box", "label", "image", remove_empty=True),
        DeleteItemsd("mask"),
        RandScaleIntensityd("image", prob=0.15, factors=0.25),
        EnsureTyped(["image", "box"], dtype=torch.float32),
        EnsureTyped("label", dtype=torch.long),
    ]  # fmt: skip


def detector_of(network):
    """A detector with the settings of MONAI's tutorial."""
    generator = AnchorGeneratorWithAnchorShape(
        feature_map_scales=[1, 2], base_anchor_shapes=[[5, 5, 5], [8, 8, 8]]
    )
    detector = RetinaNetDetector(network=network, anchor_generator=generator, debug=False)
    detector.set_atss_matcher(num_candidates=4, center_in_gt=False)
    detector.set_hard_negative_sampler(
        batch_size_per_image=64, positive_fraction=0.3, pool_size=20, min_neg=16
    )
    detector.set_target_keys(box_key="box", label_key="label")
    detector.set_box_selector_parameters(
        score_thresh=0.02, topk_candidates_per_level=1000, nms_thresh=0.22, detections_per_img=100
    )
    detector.set_sliding_window_inferer(
        roi_size=PATCH, overlap=0.25, sw_batch_size=1, mode="constant", device="cpu"
    )
    return detector


def train(detector, loader, epochs=2):
    """MONAI's loop; the loss of every step."""
    optimizer = torch.optim.SGD(
        detector.network.parameters(), 1e-2, momentum=0.9, weight_decay=3e-5, nesterov=True
    )
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=150, gamma=0.1)
    history = []
    for _ in range(epochs):
        detector.train()
        for batch in loader:
            items = [item for patches in batch for item in patches]
            inputs = [item["image"] for item in items]
            targets = [{"label": item["label"], "box": item["box"]} for item in items]
            optimizer.zero_grad(set_to_none=True)
            outputs = detector(inputs, targets)
            loss = outputs[detector.cls_key] + outputs[detector.box_reg_key]
            loss.backward()
            optimizer.step()
            history.append(loss.detach().item())
        scheduler.step()
    return history


def validate(detector, loader):
    """COCO's figures, as MONAI's tutorial computes them."""
    detector.eval()
    outputs, targets = [], []
    with torch.no_grad():
        for batch in loader:
            inputs = [item["image"] for item in batch]
            large = not all(image[0].numel() < np.prod(PATCH) for image in inputs)
            outputs += detector(inputs, use_inferer=large)
            targets += batch
    results = matching_batch(
        iou_fn=box_utils.box_iou,
        iou_thresholds=COCOMetric(classes=["lesion"], iou_list=[0.1]).iou_thresholds,
        pred_boxes=[found[detector.target_box_key].numpy() for found in outputs],
        pred_classes=[found[detector.target_label_key].numpy() for found in outputs],
        pred_scores=[found[detector.pred_score_key].numpy() for found in outputs],
        gt_boxes=[truth[detector.target_box_key].numpy() for truth in targets],
        gt_classes=[truth[detector.target_label_key].numpy() for truth in targets],
    )
    return COCOMetric(classes=["lesion"], iou_list=[0.1])(results)[0], outputs, targets


def main(folder):
    """Train, validate, save as TorchScript, load, detect, and bring boxes to the world."""
    set_determinism(seed=0)
    entries = data_list(folder)
    training = Dataset(entries, Compose([*loading(), *augmentation()]))
    network = torch.jit.script(
        lesion_retinanet(
            channels=(8, 8), strides=(2, 2), feature_channels=8, anchor_sizes=(5.0, 8.0)
        )
    )
    detector = detector_of(network)
    loader = DataLoader(training, batch_size=1, shuffle=True, collate_fn=no_collation)
    history = train(detector, loader)
    assert np.isfinite(history).all()
    torch.jit.save(detector.network, folder / "model.pt")
    held_out = Dataset(entries, Compose(loading()))
    scans = DataLoader(held_out, batch_size=1, num_workers=0, collate_fn=no_collation)
    metrics, outputs, _ = validate(detector, scans)
    assert any(name.startswith("mAP") for name in metrics)
    assert all(-1 <= value <= 1 for value in metrics.values()), metrics  # -1: nothing to measure
    again = detector_of(torch.jit.load(folder / "model.pt"))
    _, same, items = validate(again, scans)
    for found, expected in zip(same, outputs, strict=True):
        assert torch.equal(found["box"], expected["box"])
    to_world = Compose(
        [
            ClipBoxToImaged("box", ["label", "label_scores"], "image", remove_empty=True),
            AffineBoxToWorldCoordinated("box", box_ref_image_keys="image", affine_lps_to_ras=False),
        ]
    )
    world = to_world({**items[0], **same[0]})
    assert len(world["box"]) == len(same[0]["box"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
