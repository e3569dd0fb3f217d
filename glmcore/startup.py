"""The first thing that ``python -m glmcore`` and ``python -m glmdoctor`` do: leave the folder that somebody stands in.

Python puts that folder first; it goes before anything else is imported. What Python itself imports to come this far
cannot be kept from it: the commands ``glmcore`` and ``glmdoctor``, and ``python -P -m``, do without. What this module
imports is loaded already.
"""

import os
import sys

HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # the folder that holds both packages


def leave_current_folder() -> None:
    """Take HOME (by which this module was found) and the current folder off the front, and what is relative."""
    del sys.path[0]
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        del sys.path[0]
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.environ.get("PYTHONPATH") else []
    relative = [os.path.abspath(name) for name in named if not os.path.isabs(name)]
    sys.path[:] = [folder for folder in sys.path if folder not in relative]
    if HOME not in sys.path:
        sys.path.append(HOME)
