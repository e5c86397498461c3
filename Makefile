# `make run` and `make test` do all set-up; the other targets are for daily work. Nothing asks a question.
#   PYTHON=python3.12   the interpreter for .venv, 3.10 or newer
#   TORCH_INDEX=        where torch comes from; empty: the default package index, on Linux the build with CUDA
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
export PYTHON ?= python3
export TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

SCENE ?= demo
ARGS ?=
BIN := .venv/bin
SETUP_INPUTS := constraints.txt pyproject.toml tools/setup.sh
FARM := build/typing/landmark_viewer

.PHONY: help run test lint types pytest bench bench-interactive demo-town demo-brighton gpu-check wheel clean

help:
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 16

run: .venv/ready-run ## opens the demo, or SCENE=path; without a display renders it to a PNG
	@tools/open.sh "$(SCENE)"

test: lint types pytest ## lint, types and all tests

lint: .venv/ready-test ## ruff check and ruff format --check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready-test $(FARM) ## mypy on core, cuda and scenes
	$(BIN)/mypy

pytest: .venv/ready-test ## the tests alone, one process per core; ARGS="-k camera" picks some
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses "$$(nproc)" --dist worksteal $(ARGS)

bench: .venv/ready-test ## prints the speed of every renderer, of edits, training, the window and streaming
	$(BIN)/python -m tests.bench.render_bench $(ARGS)
	$(BIN)/python -m tests.bench.edit_bench $(ARGS)
	$(BIN)/python -m tests.bench.train_bench $(ARGS)
	$(BIN)/python -m tests.bench.gui_bench $(ARGS)
	$(BIN)/python -m tests.bench.interactive_bench $(ARGS)
	$(BIN)/python -m tests.bench.edit_latency_bench $(ARGS)
	$(BIN)/python -m tests.bench.stream_scale_bench $(ARGS)
	$(BIN)/python -m tests.bench.stream_flight_bench $(ARGS)

bench-interactive: .venv/ready-test ## prints how fast and how good the picture is while the camera moves; ARGS=--quick
	$(BIN)/python -m tests.bench.interactive_bench $(ARGS)

demo-town: .venv/ready-run ## makes the demo town anew: its pictures, then its field; a quarter of an hour on two cores
	$(BIN)/landmark-viewer city build/town --blocks 2x2 --seed 1 --train 1200 --test 12
	$(BIN)/landmark-viewer train tools/demo/town.yaml --out build/town_run
	cp build/town_run/town-merged-stack.th scenes/demo/

demo-brighton: .venv/ready-run ## makes the demo of Brighton Beach anew from PHOTOS=folder, in two minutes
	$(BIN)/landmark-viewer train tools/demo/brighton_beach.yaml --out build/brighton_run --set dataset.path="$(abspath $(PHOTOS))"
	cp build/brighton_run/brighton_beach.th scenes/demo/

gpu-check: .venv/ready-test ## the renderer on a CUDA device against the CPU
	@$(BIN)/python -c 'import sys, torch; torch.cuda.is_available() or sys.exit("gpu-check: torch finds no CUDA device \
	here; with one, install its build of torch: make clean && make gpu-check TORCH_INDEX=")'
	$(BIN)/pytest -m gpu $(ARGS)

wheel: .venv/ready-test ## dist/landmark_viewer-*.whl
	rm -rf build/lib build/bdist.*
	$(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-deps --no-build-isolation -w dist .

clean: ## removes .venv and everything built
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/ready-run: $(SETUP_INPUTS)
	@tools/setup.sh run
	@touch $@

.venv/ready-test: $(SETUP_INPUTS)
	@tools/setup.sh test
	@touch .venv/ready-run $@

# mypy does not follow setuptools' editable install: it sees the package through these links.
$(FARM):
	@mkdir -p $@
	@for folder in viewer core cuda scenes; do ln -sfn ../../../$$folder $@/$$folder; done
