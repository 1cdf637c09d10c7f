"""What the viewer consists of: its page, its list of cases, and the volumes they name."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from softoverlap.app.columns import CASES as COLUMNS, RANKED_BY, file_header, find_column
from softoverlap.app.report._style import FOUND, TRUTH
from softoverlap.app.report.viewer.cases import ViewerCase, read_cases
from softoverlap.app.report.viewer.layers import Layer

PAGE = files("softoverlap.app.report.viewer") / "page"
STATIC = (
    "index.html", "viewer.css", "list.js", "volumes.js", "boxes.js", "overlay.js", "viewer.js",
    "niivue.umd.js", "niivue-LICENSES.txt",
)  # fmt: skip
CASES = "cases.js"


@dataclass(frozen=True)
class Viewer:
    """All that a viewer shows, before it is served or written.

    Args:
        cases: The cases.
        title: Heading of the page.

    Examples:
        >>> viewer = Viewer((ViewerCase("sub-01", "", "", "", {}),), "results")
        >>> viewer.layers
        {}
    """

    cases: tuple[ViewerCase, ...]
    title: str

    @property
    def layers(self) -> dict[str, Layer]:
        """The volumes by their names in the viewer, which are numbers and no names of files."""
        return {
            f"data/{number}/{layer.role}": layer
            for number, case in enumerate(self.cases)
            for layer in case.layers
        }

    def listing(
        self, addresses: Mapping[str, str], *, missing: Mapping[str, str] | None = None
    ) -> bytes:
        """The list of cases as a script.

        Args:
            addresses: Where the page finds each volume; those without address are not shown.
            missing: Why a volume is not there, by its name.

        Returns:
            JavaScript in ASCII.
        """
        missing = missing or {}
        cases = [_entry(case, number, addresses, missing) for number, case in enumerate(self.cases)]
        names = self._score_names()
        content = {
            "title": self.title,
            "colours": {"found": FOUND, "truth": TRUTH},
            "columns": [_column(name) for name in names],
            "rankedBy": next((name for name in RANKED_BY if name in names), None),
            "cases": cases,
        }
        return f"window.softoverlapViewer = {json.dumps(content, allow_nan=False)};\n".encode()

    def _score_names(self) -> list[str]:
        """The columns in which a case has a number, in the order of the table."""
        scores = (score for case in self.cases for score in case.scores.items())
        names = dict.fromkeys(name for name, value in scores if value is not None)
        return [name for name in file_header(COLUMNS, names) if name in names]


def read_viewer(
    results: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    title: str | None = None,
) -> Viewer:
    r"""What there is to see of the results of `softoverlap score`.

    Args:
        results: The folder of the results.
        images: Folder with the scans, named as the cases, or a pattern with `{case}`.
        title: Heading of the page; by default the folder's name.

    Returns:
        The viewer, to be served by `ViewerServer` or written by `write_viewer`.

    Raises:
        FileNotFoundError: If there are no results.
        ValueError: If a file of them is damaged.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "cases.csv").write_text("case,error,soft_dice\nsub-01,,0.5\n")
        >>> head = '"format": "softoverlap-summary", "bootstrap": {"confidence": 0.95}'
        >>> _ = (folder / "summary.json").write_text("{%s, \"metrics\": {}}" % head)
        >>> [case.name for case in read_viewer(folder).cases]
        ['sub-01']
    """
    name = os.path.basename(os.path.abspath(results))
    return Viewer(tuple(read_cases(results, images=images)), title or name)


def page_files() -> dict[str, Traversable]:
    """The files of the page that are the same for all results, by name."""
    return {name: PAGE / name for name in STATIC}


def _column(name: str) -> dict[str, Any]:
    """A column as the page has it."""
    column = find_column(COLUMNS, name)
    return {
        "name": name,
        "heading": column.heading,
        "words": f"{name}: {column.explanation}".rstrip(": "),
        "highIsBad": column.better in ("lower", "near 0"),
        "bestNearZero": column.better == "near 0",
    }


def _entry(
    case: ViewerCase, number: int, addresses: Mapping[str, str], missing: Mapping[str, str]
) -> dict[str, Any]:
    """A case as the page has it."""
    names = {layer.role: f"data/{number}/{layer.role}" for layer in case.layers}
    return {
        "name": case.name,
        "label": case.label,
        "error": case.error,
        "warning": case.warning,
        "scores": dict(case.scores),
        "volumes": {role: addresses[name] for role, name in names.items() if name in addresses},
        "missing": [missing[name] for name in names.values() if name in missing],
        "boxes": list(case.boxes),
        "affine": case.affine,
    }
