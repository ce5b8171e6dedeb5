# `make help` lists what there is. Everything runs in .venv, which is made, and made anew when pyproject.toml or
# constraints.txt have changed, by plain venv and pip.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The GPU build of ONNX Runtime instead: make RUNTIME=gpu install
RUNTIME ?= cpu
# A package index that has the CPU build of PyTorch, which is a tenth of the size: make TORCH_INDEX=URL install
TORCH_INDEX ?=
# More for pytest: make test PYTEST_ARGS='-k ledger'
PYTEST_ARGS ?=
# What is in the image, if not what is built of the sources
WHEEL ?=
# One fault, one seed, so many rounds
CHAOS ?=
SEED ?=
ROUNDS ?=
SECONDS ?= 3600
DELIVERY ?= at_least_once
# More for the benchmark against peers: make bench BENCH_ARGS='--workload mixed'
BENCH_ARGS ?=
# Where banking77 and crosswoz are
DATA ?= data

.DEFAULT_GOAL := help
.PHONY: help install install-worker demo test inputs chaos soak gpu-check containers-check tools lint format wheel docs docs-serve dashboards kubernetes-alerts dashboard-picture bench bench-growth bench-instructions bench-load bench-starts bench-smoke bench-plumbing bench-worker bench-delivery bench-tuning bench-quality bench-tracing

help:  ## Show what there is
	@sed -n 's/^\([a-z-]*\):.*##/\1\t/p' $(MAKEFILE_LIST) | expand -t 18

install: $(VENV)/.installed  ## Make .venv with everything in it, PyTorch for the exporter too

install-worker: $(VENV)/.worker  ## Make .venv with what a worker needs, and the development broker

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

$(VENV)/.worker: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "stream-classifier needs Python 3.11 or newer, and $(PYTHON) is older: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing into $(VENV) (once; about a minute)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -e '.[$(RUNTIME),embedded,report]'
	@touch $@

$(VENV)/.installed: $(VENV)/.worker
	@echo "Installing what tests and the exporter need (once; some minutes, with PyTorch)"
	@$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -e '.[$(RUNTIME),embedded,report,export,otel,schema-registry,gateway,docs,dev]'
	@touch $@

demo: install-worker  ## Label sample tickets on a real Kafka, with nothing set up
	@$(BIN)/stream-classifier demo

test: install  ## Run all tests, on a real Kafka for each of four processes: they mostly wait
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

inputs: install  ## Label 1,000,000 generated inputs, and check each
	STREAM_CLASSIFIER_TEST_INPUTS=1000000 $(BIN)/python -m pytest -s tests/test_generated_inputs.py $(PYTEST_ARGS)

chaos: install  ## Break everything, for long: make chaos SEED=7 ROUNDS=20 CHAOS='-k frozen'
	CHAOS=full CHAOS_SEED=$(SEED) CHAOS_ROUNDS=$(ROUNDS) $(BIN)/python -m pytest tests/chaos -p no:randomly $(CHAOS)

soak: install  ## Watch one worker under load for an hour: make soak SECONDS=600 DELIVERY=exactly_once
	PYTHONPATH=tests $(BIN)/python -m chaos.soak --seconds $(SECONDS) --delivery $(DELIVERY)

gpu-check:  ## On a machine with an NVIDIA GPU: its tests, and how near it comes to its peak (in .venv-gpu)
	$(MAKE) VENV=.venv-gpu RUNTIME=gpu install
	.venv-gpu/bin/python -m pytest --gpu tests/gpu
	.venv-gpu/bin/python benchmarks/gpu.py

containers-check: install  ## Build the image and bring up docker-compose.yml: make containers-check WHEEL=dist/FILE
	PYTHONPATH=tests $(BIN)/python -m containers.check $(if $(WHEEL),--wheel $(WHEEL))

lint: install  ## Check style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile tests/containers/*/Dockerfile

TOOLS := build/tools

tools: $(TOOLS)/kustomize $(TOOLS)/actionlint  ## Build what manifests and workflows are checked with (takes Go)

$(TOOLS)/kustomize: PACKAGE := sigs.k8s.io/kustomize/kustomize/v5@v5.7.1
$(TOOLS)/actionlint: PACKAGE := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
$(TOOLS)/%:
	@command -v go > /dev/null || { echo "$* is built with Go, which is not here: install Go, or $* itself"; exit 1; }
	GOBIN=$(CURDIR)/$(TOOLS) go install $(PACKAGE)

format: install  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheel: install  ## Build the wheel and run its command in an environment of its own
	rm -rf dist build/wheel-check
	$(BIN)/python -m build --wheel --outdir dist .
	$(PYTHON) -m venv build/wheel-check
	build/wheel-check/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  "$$(ls dist/*.whl)[$(RUNTIME),embedded]"
	cd build && wheel-check/bin/stream-classifier --version
	cd build && wheel-check/bin/stream-classifier-export --help > /dev/null
	cd build && wheel-check/bin/stream-classifier classify --json --labels "delivery,refund" "where is my parcel" "我要退款"
	cd build && wheel-check/bin/stream-classifier demo --events 20 --rate 0

docs: install  ## Build the documentation into build/site; a warning fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-serve: install  ## Show the documentation at http://127.0.0.1:8000, and each change of it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

dashboards: install  ## Write the dashboards for Grafana, dashboards/*.json, from their code
	$(BIN)/python -m dashboards.build

RULES := config/prometheus/stream-classifier.rules.yml
KUBERNETES_RULES ?= config/kubernetes/components/service-monitor/prometheus-rule.yaml

kubernetes-alerts:  ## Write the alerts as the Prometheus Operator reads them, from config/prometheus
	@{ sed '/^spec:/q' $(KUBERNETES_RULES); sed -e '1,/^groups:/ { /^groups:/!d; }' -e 's/^./  &/' $(RULES); } > \
	  $(KUBERNETES_RULES).new
	@mv $(KUBERNETES_RULES).new $(KUBERNETES_RULES)

dashboard-picture: install  ## Draw the dashboards from what Prometheus collects of workers under load (five minutes)
	PYTHONPATH=tests $(BIN)/python -m monitoring.picture docs

bench: install .venv-peers/.installed  ## Measure the worker against other ways to label a stream, and against the machine
	$(BIN)/python benchmarks/ceiling.py
	$(BIN)/python benchmarks/bench.py --peers .venv-peers/bin/python --latency $(BENCH_ARGS)

.venv-peers/.installed: benchmarks/peers.txt
	@echo "Installing the other projects into .venv-peers (once; a minute)"
	@rm -rf .venv-peers
	@$(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers.txt
	@touch $@

bench-growth: install  ## Measure how the cost grows with labels, length, partitions, backlog and workers
	$(BIN)/python benchmarks/growth.py $(BENCH_ARGS)

bench-instructions: install  ## Count the instructions an event costs on our own paths, and hold them against their budget
	$(BIN)/python benchmarks/instructions.py

bench-load: install  ## Measure how late results are at 30, 70 and 90 % of what the worker can do
	$(BIN)/python benchmarks/load.py $(BENCH_ARGS)

bench-starts: install  ## Measure the time from the start of a process to its first label
	$(BIN)/python benchmarks/starts.py

bench-smoke: install  ## Run the benchmarks at a tiny size: whether they run, not how fast
	$(BIN)/python benchmarks/ceiling.py --events 64 --rounds 1
	$(BIN)/python benchmarks/bench.py --peers $(BIN)/python --only "confluent-kafka loop" --workload duplicates \
	  --events 64 --rounds 1 --out build/bench-smoke
	$(BIN)/python benchmarks/growth.py --events 1000 --rounds 1 --sizes 2 --out build/bench-smoke
	$(BIN)/python benchmarks/plumbing.py --events 1000 --rounds 1
	$(BIN)/python benchmarks/load.py --events 64 --seconds 1
	$(BIN)/python benchmarks/starts.py --rounds 1

bench-plumbing: install  ## Measure the worker around a null model against a bare loop
	$(BIN)/python benchmarks/plumbing.py

bench-worker: install  ## Measure the worker end to end against the same model in process
	$(BIN)/python benchmarks/end_to_end.py

bench-delivery: install  ## Measure exactly_once against at_least_once, with a null model
	$(BIN)/python benchmarks/delivery_modes.py

bench-tuning: install  ## Measure what single settings do to throughput and latency
	$(BIN)/python benchmarks/tuning.py

bench-tracing: install  ## Measure what tracing costs, off and on
	$(BIN)/python benchmarks/tracing.py

bench-quality: install  ## Measure how good the labels are: make bench-quality DATA=DIR
	$(BIN)/python benchmarks/quality.py $(DATA)
