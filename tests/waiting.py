"""Wait for what another thread or process does, but not for ever."""

import time


def wait_until(condition, seconds=30):
    """Return what the condition gives once it is true; raise where it stays false."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s in vain")
        time.sleep(0.001)
    return found
