# Every target says what it does; `make` alone prints them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export PYTHONPATH := $(CURDIR)/include:$(CURDIR)/plugins:$(CURDIR)
PYTHON = $$(scripts/environment)
UV = $(or $(shell command -v uv),$(shell ls -d $${LLM_ROLLOUT_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/llm-rollout}/uv-*/bin/uv 2>/dev/null | tail -1))

.PHONY: help python setup demo test test-unit test-devcluster test-airflow test-vllm test-gateway check format benchmark-staging benchmark-fabric benchmark-canary benchmark-judging benchmark-waiting benchmark-coldstart benchmark-evaluations up down controlplane requirements golden clean

help: ## Print this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Roll a model out four times on a real control plane: deploy, upgrade, roll back, stop a bad fabric
	@exec $(PYTHON) -m devcluster.demo run

test: check controlplane ## Run every check and every test, the devcluster and Airflow included
	@exec scripts/test_all

test-vllm: ## Run the real vLLM for CPU beside the stand-in and on the devcluster (installs 6 GB, half an hour)
	@exec $(PYTHON) -m pytest -m vllm tests/vllm

test-gateway: ## Run Traefik beside the devcluster's gateway (builds it from its Go module, ten minutes)
	@exec $(PYTHON) -m pytest -m "gateway or devcluster" tests/gateway

check: ## Lint, types, import contracts, example specs
	@python=$(PYTHON); \
	$$python -m ruff check . ; \
	$$python -m ruff format --check . ; \
	$$python -m mypy ; \
	$$(dirname $$python)/lint-imports --no-cache ; \
	$$python -m llm_rollout check include/rollouts/*.yaml

test-unit: ## Run the tests that start neither a cluster nor Airflow
	@exec $(PYTHON) -m pytest -m "not devcluster and not airflow and not vllm and not gateway"

test-devcluster: ## Run the tests on the devcluster alone
	@exec $(PYTHON) -m pytest -m "devcluster and not airflow and not gateway"

test-airflow: ## Run the tests that start Airflow (the demo among them)
	@exec $(PYTHON) -m pytest -m airflow

benchmark-staging: ## Measure staging beside the hub's client, curl and cat (6 GiB of memory, minutes)
	@exec $(PYTHON) -m benchmarks.staging

benchmark-fabric: ## Study who is blamed for a bad fabric, beside the rules of peers (about five minutes)
	@exec $(PYTHON) -m benchmarks.fabric

benchmark-canary: ## What judges of canaries decide on simulated rollouts (minutes; FULL=1 as in the study)
	@exec $(PYTHON) -m benchmarks.canary $(if $(FULL),--full)

benchmark-judging: ## Measure how many rounds a second a core judges, beside only reading them (a minute)
	@exec $(PYTHON) -m benchmarks.judging

benchmark-waiting: ## Measure 1,000 waits in one process beside polling (ten minutes)
	@exec $(PYTHON) -m benchmarks.waiting

benchmark-coldstart: ## Fifty injected failures of a cold start: class, first cause, seconds to the verdict (ten minutes)
	@exec $(PYTHON) -m benchmarks.coldstart

benchmark-evaluations: ## How comparisons end on the devcluster, go on after kills, and what users feel (three hours)
	@exec $(PYTHON) -m benchmarks.evaluations

up: ## Start devcluster, hub and Airflow and leave them running for a look
	@exec $(PYTHON) -m devcluster.demo up

down: ## Stop what `make up` started
	@exec $(PYTHON) -m devcluster.demo down

setup: ## Make the environment and install the llm-rollout and devcluster commands in it
	@python=$$(scripts/environment --with-commands); echo "$$(dirname $$python)/llm-rollout"

python: ## Print the interpreter of the project's environment, making it when missing
	@scripts/environment

controlplane: ## Build etcd, kube-apiserver, controller-manager, scheduler, LWS and an S3 server from Go modules
	@python=$(PYTHON); \
	$$python -m devcluster build ; \
	$$python -m devcluster.objects

format: ## Format the code and fix what the linter can
	@python=$(PYTHON); $$python -m ruff check --fix --exit-zero . ; $$python -m ruff format .

requirements: ## Compile requirements.txt and requirements-dev.txt from their .in files
	@$(UV) pip compile -q --universal --python-version 3.11 --no-emit-index-url --no-header requirements.in -o requirements.txt
	@$(UV) pip compile -q --universal --python-version 3.11 --no-emit-index-url --no-header requirements-dev.in -o requirements-dev.txt

golden: ## Write the expected manifests of the tests anew
	@UPDATE_GOLDEN=1 $(PYTHON) -m pytest tests/manifests -q

clean: ## Remove what tools left in the tree (the cache outside it stays)
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis var
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
