# Everything a reader or CI runs. Each target sets up .venv from constraints.txt if it is missing
# or stale. TORCH_INDEX picks the PyTorch build, for example
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
SHELL := bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH_INDEX ?=
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test check tutorials docs bench clean

demo: $(VENV)/.report
	$(BIN)/softoverlap demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest
	$(BIN)/python -m pytest --jaxtyping-packages=softoverlap,beartype.beartype -m "not bad_input and not slow" tests

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build dist docs/_build .pytest_cache .ruff_cache .hypothesis

# Only the extras differ; torch comes first, so that the index of choice serves it alone.
$(VENV)/.report $(VENV)/.dev: $(VENV)/.%: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(f"softoverlap needs Python 3.11 or newer; $(PYTHON) is {sys.version.split()[0]}. Try make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)"
	$(PIP_INSTALL) -e ".[$*]"
	touch $@
