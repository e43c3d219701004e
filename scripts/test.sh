#!/usr/bin/env bash
# Everything that must hold: ruff, mypy, all tests. Installs what they need first. Options go to pytest.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/install.sh dev
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
# One process per core, one thread in each: the tests are many small computations.
OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n "$(nproc)" --dist loadfile "$@"
