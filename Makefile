# Everything runs in virtual environments inside the checkout; each target makes those that it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Many tests wait, so that four processes keep two cores busy. A process without tests takes some of another.
PYTEST := -m pytest -n 4 --dist worksteal
# The tests' modules are compiled once, not in each process of each run.
unexport PYTHONDONTWRITEBYTECODE
# Salt's timelib takes most of a minute to compile with optimization.
export CFLAGS += -O0

# Make a virtual environment, or print in one line why not. A Python without ensurepip (Debian's) would
# leave an incomplete one behind.
define make_venv
	@command -v "$(PYTHON)" >/dev/null || \
		{ echo "error: there is no $(PYTHON): install Python 3.10 or newer, or name one: make PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "error: $(PYTHON) is too old: Python 3.10 or newer is needed: make PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "error: $(PYTHON) lacks venv or pip: apt install python3-venv (Debian, Ubuntu), dnf install python3-pip (Fedora)" >&2; exit 1; }
	@"$(PYTHON)" -m venv $(1) || { rm -rf $(1); exit 1; }
endef

# Install into an environment, with pip, or faster: make UV=uv. Dependency groups need pip 25.1; that of a new
# environment may be older.
ifdef UV
install = @$(UV) pip install -q --python $(1)/bin/python $(2)
else
define install
	@$(1)/bin/python -m pip install -qq --disable-pip-version-check 'pip>=25.1'
	@$(1)/bin/python -m pip install -qq --disable-pip-version-check $(2)
endef
endif

.DEFAULT_GOAL := help

.PHONY: help
help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

.PHONY: demo
demo: $(VENV)/.demo ## the full life cycle of instances through libcloud, on the local endpoint
	@$(BIN)/python examples/demo.py

.PHONY: test
test: $(VENV)/.test salt ## the test suite; tests of what this machine lacks are skipped and listed at the end
	@$(BIN)/python $(PYTEST)

# Salt needs timelib, which has no wheels: it is installed only with a C compiler and Python's headers.
.PHONY: salt
salt: $(VENV)/.test
	@$(BIN)/python -c 'import salt' 2>/dev/null || \
	if printf '#include <Python.h>\n' | $${CC:-cc} -fsyntax-only -x c \
		-I"$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')" - 2>/dev/null; \
	then echo "setting up Salt ..."; \
		$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[salt]' 2>$(VENV)/salt.log || \
		{ tail -n 3 $(VENV)/salt.log; echo "Salt could not be installed: see $(VENV)/salt.log"; }; \
	fi

.PHONY: check
check: $(VENV)/.dev ## lint, format, types, spelling, and tests with coverage
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests/typed_user.py
	$(BIN)/codespell
	$(BIN)/coverage run $(PYTEST) -q
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

.PHONY: fuzz
fuzz: $(VENV)/.dev ## look for responses that break the driver, for SECONDS (20)
	$(call install,$(VENV),--group fuzz)
	$(BIN)/python tests/fuzz_answers.py -max_total_time=$(or $(SECONDS),20) -verbosity=0 -print_final_stats=1

.PHONY: bench
bench: $(VENV)/.bench ## compare with its peers, some minutes; QUICK=1: only check that it works
	$(BIN)/python benchmarks/bench.py $(if $(QUICK),--quick,--save)

.PHONY: consumers
consumers: .venv-consumers/.ready ## programs of other projects: climos, moto, Infrastructure Manager
	@.venv-consumers/bin/python -m pytest -q consumers

.PHONY: lower-bounds
lower-bounds: .venv-lower-bounds/.ready ## the whole test suite with the oldest libcloud and lxml
	@.venv-lower-bounds/bin/python $(PYTEST) -q

.PHONY: dist
dist: .venv-dist/.ready ## the wheel and the sdist, in dist/, checked
	.venv-dist/bin/python .ci/artefacts.py dist
	.venv-dist/bin/twine check --strict dist/*

.PHONY: release-check
release-check: $(VENV)/bin/python ## what the release of this version lacks
	@$(BIN)/python .ci/release_check.py

.PHONY: docs
docs: .venv-docs/.ready ## the documentation, in build/docs; a warning is an error
	.venv-docs/bin/sphinx-build -q -W --keep-going -b html docs build/docs

.PHONY: tables
tables: $(VENV)/.dev ## update the tables in the documents from the code
	$(BIN)/python docs/tables.py

.PHONY: clean
clean: ## remove what the other targets made
	rm -rf .venv* build dist .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache *.egg-info

$(VENV)/bin/python:
	$(call make_venv,$(VENV))

$(VENV)/.demo: $(VENV)/bin/python setup.cfg pyproject.toml
	@echo "setting up $(VENV) ..."
	$(call install,$(VENV),-e . --group demo)
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(call install,$(VENV),-e . --group bench)
	@touch $@

$(VENV)/.test: $(VENV)/bin/python setup.cfg pyproject.toml
	@echo "setting up $(VENV) ..."
	$(call install,$(VENV),-e . --group test)
	@touch $@ $(VENV)/.demo

$(VENV)/.dev: $(VENV)/.test
	@echo "setting up the checks ..."
	$(call install,$(VENV),-e . --group dev)
	@touch $@

# In environments of their own: the dependencies of these programs conflict with those of the tests.
.venv-dist/.ready: pyproject.toml
	@echo "setting up .venv-dist ..."
	$(call make_venv,.venv-dist)
	$(call install,.venv-dist,--group dist)
	@touch $@

.venv-consumers/.ready: setup.cfg pyproject.toml consumers/requirements.txt
	@echo "setting up .venv-consumers ..."
	$(call make_venv,.venv-consumers)
	$(call install,.venv-consumers,-r consumers/requirements.txt)
	@.venv-consumers/bin/python -m pip download -q --disable-pip-version-check --no-deps --no-binary :all: \
		-d .venv-consumers/climos mosclient==1.0.14 prettytable==0.7.2
	@touch $@

.venv-docs/.ready: setup.cfg pyproject.toml
	@echo "setting up .venv-docs ..."
	$(call make_venv,.venv-docs)
	$(call install,.venv-docs,-e . --group docs)
	@touch $@

# The versions are read from setup.cfg, so that the promised ones are the tested ones.
.venv-lower-bounds/.ready: setup.cfg pyproject.toml
	@echo "setting up .venv-lower-bounds ..."
	$(call make_venv,.venv-lower-bounds)
	@sed -n '/^install_requires/,/^$$/s/>=/==/p' setup.cfg >.venv-lower-bounds/constraints.txt
	@cat .venv-lower-bounds/constraints.txt
	@test -s .venv-lower-bounds/constraints.txt
	$(call install,.venv-lower-bounds,-c .venv-lower-bounds/constraints.txt -e . --group test)
	@touch $@
