"""What all tests share."""

from __future__ import annotations

import signal

# A shell that starts the tests in the background has them ignore Ctrl-C, and every program they start would inherit
# that. The tests send interrupts, so they begin as a terminal would have them begin.
signal.signal(signal.SIGINT, signal.default_int_handler)
