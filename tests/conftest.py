"""What all tests share."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # golden_cases, in every folder of tests

# A shell that starts the tests in the background has them ignore Ctrl-C, and every program they start would inherit
# that. The tests send interrupts, so they begin as a terminal would have them begin.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test is timed: on a busy machine an example may take longer than the 200 ms that hypothesis allows.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
