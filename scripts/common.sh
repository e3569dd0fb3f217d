# Shared by start.sh and test.sh: a Python that fits, the virtual environment, and what goes into it.
# Sourced, never run. Progress goes to standard error, so that standard output stays the program's own.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

find_python() {  # the first Python of 3.10 or later; $PYTHON wins
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.10 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "no Python 3.10 or later on PATH; install one, or name it: PYTHON=/path/to/python3 bash $0"
}

make_venv() {
    [ -x "$venv/bin/python" ] && "$venv/bin/python" -m pip --version >/dev/null 2>&1 && return
    local python
    python=$(find_python)
    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear "$venv" ||
        die "could not make a virtual environment in $venv (on Debian and Ubuntu: apt install python3-venv)"
}

install_extra() {  # $1: the extra of setup.cfg; does nothing where the same was installed before
    local stamp=$venv/.installed-$1 wanted requirement
    wanted=$(cat "$root/setup.cfg" "$root/pyproject.toml" "$root/scripts/choose_torch.py" "$root/glmdoctor/readings/torch_builds.py" |
        sha256sum)
    [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
    make_venv
    requirement=$("$venv/bin/python" "$root/scripts/choose_torch.py") || die "could not choose a torch build"
    say "installing $requirement (the torch build that this machine can run)"
    # shellcheck disable=SC2086  # the requirement may carry an index option
    "$venv/bin/python" -m pip install --disable-pip-version-check $requirement >&2 || {
        say "that build cannot be had here; taking the package index's own torch instead (it may be several GB)"
        "$venv/bin/python" -m pip install --disable-pip-version-check "${requirement%%[+ ]*}" >&2 ||
            die "torch could not be installed; pip's own words stand above"
    }
    say "installing glmdoctor and glmcore with the extra '$1'"
    "$venv/bin/python" -m pip install --disable-pip-version-check -e "$root[$1]" >&2 || die "installation failed"
    printf '%s\n' "$wanted" >"$stamp"
}
