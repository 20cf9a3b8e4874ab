# Two commands set everything up: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIPELINE_VENV ?= .venv-pipeline
PIPELINE_BIN := $(PIPELINE_VENV)/bin
PIP := $(BIN)/pip --quiet --disable-pip-version-check

.PHONY: demo environments test faults pipeline lint format clean

# Digits, which need no download: both stages, export, grid, score. On images of
# 8 x 8 the plainer networks are as good, and take half the time; and hard draws
# gain nothing that 143 held-out images would show.
demo: $(VENV)/.installed
	$(BIN)/python -m gdd_keras.distill --dataset digits --cgan-steps 3000 \
		--distill-steps 300 --generator compact --generator-width 64 \
		--discriminator-width 192 --discriminator-stem 0 \
		--discriminator-gain 2 --auxiliary-weight 1 --hard-share 0

# TFX runs on Linux alone; elsewhere its tests are skipped.
ifeq ($(shell uname -s),Linux)
TESTED := $(PIPELINE_VENV)/.installed
endif

# What `make test` sets up by itself; with --jobs=2 both at once.
environments: $(VENV)/.installed-dev $(TESTED)

# Two processes, since most tests keep one core busy; a file stays in one of
# them, since its tests share what they train. tests/conftest.py says in which
# order. Small fits spend most of their time on several threads waiting for each
# other, where the other process has the core.
test: environments
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile \
		--no-loadscope-reorder

# Everything that may go wrong outside of the program: signals, disks, rotten
# files, and KILLS times `kill -9` at each of six moments.
KILLS ?= 10
faults: $(VENV)/.installed-dev
	GDD_KERAS_KILLS=$(KILLS) $(BIN)/python -m pytest -s tests/faults

# Digits through the TFX pipeline; the second time from its cache. It pushes to
# a place of its own: so short a training does not beat the pretrained digits.
pipeline: $(PIPELINE_VENV)/.installed
	$(PIPELINE_BIN)/python -m pipelines.local_runner --dataset digits \
		--saved-models pipeline_output/saved_models \
		--cgan-steps 3000 --distill-steps 200 --tuner grid --omega-g 0.3 \
		--omega-l 0 10 50 --trial-networks 2 --trial-epochs 100 \
		--hard-share 0 --num-seeds 3 --eval-epochs 300 --threshold 0.7 \
		--distilled-ipc 1000

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(PIPELINE_VENV) .pytest_cache .ruff_cache *.egg-info

define check_python
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "Python >= 3.11 is needed; name one: make demo PYTHON=..."; exit 1; }
endef

$(VENV)/.installed: requirements.txt pyproject.toml
	$(check_python)
	@echo "setting up $(VENV) (about two minutes) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install -r requirements.txt
	@$(PIP) install --no-deps -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt requirements-beam.txt
	@$(PIP) install -r requirements-dev.txt
	@touch $@

# Without a resolver: the pins are complete, see pipelines/requirements.in.
$(PIPELINE_VENV)/.installed: pipelines/requirements.txt pipelines/requirements-tfx.txt pyproject.toml
	$(check_python)
	@echo "setting up $(PIPELINE_VENV), TFX's environment (about three minutes) ..."
	@$(PYTHON) -m venv $(PIPELINE_VENV)
	@$(PIPELINE_BIN)/pip --quiet --disable-pip-version-check install --no-deps \
		-r pipelines/requirements.txt -r pipelines/requirements-tfx.txt
	@$(PIPELINE_BIN)/pip --quiet --disable-pip-version-check install --no-deps -e .
	@touch $@
