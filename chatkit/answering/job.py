"""What an answer is asked to be, and what all answers share."""

from dataclasses import dataclass

from chatkit.answering.options import AnswerOptions
from chatkit.cache import AnswerCache, PathCache
from chatkit.live.opening import Live
from chatkit.models import Models
from chatkit.sealing import Seal
from chatkit.store.opening import Store


@dataclass(frozen=True, slots=True)
class Job:
    """One answer to be written.

    Args:
        user: who asked.
        conversation: where.
        question: the message to answer.
        node: the name of the answer.
        options: who answers, and how.
        seal: what seals the conversation.
        request_id: its name in logs.
    """

    user: str
    conversation: str
    question: str
    node: str
    options: AnswerOptions
    seal: Seal
    request_id: str


@dataclass(frozen=True, slots=True)
class Bench:
    """What answers are made with.

    Args:
        store: where conversations are.
        live: where events go.
        models: lends engines.
        answers: answers that were given before.
        paths: paths that were just read.
        worker: the name of this process.
    """

    store: Store
    live: Live
    models: Models
    answers: AnswerCache
    paths: PathCache
    worker: str
