"""Label maps of many classes: read a class at a time, never as one-hot maps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.metric_makers import OF_MASKS, OF_RATERS

WORKER = Path(__file__).parents[1] / "support" / "label_memory.py"


@pytest.fixture(scope="module")
def bytes_a_voxel():
    alone = {
        **os.environ,
        "OMP_NUM_THREADS": "1",  # a thread has memory that no voxel asks for
        "MALLOC_MMAP_THRESHOLD_": "65536",  # what is freed is given back, not kept for later
    }
    done = subprocess.run(
        [sys.executable, str(WORKER)], capture_output=True, text=True, timeout=600, env=alone
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OF_MASKS, *OF_RATERS])
def test_sixty_classes_take_at_most_sixteen_bytes_a_voxel_beyond_the_labels(name, bytes_a_voxel):
    assert bytes_a_voxel[name] <= 16
