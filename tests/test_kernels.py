"""Where kernels are taken, and that a GPU's compiler takes them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from softoverlap import _triton
from tests.support.kernels import DEVICE, kernels

pytestmark = pytest.mark.slow  # and so not run where shapes are enforced, which wraps kernels


def test_tensors_on_the_cpu_are_not_for_kernels():
    assert not _triton.available(torch.zeros(2))


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_tensors_in_graphs_and_of_other_classes_are_not_for_kernels():
    class Labelled(torch.Tensor):
        pass

    values, seen = torch.zeros(2, device=DEVICE), []

    def look(tensor):
        seen.append(_triton.available(tensor))
        return tensor * 2

    with kernels():
        assert _triton.available(values)
        assert not _triton.available(values, values.as_subclass(Labelled))
        with torch.autograd.forward_ad.dual_level():
            look(torch.autograd.forward_ad.make_dual(values, values))
        torch.jit.trace(look, values, check_trace=False)
        torch.func.vmap(look)(values)
        torch.compile(look, backend="eager")(values)
    assert seen
    assert not any(seen)


@pytest.mark.parametrize("error", [ImportError("no triton"), RuntimeError("no compiler")])
def test_the_plain_path_is_taken_where_triton_does_not_work(error, monkeypatch):
    from softoverlap._triton import probe

    def start(number):
        raise error

    monkeypatch.setattr(probe, "start", start)
    _triton._works.cache_clear()
    try:
        with kernels(), pytest.warns(UserWarning, match="Triton does not work here"):
            assert not _triton.available(torch.zeros(2, device=DEVICE))
    finally:
        _triton._works.cache_clear()


def test_kernels_compile_for_a_gpu(tmp_path):
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "tests.support.compiled_kernels"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert {"write_scores", "write_gradients"} <= set(result.stdout.split())
