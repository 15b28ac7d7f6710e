# Each target makes its own virtual environment from nothing but Python >= 3.11.
PYTHON := $(shell for p in python3.11 python3.12 python3.13 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)
BIN := .venv/bin

.PHONY: demo recipe recipe-gpu ablation test test-torch lint clean

# A step's buffers are larger than glibc keeps: it would give them back to the system after every
# step and fault them in again page by page, a fifth of the step's time on two cores.
KEEP_PAGES := MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=80000000000 \
	MALLOC_TOP_PAD_=268435456 MALLOC_ARENA_MAX=1

demo: .venv/done
	$(KEEP_PAGES) JAX_PLATFORMS=cpu $(BIN)/python launch/demo.py --workdir=runs/demo

recipe: .venv/done
	$(KEEP_PAGES) JAX_PLATFORMS=cpu $(BIN)/python launch/recipe.py --workdir=runs/recipe

# A larger model on larger scenes; wants `.venv/bin/pip install '.[cuda]'` first.
recipe-gpu: .venv/done
	$(BIN)/python launch/recipe.py --variant=gpu --workdir=runs/recipe-gpu

ablation: .venv/done
	$(KEEP_PAGES) JAX_PLATFORMS=cpu $(BIN)/python launch/ablation.py --workdir=runs/ablation

# Two at a time: the suite is mostly XLA compiling, on a core and a half.
test: lint
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n 2 --dist loadfile -m "not torch and not slow"

test-torch: .venv-torch/done
	JAX_PLATFORMS=cpu .venv-torch/bin/python -m pytest -m torch

lint: .venv/done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.venv/done: requirements.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-deps -r requirements.txt
	touch $@

# Everything is named, so that no CUDA package comes along with torch; where pip is shown CPU builds
# (PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL) it takes that of torch itself as well.
.venv-torch/done: requirements.txt requirements-torch.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed" >&2; exit 1; }
	$(PYTHON) -m venv .venv-torch
	.venv-torch/bin/python -m pip install --quiet --no-deps -r requirements.txt -r requirements-torch.txt
	touch $@

clean:
	rm -rf .venv .venv-torch runs
