# perception_bev: sets itself up on a machine with python3, git and make. `make` alone explains.
PYTHON ?= python3
VENV := $(CURDIR)/.venv
RUN := $(VENV)/bin

# Set-up compiles what no ROS installation provides into .venv. The wheels find it by themselves; a
# sourced ROS 2 is told where it lies.
ifdef ROS_DISTRO
export AMENT_PREFIX_PATH := $(VENV):$(AMENT_PREFIX_PATH)
export LD_LIBRARY_PATH := $(VENV)/lib:$(LD_LIBRARY_PATH)
endif

.DEFAULT_GOAL := help
.PHONY: help setup setup-test demo test lint bench clean

help: ## show this
	@echo "perception_bev: make TARGET [PYTHON=python3] [TORCH_INDEX=URL]"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: ## make .venv with what is needed to run
	@$(PYTHON) scripts/bootstrap.py runtime

setup-test: ## the same, and what is needed to train and test
	@$(PYTHON) scripts/bootstrap.py test

demo: setup ## simulate a drive and play it through the nodes; recorded sensors: DATA=<folder>
	@$(RUN)/bev demo $(if $(DATA),--data "$(DATA)") $(ARGS)

test: setup-test ## run every test: make test [ARGS="-k name"]
	$(RUN)/python -m pytest -q $(ARGS)

lint: setup-test ## ruff
	$(RUN)/ruff check .

bench: setup ## measure the live path: make bench DATA=<folder>
	@$(RUN)/bev bench overhead --data "$(DATA)" $(ARGS)

clean: ## remove .venv and everything that was built
	rm -rf .venv build install log dist *.egg-info .pytest_cache .hypothesis .ruff_cache
