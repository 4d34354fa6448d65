# `make demo` and `make test` need nothing but Python 3.11 or newer and make; they create .venv themselves.
PYTHON ?= python3
BIN := .venv/bin
# Somebody who looks on sees what is fetched; a log does not list a hundred packages.
UV := $(BIN)/uv pip install $(if $(shell test -t 2 && echo yes),,--quiet) --python $(BIN)/python
# Every trainer imports torch: without the bytecode of its first import that takes twice as long.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test chaos check install install-dev bench bench-peers compose-test lock clean

demo: .venv/installed  ## the Iris grid on two local workers, then its leaderboard
	$(BIN)/gridyard run examples/iris.yaml --workers 2

test: .venv/installed-dev  ## the whole suite, on real PostgreSQL and Redis servers
	@# In order of the folders: by the number of its tests, the longest file, two tests of chaos, would come last, alone.
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

chaos: .venv/installed-dev  ## sweeps while everything is killed, into docs/reliability.md; about half an hour
	$(BIN)/python -m tests.chaos --docs $(if $(SEED),--seed $(SEED))

check: .venv/installed-dev  ## lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed-dev  ## all benchmarks, into docs/performance.md; about an hour on a quiet machine
	$(BIN)/python -m benchmarks --docs

bench-peers: .venv-peers/installed  ## the Iris grid in Optuna and Ray Tune, which are installed apart
	.venv-peers/bin/python -m benchmarks.peers --docs

compose-test: .venv/installed  ## docker-compose.yml under faults, in a Docker Engine; some minutes after the first build
	$(BIN)/python -m tests.compose $(EPOCHS)

.env: | .env.example  ## an .env for docker compose with passwords of its own
	@umask 077; awk '/PASSWORD=$$/ { "openssl rand -hex 24" | getline word; close("openssl rand -hex 24"); $$0 = $$0 word } 1' \
	  .env.example > $@.tmp && mv $@.tmp $@
	@echo "wrote .env"

install: .venv/installed
install-dev: .venv/installed-dev

.venv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Gridyard needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "Creating .venv …"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.8

.venv/installed: requirements.lock pyproject.toml | .venv/bin/uv
	@echo "Installing from requirements.lock (6 GB of disk with PyTorch; about two minutes the first time) …"
	@$(UV) --require-hashes -r requirements.lock
	@# As a plain path: else a script beside a checkout called gridyard would import that folder, and find nothing in it.
	@$(UV) --no-deps --no-build-isolation --config-settings editable_mode=compat -e .
	@touch $@

.venv/installed-dev: requirements-dev.lock .venv/installed
	@$(UV) --require-hashes -r requirements-dev.lock
	@touch $@

# Of its own, so that no peer decides on our versions; the .pth file lets it see our torch.
.venv-peers/installed: benchmarks/peers.txt .venv/installed-dev
	@$(BIN)/python -m venv --without-pip .venv-peers
	@$(BIN)/uv pip install --quiet --python .venv-peers/bin/python --require-hashes -r benchmarks/peers.txt
	@$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > $$(.venv-peers/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/gridyard.pth
	@touch $@

lock: | .venv/bin/uv  ## take newer versions into the lock files
	$(BIN)/uv pip compile --quiet --upgrade pyproject.toml --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header -o requirements-dev.lock
	$(BIN)/uv pip compile --quiet pyproject.toml --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header -c requirements-dev.lock -o requirements.lock

clean:
	rm -rf .venv .venv-peers build *.egg-info
