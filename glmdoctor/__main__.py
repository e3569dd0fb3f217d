"""``python -m glmdoctor``, which never imports from the folder that somebody happens to stand in.

Python puts that folder first; here it goes before anything else is imported. What Python itself imports to come this
far cannot be kept from it: the command ``glmdoctor`` and ``python -P -m glmdoctor`` do without.
"""

import os
import sys

HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # the folder that holds this package
named = os.environ.get("PYTHONPATH")
relative = [] if not named else [os.path.abspath(name) for name in named.split(os.pathsep) if not os.path.isabs(name)]
if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
    del sys.path[0]
sys.path[:] = [folder for folder in sys.path if folder not in relative]
if HOME not in sys.path:
    sys.path.append(HOME)

from glmdoctor.cli import main  # noqa: E402 - only now

main()
