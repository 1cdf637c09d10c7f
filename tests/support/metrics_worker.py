"""One of the processes that measure a data set together; `torchrun` starts it, a test reads it.

Called with a folder and how many items each rank takes; a rank may have none.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.metric_makers import EXTRA, METRICS, item_of
from tests.support.torch_metrics import batch_of, metric_of


def main(folder, counts):
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    rank = dist.get_rank()
    first = sum(counts[:rank])
    results = {}
    for name, make in METRICS.items():
        metric = make()
        for number in range(first, first + counts[rank]):
            metric(*item_of(name, number))
        results[name] = metric.aggregate()
        if rank == len(counts) - 1:  # one rank goes on alone, then all gather again
            metric(*item_of(name, EXTRA))
        metric.gather_anew()
        results[f"{name}, one more"] = metric.aggregate()
        if rank == 0:  # what was gathered can be looked at by one rank alone
            assert torch.equal(metric.aggregate(), results[f"{name}, one more"])
            assert len(metric.get_buffer()) == sum(counts) + 1
        of_torchmetrics = metric_of(name)
        for number in range(first, first + counts[rank]):
            of_torchmetrics.update(*batch_of(name, number))
        with of_torchmetrics.sync_context():
            results[f"{name}, of torchmetrics"] = type(of_torchmetrics).compute(of_torchmetrics)
        assert len(of_torchmetrics.widths) == counts[rank]  # its own again
    torch.save(results, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], [int(count) for count in sys.argv[2:]])
