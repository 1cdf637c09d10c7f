"""Sphinx: one page for each public name, and the tutorials as they were last run."""

import importlib
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import softoverlap

project = "softoverlap"
author = "the softoverlap authors"
copyright = author
version = release = softoverlap.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "myst_nb",
]
html_theme = "furo"
html_title = f"softoverlap {version}"
exclude_patterns = ["_build"]
templates_path = ["_templates"]

default_role = "literal"  # single backticks, as in Markdown
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say shapes and units
napoleon_google_docstring = True
napoleon_numpy_docstring = False
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # `make tutorials` runs them

DOCS = Path(__file__).parent

ROOMS = {
    "overlaps": "Overlap: of masks, of masks and boxes, of boxes",
    "boxes": "Log-size coding of boxes",
    "rotated_codes": "Coding of oriented boxes",
    "balls": "Boxes of balls",
    "soft_box": "Soft boxes",
    "mask_boxes": "Tables to use many times",
    "regions": "Polygons, and where most of a density lies",
    "lesion": "The record of a lesion",
    "losses": "Losses",
    "measures": "Measures",
    "anchors": "Anchors",
    "suppression": "Suppression",
    "lesions": "Lesions of masks and raters",
    "lesion_losses": "Losses that see every lesion",
    "phantoms": "Phantoms",
    "images": "Images and boxes in files",
    "for_monai": "Metrics, transforms and detection with MONAI",
}
APPLICATION = {
    "train": "Training, detection and planning on files",
    "cohort": "Scores of a cohort",
    "report": "Pictures and pages",
}


INTRODUCTION = """# Public names
The names of the library can be imported from `softoverlap`; each is imported on first use, so that
`import softoverlap` is quick. Those of the application and of torchmetrics come from their rooms,
as said below. What is not listed here may change.
"""


def write_list_of_names() -> None:
    """A table for each room, from the one list that the package itself imports by."""
    rooms = {room.removeprefix("softoverlap.") for room in softoverlap._ROOM_OF.values()}
    if rooms != set(ROOMS):
        raise ValueError(f"ROOMS in docs/conf.py must be {sorted(rooms)}, got {sorted(ROOMS)}")
    tables = [
        table_of_names(title, "softoverlap", names_of(f"softoverlap.{room}"))
        for room, title in ROOMS.items()
    ]
    for_torchmetrics = importlib.import_module("softoverlap.for_torchmetrics")
    tables.append(
        table_of_names(
            "Metrics with torchmetrics (`softoverlap.for_torchmetrics`)",
            for_torchmetrics.__name__,
            for_torchmetrics.__all__,
        )
    )
    for room, title in APPLICATION.items():
        module = f"softoverlap.app.{room}"
        offered = importlib.import_module(module).__all__
        named = [name for name in offered if name in SHOWN_OF_APPLICATION]
        tables.append(table_of_names(f"{title} (`{module}`)", module, named))
    folder = DOCS / "api" / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.md").write_text("\n".join([INTRODUCTION, *tables]))


SHOWN_OF_APPLICATION = (
    "train", "Trained", "TrainingRun", "training_config", "load_checkpoint", "fresh_detector",
    "LesionDetector", "detect", "detect_files", "Detections", "FileResult", "find_scans",
    "evaluate", "Evaluation", "scan_target", "plan_scans", "PlannedScans", "scan_facts",
    "ScanFacts", "pick_device",
    "DaskRunner", "ProcessPool", "ScorePair", "ScoreSettings", "find_pairs", "read_pairs",
    "score_case", "score_cohort", "Report", "plot_case", "plot_froc", "save_figure", "write_report",
)  # fmt: skip


def names_of(room: str) -> list[str]:
    return [name for name in softoverlap.__all__ if softoverlap._ROOM_OF[name] == room]


def table_of_names(title: str, module: str, names: Iterable[str]) -> str:
    head = f"## {title}\n```{{eval-rst}}\n.. currentmodule:: {module}\n\n"
    options = ".. autosummary::\n   :toctree: .\n   :nosignatures:\n\n"
    return head + options + "".join(f"   {name}\n" for name in names) + "```\n"


def copy_tutorials() -> None:
    """Sphinx reads below its own folder only."""
    folder = DOCS / "tutorials"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    notebooks = sorted((DOCS.parent / "tutorials").glob("*.ipynb"))
    for notebook in notebooks:
        shutil.copy(notebook, folder)
    names = "".join(f"{notebook.stem}\n" for notebook in notebooks)
    (folder / "index.md").write_text(f"# Tutorials\n```{{toctree}}\n:maxdepth: 1\n\n{names}```\n")


write_list_of_names()
copy_tutorials()


def escape_stars(app, what, name, obj, options, lines) -> None:
    """Keep the star of a shape such as (K, *spatial) from starting an emphasis."""
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = line.split("`")
            parts[::2] = [re.sub(r"(?<=[ (])\*(?=[a-z])", r"\\*", part) for part in parts[::2]]
            lines[number] = "`".join(parts)


def setup(app) -> None:
    app.connect("autodoc-process-docstring", escape_stars, priority=400)
