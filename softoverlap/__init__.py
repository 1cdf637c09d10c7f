"""Exact soft overlap of masks and boxes, for people who train with MONAI.

Names are imported on first use (PEP 562), since importing MONAI takes seconds: `import softoverlap`
is quick, and what needs torch alone never waits for the rest. `__init__.pyi` lists them.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

__version__ = "0.1.0"


def _listed() -> dict[str, str]:
    """The room of each public name, as the stub beside this file imports it."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {name.name: node.module or "" for node in imports for name in node.names}


_ROOM_OF = _listed()

__all__ = sorted(_ROOM_OF)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_ROOM_OF[name]), name)
    globals()[name] = value  # found at once from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOM_OF})
