"""Losses and functions in a trace, an export and a compiled graph; the network in a script too."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import nn

import softoverlap as api
from softoverlap.losses import SizePriorLoss
from softoverlap.losses.masks import MaskLoss

pytestmark = [
    pytest.mark.slow,  # and so not run where beartype checks shapes, which no graph can hold
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit"),
]


def uniform(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def boxes(count, seed=0):
    low = uniform(count, 3, seed=seed) * 4
    return torch.cat([low, low + 1 + 2 * uniform(count, 3, seed=seed + 10)], dim=1)


def turned(count, seed=0):
    return uniform(count, 7, seed=seed) + 0.5


def soft(count, seed=0):
    return api.soft_boxes(boxes(count, seed), 0.5)


def two(make):
    return lambda count: (make(count), make(count, seed=1))


def all_pairs(make):
    return lambda count: (make(count), make(count + 1, seed=1))


def lesions(count):
    return uniform(count, 6, 6, 6), boxes(count)


def regions(count):
    return uniform(count, 6, 6), 4 * uniform(count, 5) + 0.5


def logits(count):
    return 4 * uniform(count, 3, 6, 6) - 2, uniform(count, 3, 6, 6, seed=1).softmax(dim=1)


def probabilities(count):
    return logits(count)[0].sigmoid(), logits(count)[1]


BOX = ["iou", "dice", "iof", "giou", "diou", "ciou", "eiou", "nwd"]
MASK_BOX = ["mass", "dice", "iou", "tversky", "diou"]
LOSSES = {
    **{f"Box{kind}Loss": two(boxes) for kind in ("IoU", "GIoU", "DIoU", "CIoU", "EIoU", "NWD")},
    **{f"RotatedBox{kind}Loss": two(turned) for kind in ("IoU", "GIoU", "DIoU")},
    **dict.fromkeys(("SoftBoxCRPSLoss", "SoftBoxIoULoss"), two(soft)),
    **dict.fromkeys(("MaskBoxDiceLoss", "MaskBoxIoULoss", "BoxProjectionLoss"), lesions),
    **dict.fromkeys(("VarifocalLoss", "QualityFocalLoss"), logits),
}
CASES = {
    **{f"box_{name}": (getattr(api, f"box_{name}"), all_pairs(boxes)) for name in BOX},
    **{f"box_pair_{name}": (getattr(api, f"box_pair_{name}"), two(boxes)) for name in BOX},
    **{
        f"rotated_box_{name}": (getattr(api, f"rotated_box_{name}"), make(turned))
        for name, make in (
            *(("iou", all_pairs), ("iof", all_pairs), ("pair_iou", two)),
            *(("giou", all_pairs), ("pair_giou", two), ("diou", all_pairs), ("pair_diou", two)),
        )
    },
    "box_volume": (api.box_volume, lambda count: (boxes(count),)),
    "encode_boxes": (api.encode_boxes, two(boxes)),
    "decode_boxes": (api.decode_boxes, lambda count: (boxes(count) / 5, boxes(count, seed=1))),
    **{
        f"mask_box_{name}": (
            getattr(api, f"mask_box_{name}"),
            lambda count: (lesions(count)[0], boxes(count + 1)),
        )
        for name in MASK_BOX
    },
    **{
        f"mask_rotated_box_{name}": (getattr(api, f"mask_rotated_box_{name}"), regions)
        for name in ("mass", "dice", "iou", "pair_dice", "pair_iou")
    },
    **{f"mask_box_pair_{n}": (getattr(api, f"mask_box_pair_{n}"), lesions) for n in MASK_BOX},
    **{f"mask_{n}": (getattr(api, f"mask_{n}"), probabilities) for n in ("dice", "iou", "tversky")},
    **{f"soft_box_{n}": (getattr(api, f"soft_box_{n}"), all_pairs(soft)) for n in ("iou", "dice")},
    **{
        f"box_ball_{name}": (getattr(api, f"box_ball_{name}"), make(boxes))
        for ratio in ("dice", "iou")
        for name, make in ((ratio, all_pairs), (f"pair_{ratio}", two))
    },
    "mask_soft_box_mass": (api.mask_soft_box_mass, lambda n: (lesions(n)[0], soft(n + 1))),
    "iou_aware_score": (api.iou_aware_score, probabilities),
    **{name: (getattr(api, name)(), make) for name, make in LOSSES.items()},
    **{
        f"Soft{kind}Loss": (getattr(api, f"Soft{kind}Loss")(softmax=True), logits)
        for kind in (
            *("Dice", "IoU", "Tversky", "DiceCE"),
            *("DiceFocal", "GeneralizedDice", "Calibration"),
        )
    },
    "SizePriorLoss": (SizePriorLoss(0.3, 0.6), lesions),
}
FIELD = torch.tensor([1.0, 1, 1, 5, 5, 5])
CASES["AmodalBoxLoss"] = (
    lambda input, target: api.AmodalBoxLoss()(input, target, visible=FIELD), two(boxes),
)  # fmt: skip
CASES["visible_fraction"] = (
    lambda whole, hiding: api.visible_fraction(whole, FIELD, occluders=hiding), all_pairs(boxes),
)  # fmt: skip
LEFT_OUT = {
    "LesionwiseSoftLoss": "the voxels that lie in lesions decide its shapes",
    "CoarseToFineBoxLoss": "it counts its calls, and a graph does not",
    "PairwiseAffinityLoss": "its trace holds for one number of boxes",
    **dict.fromkeys(
        [f"mask_ball_{name}" for name in ("mass", "dice", "iou", "pair_dice", "pair_iou")],
        "windows are cut to each ball, which is not traced",
    ),
}
COMPILED = ["BoxGIoULoss", "mask_box_pair_dice", "SoftDiceLoss", "box_ciou", "box_pair_ciou"]


def with_gradients(function, inputs):
    """The value, and its gradient to each input."""
    inputs = [each.clone().requires_grad_() for each in inputs]
    value = function(*inputs)
    return [value, *torch.autograd.grad(value.double().sum(), inputs, allow_unused=True)]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


class Module(nn.Module):
    """A function as a module, which is what is exported."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def test_every_loss_and_overlap_is_walked():
    names = {name for name in api.__all__ if name.endswith("Loss")}
    names |= {name for name in api.__all__ if name.startswith(("box_", "mask_"))}
    assert names - set(CASES) - set(LEFT_OUT) == {"box_nms"}


@pytest.mark.parametrize("name", CASES)
def test_a_trace_has_value_and_gradients_for_any_number_of_rows(name):
    function, make = CASES[name]
    traced = torch.jit.trace(lambda *inputs: function(*inputs), make(3), check_trace=False)
    for count in (3, 5):
        expected = with_gradients(function, make(count))
        assert_same(with_gradients(traced, make(count)), expected)


@pytest.mark.parametrize("name", CASES)
def test_a_program_is_exported(name):
    function, make = CASES[name]
    program = torch.export.export(Module(function), make(3), strict=False)
    assert_same([program.module()(*make(3))], [function(*make(3))])


@pytest.mark.parametrize("name", COMPILED)
def test_one_graph_is_compiled_with_the_default_of_validate(name):
    function, make = CASES[name]
    torch._dynamo.reset()
    compiled = torch.compile(lambda *x: function(*x), fullgraph=True, backend="eager")
    assert_same(with_gradients(compiled, make(3)), with_gradients(function, make(3)))


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize(
    "loss",
    [
        api.SoftDiceLoss(sigmoid=True), api.SoftIoULoss(softmax=True), api.SoftTverskyLoss(),
        api.SoftDiceCELoss(sigmoid=True, cross_entropy="regions"),
        api.BoxIoULoss(), api.BoxGIoULoss(), api.BoxDIoULoss(), api.BoxCIoULoss(),
    ],
    ids=lambda loss: type(loss).__name__,
)  # fmt: skip
def test_a_trace_passes_the_check_that_pytorch_makes(loss, grad):
    if isinstance(loss, MaskLoss):
        inputs = torch.rand(2, 1, 2, 4, 4)
    else:
        corner = torch.rand(2, 3, 3)
        inputs = torch.cat([corner, corner + 1], dim=2)
    pred, target = inputs[0].requires_grad_(grad), inputs[1].detach()
    traced = torch.jit.trace(loss, (pred, target))
    torch.testing.assert_close(traced(pred, target), loss(pred, target))


def test_a_face_on_an_edge_of_a_voxel_has_the_mean_derivative_in_a_trace():
    masks, box = torch.tensor([[0.2, 0.9, 0.4]]), torch.tensor([[1.0, 2.0]])
    traced = torch.jit.trace(lambda *x: api.mask_box_mass(*x), (masks, box), check_trace=False)
    assert_same(
        with_gradients(traced, (masks, box)), with_gradients(api.mask_box_mass, (masks, box))
    )


@pytest.fixture(scope="module", params=[{}, {"spatial_dims": 2}, {"iou_branch": True}])
def network(request):
    torch.manual_seed(0)
    return api.lesion_retinanet(**request.param).eval()


class Flat(nn.Module):
    """The network's maps in a row: no trace, MONAI's neither, returns lists in a dict."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        maps = self.network(images)
        return (*maps["classification"], *maps["box_regression"])


@torch.no_grad()
def test_the_network_is_scripted_and_stored(network):
    images = uniform(1, 1, *[16] * network.spatial_dims)
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(network), file)
    file.seek(0)
    maps, expected = torch.jit.load(file)(images), network(images)
    for key, levels in expected.items():
        assert_same(maps[key], levels)
    assert network.anchor_generator(images, expected["classification"])[0].shape[0]


@torch.no_grad()
def test_the_network_is_traced_and_exported(network):
    images = uniform(1, 1, *[16] * network.spatial_dims)
    expected = Flat(network)(images)
    traced: Any = torch.jit.trace(Flat(network), images)
    assert_same(traced(images), expected)
    program = torch.export.export(network, (images,), strict=False).module()(images)
    assert_same([*program["classification"], *program["box_regression"]], expected)


def test_a_loss_is_not_scripted():
    with pytest.raises(Exception, match=r"Shaped|Float|annotation|type"):
        torch.jit.script(api.BoxGIoULoss())
