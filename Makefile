# Everything from a fresh machine with Python and make: `make demo`, `make test`, `make check`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
OUT    ?= out
JOBS   ?= 2

.PHONY: demo test soak check bench docs clean

# Installed anew when what it depends on changes.
$(VENV)/.installed: pyproject.toml constraints.txt src/ssnr/_version.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/ssnr reproduce fig2 --init shared --out $(OUT)

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

# The long form of tests/faults, half an hour; figures for docs/reliability.md in $(OUT)/soak.jsonl.
soak: $(VENV)/.installed
	@mkdir -p $(OUT) && rm -f $(OUT)/soak.jsonl
	SSNR_SOAK=$(abspath $(OUT))/soak.jsonl $(BIN)/python -m pytest -n $(JOBS) --dist loadfile tests/faults tests/test_store_files.py

check: $(VENV)/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks --json $(OUT)/benchmarks.json

clean:
	rm -rf $(VENV) $(OUT)
