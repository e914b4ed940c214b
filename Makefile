# Toolsmith. `make help` lists the targets; every one installs what it needs first.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
# VLLM=0 leaves the vLLM part out of demo and up: no environment of 3 GB, one engine less.
VLLM ?= 1
WITH_VLLM := $(if $(filter 0,$(VLLM)),--no-vllm,--vllm)
ENVIRONMENTS := main gateway $(if $(filter 0,$(VLLM)),,vllm)
# More arguments for finetune, e.g. make train ARGS="--data rows.jsonl --max-steps 100"
ARGS ?=
PART ?=

.PHONY: help
help: ## Show the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install the environments (.venv, .venvs/*), with the torch build that fits the machine
	@$(PYTHON) environments.py $(ENVIRONMENTS)

.PHONY: demo
demo: setup ## The main job: train, release, serve, call through the gateway, stop (VLLM=0: without vLLM)
	@$(BIN)/python demo.py $(WITH_VLLM)

.PHONY: train
train: setup-main ## Fine-tune with the profile that fits this machine (ARGS="--data FILE …")
	@$(BIN)/finetune --profile auto $(ARGS)

.PHONY: up
up: setup ## Serve the promoted release: llama.cpp, vLLM (VLLM=0: without) and the gateway
	@$(BIN)/serve up $(WITH_VLLM)

.PHONY: down
down: setup-main ## Finish running requests and stop what `make up` started
	@$(BIN)/serve down

.PHONY: status
status: setup-main ## Show the parts of the stack and whether each can answer
	@$(BIN)/serve status || true

.PHONY: logs
logs: setup-main ## Show the logs (PART=llamacpp, vllm or gateway)
	@$(BIN)/serve logs $(PART)

.PHONY: test
test: check ## All tests: unit, each real engine, the whole stack (installs all environments)
	@$(PYTHON) environments.py main gateway vllm
	@$(BIN)/python -m pytest

.PHONY: check
check: setup-main ## Formatting, lint and types
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy

.PHONY: quantizer
quantizer: setup-main ## Compile llama.cpp's quantizer, needed for Q4_K_M and other K-quants (about 5 minutes)
	@$(PYTHON) environments.py quantizer

.PHONY: lock
lock: ## Resolve the pins of pyproject.toml into uv.lock again
	@$(PYTHON) environments.py lock

.PHONY: clean
clean: ## Remove the environments and caches; models/ stays
	@if [ -x $(BIN)/serve ]; then $(BIN)/serve down; fi
	@rm -rf .venv .venvs .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: setup-main
setup-main:
	@$(PYTHON) environments.py main
