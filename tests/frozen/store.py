"""Values as plain data, their file, and how two of them are compared.

Tensors of more than `WHOLE` values are kept as three sums: of the values, of their squares, and of
their product with a ramp from 0 to 1.

Tolerances are relative and absolute at once: 1e-12 for float64 and plain numbers, 1e-6 for float32
(sums are taken in an order that differs by processor). For the three sums they are relative to the
root of the number of values times the sum of squares, which no sum of magnitudes exceeds.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.frozen.names import FIELDS

FILE = Path(__file__).with_name("values.json")
WHOLE = 48
TOLERANCES = {"float64": 1e-12, "float32": 1e-6}


def plain(value: Any) -> Any:
    """The value as JSON has it."""
    if isinstance(value, torch.Tensor):
        return _tensor(value.detach().to_dense() if value.is_sparse else value.detach())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return plain({FIELDS.get(name, name): part for name, part in value.items()})
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain({FIELDS.get(name, name): part for name, part in value._asdict().items()})
    if isinstance(value, Mapping):
        return {_name(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"no way to keep a {type(value).__name__}")


def _name(key: Any) -> str:
    return "/".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _tensor(tensor: torch.Tensor) -> dict[str, Any]:
    """Shape, type, and the values or three sums of them."""
    kept: dict[str, Any] = {"dtype": str(tensor.dtype)[6:], "shape": list(tensor.shape)}
    if tensor.numel() <= WHOLE:
        return {**kept, "values": _digits(tensor.flatten())}
    values = tensor.flatten().double().numpy()
    odd = ~np.isfinite(values)
    if odd.any():
        kept["not_finite"] = int(odd.sum())
        values = np.where(odd, 0, values)
    sums = {"sum": values, "squares": values**2, "ramp": values * np.linspace(0, 1, len(values))}
    return {**kept, **{name: math.fsum(products) for name, products in sums.items()}}


def _digits(values: torch.Tensor) -> list[Any]:
    """17 digits at most; float32 with the fewest that tell it."""
    if values.dtype is torch.float32:
        return [float(str(number)) for number in values.numpy()]
    return values.tolist()


def differences(kept: Any, made: Any, tolerance: float = 1e-12, where: str = "value") -> list[str]:
    """What differs by more than the tolerance, each with its place."""
    if isinstance(kept, dict) and isinstance(made, dict):
        if kept.keys() != made.keys():
            return [f"{where}: has {sorted(made)}, had {sorted(kept)}"]
        if "dtype" in kept:
            return _tensor_differences(kept, made, tolerance, where)
        parts = [(f"{where}.{key}", kept[key], made[key]) for key in kept]
    elif isinstance(kept, list) and isinstance(made, list):
        if len(kept) != len(made):
            return [f"{where}: has {len(made)} values, had {len(kept)}"]
        parts = [(f"{where}[{n}]", *pair) for n, pair in enumerate(zip(kept, made, strict=True))]
    else:
        return [] if _same(kept, made, tolerance) else [f"{where}: is {made!r}, was {kept!r}"]
    return [line for name, *pair in parts for line in differences(*pair, tolerance, name)]


def _tensor_differences(kept: dict, made: dict, tolerance: float, where: str) -> list[str]:
    exact = ("dtype", "shape", "not_finite")
    for name in exact:
        if kept.get(name) != made.get(name):
            return [f"{where}: {name} is {made.get(name)}, was {kept.get(name)}"]
    tolerance = max(tolerance, TOLERANCES.get(kept["dtype"], 0.0))
    if "values" in kept:
        return differences(kept["values"], made["values"], tolerance, where)
    scale = math.sqrt(math.prod(kept["shape"]) * kept["squares"])
    slack = {"sum": scale, "ramp": scale, "squares": kept["squares"]}
    return [
        f"{where}: {name} is {made[name]!r}, was {kept[name]!r}"
        for name, size in slack.items()
        if abs(kept[name] - made[name]) > tolerance * (1 + size)
    ]


def _same(kept: Any, made: Any, tolerance: float) -> bool:
    if {type(kept), type(made)} <= {int, float}:
        if not (math.isfinite(kept) and math.isfinite(made)):
            return str(float(kept)) == str(float(made))
        return abs(kept - made) <= tolerance * (1 + abs(kept))
    return type(kept) is type(made) and kept == made


def write(values: dict[str, Any]) -> None:
    """A line an entry, sorted, so that a change shows as the lines that it touches."""
    lines = [
        f"{json.dumps(key)}: {json.dumps(values[key], sort_keys=True)}" for key in sorted(values)
    ]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def read() -> dict[str, Any]:
    """All stored values by key."""
    return json.loads(FILE.read_text(encoding="utf-8"))
