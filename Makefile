# Everything a reader or CI runs. Each target sets up .venv from constraints.txt if it is missing
# or stale. TORCH_INDEX picks the PyTorch build, for example
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
SHELL := bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH_INDEX ?=
# Tests run in so many processes of one thread each; a file is run by one of them.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# torch of one version can't be told from another build of it, so a change of index asks for a clean.
BUILT_FROM := $(shell cat $(VENV)/.torch_index 2>/dev/null)
ifneq ($(MAKECMDGOALS),clean)
ifneq ($(wildcard $(VENV)/.torch_index),)
ifneq ($(TORCH_INDEX),)
ifneq ($(TORCH_INDEX),$(BUILT_FROM))
$(error $(VENV) holds torch from "$(or $(BUILT_FROM),pip's default index)", not $(TORCH_INDEX): run `make clean` first)
endif
endif
endif
endif

.PHONY: demo test check tutorials docs bench bench-full studies fuzz clean
.NOTPARALLEL:

demo: $(VENV)/.report
	$(BIN)/softoverlap demo

test: $(VENV)/.dev tutorials
	$(PYTEST)
	$(PYTEST) --jaxtyping-packages=softoverlap,beartype.beartype -m "not bad_input and not slow" tests

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

# The fast setting of each tutorial; tests/test_tutorials.py says whether script and notebook agree.
tutorials: $(VENV)/.dev
	$(BIN)/python -m pytest tests/test_tutorials.py
	SOFTOVERLAP_TUTORIAL=fast $(BIN)/python -m pytest --nbmake tutorials/*.ipynb

docs: $(VENV)/.dev
	$(BIN)/sphinx-build -q -W --keep-going docs docs/_build/html

# Minutes: one case of each kind against its peer, and growth at few sizes.
bench: $(VENV)/.dev
	$(BIN)/python benchmarks/headlines.py
	$(BIN)/python benchmarks/growth.py --quick
	$(BIN)/python docs/benchmarks.py

# Hours: every comparison, every size. gpu.py is for machines with a GPU; house.py counts lines.
STUDIES := $(patsubst %,benchmarks/%.py,anchor_plan box_regression centre_head demo_seeds lesion_scores \
	real_lesions soft_anchors weak_supervision what_losses_learn what_metrics_see)
NO_TIMINGS := $(STUDIES) benchmarks/gpu.py benchmarks/house.py
RUN := run() { echo "== $$1"; $(BIN)/python "$$1"; }; set -e;
bench-full: $(VENV)/.dev
	$(RUN) for script in $(filter-out $(NO_TIMINGS),$(wildcard benchmarks/[!_]*.py)); do run $$script; done
	$(BIN)/python docs/benchmarks.py

# What trains or fits something: results, no timings.
studies: $(VENV)/.dev
	$(RUN) for script in $(STUDIES); do run $$script; done

# Damaged files through every command; what is finished is kept in runs/fuzz, so Ctrl-C loses little.
fuzz: $(VENV)/.dev
	$(BIN)/python -m tests.fuzz

clean:
	rm -rf $(VENV) build dist docs/_build docs/api/generated docs/tutorials .pytest_cache .ruff_cache .hypothesis

# Only the extras differ; torch comes first, so that the index of choice serves it alone.
# The stamp is touched last: an install that was cut off is begun again.
$(VENV)/.report $(VENV)/.dev: $(VENV)/.%: pyproject.toml constraints.txt
	@python=$(BIN)/python; test -x $$python || python=$(PYTHON); $$python -c 'import sys; v = sys.version.split()[0]; sys.exit("softoverlap needs Python 3.11 or newer, but " + sys.executable + " is " + v + ". Try: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)"
	echo "$(TORCH_INDEX)" > $(VENV)/.torch_index
	$(PIP_INSTALL) -e ".[$*]"
	touch $@
