# Everything a checkout needs, through one virtual environment in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SYSTEM_PACKAGES := libportaudio2 libasound2-plugins pulseaudio pulseaudio-utils chromium

.PHONY: help demo serve mic test lint audit bench model api system-packages clean
help:
	@echo "make demo   stream a recording through the server and watch it being recognized"
	@echo "make serve  run the server        make mic    dictate to it from the microphone"
	@echo "make test   run every test        make lint   style, types, import rules, bandit"
	@echo "make audit  known vulnerabilities of what is installed"
	@echo "make bench RECORDINGS=DIR  measure speed and latency      make api  the Python API as pages, in build/api"
	@echo "make model RECORDINGS=DIR DEV=DIR TEXT='FILE…' PRONUNCIATIONS=FILE  train a model, in build/model"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml client/pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable . --editable ./client
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py

serve: $(VENV)/.installed
	$(BIN)/streaming-asr serve

mic: $(VENV)/.installed
	$(BIN)/streaming-asr-mic

# As root what is missing is installed; otherwise it is named, and the tests that need it skip and say so.
system-packages:
	@missing=""; for package in $(SYSTEM_PACKAGES); do \
	  dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q "ok installed" || missing="$$missing $$package"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing >/dev/null; \
	else echo "missing system packages, tests that need them will be skipped:$$missing"; fi

test: $(VENV)/.installed-test system-packages
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report --skip-covered --sort=cover

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml streaming_asr client examples

audit: $(VENV)/.installed-test
	$(BIN)/python -m tests.audit

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks $(if $(RECORDINGS),--recordings "$(RECORDINGS)")

# From a folder of recordings to a model that serves (docs/training.md); the same command goes on after a stop.
MODEL := build/model
PARTS := $(MODEL).parts
PROCESSES := 1
# Settings of the runs: JSON. Without NEURAL_LM there is no language model that scores words again.
ACOUSTIC :=
NEURAL_LM :=

model: $(MODEL)/config.json

$(PARTS)/transcripts.txt $(PARTS)/held-out.txt &: | $(VENV)/.installed
	@if [ -z "$(RECORDINGS)" ] || [ -z "$(DEV)" ] || [ -z "$(TEXT)" ] || [ -z "$(PRONUNCIATIONS)" ]; then \
	  echo "make model needs RECORDINGS=DIR DEV=DIR TEXT='FILE…' PRONUNCIATIONS=FILE; see docs/training.md" >&2; exit 2; fi
	@mkdir -p $(PARTS)
	find $(RECORDINGS) -name '*.trans.txt' -exec cut -d ' ' -f 2- {} + >$(PARTS)/transcripts.txt
	find $(DEV) -name '*.trans.txt' -exec cut -d ' ' -f 2- {} + >$(PARTS)/held-out.txt

$(PARTS)/lm/lm.safetensors: $(PARTS)/transcripts.txt
	$(BIN)/streaming-asr build-lm $(TEXT) $< --pronunciations $(PRONUNCIATIONS) --output $(@D)

$(PARTS)/acoustic/trained: $(PARTS)/lm/lm.safetensors
	$(BIN)/torchrun --standalone --nproc-per-node $(PROCESSES) -m streaming_asr.cli train $(RECORDINGS) --dev $(DEV) \
	  --lexicon $(<D)/lexicon.txt $(if $(ACOUSTIC),--config $(ACOUSTIC)) --output $(@D)
	@touch $@

$(PARTS)/neural_lm.safetensors: $(PARTS)/lm/lm.safetensors $(PARTS)/held-out.txt
	$(BIN)/streaming-asr train-neural-lm $(TEXT) $(PARTS)/transcripts.txt --dev $(PARTS)/held-out.txt \
	  --lexicon $(<D)/lexicon.txt --config $(NEURAL_LM) --output $@

$(MODEL)/config.json: $(PARTS)/lm/lm.safetensors $(PARTS)/acoustic/trained $(if $(NEURAL_LM),$(PARTS)/neural_lm.safetensors)
	$(BIN)/streaming-asr export-model --name $(notdir $(MODEL)) --acoustic $(PARTS)/acoustic/model \
	  --lexicon $(<D)/lexicon.txt --lm $< $(if $(NEURAL_LM),--neural-lm $(PARTS)/neural_lm.safetensors) \
	  $$(test ! -e $(<D)/g2p.safetensors || echo --g2p $(<D)/g2p.safetensors) --output $(@D)

api: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	$(BIN)/pdoc --docformat restructuredtext --output-directory build/api streaming_asr streaming_asr_client

clean:
	rm -rf $(VENV) build dist *.egg-info client/*.egg-info
