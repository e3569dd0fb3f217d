#!/usr/bin/env bash
# Installs what the tests need and runs lint, types and tests. Arguments go to pytest.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

install_extra dev
cd "$root"
say "lint"
"$venv/bin/python" -m ruff check .
say "types"
"$venv/bin/python" -m mypy
say "tests"
# One worker for each core; the tests of a file stay together, for their machines and models are costly to make. They come in
# their own order: sorted by their number, files of few long tests would be last, and the other workers wait for them.
exec "$venv/bin/python" -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder "$@"
