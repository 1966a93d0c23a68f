"""Print how many processes share the tests on this machine."""

from chatkit.hardware import probe

MOST = 4
# Each comes to hold PyTorch, several models and a database.
WORKER_BYTES = 5 << 30


def main() -> None:
    """Print one more than there are cores, at most four, and no more than have room in memory."""
    # A test waits for a browser, a clock or a disk a quarter of its time.
    machine = probe()
    print(max(1, min(MOST, machine.cores + 1, machine.ram // WORKER_BYTES)))


if __name__ == "__main__":
    main()
