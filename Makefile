# Everything that a fresh Debian or Ubuntu machine needs is fetched by these targets themselves.
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help
# Tests wait half of their time, for clocks and for what they started.
PROCESSES ?= $(shell expr $$(nproc) + 1)

.PHONY: run test check bench soak fuzz image help clean

run: $(VENV)/run.stamp  ## start the suite: on the local Docker engine, else on a throwaway one (ONCE=1: end as soon as it works)
	$(BIN)/python -m lab.demo

test: $(VENV)/dev.stamp tools  ## run all tests (as root also those on real engines, etcd and nginx)
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadscope --no-loadscope-reorder $(ARGS)

check: $(VENV)/dev.stamp  ## formatter, linter, strict types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py tests/test_words.py

bench: $(VENV)/dev.stamp  ## measure the budgets beside a peer, in one run; figures in docs/performance.md
	$(BIN)/python -m lab.tools fetch lab bench
	$(BIN)/python -m bench

soak: $(VENV)/dev.stamp tools  ## the fault rows with their real timers (about 30 minutes)
	SOAK=1 $(BIN)/python -m pytest -m "lab or soak" --timeout 1800 $(ARGS)

fuzz: $(VENV)/fuzz.stamp  ## fuzz all that reads what others wrote, 10 minutes each target (ARGS='--minutes 1 udp')
	$(BIN)/python -m tests.fuzz $(ARGS)

image:  ## build the container image pilotfish:local with the local Docker engine
	docker build -t pilotfish:local .

help:  ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

clean:  ## remove what these targets made in this folder
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: tools
tools: $(VENV)/dev.stamp
	$(BIN)/python -m lab.tools fetch lab image resolvers clock

$(VENV)/run.stamp: setup.cfg pyproject.toml lab/venv.sh
	sh lab/venv.sh $(VENV) '.[nginx]'
	@touch $@

$(VENV)/fuzz.stamp: $(VENV)/dev.stamp
	sh lab/venv.sh $(VENV) '.[nginx,test,dev,fuzz]'
	@touch $@

$(VENV)/dev.stamp: setup.cfg pyproject.toml lab/venv.sh
	sh lab/venv.sh $(VENV) '.[nginx,test,dev]'
	@touch $@ $(VENV)/run.stamp
