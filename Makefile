# `make demo` and `make test` work in a fresh clone: both make the environment first.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name))))
VENV ?= .venv
OUTPUT ?= caloforge-demo
BIN := $(VENV)/bin
FOLDERS := components models pipelines preprocessing serving tuning validation

.PHONY: demo test test-fast test-cpp test-cpp-sanitized mutants onnx-compat lint types constraints image-check image-test

demo: $(VENV)/ready
	$(BIN)/caloforge demo --output $(OUTPUT)

# One thread for each worker: pytest fills the cores already. Each worker begins with a stretch of its own, and does not
# train what the other's tests share. Hundreds of processes are started, which compile nothing that one has compiled.
PYTEST = OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n auto --dist worksteal
test: $(VENV)/ready
	$(PYTEST)

# For every day: without the tests that are marked slow.
test-fast: $(VENV)/ready
	$(PYTEST) -m "not slow"

# The C++ sampler against showers of the Python one; the second with sanitizers, and 2,000 damaged bundles.
CPP_BUILD ?= build-cpp
test-cpp: CPP_SANITIZE = OFF
test-cpp-sanitized: CPP_SANITIZE = ON
test-cpp test-cpp-sanitized: CPP_TARGETS = --target caloforge-test caloforge-fuzz
test-cpp test-cpp-sanitized: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/python tests/support/cpp_vectors.py $(CPP_BUILD)/vectors
	cmake -S serving/cpp -B $(CPP_BUILD)/$@ -DCALOFORGE_SANITIZE=$(CPP_SANITIZE) \
		-DCALOFORGE_VECTORS=$(abspath $(CPP_BUILD))/vectors
	cmake --build $(CPP_BUILD)/$@ --parallel 2 $(CPP_TARGETS)
	ctest --test-dir $(CPP_BUILD)/$@ --output-on-failure

# Breaks lines of the package one by one and says which test notices; minutes.
mutants: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/mutants.py

# Runs exported generators in ONNX Runtime 1.16 to the newest, each in an environment of its own; minutes.
ONNX_COMPAT ?= .onnx-compat
onnx-compat: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/onnx_compat.py $(ONNX_COMPAT)

lint: $(VENV)/ready .types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=.types $(BIN)/lint-imports
	$(BIN)/hadolint docker/Dockerfile

types: $(VENV)/ready .types
	$(BIN)/mypy

# Static tools read no import hooks: they get the package as a tree of links.
.PHONY: .types
.types:
	@rm -rf .types && mkdir -p .types/caloforge
	@ln -s $(CURDIR)/src/caloforge/* $(foreach folder,$(FOLDERS),$(CURDIR)/$(folder)) .types/caloforge/

# What docker/Dockerfile does, in a folder and without docker: minutes, and the CPU's torch unless
# TORCH_INDEX says otherwise. Then two steps, a trial and the server run in it.
IMAGE_ENVIRONMENT ?= .image-environment
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
image-check: $(VENV)/ready
	rm -rf $(IMAGE_ENVIRONMENT)
	$(PYTHON) -m venv --without-pip $(IMAGE_ENVIRONMENT)
	$(BIN)/python docker/requirements.py > $(IMAGE_ENVIRONMENT)/requirements.txt
	$(BIN)/python -m pip --python $(IMAGE_ENVIRONMENT) install --quiet --constraint constraints.txt \
		--extra-index-url $(TORCH_INDEX) --requirement $(IMAGE_ENVIRONMENT)/requirements.txt
	$(BIN)/python -m pip --python $(IMAGE_ENVIRONMENT) install --quiet --constraint constraints.txt --no-deps kfp
	$(BIN)/python -m pip --python $(IMAGE_ENVIRONMENT) install --quiet --no-deps .
	sh docker/prune.sh $(IMAGE_ENVIRONMENT)
	$(BIN)/caloforge compile --output $(IMAGE_ENVIRONMENT)/pipeline.yaml
	OMP_NUM_THREADS=1 $(BIN)/python docker/check.py $(IMAGE_ENVIRONMENT)/pipeline.yaml $(IMAGE_ENVIRONMENT)/bin

# The image itself, built and run without docker; skipped where the tools for it are not there.
image-test: $(VENV)/ready
	PATH="$(CURDIR)/$(BIN):$$PATH" sh docker/image-test.sh

# Without local tags: torch==2.13.0 fits the CPU and the CUDA builds.
constraints: $(VENV)/ready
	$(BIN)/pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//' | grep -v '@ file' > constraints.txt

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "caloforge needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
