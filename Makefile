# From a fresh clone, with Python 3.10 to 3.12 and a package index:
#   make demo                 one human demonstration to a policy in an unseen domain, about 25 minutes on 2 cores
#   make demo QUICK=1         the same program, smaller: about 6 minutes
#   make demo TASK=Stack      another task
#   make demo ENV=rig         the target world is a virtual robot, driven in real time by the robot's own driver
#   make test                 the tests
#   make quick-test           those of less than five seconds that need no machine to themselves, about 4 minutes
#   make check                format, lint, types, direction of imports
# The first of them creates .venv; it is renewed when pyproject.toml or constraints.txt changes.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.10 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TYPES := $(VENV)/types
PACKAGES := simreal_envs simreal_datasets simreal_agents simreal_cli

TASK ?= Lift
QUICK ?=
# Not ?=, since shells have a variable of this name.
ENV := sim
ARGS ?=

# Rendering without a display; `simreal doctor` says which backends work here.
export MUJOCO_GL ?= egl

# What is imported is compiled once and kept: a small part of what pip would compile.
unexport PYTHONDONTWRITEBYTECODE

# One after the other, also with -j.
.NOTPARALLEL:
.PHONY: demo test quick-test test-together test-alone check format types venv clean

demo: $(READY)
	$(BIN)/simreal demo --task $(TASK) --env $(ENV) $(if $(filter-out 0,$(QUICK)),--quick) $(ARGS)

test: test-together test-alone

quick-test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m 'not alone and not slow' $(ARGS)

# ARGS may choose by file and by -k, not by -m. Exit code 5 of pytest: it chose no test of this kind.
test-together: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m 'not alone' $(ARGS) || [ $$? = 5 ]

test-alone: $(READY)
	$(BIN)/pytest -m alone $(ARGS) || [ $$? = 5 ]

check: $(READY) types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Folders are imported under other names (`agents` as `simreal_agents`); links give mypy the names.
types: $(READY)
	@mkdir -p $(TYPES)
	@ln -sfn $(CURDIR)/simreal_envs $(TYPES)/simreal_envs
	@for folder in datasets agents cli; do ln -sfn $(CURDIR)/$$folder $(TYPES)/simreal_$$folder; done
	MYPYPATH=$(TYPES) $(BIN)/mypy $(addprefix -p ,$(PACKAGES))

venv: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 13) and "simreal needs Python 3.10 to 3.12, found " + sys.version.split()[0] + " (choose one: make PYTHON=python3.11)")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --no-compile -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
