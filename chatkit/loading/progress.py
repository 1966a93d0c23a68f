"""How a long piece of work tells a person where it stands."""

from typing import Protocol


class Progress(Protocol):
    """Receives what happens during a pull; the command line draws it, the library is silent."""

    def say(self, sentence: str) -> None:
        """Tell the person one thing that happened."""

    def advance(self, file: str, done: int, total: int | None) -> None:
        """Tell how far one file is.

        Args:
            file: its name, the same in each call.
            done: bytes on this machine so far.
            total: bytes of the whole file, None while nobody knows.
        """


class Silent:
    """A progress that tells nobody."""

    def say(self, sentence: str) -> None:
        """Drop the sentence."""

    def advance(self, file: str, done: int, total: int | None) -> None:
        """Drop the numbers."""


def size_text(bytes_: int) -> str:
    """Write a number of bytes for a person, in powers of 1000: `93.3 MB`."""
    size = float(bytes_)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.95:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
