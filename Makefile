# `make demo` and `make test` need Python 3.11 or newer, git and make; everything else they install.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Small CPU convolutions collapse under OpenMP contention.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo test lint peers docs clean

demo: $(VENV)/vos
	$(BIN)/innerloop-vos demo --out demo

# One process a core, one thread each: the tensors of the tests are too small to share.
test: $(VENV)/test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

# Other libraries for inner loops, which the tests compare with where they are installed.
peers: $(VENV)/peers

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	.ci/check_package $(BIN)

# The site, in site/; any warning is an error. Open site/index.html.
docs: $(VENV)/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

clean:
	rm -rf $(VENV) demo build site *.egg-info

# One stamp per set of extras: an install runs again when the metadata or a pinned version changes.
$(VENV)/vos $(VENV)/test $(VENV)/dev $(VENV)/docs: setup.cfg constraints.txt | $(BIN)/python
	$(INSTALL) --editable ".[$(EXTRAS)]"
	touch $@
$(VENV)/vos: EXTRAS = vos
$(VENV)/test: EXTRAS = vos,train,test
$(VENV)/dev: EXTRAS = vos,train,test,dev
$(VENV)/docs: EXTRAS = vos,train,docs

$(VENV)/peers: .ci/install_peers setup.cfg constraints.txt | $(VENV)/test
	.ci/install_peers $(BIN)/python
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
