"""Who is to answer, and how."""

from dataclasses import dataclass, field

from chatkit.engines.opening import LoadOptions
from chatkit.sampling import Sampling


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """Who is to answer a message, and how.

    Args:
        model: the model's name.
        sampling: how the answer is drawn.
        load: how the model is loaded.
        cached: whether an answer to the very same prompt may be given again; None allows it at
            temperature 0, where it would come out the same.
    """

    model: str
    sampling: Sampling = field(default_factory=Sampling)
    load: LoadOptions = field(default_factory=LoadOptions)
    cached: bool | None = None
