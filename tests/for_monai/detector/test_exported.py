"""TorchScript and ONNX give the maps of the module, at sizes that they were not made at."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from typer.testing import CliRunner

from softoverlap.app.cli import app
from softoverlap.app.train import load_checkpoint, write_checkpoint
from tests.support.checkpoints import small_detector


@pytest.mark.slow
def test_a_checkpoint_is_exported_by_the_command(tmp_path):
    checkpoint, folder = tmp_path / "checkpoint.pt", tmp_path / "exported"
    write_checkpoint(checkpoint, small_detector(in_channels=2, num_classes=2))
    command = ["export", str(checkpoint), "--output", str(folder)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    image = torch.randn(1, 2, 16, 12, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = load_checkpoint(checkpoint, device="cpu").detector.network(image)
        scripted = torch.jit.load(folder / "model.ts")(image)
    graph = onnx.load(folder / "model.onnx")
    named = {
        f"{key}_{level}": maps.numpy()
        for key, levels in expected.items()
        for level, maps in enumerate(levels)
    }
    assert [output.name for output in graph.graph.output] == list(named)
    found = ReferenceEvaluator(graph).run(None, {"image": image.numpy()})
    for one, (name, maps) in zip(found, named.items(), strict=True):
        key, _, level = name.rpartition("_")
        assert np.abs(one - maps).max() < 1e-4
        assert np.abs(scripted[key][int(level)].numpy() - maps).max() < 1e-4
    again = CliRunner().invoke(app, command)
    assert again.exit_code != 0
    assert "is there already: pass --overwrite" in again.output.replace("\n", " ")
