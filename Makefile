# `make help` lists what there is. Everything runs in a virtual environment of its own.

PYTHON ?= python3
VENV ?= .venv
# Any requirement pip understands: TF_PACKAGE='tensorflow-cpu==2.18.*'. Give each its own VENV.
ifeq ($(shell uname -sm),Linux x86_64)
TF_PACKAGE ?= tensorflow-cpu>=2.16
else
TF_PACKAGE ?= tensorflow>=2.16
endif
# The Pythons that TensorFlow 2.16 or newer has wheels for.
PYTHON_VERSIONS ?= 3.9 3.10 3.11 3.12 3.13

PYTEST_ARGS ?=
# A worker grows to 3 GB: TensorFlow keeps what XLA has compiled.
PYTEST = $(python) -m pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal
# As for tools/compat.py: COMPAT='2.16 2.21:3.11'.
COMPAT ?=
COMPAT_ARGS ?= --parameters=all --numprocesses=auto --maxprocesses=4 --dist=worksteal
# Processors other than this: at most what oneDNN may use, or that TensorFlow leaves it off, as it
# does where there is no VNNI. What a processor does not have it still does not use.
ISAS ?= ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 ONEDNN_MAX_CPU_ISA=AVX512_CORE \
  ONEDNN_MAX_CPU_ISA=AVX2 TF_ENABLE_ONEDNN_OPTS=0
# Tests of what comes out of TensorFlow's kernels: with all of their parameters, as one in a hundred
# tells processors apart, but not those that spend their time in XLA.
ISA_TESTS = $(addprefix tests/,$(addsuffix _test.py,accuracy kernel known_values nonfinite \
  xla_onednn))
ISA_ARGS ?= --parameters=all -k 'kernel_test or LongSums or exactly_the_cells or few_taps \
  or PairsOfChannels or on_each_axis or AllOnes or ResultsTest'
DEMO_ARGS ?=
BENCH_ARGS ?=
STEPS_ARGS ?=
FUZZ_MINUTES ?= 30
NOTEBOOK_ARGS ?=
# Whose sections of docs/errors.md; all unless given.
ERRORS_OPS ?=
MODULES ?= tf_conv3d_grad/problem/*.py tf_conv3d_grad/lowering/tiles.py
# How many mutants of each module; all unless given, which takes an hour or more of most.
SAMPLE ?=
# Runs Bazel without a network; where it is missing, Bazel is run as it is.
BAZEL_OFFLINE ?= ../shared/tools/bazel-offline
BAZEL_ARGS ?=

export TF_CPP_MIN_LOG_LEVEL ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK = 1

bin = $(VENV)/bin
python = $(bin)/python

.DEFAULT_GOAL = help
.NOTPARALLEL:
.PHONY: help demo test test-all test-isa compat fuzz mutants errors-table docs notebook lint format types dist \
  bazel bench bench-steps bench-peers clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 20
	@echo
	@echo '  PYTHON=$(PYTHON)  VENV=$(VENV)  TF_PACKAGE=$(TF_PACKAGE)'

demo: $(VENV)/.has-examples  ## Train a 3-D network on a brain volume, TensorFlow as it is and patched
	$(python) examples/brain_segmentation.py $(DEMO_ARGS)

test: $(VENV)/.has-test  ## Run every test with some of its parameters
	$(PYTEST) $(PYTEST_ARGS)

test-all: $(VENV)/.has-test  ## Run every test with all of its parameters
	$(PYTEST) --parameters=all $(PYTEST_ARGS)

test-isa: $(VENV)/.has-test  ## Run the tests of numbers as on processors of other instruction sets
	@set -e; for isa in $(ISAS); do \
	  echo "== $$isa"; \
	  env $$isa $(PYTEST) $(PYTEST_ARGS) $(ISA_TESTS) $(ISA_ARGS); \
	done

compat:  ## Run it against TensorFlow 2.16 to 2.21, each set up beside, and write the table of versions
	$(PYTHON) tools/compat.py --pytest-args='$(COMPAT_ARGS)' $(COMPAT)

fuzz: $(VENV)/.has-test  ## Call the op with random arguments, valid and not, for half an hour
	$(python) -m tests.fuzzing --minutes $(FUZZ_MINUTES)

mutants: $(VENV)/.has-test $(VENV)/.has-dev  ## Change MODULES in small ways, and say what no test notices
	$(python) tools/mutants.py $(addprefix --sample=,$(SAMPLE)) $(MODULES)

errors-table: $(VENV)/.has-test  ## Write docs/errors.md anew: malformed calls here and in TensorFlow
	$(python) tools/errors_table.py $(ERRORS_OPS)

docs: $(VENV)/.has-docs  ## Build the reference of every public name, in build/docs/
	$(python) tools/reference.py build/docs

notebook: $(VENV)/.has-notebook  ## Run examples/your_model.ipynb; NOTEBOOK_ARGS=--write keeps its outputs
	PATH=$(abspath $(bin)):$$PATH $(python) tools/notebook.py $(NOTEBOOK_ARGS) examples/your_model.ipynb

lint: $(VENV)/.has-dev  ## Check the style
	$(bin)/ruff check .

format: $(VENV)/.has-dev  ## Mend what ruff can mend by itself
	$(bin)/ruff check --fix .

types: $(VENV)/.has-dev $(VENV)/.has-test  ## Check the types
	$(bin)/mypy

dist: $(VENV)/.has-dev $(VENV)/.has-test  ## Build the sdist and the wheel, install each and call the op
	rm -rf dist
	$(python) -m build --outdir dist
	$(python) tools/check_dist.py dist

bazel: $(VENV)/.has-test  ## Run the tests under Bazel, offline if it can be
	$(if $(wildcard $(BAZEL_OFFLINE)),$(BAZEL_OFFLINE) $(python),bazel) test //... $(BAZEL_ARGS)

bench: $(VENV)/.has-bench  ## Race the ops against their peers
	$(python) -m benchmarks $(BENCH_ARGS)

bench-steps: $(VENV)/.has-bench  ## Time training steps of whole networks, TensorFlow as it is and patched
	$(python) -m benchmarks.steps $(STEPS_ARGS)

bench-peers:  ## Install the peers of the benchmarks, each in an environment of its own
	$(PYTHON) -m venv .venv-torch
	.venv-torch/bin/pip install numpy torch==2.13.0
	$(PYTHON) -m venv .venv-jax
	.venv-jax/bin/pip install numpy jax

clean:  ## Remove the environments and everything built
	rm -rf .venv .venv-torch .venv-jax .venv-tf* $(VENV) .build build/ dist *.egg-info
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp per extra of setup.py: set up once, and again when setup.py changes.
$(VENV)/.has-%: setup.py $(VENV)/.created
	$(python) -m pip install '$(TF_PACKAGE)' --editable '.[$*]'
	@touch $@

$(VENV)/.created:
	@version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])') || { \
	  echo "make: no Python called '$(PYTHON)': name one, as in  make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }; \
	case " $(PYTHON_VERSIONS) " in *" $$version "*) ;; *) \
	  echo "make: '$(PYTHON)' is Python $$version, and TensorFlow has wheels for $(PYTHON_VERSIONS)." >&2; \
	  echo "make: name another, as in  make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1;; esac
	$(PYTHON) -m venv $(VENV)
	@touch $@
