# Two commands do everything on a fresh machine: `make study` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SPEC ?= quick

.PHONY: study test test-fast test-all newest lint bench faults soak truth browser fashion tables help

help:
	@echo "make study [SPEC=quick]   install, run a study, print the path of its report"
	@echo "make test                 install, lint, type-check, run the tests: of long matrices one case of each row"
	@echo "make test-fast            tests without Ray, browser and other processes: less than a minute"
	@echo "make test-all             like make test, with whole matrices"
	@echo "make newest               the suite against the newest of all that we depend on, in .venv-newest"
	@echo "make lint                 ruff and mypy alone"
	@echo "make bench                all benchmarks, with their tables at the end; make bench-core is one alone"
	@echo "make bench-gpu            on a machine with a GPU: what steps cost there, and whether the laws hold (ten minutes)"
	@echo "make faults               break a study in every way, resume it, print the table (ten minutes)"
	@echo "make truth                real trainings: do intervals cover the truth, is a null found? (an hour and a half)"
	@echo "make tables               fetch UCI's larger tables for the atlas (1 MB, Debian's r-cran-mlbench)"
	@echo "make soak                 1,000 tiny runs in one study: does memory grow?"

study: $(VENV)/.installed
	$(BIN)/python -m study.run $(SPEC)

PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadscope --no-loadscope-reorder

test:
	@$(MAKE) --no-print-directory --jobs=2 lint fashion tables
	$(PYTEST) -m "not exhaustive"

test-fast: $(VENV)/.installed-test
	$(PYTEST) -m "not exhaustive and not ray and not browser and not slow"

test-all:
	@$(MAKE) --no-print-directory --jobs=2 lint fashion tables
	$(PYTEST)

# Without the upper bounds of pyproject.toml: what of the next releases breaks us?
NEWEST := .venv-newest
UNBOUNDED := import pathlib, re, tomllib; p = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]; \
  print(*(re.sub(",<.*", "", d) for d in [*p["dependencies"], *p["optional-dependencies"]["test"]]), sep="\n")

newest: fashion
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -c '$(UNBOUNDED)' > $(NEWEST)/unbounded.txt
	$(NEWEST)/bin/python -m pip install --quiet --upgrade --requirement $(NEWEST)/unbounded.txt
	$(NEWEST)/bin/python -m pip install --quiet --no-deps --editable .
	OMP_NUM_THREADS=1 $(NEWEST)/bin/python -m pytest -q -n 2 --dist loadscope --no-loadscope-reorder -m "not exhaustive"

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed-test
	PYTHONPATH=.:tests:tests/benchmarks $(BIN)/python -m benchmarks.everything

# One alone: the files are tests/benchmarks/bench_*.py.
bench-%: $(VENV)/.installed-test
	PYTHONPATH=.:tests:tests/benchmarks $(BIN)/python -m benchmarks.bench_$*

faults: $(VENV)/.installed-test
	PYTHONPATH=.:tests $(BIN)/python -m faults.matrix

truth: $(VENV)/.installed-test
	PYTHONPATH=.:tests $(BIN)/python -m truth.null results/truth-null
	PYTHONPATH=.:tests $(BIN)/python -m truth.coverage results/truth-coverage

soak: $(VENV)/.installed-test
	PYTHONPATH=.:tests $(BIN)/python -m faults.soak

# The marker files make a second call install nothing; a changed pyproject.toml installs what is missing. Compiling all
# of it ahead would take half as long again, and most modules are never imported; but what is imported must be kept
# compiled, and many containers forbid that: each process would then compile torch anew, for ten seconds.
unexport PYTHONDONTWRITEBYTECODE

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $$($(PYTHON) --version) was found; set PYTHON=/path/to/python3" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --no-compile --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[test]'
	@touch $(VENV)/.installed $@

# What the tests need of the system: the Debian package where that can be installed, a loud line where it can't.
define install
	if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(1) >/dev/null; \
	elif command -v apt-get >/dev/null && sudo -n true 2>/dev/null; then \
	  sudo apt-get update -qq && sudo DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(1) >/dev/null; \
	else \
	  echo "*** $(2) ***"; \
	fi
endef

browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	$(call install,chromium,NO CHROMIUM: THE BROWSER TESTS ARE SKIPPED. Install Chromium to run them.)

fashion: | browser # one after the other: there is one lock on the system's packages
	@test -d /usr/share/datasets/fashion-mnist || \
	$(call install,dataset-fashion-mnist,NO FASHION-MNIST: ITS TESTS ARE SKIPPED. Put its files into ~/.cache/wasam-study.)

# Unpacked and not installed: the package would bring the whole of R along for a megabyte of tables.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/wasam-study
tables: | fashion
	@test -f /usr/lib/R/site-library/mlbench/data/Vowel.rda || test -f "$(CACHE)/mlbench/data/Vowel.rda" || { \
	  place=$$(mktemp -d) && cd "$$place" && \
	  { apt-get download -qq r-cran-mlbench || { apt-get update -qq && apt-get download -qq r-cran-mlbench; }; } \
	    >/dev/null 2>&1 && dpkg-deb -x r-cran-mlbench_*.deb . && mkdir -p "$(CACHE)" && \
	  cp -r usr/lib/R/site-library/mlbench "$(CACHE)" && rm -rf "$$place"; \
	} || echo "*** NO TABLES OF R-CRAN-MLBENCH: THEIR TESTS ARE SKIPPED. Put its folder mlbench into $(CACHE). ***"
