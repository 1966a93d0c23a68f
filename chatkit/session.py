"""The face for notebooks and terminals: `chatkit.load("smollm2-135m").chat()`."""

import sys
from collections.abc import Iterator, Mapping
from io import TextIOWrapper
from pathlib import Path

from chatkit.answer_stream import AnswerStream
from chatkit.answering.checks import checked_text
from chatkit.answering.options import AnswerOptions
from chatkit.background import wait_for
from chatkit.chat import ChatService, Turn
from chatkit.conversation import Conversation
from chatkit.display import Display, best_display
from chatkit.engine import Delta
from chatkit.engines.opening import LoadOptions
from chatkit.engines.weights import Quantize
from chatkit.errors import InputError
from chatkit.exchange.own import write_json
from chatkit.exchange.reading import read_conversations
from chatkit.messages import Message
from chatkit.messages import system as system_message
from chatkit.models import Models, shared_models
from chatkit.reply import Reply
from chatkit.sampling import Sampling
from chatkit.service import shared_service
from chatkit.shelf import LOCAL_USER
from chatkit.store.records import ConversationSettings, NodeRecord
from chatkit.store.whole_file import whole_file


def load(
    name: str,
    *,
    quantize: Quantize | None = None,
    context: int | None = None,
    force: bool = False,
    adapters: Mapping[str, str | Path] | None = None,
) -> "Model":
    """Load a model, or find it loaded already.

    Args:
        name: see `chatkit.naming`, for example `smollm2-135m` or `smollm2-135m@transformers`.
        quantize: `int8` or `int4` weights in the transformers engine.
        context: the window in tokens of the embedded engine.
        force: load even when the estimate says that it does not fit.
        adapters: folders of LoRA adapters by name, of which each chat may choose one.

    Raises:
        UnknownModel: nothing has this name; the nearest names are given.
        NotPulled: its files are not on this machine.
        NotEnoughMemory: it does not fit.
        ModelFileError: its files are corrupt.
    """
    named = tuple((each, Path(folder)) for each, folder in (adapters or {}).items())
    options = LoadOptions(quantize, context, force, named, use="session")
    model = Model(name, options, shared_models())
    model.count_tokens("")
    return model


class Model:
    """A loaded model.

    Args:
        name: its name.
        options: how it is loaded.
        models: where it is loaded; when it had to leave there, using it loads it again.
    """

    def __init__(self, name: str, options: LoadOptions, models: Models) -> None:
        self.name = name
        self._options = options
        self._models = models

    def __repr__(self) -> str:
        return f"<Model {self.name}>"

    def chat(
        self,
        *,
        system: str | None = None,
        sampling: Sampling | None = None,
        conversation: str | None = None,
        temporary: bool = False,
        adapter: str | None = None,
    ) -> "Chat":
        """Begin a conversation, or go on with one that is stored.

        Args:
            system: the system prompt; None leaves it to the template.
            sampling: how answers are drawn; None leaves it to the model.
            conversation: the name of a stored one, from `python -m chatkit conversations list`.
            temporary: keep it in memory only; it ends with this process.
            adapter: which of the adapters that the model was loaded with answers.

        Raises:
            NotFound: there is no conversation of this name.
        """
        chat = Chat(self, system=system, sampling=sampling, temporary=temporary, adapter=adapter)
        if conversation is not None:
            chat.resume(conversation)
        return chat

    def count_tokens(self, text: str) -> int:
        """Count the tokens of plain text."""
        return wait_for(self._count(text))

    def count_prompt(self, messages: tuple[Message, ...]) -> int:
        """Count the tokens of a conversation as the model would be given it."""
        return wait_for(self._count_prompt(messages))

    def options(self, sampling: Sampling, adapter: str | None = None) -> AnswerOptions:
        """Say that this model is to answer, and how."""
        # Who compares and measures models wants every answer to be a real one.
        return AnswerOptions(self.name, sampling, self._options, adapter, cached=False)

    def service(self) -> ChatService:
        """Give the chat service of this process that lends this model."""
        return wait_for(shared_service(self._models, titles=False))

    async def _count(self, text: str) -> int:
        async with self._models.use(self.name, self._options) as engine:
            return len(engine.template.tokenizer.encode(text))

    async def _count_prompt(self, messages: tuple[Message, ...]) -> int:
        async with self._models.use(self.name, self._options) as engine:
            return len(engine.template.render(messages))


class Chat:
    """A conversation with a model; nothing that was said is lost by asking again or editing.

    It is stored as it goes, under the user `local`, and can be resumed in another process.

    Args:
        model: who answers.
        system: the system prompt; None leaves it to the template.
        sampling: how answers are drawn.
        display: shows answers while they come; None chooses for a notebook, a terminal or
            neither.
        temporary: keep it in memory only.
        adapter: the adapter that answers.
    """

    def __init__(
        self,
        model: Model,
        *,
        system: str | None = None,
        sampling: Sampling | None = None,
        display: Display | None = None,
        temporary: bool = False,
        adapter: str | None = None,
    ) -> None:
        self.model = model
        self.sampling = sampling or Sampling()
        self.adapter = adapter
        self.display = display or best_display(sys.stdout)
        self.id: str | None = None
        self.head: str | None = None
        self._settings = ConversationSettings(system)
        self._temporary = temporary
        self._asked: str | None = None

    @property
    def system(self) -> str | None:
        """The system prompt, which counts from the next answer on; None leaves it out."""
        return self._settings.system

    @system.setter
    def system(self, text: str | None) -> None:
        self._settings = ConversationSettings(text, self._settings.policy)
        if self.id is not None:
            wait_for(self._service.configure(LOCAL_USER, self.id, self._settings))

    @property
    def path(self) -> tuple[NodeRecord, ...]:
        """The messages from the first to the current one."""
        if self.id is None:
            return ()
        nodes = self._service.room(self.id).store.nodes
        return wait_for(nodes.path(LOCAL_USER, self.id, self.head))

    @property
    def conversation(self) -> Conversation:
        """The whole tree as it is now."""
        if self.id is None:
            return Conversation()
        nodes = self._service.room(self.id).store.nodes
        tree = wait_for(nodes.tree(LOCAL_USER, self.id))
        return Conversation.of(node.as_node for node in tree if node.kind == "message")

    @property
    def messages(self) -> tuple[Message, ...]:
        """What was said on the path, the system prompt included."""
        said = tuple(node.message for node in self.path)
        return (system_message(self.system), *said) if self.system else said

    @property
    def tokens(self) -> int:
        """How many tokens the conversation takes in the window so far."""
        messages = self.messages
        return self.model.count_prompt(messages) if messages else 0

    def send(self, text: str, *, sampling: Sampling | None = None) -> Reply:
        """Ask and wait for the answer, which shows itself while it comes.

        Ctrl-C stops the answer; what has come of it stays in the conversation.

        Args:
            text: the question.
            sampling: how this answer is drawn; what is unset follows the chat's own.

        Raises:
            InputError: the text is empty or no valid Unicode.
            PromptTooLong: the question does not fit into the window.
            EngineError: the engine failed.
        """
        return self._answer(self._send(text, self.head, sampling))

    def stream(self, text: str, *, sampling: Sampling | None = None) -> Iterator[Delta]:
        """Ask, and give the answer piece by piece instead of showing it.

        Args and raises: as `send`.
        """
        yield from self._deltas(self._send(text, self.head, sampling))

    def retry(self, *, sampling: Sampling | None = None) -> Reply:
        """Ask the last question again; the new answer stands beside the old one.

        Raises:
            InputError: nothing was asked yet.
        """
        question, options = self._last_question(), self._options(sampling)
        again = self._service.regenerate(LOCAL_USER, str(self.id), question, options)
        return self._answer(wait_for(again))

    def edit(self, text: str, *, sampling: Sampling | None = None) -> Reply:
        """Ask something else in place of the last question; the old branch stays.

        Raises:
            InputError: nothing was asked yet, or the text is empty.
        """
        question, options = self._last_question(), self._options(sampling)
        other = self._service.edit(LOCAL_USER, str(self.id), question, text, options)
        return self._answer(wait_for(other))

    def checkout(self, node: str | None) -> None:
        """Go to any message, to go on from there; None is the very beginning.

        Raises:
            NotFound: there is no such message.
        """
        if self.id is None:
            raise InputError("Nothing was asked yet; send a message first.")
        nodes = self._service.room(self.id).store.nodes
        wait_for(nodes.set_head(LOCAL_USER, self.id, node))
        self._stand_at(node)

    def resume(self, conversation: str) -> None:
        """Go on with a stored conversation, where its reader stood.

        Raises:
            NotFound: there is no conversation of this name.
        """
        record = wait_for(self._service.conversation(LOCAL_USER, conversation))
        self.id, self._settings = conversation, record.settings
        self._stand_at(record.head)

    def save(self, path: Path | str) -> None:
        """Write the whole conversation to a JSON file, in one step.

        Raises:
            InputError: nothing was said yet, or no file can be written there.
            DiskFull: the disk has no room; what was there before is untouched.
        """
        if self.id is None:
            raise InputError("Nothing was said yet, so there is nothing to save.")
        conversations = wait_for(self._service.export(LOCAL_USER, [self.id]))
        with whole_file(Path(path), replace=True) as file:
            text = TextIOWrapper(file, "utf-8")
            write_json(conversations, text)
            text.detach()

    def open(self, path: Path | str) -> None:
        """Take up the first conversation of a file; it is stored as a new one.

        Raises:
            ImportRefused: the file holds no conversation that can be read.
        """
        found = read_conversations(Path(path))
        ids = wait_for(self._service.import_conversations(LOCAL_USER, found[:1]))
        self.resume(ids[0])

    @property
    def _service(self) -> ChatService:
        return self.model.service()

    def _options(self, sampling: Sampling | None) -> AnswerOptions:
        drawn = (sampling or Sampling()).over(self.sampling)
        return self.model.options(drawn, self.adapter)

    def _send(self, text: str, parent: str | None, sampling: Sampling | None) -> Turn:
        text = checked_text(text)
        service = self._service
        if self.id is None:
            begin = service.begin(LOCAL_USER, self._settings, temporary=self._temporary)
            self.id = wait_for(begin)
        options = self._options(sampling)
        return wait_for(service.send(LOCAL_USER, self.id, text, options, parent=parent))

    def _stand_at(self, head: str | None) -> None:
        self.head = head
        questions = [node.id for node in self.path if node.message.role == "user"]
        self._asked = questions[-1] if questions else None

    def _last_question(self) -> str:
        if self._asked is None:
            raise InputError("Nothing was asked yet; send a message first.")
        return self._asked

    def _answer(self, turn: Turn) -> Reply:
        stream = self._follow(turn)
        try:
            return stream.show_on(self.display)
        finally:
            self.head = stream.head

    def _deltas(self, turn: Turn) -> Iterator[Delta]:
        stream = self._follow(turn)
        try:
            yield from stream.deltas()
        finally:
            self.head = stream.head

    def _follow(self, turn: Turn) -> AnswerStream:
        self._asked = turn.question
        return AnswerStream(self._service, str(self.id), turn)
