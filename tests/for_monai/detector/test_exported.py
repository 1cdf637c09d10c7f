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
from tests.support.checkpoints import lively_detector
from tests.support.pages import blocks, page_text

CENTRE = {
    "head": "centre", "strides": [[2, 2, 1], [4, 4, 2]], "sizes": [[[3, 3, 3]]] * 2, "gain": 10,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("head", [{"anchor_sizes": [5.0, 8.0]}, CENTRE], ids=["anchors", "centre"])
def test_a_checkpoint_is_exported_by_the_command(tmp_path, monkeypatch, head):
    mine = tmp_path / "runs" / "mine"
    mine.mkdir(parents=True)
    checkpoint, folder = mine / "checkpoint.pt", mine / "exported"
    write_checkpoint(checkpoint, lively_detector(in_channels=2, num_classes=2, **head))
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
    check_the_page(tmp_path, monkeypatch)
    again = CliRunner().invoke(app, command)
    assert again.exit_code != 0
    assert "is there already: pass --overwrite" in again.output.replace("\n", " ")


def check_the_page(folder, monkeypatch):
    """What the page on detection makes of the maps is what the detector finds."""
    monkeypatch.chdir(folder)
    (code,) = (text for _, text in blocks(page_text("detect.md"), "python") if "model.ts" in text)
    torch.manual_seed(0)
    scope = {}
    exec(compile(code, "detect.md", "exec"), scope)
    with torch.no_grad():
        (found,) = scope["model"].detector(scope["image"])
    assert len(found["boxes"]) > 20
    assert set(found["labels"].tolist()) == {0, 1}
    assert torch.allclose(scope["scores"], found["labels_scores"], atol=1e-6)
    assert torch.allclose(scope["boxes"], found["boxes"], atol=1e-3)
    assert torch.equal(scope["labels"], found["labels"])
