#!/usr/bin/env bash
# The Auto classes' tests on other versions of transformers: `bash scripts/transformers_versions.sh 4.44.2 5.24.0 …`.
# "newest" is what the index has, "pre" a pre-release of the next one; where there is none, that is said and left out.
# Each has an environment of its own over .venv's packages.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

install_extra dev
packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

for version in "${@:-4.44.2}"; do
    "$venv/bin/python" -m venv --clear "$folder"
    own=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    echo "import site; site.addsitedir('$packages')" >"$own/zz_shared.pth"
    case $version in
        newest) wanted=(--upgrade transformers) ;;
        pre) wanted=(--upgrade --pre transformers) ;;
        *) wanted=("transformers==$version") ;;
    esac
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "${wanted[@]}"
    found=$("$folder/bin/python" -c 'from importlib.metadata import version; print(version("transformers"))')
    if [ "$version" = pre ] && [[ ! $found =~ (a|b|rc|dev)[0-9]+$ ]]; then
        say "transformers has no pre-release after $found: nothing to test"
        continue
    fi
    say "transformers $found"
    (cd "$root" && PYTHONPATH=$root "$folder/bin/python" -m pytest -q -p no:cacheprovider tests/glmcore/huggingface)
done
