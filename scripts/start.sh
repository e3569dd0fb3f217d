#!/usr/bin/env bash
# From a fresh clone to an answer: set up .venv, let glmdoctor check the machine, hand over to the glmcore chat.
# Arguments go to `glmdoctor chat`: --model DIR, --once TEXT, --quant int4, … Needs no root; safe to run again.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

install_extra serve
[ "${VIRTUAL_ENV:-}" = "$venv" ] || say "for glmdoctor and glmcore in your shell: . $(printf %q "$venv")/bin/activate"
exec "$venv/bin/glmdoctor" chat "$@"
