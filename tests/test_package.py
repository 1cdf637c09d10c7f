"""The package's front door: every public name is there, documented, and imported only on use."""

import ast
import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import softoverlap

ROOT = Path(__file__).parents[1]
NAMES = softoverlap.__all__


def modules_after(code):
    """What a fresh interpreter has imported once it has run the code."""
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(json.loads(result.stdout.splitlines()[-1]))


def type_checking_imports():
    """Pairs of room and name that type checkers see."""
    tree = ast.parse(Path(softoverlap.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {(node.module, alias.name) for node in imports for alias in node.names}


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_can_be_imported(name):
    value = getattr(softoverlap, name)
    assert value.__name__ == name


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_a_docstring_with_an_example(name):
    docstring = inspect.getdoc(getattr(softoverlap, name)) or ""
    assert "Examples:" in docstring
    assert ">>> " in docstring


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_states_its_arguments(name):
    value = getattr(softoverlap, name)
    if inspect.signature(value).parameters:
        assert "Args:" in inspect.getdoc(value)


@pytest.mark.parametrize("room", softoverlap._ROOMS)
def test_a_room_offers_what_the_package_takes_from_it(room):
    module = importlib.import_module(f"softoverlap.{room}")
    offered = getattr(module, "__all__", softoverlap._ROOMS[room])
    assert set(softoverlap._ROOMS[room]) <= set(offered)


def test_no_name_is_listed_twice():
    listed = [name for names in softoverlap._ROOMS.values() for name in names]
    assert len(listed) == len(set(listed))


def test_type_checkers_see_the_same_names():
    mapped = {
        (f"softoverlap.{room}", name)
        for room, names in softoverlap._ROOMS.items()
        for name in names
    }
    assert type_checking_imports() == mapped


def test_dir_lists_every_public_name():
    assert set(NAMES) <= set(dir(softoverlap))


def test_a_star_import_brings_every_public_name():
    scope = {}
    exec("from softoverlap import *", scope)
    assert set(NAMES) <= set(scope)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'softoverlap' has no attribute 'mask_dise'"):
        softoverlap.mask_dise


def test_the_version_is_that_of_the_project_file():
    assert f'version = "{softoverlap.__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_importing_the_package_imports_nothing_heavy():
    heavy = {"torch", "monai", "numpy", "scipy", "nibabel", "matplotlib"}
    assert not heavy & modules_after("import softoverlap")


@pytest.mark.parametrize("room", ["overlaps", "losses", "anchors", "suppression"])
def test_the_core_does_not_import_monai_or_files(room):
    heavy = {"monai", "scipy", "nibabel", "SimpleITK", "matplotlib"}
    assert not heavy & modules_after(f"import softoverlap.{room}")


def test_measures_do_not_import_monai():
    assert "monai" not in modules_after("import softoverlap.measures")


def test_a_name_of_the_core_does_not_import_monai():
    assert "monai" not in modules_after("from softoverlap import mask_box_dice")
