# Everything here runs from a fresh clone; environments are made on first use and kept until
# pyproject.toml or constraints.txt change.

PYTHON ?= python3
VENV ?= .venv
TORCH_FREE_VENV ?= .venv-torch-free
NEWEST_VENV ?= .venv-newest
CONFIG ?= configs/embedded.yaml
CHECKPOINT ?= runs/embedded/final
OUT ?= runs/onnx
QUANTIZE ?= packed
ARGS ?=

BIN := $(VENV)/bin
PIP_INSTALL = -m pip install -qq --disable-pip-version-check -c constraints.txt -e
INPUTS := pyproject.toml constraints.txt
NODE_PACKAGES := examples/javascript/node_modules/.ready
# Those that need nothing but the extra `langgraph` and a checkpointer in a file.
NEWEST_TESTS := tests/graphs/test_router_agent.py $(addprefix tests/langgraph/test_,$(addsuffix .py,chat_arguments graph \
	live_tools middleware stored_plan strict_msgpack))

.DEFAULT_GOAL := help
.PHONY: help demo test test-torch-free test-newest check fmt train export bench javascript clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo-ready  ## Plan one request over idle, busy and no-GPU timelines (no torch needed)
	@$(BIN)/tomas demo $(ARGS)

test: check test-torch-free  ## Lint, types, import contracts, tests with and without torch
	$(BIN)/python -m pytest $(ARGS)

test-torch-free: $(TORCH_FREE_VENV)/.ready  ## Tests that plan in an environment without torch
	$(TORCH_FREE_VENV)/bin/python -m pytest tests/torch_free

test-newest: $(NEWEST_VENV)/.ready  ## Agents in an environment of one extra, with the newest LangGraph and LangChain
	$(NEWEST_VENV)/bin/python -m pytest -k "not picture" $(NEWEST_TESTS)  # how graphs are drawn may change

check: $(VENV)/.full-ready  ## Lint, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(VENV)/.full-ready  ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

train: $(VENV)/.full-ready  ## Train: make train CONFIG=configs/embedded.yaml ARGS="--out runs/embedded"
	$(BIN)/tomas train --config $(CONFIG) $(ARGS)

export: $(VENV)/.full-ready  ## Export to ONNX: make export CHECKPOINT=runs/embedded/final OUT=runs/onnx
	$(BIN)/python -m export.onnx --checkpoint $(CHECKPOINT) --out $(OUT) --quantize $(QUANTIZE) $(ARGS)

bench: $(VENV)/.full-ready  ## Measure decision latency and cold start, and the allocator beside simple policies
	$(BIN)/python -m benchmarks.decision_latency
	$(BIN)/python -m benchmarks.allocation

javascript: $(NODE_PACKAGES)  ## Install what examples/javascript needs (Node.js and npm must be there)

clean:  ## Remove environments and caches
	rm -rf $(VENV) $(TORCH_FREE_VENV) $(NEWEST_VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist

# --- environments --------------------------------------------------------------------------------------------

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo-ready: $(INPUTS) | $(BIN)/python
	@echo "installing tomas-router[cpu] into $(VENV) ..."
	@$(BIN)/python $(PIP_INSTALL) ".[cpu]"
	@touch $@

$(VENV)/.full-ready: $(INPUTS) | $(BIN)/python
	@echo "installing everything (torch included) into $(VENV) ..."
	@$(BIN)/python $(PIP_INSTALL) ".[cpu,train,export,langgraph,otel,eval,exact,host,ray,bench,examples,dev]"
	@touch $(VENV)/.demo-ready $@

$(TORCH_FREE_VENV)/.ready: $(INPUTS)
	@echo "installing tomas-router[cpu] and pytest into $(TORCH_FREE_VENV) ..."
	@test -x $(TORCH_FREE_VENV)/bin/python || $(PYTHON) -m venv $(TORCH_FREE_VENV)
	@$(TORCH_FREE_VENV)/bin/python $(PIP_INSTALL) ".[cpu]" pytest
	@touch $@

$(NODE_PACKAGES): examples/javascript/package-lock.json
	@echo "installing the packages of examples/javascript ..."
	@ONNXRUNTIME_NODE_INSTALL=skip npm ci --prefix examples/javascript --no-audit --no-fund --loglevel=error
	@touch $@

# Everything is as tested but what LangGraph and LangChain bring; the graph runs before anything else is installed.
$(NEWEST_VENV)/.ready: $(INPUTS)
	@echo "installing tomas-router[langgraph] with the newest LangGraph and LangChain into $(NEWEST_VENV) ..."
	@test -x $(NEWEST_VENV)/bin/python || $(PYTHON) -m venv $(NEWEST_VENV)
	@grep -vE '^(certifi|lang[a-z-]+)==' constraints.txt > $(NEWEST_VENV)/constraints.txt
	@$(NEWEST_VENV)/bin/python $(subst constraints.txt,$(NEWEST_VENV)/constraints.txt,$(PIP_INSTALL)) ".[langgraph]"
	$(NEWEST_VENV)/bin/python -m graphs.router_agent "Transcribe the meeting and summarise it" > /dev/null
	@$(NEWEST_VENV)/bin/python -m pip install -qq --disable-pip-version-check -c $(NEWEST_VENV)/constraints.txt \
		langgraph-checkpoint-sqlite pytest
	@touch $@
