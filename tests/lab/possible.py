"""Whether the lab can mount here: as root, or in a plain user's own namespaces."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NOBODY = 65534
ROOT = os.name == "posix" and os.geteuid() == 0


def why_not() -> str | None:
    if sys.platform != "linux":
        return "the lab mounts: it needs Linux"
    for program in ("unshare", "gcc", "mount", "setpriv"):
        if shutil.which(program) is None:
            return f"the lab needs {program}"
    tried = tried_as_user() if not ROOT else subprocess.run(["unshare", "--mount", "--net", "true"], check=False)
    return f"no mount namespace here (exit status {tried.returncode})" if tried.returncode else None


def tried_as_user() -> subprocess.CompletedProcess[bytes]:
    as_user = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "--"] if ROOT else []
    try_overlay = 'd=$(mktemp -d) && mkdir $d/u $d/w && mount -t overlay o -o lowerdir=/etc,upperdir=$d/u,workdir=$d/w,userxattr /etc'  # fmt: skip # noqa: E501
    command = [*as_user, "unshare", "--user", "--map-root-user", "--mount", "--net", "sh", "-c", try_overlay]
    return subprocess.run(command, capture_output=True, check=False)
