"""Pictures of what was found beside what is there, after each validation."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from softoverlap._checks import check_positive
from softoverlap._types import plain
from softoverlap.images import boxes_between_grids


class FoundPictures:
    """Draws true and found boxes of the first scans of each validation, to `NAME.png`.

    It stands among the evaluator's handlers. Each validation replaces the pictures of the one
    before; TensorBoard keeps all of them. Boxes are those after `BoxesToOriginald`.

    Args:
        folder: Folder of the pictures; made on first use.
        draw: Called with the file, an image of shape (D, H, W), its affine, true boxes, found
            boxes and their scores, in voxels of the image; where there are several classes with
            `truth_classes=` and `found_classes=` too, the class of each box in words. It writes the
            file and returns its pixels, uint8, shape (height, width, 3):
            `softoverlap.app.report.save_boxes_picture`.
        scans: How many scans of a validation are drawn.
        boxes: How many boxes of a scan are drawn, the surest ones.
        log_dir: Where TensorBoard finds the pictures as well, or None.
        names: Names of the classes.

    Raises:
        ValueError: If a number is not above 0.

    Examples:
        >>> import tempfile
        >>> from monai.data import MetaTensor
        >>> boxes = torch.tensor([[1.0, 1, 1, 3, 3, 3]])
        >>> found = {"boxes": boxes, "labels_scores": torch.tensor([0.9])}
        >>> scan = {"name": "sub-01", "image": MetaTensor(torch.zeros(1, 8, 8, 8))}
        >>> engine = Engine(lambda *_: 0)
        >>> engine.state.batch = [scan]
        >>> engine.state.output = [{"pred": found, "label": {"boxes": boxes}}]
        >>> pictures = FoundPictures(tempfile.mkdtemp(), lambda path, *drawn: print(path.name))
        >>> pictures.add(engine)
        sub-01.png
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        draw: Callable[..., Any],
        scans: int = 4,
        boxes: int = 10,
        log_dir: str | os.PathLike[str] | None = None,
        names: Sequence[str] = (),
    ) -> None:
        check_positive(scans=scans, boxes=boxes)
        self.folder, self.draw, self.scans, self.boxes = Path(folder), draw, scans, boxes
        self.log_dir, self.names = log_dir, list(names)
        self.writer: Any = None
        self.drawn = 0

    def attach(self, engine: Engine) -> None:
        """Let the scans of each of the engine's epochs be drawn, after its postprocessing."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._flush)

    def _start(self) -> None:
        self.drawn = 0

    def add(self, engine: Engine) -> None:
        """Draw the scans of a batch, as long as there are too few."""
        batch: Any = engine.state.batch
        outputs: Any = engine.state.output
        for item, output in zip(batch, outputs, strict=True):
            if self.drawn == self.scans:
                return
            self._draw(item, output, engine.state.epoch)
            self.drawn += 1

    def _draw(self, item: Any, output: Any, epoch: int) -> None:
        image, found, name = item["image"], output["pred"], str(item["name"])
        affine = torch.as_tensor(image.affine).double().cpu()
        stored = torch.as_tensor(image.meta.get("original_affine", affine)).double().cpu()
        scores = plain(found["labels_scores"]).detach().cpu()
        surest = scores.argsort(descending=True)[: self.boxes]
        truth, shown = (
            boxes_between_grids(plain(part["boxes"]).detach().cpu().double(), stored, affine)
            for part in (output["label"], found)
        )
        ground = plain(image)[0].detach().cpu().float().nan_to_num()
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.png"
        classes = self._classes(output["label"], found, surest)
        pixels = self.draw(path, ground, affine, truth, shown[surest], scores[surest], **classes)
        if self.log_dir is not None:
            self._log(name, pixels, epoch)

    def _classes(self, truth: Any, found: Any, surest: Tensor) -> dict[str, list[str]]:
        """The class of each box that is drawn, in words, where there are several."""
        if len(self.names) < 2:
            return {}
        of_truth, of_found = (plain(part["labels"]).long().cpu() for part in (truth, found))
        drawn = {"truth_classes": of_truth, "found_classes": of_found[surest]}
        return {key: [self.names[label] for label in part.tolist()] for key, part in drawn.items()}

    def _log(self, name: str, pixels: Any, epoch: int) -> None:
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter  # an optional package

            self.writer = SummaryWriter(str(self.log_dir))
        self.writer.add_image(f"found/{name}", pixels, epoch, dataformats="HWC")

    def _flush(self) -> None:
        if self.writer is not None:
            self.writer.flush()
