#!/usr/bin/env bash
# The Auto classes' tests on other versions of transformers: `bash scripts/transformers_versions.sh 4.44.2 5.24.0 …`.
# "newest" is what the index has, "pre" a pre-release where there is one. Each has an environment over .venv's packages.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

install_extra dev
packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
for version in "${@:-4.44.2}"; do
    folder=$(mktemp -d)
    "$venv/bin/python" -m venv "$folder"
    own=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    echo "$packages" >"$own/zz_shared.pth"
    case $version in
        newest) wanted=(--upgrade transformers) ;;
        pre) wanted=(--upgrade --pre transformers) ;;
        *) wanted=("transformers==$version") ;;
    esac
    say "transformers $version"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "${wanted[@]}"
    (cd "$root" && PYTHONPATH=$root "$folder/bin/python" -m pytest -q tests/glmcore/huggingface)
    rm -rf "$folder"
done
