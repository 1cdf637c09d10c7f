"""Each tutorial is a script and its notebook, with the same cells, run once, figures included."""

from pathlib import Path

import jupytext
import pytest

SCRIPTS = sorted((Path(__file__).parents[1] / "tutorials").glob("*.py"))


def cells(path):
    """Kind and source of each cell; metadata may differ."""
    return [(cell.cell_type, cell.source.strip()) for cell in jupytext.read(path).cells]


def outputs(script):
    notebook = jupytext.read(script.with_suffix(".ipynb"))
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def test_there_is_a_tutorial():
    assert SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script_and_notebook_have_the_same_cells(script):
    assert cells(script.with_suffix(".ipynb")) == cells(script)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_scan_of_ones_own_may_have_more_voxels_than_torchs_quantile_takes(script):
    assert ".quantile(" not in script.read_text(encoding="utf-8").replace("np.quantile(", "")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_notebook_holds_its_figures_and_no_error(script):
    kinds = {output["output_type"] for output in outputs(script)}
    assert "error" not in kinds
    assert any("image/png" in output.get("data", {}) for output in outputs(script))
