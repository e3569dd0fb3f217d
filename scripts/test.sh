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
exec "$venv/bin/python" -m pytest "$@"
