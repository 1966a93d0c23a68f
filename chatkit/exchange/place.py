"""Where in a file something stands, for the sentence that refuses it."""

from dataclasses import dataclass, replace

from chatkit.errors import ImportRefused

AGAIN = "export it again"
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Place:
    """A place in what is imported.

    Args:
        file: the name of the file, in a zip with the zip's before it.
        conversation: the number of the conversation in it, from 1.
        message: the id of the message in that.
    """

    file: str
    conversation: int | None = None
    message: str | None = None

    def __str__(self) -> str:
        parts = [shown(self.file)]
        if self.conversation is not None:
            parts.append(f"conversation {self.conversation}")
        if self.message is not None:
            parts.append(f"message '{shown(self.message)}'")
        return ", ".join(parts)

    @property
    def label(self) -> str:
        """A name for a conversation that has none."""
        stem = self.file.replace("\\", "/").rpartition("/")[2].partition(".")[0]
        return f"{shown(stem)}-{self.conversation}"

    def at(self, message: str) -> "Place":
        """Give the place of a message in this conversation."""
        return replace(self, message=message)

    def refused(self, cause: str, fix: str = AGAIN) -> ImportRefused:
        """Make the error that names this place.

        Args:
            cause: what is wrong there.
            fix: what to do about it.
        """
        return ImportRefused(f"{self}: {cause}; {fix}.")


def shown(text: str) -> str:
    """Make a strange text fit to be read: short, and without control characters."""
    short = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
    return short if short.isprintable() else repr(short)[1:-1]
