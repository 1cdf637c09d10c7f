"""One of two processes that form batch Dice together, by nnU-Net's loss and by ours."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist

from tests.support.nnunet_makers import (
    CLASSES,
    label_maps,
    logits,
    loss_and_gradients,
    targets,
    trainer,
)


def rank_losses(rank, folder):
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from softoverlap.for_nnunet.trainers import nnUNetTrainerSoftDiceCE

    torch.set_num_threads(1)
    store = f"file://{Path(folder) / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    found = {}
    for kind in (nnUNetTrainer, nnUNetTrainerSoftDiceCE):
        for over_ranks in (False, True):
            made = trainer(kind, CLASSES, over_ranks=over_ranks)
            maps = [each.clamp(max=2 - rank) for each in label_maps(CLASSES, seed=10 * rank)]
            outputs = logits(made, maps, seed=10 * rank)
            found[kind.__name__, over_ranks] = loss_and_gradients(
                made, outputs, targets(made, maps)
            )
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
