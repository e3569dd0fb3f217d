"""A module or script as Python runs it, but never out of the current folder: ``python -I isolated.py -m pip list``.

``-I`` leaves out the current folder, PYTHONPATH and the user's own packages (``-P``, for the first alone, came with
Python 3.11). What a plain start imports besides is put back here: the absolute folders of PYTHONPATH and the packages
of the user; for root only where nobody else could change those. Runs in any Python from 3.6 on; standard library only.
"""

import os
import runpy
import site
import sys


def main():
    sys.path[:] = [*named_folders(), *sys.path]
    add_user_packages()
    if sys.argv[1] == "-m":
        del sys.argv[:2]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        del sys.argv[0]
        runpy.run_path(sys.argv[0], run_name="__main__")


def named_folders():
    """PYTHONPATH without what is relative; an empty entry stands for the current folder."""
    return [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(folder)]


def add_user_packages():
    """Right before the interpreter's own packages, where a plain start has them."""
    folder = site.getusersitepackages()
    if not (uses_user_packages() and os.path.isdir(folder) and is_ours(folder)):
        return
    before = list(sys.path)
    site.addsitedir(folder)
    added = [entry for entry in sys.path if entry not in before]
    own = site.getsitepackages() if hasattr(site, "getsitepackages") else []
    at = min([before.index(entry) for entry in own if entry in before], default=len(before))
    sys.path[:] = [*before[:at], *added, *before[at:]]


def uses_user_packages():
    """Not in a virtual environment, unless it is open to the system's packages, nor where the user forbids it."""
    if os.environ.get("PYTHONNOUSERSITE"):
        return False
    if sys.prefix == sys.base_prefix:
        return True
    try:
        with open(os.path.join(sys.prefix, "pyvenv.cfg"), encoding="utf-8") as file:
            text = file.read().lower().replace(" ", "")
    except OSError:
        return False
    return "include-system-site-packages=true" in text


def is_ours(folder):
    """Root takes no packages from a folder that others could change, be it by a folder above it."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return True
    path = os.path.realpath(folder)
    while True:
        status = os.stat(path)
        if status.st_uid != 0 or status.st_mode & 0o022:
            return False
        if path == os.path.dirname(path):
            return True
        path = os.path.dirname(path)


if __name__ == "__main__":
    main()
