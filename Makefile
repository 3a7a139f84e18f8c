# Rust, make and (on Debian) apt are enough for everything here. `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

SERVICES_DIR := .services
SHELL_SCRIPTS := $(filter-out %/lib %/deploy,$(wildcard scripts/*)) $(wildcard scripts/lib/*.sh) .ci/run

# What validate-ci runs: the quickest to fail first, the tests last.
CI_STEPS := check-scripts check-store check-manifests deny lint check-generated test test-backup test-deploy test-contract test-faults

.PHONY: help setup demo dev up down preflight deploy-gate deploy-rollout deploy-monitor test test-backup test-contract test-faults test-deploy backup restore-drill bench lint fmt openapi docs check-generated deny check-scripts services-up services-down validate-ci build smoke-images security check-manifests check-store

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what building and testing need, and say which versions there are
	@source scripts/lib/common.sh && ensure_cc
	@cargo --version
	@cc --version | head -n 1
	@scripts/services install
	@scripts/verifiers >/dev/null
	@scripts/contract install
	@scripts/oidc-provider >/dev/null
	@echo "node $$(node --version)"

# The dev profile: a first build in the release profile takes several times as long.
demo: ## Play the main job from publish to delivery, with no services, and print the proof
	@source scripts/lib/common.sh && ensure_cc
	@cargo run -q -p relaypost -- demo

dev: ## Serve everything in one process on port 3000, with no services
	@source scripts/lib/common.sh && ensure_cc
	@cargo run -q -p relaypost -- serve

up: ## Start API, two workers, PostgreSQL, Redis and a mail catcher, as containers where an engine works
	@scripts/up

down: ## Stop what `make up` started and remove its data (KEEP=1 keeps the data)
	@scripts/down

preflight: ## Check a running instance end to end and print a table (default: that of `make up`; docs/promotion.md)
	@scripts/deployment preflight

deploy-gate: ## May a new version be promoted? (BASE_URL=, ENV_FILE=; docs/promotion.md)
	@scripts/deployment gate

deploy-rollout: ## Traffic to the canary in steps of 5, 25, 50 and 100 %, rolled back when it is worse (docs/promotion.md)
	@scripts/deployment rollout

deploy-monitor: ## Watch a version beside the one before, and roll back when it is worse (MINUTES=30 THRESHOLD=0.5; docs/promotion.md)
	@scripts/deployment monitor

test: ## Run all tests on both backends (ARGS="--test it fault" goes to cargo test)
	@scripts/test $(ARGS)

test-backup: ## Back up, write on, restore, damage and prune, on PostgreSQL and SQLite
	@scripts/test-backup

test-contract: ## Hold the running service to its OpenAPI document with schemathesis (SCHEMATHESIS_EXAMPLES=500 looks longer)
	@scripts/contract

test-faults: ## Two minutes of faults under load, from a seed that is printed (SEED=7 repeats one, FAULTS=silent-redis or all: one kind or each alone)
	@scripts/faults

backup: ## Back up the database of DATABASE_URL into BACKUP_DIR (default: backups), while Relaypost runs
	@scripts/backup

restore-drill: ## Prove the newest backup (BACKUP=FOLDER another): restore it into a scratch database and compare
	@scripts/restore-drill

test-deploy: ## Test up, down, preflight and the deploy targets against real processes (ARGS=up, drill or unit: a part)
	@scripts/test-deploy $(ARGS)

bench: ## Measure on PostgreSQL and Redis beside a bare client (BENCH_QUICK=1: two minutes; ARGS=bullmq: another mode, docs/performance.md)
	@scripts/bench $(ARGS)

lint: ## Check the format and run clippy; a warning is an error
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets -- -D warnings

fmt: ## Format the Rust code
	@cargo fmt --all

openapi: ## Make api/openapi.json from the code
	@scripts/generated write openapi

docs: ## Make docs/configuration.md from the code
	@scripts/generated write docs

check-generated: ## Check that the generated files fit the code
	@scripts/generated check

deny: ## Check licences, sources and bans of the dependencies
	@scripts/security deny

.PHONY: build smoke-images security check-manifests
build: ## Build the container images, with an engine or without, print their sizes and try them
	@scripts/build-images
	@scripts/smoke-images

smoke-images: ## Run the built images as in production and ask whether they are ready
	@scripts/smoke-images

security: ## Check dependencies, secrets in the tree and the packages of the images; say what was skipped
	@scripts/security

check-manifests: ## Check compose files, k8s/ and the workflow of GitHub
	@scripts/manifests

check-scripts: ## Check the shell scripts (shellcheck is used when it is there)
	@for script in $(SHELL_SCRIPTS); do bash -n "$$script"; done
	@if command -v shellcheck >/dev/null; then \
	  shellcheck -x $(SHELL_SCRIPTS); \
	else \
	  echo "check-scripts: syntax only, shellcheck is missing (apt-get install shellcheck)"; \
	fi

check-store: ## Check that only the store holds statements on the tables of deliveries
	@scripts/store-wall

services-up: ## Start a private PostgreSQL and Redis in .services and print how to reach them
	@scripts/services start $(SERVICES_DIR)

services-down: ## Stop them and remove their data
	@scripts/services stop $(SERVICES_DIR)

validate-ci: ## Run everything that CI runs
	@for step in $(CI_STEPS); do \
	  echo "==> $$step"; \
	  start=$$SECONDS; \
	  $(MAKE) --no-print-directory "$$step" || { echo "==> $$step: failed after $$((SECONDS - start)) s"; exit 1; }; \
	  echo "==> $$step: ok, $$((SECONDS - start)) s"; \
	done
