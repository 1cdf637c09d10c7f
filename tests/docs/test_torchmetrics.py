"""The page "Lightning and torchmetrics" runs, in Lightning too where that is installed."""

from __future__ import annotations

import pytest
import torch

from softoverlap import LesionPhantoms
from tests.support.pages import blocks, page_text

COLLECTION, MODULE, BOXES = (code for _, code in blocks(page_text("torchmetrics.md"), "python"))


@pytest.mark.parametrize("code", [COLLECTION, BOXES])
def test_what_the_page_measures_with_torchmetrics_alone_has_values(code, capsys):
    exec(compile(code, "torchmetrics.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "tensor(" in printed
    assert "nan" not in printed


@pytest.mark.filterwarnings("ignore")  # Lightning's own: few workers, no logger
def test_the_module_of_the_page_trains_and_validates_in_lightning(tmp_path):
    lightning = pytest.importorskip("lightning", reason="Lightning is not installed")
    scope = {}
    exec(compile(MODULE, "torchmetrics.md", "exec"), scope)
    phantoms = LesionPhantoms(0, count=3, shape=(48, 48, 32))
    scans = [{"image": p.image[None] / 100 - 1, "mask": p.mask[None]} for p in phantoms]
    loader = torch.utils.data.DataLoader(scans)
    module = scope["Segmentation"]()
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, loader, loader)
    dice = scope["SoftDice"]()
    with torch.no_grad():
        found = [torch.sigmoid(module.eval().network(scan["image"][None])) for scan in scans]
    expected = [dice(p, scan["mask"][None]) for p, scan in zip(found, scans, strict=True)]
    logged = trainer.callback_metrics
    assert float(logged["val_dice"]) == pytest.approx(
        float(torch.cat(expected).nanmean()), abs=1e-5
    )
    assert 0 <= float(logged["val_lesion_recall"]) <= 1
