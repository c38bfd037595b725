"""Waiting for something to become true, with a deadline."""

import time


def wait_for(what, check, seconds=10.0):
    """The first true result of check(); fails with `what` after `seconds`. For what tells nobody when it happens."""
    deadline = time.monotonic() + seconds
    while True:
        result = check()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s for {what}")
        time.sleep(0.02)
