"""One of the processes of a distributed training; `torchrun` starts it, a test reads its result.

The first rank has lesions, the second none.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).parents[2]))

from softoverlap.for_monai import SoftRetinaNetDetector, lesion_retinanet, lesion_target
from tests.support.lesion_makers import ball_lesion, scene

SIZE, STEPS = (16, 16, 16), 3


def flat(tensors):
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def main(folder):
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    rank = dist.get_rank()
    torch.manual_seed(rank)  # DDP must spread the first rank's weights
    network = lesion_retinanet(
        channels=(8, 8), strides=(2, 2), feature_channels=8, anchor_sizes=(5.0,), iou_branch=True
    )
    model = DistributedDataParallel(SoftRetinaNetDetector(network))
    start = flat(model.parameters()).clone()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    lesions = [] if rank else [ball_lesion(5, [2, 3, 4]), ball_lesion(4, [9, 10, 8])]
    for _ in range(STEPS):
        optimiser.zero_grad()
        losses = model(scene(lesions, SIZE, seed=rank)[None], [lesion_target(lesions)])
        sum(losses.values()).backward()
        optimiser.step()
    result = {
        "lesions": len(lesions),
        "start": start,
        "gradients": flat(p.grad for p in model.parameters()),
        "weights": flat(model.parameters()),
    }
    torch.save(result, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
