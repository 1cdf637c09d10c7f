"""Sphinx: one page for each public name, and the tutorials as they were last run."""

import re
import shutil
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
    "mask_boxes": "Tables to use many times",
    "lesion": "The record of a lesion",
    "losses": "Losses",
    "measures": "Measures",
    "anchors": "Anchors",
    "suppression": "Suppression",
    "lesions": "Lesions of masks and raters",
    "phantoms": "Phantoms",
    "images": "Images and boxes in files",
    "for_monai": "Metrics and detection with MONAI",
    "app.cohort": "Scores of a cohort",
    "app.report": "Pictures and pages",
}


INTRODUCTION = """# Public names
All of them can be imported from `softoverlap`; each is imported on first use, so that
`import softoverlap` is quick. What is not listed here may change.
"""


def write_list_of_names() -> None:
    """A table for each room, from the one mapping that the package itself imports by."""
    unnamed = set(softoverlap._ROOMS) - set(ROOMS)
    if unnamed:
        raise ValueError(f"ROOMS in docs/conf.py must name every room, missing {sorted(unnamed)}")
    tables = [table_of_names(room) for room in ROOMS if room in softoverlap._ROOMS]
    folder = DOCS / "api" / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.md").write_text("\n".join([INTRODUCTION, *tables]))


def table_of_names(room: str) -> str:
    head = f"## {ROOMS[room]}\n```{{eval-rst}}\n.. currentmodule:: softoverlap\n\n"
    options = ".. autosummary::\n   :toctree: .\n   :nosignatures:\n\n"
    return head + options + "".join(f"   {name}\n" for name in softoverlap._ROOMS[room]) + "```\n"


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
