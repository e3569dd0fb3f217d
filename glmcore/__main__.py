"""``python -m glmcore``, which never imports from the folder that somebody happens to stand in (``startup``)."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # this installation comes first

from glmcore import startup

startup.leave_current_folder()

from glmcore.cli import main  # noqa: E402 - only now

main()
