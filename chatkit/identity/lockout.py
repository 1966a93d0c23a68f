"""How long somebody who guesses passwords has to wait."""

FREE_TRIES = 5
FIRST_SECONDS, LONGEST_SECONDS = 30.0, 900.0


def wait_after(failures: int) -> float:
    """Tell how long an account takes no password after so many wrong ones in a row, in seconds.

    It ends by itself and stays below a quarter of an hour: who guesses a thousand passwords a
    week finds no good one, and who wants to lock somebody out has to come back all the time.
    """
    if failures < FREE_TRIES:
        return 0.0
    return min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(failures - FREE_TRIES, 30))
