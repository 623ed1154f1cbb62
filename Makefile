VENV ?= .venv
PYTHON ?= python3
READY = $(VENV)/.ready
PYTEST = $(VENV)/bin/python -m pytest
SHARED = -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.PHONY: probes test lint benchmark clean

probes: $(READY)  ## run the probes on the embedded default model
	$(PYTEST) $(ARGS)

test: $(READY)  ## run the project's own tests
	OMP_NUM_THREADS=1 $(PYTEST) $(if $(filter tests%,$(ARGS)),,tests) $(SHARED) $(ARGS)

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

benchmark: $(READY)
	$(VENV)/bin/python -m benchmarks

$(READY): requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=python3.11, say")'
	@echo 'Setting up $(VENV): a minute or two.'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

clean:
	rm -rf $(VENV)
