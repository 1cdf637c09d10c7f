"""The share of a training step of nnU-Net that its loss takes: its own, and ours in its place.

    .venv-nnunet/bin/python benchmarks/nnunet_loss.py

A step is that of `3d_fullres` at 128³ with deep supervision: nnU-Net's network, the loss, backward
and the optimiser. The loss is forward and backward to the outputs of the network. On a GPU all of
it runs under AMP, as nnU-Net does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from _measure import arguments, seconds, store
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

sys.path.insert(0, str(Path(__file__).parents[1]))

from softoverlap.for_nnunet.trainers import (
    nnUNetTrainerLesionwise,
    nnUNetTrainerSoftDiceCE,
    nnUNetTrainerSoftRaters,
)
from tests.support.nnunet_makers import trainer

SIDE, STAGES, RATERS = 128, 6, 4
LABELS = {"background": 0, "lesion": 1}
TRAINERS = {
    "nnU-Net's own": nnUNetTrainer,
    "SoftDiceCE": nnUNetTrainerSoftDiceCE,
    "SoftRaters": nnUNetTrainerSoftRaters,
    "Lesionwise": nnUNetTrainerLesionwise,
}
ARCHITECTURE = {
    "n_stages": STAGES,
    "features_per_stage": [32, 64, 128, 256, 320, 320],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3]] * STAGES,
    "strides": [[1, 1, 1]] + [[2, 2, 2]] * (STAGES - 1),
    "n_conv_per_stage": [2] * STAGES,
    "n_conv_per_stage_decoder": [2] * (STAGES - 1),
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}


def network(device: str) -> torch.nn.Module:
    """What nnU-Net plans for patches of this size."""
    name = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    imported = ("conv_op", "norm_op", "dropout_op", "nonlin")
    return get_network_from_plans(name, ARCHITECTURE, imported, 1, 2, deep_supervision=True).to(
        device
    )


def steps(device: str, items: int) -> tuple[dict[str, Callable[[], object]], ...]:
    """The whole step, and the losses of its outputs by trainer."""
    draw = torch.Generator().manual_seed(0)
    image = torch.randn(items, 1, *[SIDE] * 3, generator=draw).to(device)
    centre = (torch.arange(SIDE) - SIDE / 2).square()
    radius = (centre[:, None, None] + centre[:, None] + centre).sqrt()
    raters = torch.stack([radius < SIDE / 8 + rater for rater in range(RATERS)]).short()
    maps = [
        raters[None, :, ::step, ::step, ::step].repeat(items, 1, 1, 1, 1).to(device)
        for step in (2**stage for stage in range(STAGES - 1))
    ]
    net, scaled = network(device), torch.autocast("cuda") if device == "cuda" else nullcontext()
    optimizer = torch.optim.SGD(net.parameters(), 1e-2, momentum=0.99, nesterov=True)
    with scaled, torch.no_grad():
        outputs = [output.requires_grad_() for output in net(image)]
    losses = {name: _loss(kind, maps, scaled) for name, kind in TRAINERS.items()}

    def whole() -> None:
        optimizer.zero_grad()
        with scaled:
            predicted = net(image)
        losses["nnU-Net's own"](predicted)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 12)
        optimizer.step()

    return {"step": whole}, {name: lambda f=loss: f(outputs) for name, loss in losses.items()}


def _loss(kind: type, maps: list[torch.Tensor], scaled: object) -> Callable[[object], None]:
    """Forward and backward of a trainer's loss; of raters, with their fusion."""
    made = trainer(kind, LABELS, batch=False, stages=STAGES)
    made.device = maps[0].device
    several = hasattr(made, "_fused") and made.soft_targets

    def run(outputs: object) -> None:
        with scaled:
            truth = made._fused(maps) if several else [each[:, :1] for each in maps]
            loss = made.loss(outputs, truth)
        loss.backward()

    return run


def main() -> None:
    device = arguments(__doc__ or "").device
    items = 2 if device == "cuda" else 1
    whole, losses = steps(device, items)
    spent = seconds(losses, device, repeats=5) | seconds(whole, device, repeats=2)
    shares = {name: spent[name] / spent["step"] for name in TRAINERS}
    for name, share in shares.items():
        print(f"{name:>14}  {spent[name]:7.3f} s  {share:6.2%} of a step of {spent['step']:.1f} s")
    figures = {"side": SIDE, "items": items, "raters": RATERS}
    store("nnunet_loss", device, {**figures, "median_seconds": spent, "share_of_step": shares})


if __name__ == "__main__":
    main()
