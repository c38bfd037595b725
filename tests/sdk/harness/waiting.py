"""Waiting for something to become true, with a deadline."""

import time


def poll(check, seconds=10.0):
    """The first true result of check(), or its last result after `seconds`. For conditions without an event."""
    deadline = time.monotonic() + seconds
    while not (result := check()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return result


def wait_for(what, check, seconds=10.0):
    """The first true result of check(). Fails with `what` after `seconds`."""
    result = poll(check, seconds)
    if not result:
        raise AssertionError(f"waited {seconds:g} s for {what}")
    return result
