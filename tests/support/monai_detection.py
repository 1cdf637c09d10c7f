"""MONAI's own training of a detector on boxes (its tutorial on LUNA16), call by call.

A test runs it as it stands, and once more with the import of the detector changed. MONAI's
`resnet_fpn_feature_extractor` needs torchvision, so `ResNetPyramid` joins MONAI's stages and
pyramid in its place. Scans and boxes are made here.
"""

from __future__ import annotations

import json

import nibabel
import numpy as np
import torch
from monai.apps.detection.metrics.coco import COCOMetric
from monai.apps.detection.metrics.matching import matching_batch
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.apps.detection.networks.retinanet_network import RetinaNet
from monai.apps.detection.transforms.dictionary import (
    AffineBoxToImageCoordinated,
    AffineBoxToWorldCoordinated,
    BoxToMaskd,
    ClipBoxToImaged,
    ConvertBoxModed,
    ConvertBoxToStandardModed,
    MaskToBoxd,
    RandCropBoxByPosNegLabeld,
    RandFlipBoxd,
    RandRotateBox90d,
    RandZoomBoxd,
    StandardizeEmptyBoxd,
)
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
from monai.data import DataLoader, Dataset, box_utils, load_decathlon_datalist
from monai.data.utils import no_collation
from monai.networks.blocks.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool
from monai.networks.nets import resnet
from monai.transforms import (
    Compose,
    DeleteItemsd,
    EnsureChannelFirstd,
    EnsureTyped,
    Lambdad,
    LoadImaged,
    Orientationd,
    RandAdjustContrastd,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandRotate90d,
    RandRotated,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandZoomd,
    ScaleIntensityRanged,
)
from monai.transforms.spatial.dictionary import ConvertBoxToPointsd, ConvertPointsToBoxesd
from monai.transforms.utility.dictionary import ApplyTransformToPointsd
from monai.utils import set_determinism
from torch import nn

PATCH = (32, 32, 16)
NAMES = "box", "label", "score"


def write_data(folder, count=3):
    """Scans with bright blocks, and a list of the centre and size of each in world coordinates."""
    generator, affine = np.random.default_rng(0), np.diag([-1.0, 1.0, 2.0, 1.0])
    entries = []
    for number in range(count):
        scan = generator.normal(0, 20, (48, 40, 16))
        boxes = []
        for low in generator.integers((4, 4, 2), (35, 27, 7), (2, 3)):
            scan[tuple(slice(first, first + 7) for first in low)] += 200
            centre = affine[:3, :3] @ (low + 3) + affine[:3, 3]
            boxes.append([*centre.tolist(), 7.0, 7.0, 14.0])
        nibabel.save(
            nibabel.Nifti1Image(scan.astype(np.int16), affine), folder / f"{number}.nii.gz"
        )
        entries.append({"image": f"{number}.nii.gz", "box": boxes, "label": [0] * len(boxes)})
    path = folder / "dataset.json"
    path.write_text(json.dumps({"training": entries[:-1], "validation": entries[-1:]}))
    return path


def listed(path, key):
    """The entries of the list, images with their folder, as MONAI reads it."""
    return load_decathlon_datalist(
        str(path), is_segmentation=True, data_list_key=key, base_dir=str(path.parent)
    )


def loading():
    """Scans and boxes on one grid."""
    return [
        LoadImaged("image", image_only=False, meta_key_postfix="meta_dict"),
        EnsureChannelFirstd("image"),
        EnsureTyped(["image", "box"], dtype=torch.float32),
        EnsureTyped("label", dtype=torch.long),
        StandardizeEmptyBoxd(box_keys="box", box_ref_image_keys="image"),
        Orientationd("image", axcodes="RAS", labels=None),
        ScaleIntensityRanged("image", a_min=-100, a_max=300, b_min=0.0, b_max=1.0, clip=True),
        ConvertBoxToStandardModed("box", mode="cccwhd"),
        AffineBoxToImageCoordinated(
            "box", box_ref_image_keys="image", image_meta_key_postfix="meta_dict",
            affine_lps_to_ras=False,
        ),
    ]  # fmt: skip


def with_boxes():
    """Patches, zooms, flips and quarter turns of images and boxes."""
    return [
        *loading(),
        RandCropBoxByPosNegLabeld(
            "image", box_keys="box", label_keys="label", spatial_size=PATCH, whole_box=True,
            num_samples=2, pos=1, neg=1,
        ),
        RandZoomBoxd(
            "image", box_keys="box", box_ref_image_keys="image", prob=0.5, min_zoom=0.8,
            max_zoom=1.2, padding_mode="constant", keep_size=True,
        ),
        ClipBoxToImaged("box", "label", "image", remove_empty=True),
        *(RandFlipBoxd("image", "box", "image", prob=0.5, spatial_axis=axis) for axis in range(3)),
        RandRotateBox90d("image", "box", "image", prob=0.75, max_k=3, spatial_axes=(0, 1)),
        *turned_and_shaded(),
    ]  # fmt: skip


def with_points():
    """Any of MONAI's transforms on the image, and its affine on the corners of the boxes."""
    return [
        *loading()[:-1],
        ConvertBoxToPointsd("box", point_key="points"),
        loading()[-1],
        BoxToMaskd("box", "near", "label", "image", min_fg_label=0),
        Lambdad("near", lambda mask: mask.amax(0, keepdim=True)),
        RandCropByPosNegLabeld(
            "image", label_key="near", spatial_size=PATCH, num_samples=2, pos=1, neg=1
        ),
        RandZoomd(
            "image", prob=0.5, min_zoom=0.8, max_zoom=1.2, padding_mode="constant", keep_size=True
        ),
        *(RandFlipd("image", prob=0.5, spatial_axis=axis) for axis in range(3)),
        RandRotate90d("image", prob=0.75, max_k=3, spatial_axes=(0, 1)),
        ApplyTransformToPointsd("points", refer_keys="image", affine_lps_to_ras=False),
        ConvertPointsToBoxesd("points", box_key="box"),
        ClipBoxToImaged("box", "label", "image", remove_empty=True),
        *turned_and_shaded(),
        DeleteItemsd(["points", "near"]),
    ]


def turned_and_shaded():
    """Any turn, by way of masks of the boxes, and other intensities."""
    return [
        BoxToMaskd("box", "box_mask", "label", "image", min_fg_label=0, ellipse_mask=True),
        RandRotated(
            ["image", "box_mask"], mode=["nearest", "nearest"], prob=0.2, range_x=0.5, range_y=0.5,
            range_z=0.5, keep_size=True, padding_mode="zeros",
        ),
        MaskToBoxd("box", "box_mask", "label", min_fg_label=0),
        DeleteItemsd("box_mask"),
        RandGaussianNoised("image", prob=0.1, mean=0, std=0.1),
        RandGaussianSmoothd("image", (0.5, 1.0), (0.5, 1.0), (0.5, 1.0), prob=0.1),
        RandScaleIntensityd("image", prob=0.15, factors=0.25),
        RandShiftIntensityd("image", prob=0.15, offsets=0.1),
        RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5)),
        EnsureTyped(["image", "box"], dtype=torch.float32),
        EnsureTyped("label", dtype=torch.long),
    ]  # fmt: skip


class ResNetPyramid(nn.Module):
    """The first stages of a ResNet under a feature pyramid, all of them MONAI's."""

    def __init__(self, backbone, in_channels, out_channels):
        super().__init__()
        self.stem = nn.Sequential(backbone.conv1, backbone.bn1, backbone.act)
        self.layer1, self.layer2 = backbone.layer1, backbone.layer2
        self.out_channels = out_channels
        self.pyramid = FeaturePyramidNetwork(3, in_channels, out_channels, LastLevelMaxPool(3))

    def forward(self, images):
        """A map a level, finest first."""
        first = self.layer1(self.stem(images))
        return self.pyramid({"0": first, "1": self.layer2(first)})


def anchors():
    """Three shapes on each of three levels."""
    return AnchorGeneratorWithAnchorShape(
        feature_map_scales=[1, 2, 4], base_anchor_shapes=[[6, 8, 4], [8, 6, 6], [10, 10, 6]]
    )


def network_of():
    """MONAI's RetinaNet, small."""
    stride = [2, 2, 1]
    backbone = resnet.ResNet(
        block=resnet.ResNetBlock, layers=[1, 1, 1, 1], block_inplanes=[8, 16, 16, 16],
        n_input_channels=1, conv1_t_stride=stride, conv1_t_size=[5, 5, 3], no_max_pool=True,
    )  # fmt: skip
    return RetinaNet(
        spatial_dims=3,
        num_classes=1,
        num_anchors=anchors().num_anchors_per_location()[0],
        feature_extractor=ResNetPyramid(backbone, [8, 16], 8),
        size_divisible=[4 * step for step in stride],
    )


def detector_to_train(network):
    """A detector with the settings of MONAI's tutorial."""
    detector = RetinaNetDetector(network=network, anchor_generator=anchors(), debug=False)
    detector.set_atss_matcher(num_candidates=4, center_in_gt=False)
    detector.set_hard_negative_sampler(
        batch_size_per_image=64, positive_fraction=0.3, pool_size=20, min_neg=16
    )
    detector.set_target_keys(box_key="box", label_key="label")
    find_by_windows(detector, "constant")
    return detector


def detector_to_test(network):
    """One that only detects."""
    detector = RetinaNetDetector(network=network, anchor_generator=anchors(), debug=False)
    find_by_windows(detector, "gaussian")
    return detector


def find_by_windows(detector, mode):
    detector.set_box_selector_parameters(
        score_thresh=0.02, topk_candidates_per_level=1000, nms_thresh=0.22, detections_per_img=100
    )
    detector.set_sliding_window_inferer(
        roi_size=PATCH, overlap=0.25, sw_batch_size=1, mode=mode, device="cpu"
    )


def loader_of(entries, transforms, shuffle=False):
    data = Dataset(entries, Compose(transforms))
    return DataLoader(data, batch_size=1, shuffle=shuffle, num_workers=0, collate_fn=no_collation)


def batches(loader):
    """Images and targets of each step, which has the patches of a scan."""
    for batch in loader:
        items = [item for patches in batch for item in patches]
        targets = [{"label": item["label"], "box": item["box"]} for item in items]
        yield [item["image"] for item in items], targets


def optimizer_of(detector):
    return torch.optim.SGD(
        detector.network.parameters(), 1e-2, momentum=0.9, weight_decay=3e-5, nesterov=True
    )


def train(detector, optimizer, loader, amp=False):
    """An epoch of MONAI's loop; the losses of every step."""
    scaler = torch.amp.GradScaler("cpu", enabled=amp)
    detector.train()
    history = []
    for inputs, targets in batches(loader):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            outputs = detector(inputs, targets)
            loss = outputs[detector.cls_key] + outputs[detector.box_reg_key]
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        history.append({key: loss.detach().item() for key, loss in outputs.items()})
    return history


def validate(detector, loader):
    """COCO's figures, as MONAI's tutorial computes them, and what was found."""
    detector.eval()
    outputs, truths = [], []
    with torch.no_grad():
        for batch in loader:
            small = all(item["image"][0].numel() < np.prod(PATCH) for item in batch)
            outputs += detector([item.pop("image") for item in batch], use_inferer=not small)
            truths += batch
    coco = COCOMetric(classes=["lesion"], iou_list=[0.1], max_detection=[100])
    box, label, score = detector.target_box_key, detector.target_label_key, detector.pred_score_key
    results = matching_batch(
        iou_fn=box_utils.box_iou,
        iou_thresholds=coco.iou_thresholds,
        pred_boxes=[found[box].numpy() for found in outputs],
        pred_classes=[found[label].numpy() for found in outputs],
        pred_scores=[found[score].numpy() for found in outputs],
        gt_boxes=[truth[box].numpy() for truth in truths],
        gt_classes=[truth[label].numpy() for truth in truths],
    )
    return coco(results)[0], outputs


def detect(network, entries):
    """The boxes that the network finds in each scan, in world coordinates."""
    detector = detector_to_test(network).eval()
    to_world = Compose(
        [
            ClipBoxToImaged("box", ["label", "score"], "image", remove_empty=True),
            AffineBoxToWorldCoordinated(
                "box", box_ref_image_keys="image", image_meta_key_postfix="meta_dict",
                affine_lps_to_ras=False,
            ),
            ConvertBoxModed("box", src_mode="xyzxyz", dst_mode="cccwhd"),
            DeleteItemsd("image"),
        ]
    )  # fmt: skip
    keys = detector.target_box_key, detector.target_label_key, detector.pred_score_key
    results = []
    with torch.no_grad():
        for (item,) in loader_of(entries, loading()):
            (found,) = detector([item["image"]], use_inferer=True)
            item |= {name: found[key] for name, key in zip(NAMES, keys, strict=True)}
            item = to_world(item)
            results.append({name: item[name].tolist() for name in NAMES})
    return results


def main(folder):
    """Train, validate, save as TorchScript and as weights, load, detect; what came of each."""
    set_determinism(seed=0)
    path = write_data(folder)
    training, held_out = listed(path, "training"), listed(path, "validation")
    detector = detector_to_train(torch.jit.script(network_of()))
    optimizer = optimizer_of(detector)
    losses = train(detector, optimizer, loader_of(training, with_boxes(), shuffle=True))
    losses += train(detector, optimizer, loader_of(training, with_points()))
    losses += train(detector, optimizer, loader_of(training[:1], with_boxes()), amp=True)
    torch.jit.save(detector.network, folder / "model.pt")
    torch.save(detector.network.state_dict(), folder / "weights.pt")
    metrics, outputs = validate(detector, loader_of(held_out, loading()))
    again = network_of()
    again.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    _, same = validate(detector_to_train(again), loader_of(held_out, loading()))
    results = detect(torch.jit.load(folder / "model.pt"), held_out)
    return {
        "losses": losses,
        "metrics": metrics,
        "outputs": outputs,
        "loaded": same,
        "results": results,
    }
