# `make demo` and `make test` set up all they need and run; a second time they install nothing.
# What is installed is recorded in $(VENV)/.stamps, and installed again only when pyproject.toml changes.

PYTHON ?= python3
VENV ?= .venv
# The version that the figures in the documentation were measured with. On Linux the package index serves a
# build with CUDA (2 GB); `make TORCH_ARGS="--index-url <the CPU index of pytorch.org>"` takes the CPU build.
TORCH ?= torch==2.13.0
TORCH_ARGS ?=
PYTEST_ARGS ?=
# Scans in HU for `make benchmarks`, beside computed ones: no CT comes with this repository.
CT_VOLUMES ?=
# Models that `make benchmarks` puts on trial; what of them fails stands on their pages.
MODELS := mr-denoise mr-superres ct-denoise ct-superres
# Folder that the package nilearn was unpacked into, whose template is one of the scans of `evidence.calibrate`.
NILEARN ?=
# The folder of the scans that recognition is counted on, and that of their unpacked series.
SCANS ?=
SERIES ?=
# Of the image, as its descriptions have it.
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' medrestore/__init__.py)
# What builds the image: docker, podman or buildah.
BUILDER ?= docker
# Arguments of `benchmarks.measured.run`: scans that others measured.
MEASURED ?=
# Damaged inputs of each format that `make fuzz` tries: some hours, most of them for DICOM.
FUZZ_INPUTS ?= 1000000

# Whatever the caller has set: the tests start hundreds of processes, and each would compile the package anew.
export PYTHONDONTWRITEBYTECODE :=

BIN := $(VENV)/bin
# What is imported is compiled then, and no more: most of what is installed never is.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
STAMPS := $(VENV)/.stamps
# A process for each core, and one more, as tests of peers and of browsers wait; a core for each process. A file of
# tests stays together, with what it makes once. The files keep the order that tests/conftest.py gives them.
PROCESSES ?= $(shell echo $$(($$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN) + 1)))
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PROCESSES) --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.PHONY: help demo test tests environment lint style types quick fuzz benchmarks container container-test docs clean
.DELETE_ON_ERROR:

help:
	@echo "make demo        restore the sample scans, print the scores, write a picture"
	@echo "make test        ruff, mypy and every test (PYTEST_ARGS='-k name' narrows)"
	@echo "make quick       the tests that are not marked slow"
	@echo "make fuzz        a million damaged files of each format (FUZZ_INPUTS=1000 for fewer)"
	@echo "make lint        ruff and mypy"
	@echo "make benchmarks  measure against other methods and rewrite docs/benchmarks/"
	@echo "make docs        build the documentation into site/"
	@echo "make container   build the image with $(BUILDER)"
	@echo "make container-test  build it from a Debian of mmdebstrap with buildah, and run it with few rights"
	@echo "make clean       remove what was built, and $(VENV)"

demo: $(STAMPS)/demo
	$(BIN)/python sample_data/demo.py

# mypy keeps one core busy for a minute: beside the tests.
test: style
	@$(MAKE) --no-print-directory --jobs 2 types tests

environment: $(STAMPS)/dev

tests: $(STAMPS)/compiled
	$(PYTEST) $(PYTEST_ARGS)

quick: $(STAMPS)/compiled
	$(PYTEST) -m "not slow" $(PYTEST_ARGS)

fuzz: $(STAMPS)/compiled
	FUZZ_INPUTS=$(FUZZ_INPUTS) $(PYTEST) --dist load tests/fuzz $(PYTEST_ARGS)

lint: style types

style: $(STAMPS)/dev
	$(BIN)/ruff check .

types: $(STAMPS)/dev
	$(BIN)/mypy

benchmarks: $(STAMPS)/bench
	$(BIN)/python -m benchmarks.denoise.run
	$(BIN)/python -m benchmarks.denoise.run --gain middle,ramp
	$(BIN)/python -m benchmarks.noise.run
	$(BIN)/python -m benchmarks.reading.run --restore
	$(BIN)/python -m benchmarks.denoise.colour
	$(BIN)/python -m benchmarks.denoise.colour --colours fermi-0.75,hann --gain middle,ramp
	$(BIN)/python -m benchmarks.denoise.claims --speed
	$(BIN)/python -m benchmarks.denoise.series
	$(BIN)/python -m benchmarks.superres.run
	$(BIN)/python -m benchmarks.superres.claims
	$(BIN)/python -m benchmarks.superres.stripes
	$(BIN)/python -m benchmarks.uncertainty.run
	$(BIN)/python -m benchmarks.evidence.verdict
	$(BIN)/python -m benchmarks.evidence.detectability --noisy /usr/share/mricron/templates/ch2.nii.gz
	$(BIN)/python -m benchmarks.evidence.intervals $(NILEARN:%=--nilearn %)
	$(BIN)/python -m benchmarks.evidence.told $(NILEARN:%=--nilearn %)
	$(BIN)/python -m benchmarks.speed.batch
	$(BIN)/python -m benchmarks.ct.run $(CT_VOLUMES:%=--volume %)
	$(BIN)/python -m benchmarks.ct.claims
	$(BIN)/python -m benchmarks.superres.run --modality CT --volume computed-body $(CT_VOLUMES:%=--volume %)
	$(BIN)/python -m benchmarks.superres.claims --modality CT
	$(BIN)/python -m benchmarks.uncertainty.run --modality CT
	-for model in $(MODELS); do $(BIN)/medrestore verify $$model --markdown docs/models/$$model.md; done
	test -z "$(MEASURED)" || $(BIN)/python -m benchmarks.measured.run $(MEASURED)
	test -z "$(SCANS)" || $(BIN)/python -m benchmarks.evidence.rows $(SCANS) $(SERIES) $(STAMPS)/rows.jsonl
	test -z "$(SCANS)" || $(BIN)/python -m benchmarks.evidence.domain $(STAMPS)/rows.jsonl
	test -z "$(SCANS)" || $(BIN)/python -m benchmarks.evidence.explained $(SCANS) $(SERIES) --rows $(STAMPS)/explained.jsonl

container:
	$(BUILDER) build -f container/Dockerfile -t medrestore:$(VERSION) .

container-test: $(STAMPS)/dev $(STAMPS)/base.tar
	MEDRESTORE_BASE=$(CURDIR)/$(STAMPS)/base.tar $(BIN)/python -m pytest tests/container

$(STAMPS)/base.tar:
	mmdebstrap --variant=minbase --include=python3,python3-venv bookworm $@

docs: $(STAMPS)/docs
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist site .mypy_cache .pytest_cache .ruff_cache

$(STAMPS)/venv:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed, $(PYTHON) is ' + sys.version.split()[0])"
	@$(PYTHON) -c "import ensurepip, venv" || { echo "Python has no venv module: install python3-venv"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

# torch first and pinned: resolving it together with the rest may pick another build.
$(STAMPS)/torch: $(STAMPS)/venv
	$(PIP) $(TORCH_ARGS) '$(TORCH)'
	@touch $@

$(STAMPS)/demo $(STAMPS)/dev $(STAMPS)/bench $(STAMPS)/docs: $(STAMPS)/%: $(STAMPS)/torch pyproject.toml
	$(PIP) --editable '.[$*]'
	$(if $(filter bench,$*),$(PIP) --editable plugins/medrestore-classical)
	@touch $@

# What tests import is compiled by one process, where each process of the tests would do it at the same time.
$(STAMPS)/compiled: $(STAMPS)/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --collect-only -qq >/dev/null || true
	@touch $@
