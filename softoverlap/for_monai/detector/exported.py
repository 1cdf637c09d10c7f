"""The network for other programs, as TorchScript and as ONNX."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from softoverlap.images import whole_file

NEEDED = ("onnx", "onnxscript")


class _Maps(nn.Module):
    """The network with its maps as a tuple, all levels of a head after each other."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """All maps of the images."""
        return tuple(level for levels in self.network(image).values() for level in levels)


def export_network(network: nn.Module, folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write a detector's network as `model.ts` (TorchScript) and `model.onnx`.

    Both take images of any number and size, shape (B, C, *spatial), whose sides are multiples of
    the network's stride. `model.ts` returns what the network returns, a dict of lists of maps;
    `model.onnx` the same maps by name, `classification_0` for the finest level, and so on. Boxes
    are made of them by the detector: anchors, thresholds and suppression stay outside.

    Args:
        network: A network such as `lesion_retinanet` makes, with `size_divisible` and
            `spatial_dims`; it is put into evaluation mode.
        folder: Where to write; made if it does not exist.

    Returns:
        The two files.

    Raises:
        ModuleNotFoundError: If onnx or onnxscript is not installed.

    Examples:
        >>> from softoverlap.for_monai import lesion_retinanet
        >>> export_network(lesion_retinanet(), "exported")  # doctest: +SKIP
        (PosixPath('exported/model.ts'), PosixPath('exported/model.onnx'))
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f'exporting needs {" and ".join(missing)}: pip install "softoverlap[train]"'
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    network.eval()
    script, graph = folder / "model.ts", folder / "model.onnx"
    with whole_file(script) as unfinished, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch's, of all of TorchScript
        torch.jit.save(torch.jit.script(network), unfinished)
    with whole_file(graph) as unfinished:
        _onnx(network).save(unfinished)
    return script, graph


@torch.no_grad()
def _onnx(network: Any) -> Any:
    """The program of the network for images of any number and size."""
    strides: Sequence[int] = network.size_divisible
    channels = next(network.parameters()).shape[1]
    image = torch.zeros(2, channels, *(2 * step for step in strides))
    sides = [torch.export.Dim(f"side{axis}", min=1) for axis in range(len(strides))]
    dynamic: dict[int, Any] = {0: torch.export.Dim("batch")}
    for axis, (step, side) in enumerate(zip(strides, sides, strict=True)):
        dynamic[2 + axis] = step * side if step > 1 else side
    maps = network(image)
    names = [f"{key}_{level}" for key, levels in maps.items() for level in range(len(levels))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that could be exported, and are not there
        return torch.onnx.export(
            _Maps(network), (image,), dynamo=True, dynamic_shapes={"image": dynamic},
            input_names=["image"], output_names=names, verbose=False,
        )  # fmt: skip
