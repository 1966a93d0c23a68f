"""Who is to answer, and how."""

from dataclasses import dataclass, field

from chatkit.engines.opening import LoadOptions
from chatkit.errors import InputError
from chatkit.sampling import Sampling

LONGEST_MODEL = 4_096


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """Who is to answer a message, and how.

    Args:
        model: the model's name.
        sampling: how the answer is drawn.
        load: how the model is loaded.
        adapter: the adapter that the model wears, one of those that it was loaded with; None for
            the model as it is.
        cached: whether an answer to the very same prompt may be given again; None allows it at
            temperature 0, where it would come out the same.

    Raises:
        InputError: the model's name is too long, or no line of text.
    """

    model: str
    sampling: Sampling = field(default_factory=Sampling)
    load: LoadOptions = field(default_factory=LoadOptions)
    adapter: str | None = None
    cached: bool | None = None

    def __post_init__(self) -> None:
        if not self.model.isprintable() or len(self.model) > LONGEST_MODEL:
            raise InputError(
                f"The name of the model {self.model[:40]!r} is no line of at most "
                f"{LONGEST_MODEL:,} characters; see the catalogue for names."
            )
