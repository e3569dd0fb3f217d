"""Import numpy and torch as a program does, and say which OpenMP runtimes that loaded. No input; any Python from 3.6.

Where two of them do not go together, the second ends this process.
"""

import contextlib
import json
import os
import re

RUNTIME = re.compile(r"lib(?:g|i)?omp[\w.-]*$")


def main():
    for name in ("numpy", "torch"):
        with contextlib.suppress(ImportError):
            __import__(name)
    print(json.dumps({"runtimes": sorted(loaded()) if os.path.exists("/proc/self/maps") else []}))


def loaded():
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        paths = {line.rstrip("\n").partition("/")[2] for line in maps}
    return {os.path.realpath("/" + path) for path in paths if RUNTIME.match(os.path.basename(path))}


main()
