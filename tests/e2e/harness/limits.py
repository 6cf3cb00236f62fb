# SPDX-License-Identifier: Apache-2.0
"""How long a test waits for something that must happen.

A deadline only decides how fast a failing test fails, so it is generous; a sanitizer build on a busy machine may need
POSTERN_TEST_TIME_SCALE=3.
"""
import os
import time

SCALE = float(os.environ.get("POSTERN_TEST_TIME_SCALE", "1"))
WAIT_S = 30 * SCALE
POLL_S = 0.01


def wait_until(condition, what, timeout_s=WAIT_S):
    """Polls until `condition()` is true, and returns its value."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout_s:.0f} s: {what() if callable(what) else what}")
        time.sleep(POLL_S)
