"""The frame: pinned versions, make's targets, hooks, and the code in the docs' pages."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(
    re.match(r"([\w.-]+)==(\S+)$", line).groups()
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
)
PAGES = sorted((ROOT / "docs").glob("*.md")) + sorted((ROOT / "docs/decisions").glob("*.md"))


def declared():
    """Every requirement of the project and of its extras."""
    extras = PROJECT["optional-dependencies"].values()
    lines = PROJECT["dependencies"] + [line for extra in extras for line in extra]
    return [Requirement(line) for line in lines if not line.startswith("softoverlap")]


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_every_dependency_is_pinned_to_a_version_that_it_allows(requirement):
    pins = {canonicalize_name(name): version for name, version in PINS.items()}
    assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


def test_no_pin_is_bound_to_one_build():
    assert not [name for name, version in PINS.items() if "+" in version]


def make(*arguments, folder, **environment):
    """What make says it would do, or why it stops, in a copy without an environment."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        if not (folder / name).exists():
            shutil.copy(ROOT / name, folder)
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@needs_make
@pytest.mark.parametrize("target", ["demo", "test", "check", "tutorials", "docs", "bench"])
def test_every_target_sets_up_its_environment_from_the_constraints(target, tmp_path):
    plan = make("-n", target, folder=tmp_path).stdout
    assert "-m venv .venv" in plan
    assert "pip install --quiet --disable-pip-version-check -c constraints.txt" in plan


@needs_make
def test_nnunet_has_an_environment_of_its_own_which_the_tests_of_ci_set_up(tmp_path):
    for target in ("nnunet", "test"):
        plan = make("-n", target, folder=tmp_path).stdout
        assert "-m venv .venv-nnunet" in plan
        assert re.search(
            r"^\.venv-nnunet/bin/python .* -c constraints.txt -e \. nnunetv2", plan, re.M
        )
        assert ".venv-nnunet/bin/python -m pytest tests/for_nnunet" in plan


@needs_make
def test_an_environment_is_renewed_only_when_the_constraints_are_newer(tmp_path):
    make("-n", "check", folder=tmp_path)
    (tmp_path / ".venv").mkdir()
    stamp = tmp_path / ".venv" / ".dev"
    stamp.touch()
    os.utime(tmp_path / "constraints.txt", (1, 1))
    os.utime(tmp_path / "pyproject.toml", (1, 1))
    assert "pip install" not in make("-n", "check", folder=tmp_path).stdout
    os.utime(stamp, (0, 0))
    assert "pip install" in make("-n", "check", folder=tmp_path).stdout


@needs_make
def test_an_old_python_is_named(tmp_path):
    old = tmp_path / "old-python"
    pretend = "import sys; sys.version_info = (3, 10); sys.version = '3.10.0'; exec(sys.argv[1])"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{pretend}" "$2"\n')
    old.chmod(0o755)
    result = make("check", f"PYTHON={old}", folder=tmp_path)
    assert result.returncode != 0
    assert "softoverlap needs Python 3.11 or newer" in result.stderr
    assert "is 3.10.0" in result.stderr
    assert not (tmp_path / ".venv").exists()


@needs_make
def test_torch_comes_from_the_index_of_choice_and_a_change_of_index_asks_for_a_clean(tmp_path):
    index = "TORCH_INDEX=https://example.org/cpu"
    plan = make("-n", "demo", index, folder=tmp_path).stdout
    assert "--index-url https://example.org/cpu" in plan
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".torch_index").write_text("\n")
    refused = make("-n", "demo", index, folder=tmp_path)
    assert refused.returncode != 0
    assert "run `make clean` first" in refused.stderr


def test_ci_calls_the_targets_of_a_developer():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == "make check test"


def test_the_hooks_call_the_tools_of_the_environment():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/")


def test_the_glossary_is_in_order():
    terms = re.findall(r"^([A-Za-z][^\n]*)\n  \S", (ROOT / "docs/glossary.md").read_text(), re.M)
    assert len(terms) > 20
    assert terms == sorted(terms, key=str.lower)


def code_of(page):
    """The page's Python blocks, without the indentation of the list that they stand in."""
    blocks = re.findall(r"^( *)```python\n(.*?)^ *```", page.read_text(), re.M | re.S)
    return [re.sub(rf"^{indent}", "", code, flags=re.M) for indent, code in blocks]


def printed(page_name, capsys):
    (code,) = code_of(ROOT / "docs" / page_name)
    exec(compile(code, page_name, "exec"), {})
    return capsys.readouterr().out.splitlines()


def test_the_example_of_the_first_page_runs(capsys):
    assert len(printed("index.md", capsys)) == 2


def test_the_page_on_values_shows_the_error_that_comes(capsys):
    with pytest.raises(ValueError, match=r"pred must hold probabilities in \[0, 1\].*logits"):
        printed("validate.md", capsys)


def test_the_page_on_minima_prints_what_it_says(capsys):
    itself, best = printed("decisions/0003-the-intersection-is-the-sum-of-minima.md", capsys)
    assert float(re.search(r"0\.\d+", itself)[0]) == pytest.approx(0.333, abs=2e-3)
    assert float(best) == 1.0


@pytest.mark.slow
def test_the_page_on_tables_prints_what_it_says(capsys):
    page = "decisions/0004-tables-are-float64-with-mean-derivatives.md"
    single, double = (
        float(re.search(r"tensor\((\S+?)[,)]", line)[1]) for line in printed(page, capsys)
    )
    assert single == pytest.approx(0.07, abs=0.01)
    assert double < 1e-9


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_between_pages_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]
