"""Everything chatkit raises on purpose, in one tree.

    ChatkitError
    ├── InputError             what the caller passed cannot be used
    │   ├── SamplingError      a sampling value is out of range or unknown
    │   ├── PromptTooLong      the prompt leaves no room in the context window
    │   ├── TemplateError      the messages do not fit the chat template
    │   ├── NotFound           no such conversation or message, or it is someone else's
    │   └── ImportRefused      a file to import is broken, hostile or of an unknown kind
    ├── NotSignedIn            nobody is signed in, or name and password do not fit
    ├── Forbidden              somebody is signed in who may not do this
    ├── UnknownModel           no model of that name
    ├── ModelUnavailable       known, but its files cannot be had
    │   ├── NotPulled          known, and simply not on this machine yet
    │   ├── GatedModel         its publisher asks for a token or an agreement
    │   ├── HubUnreachable     a source did not answer
    │   └── ChecksumMismatch   what arrived is not what was promised
    ├── ModelFileError         a model file or adapter is corrupt, or of another base
    ├── NotEnoughMemory        the model does not fit into memory
    ├── DiskFull               no room to write; what was there is untouched
    ├── MissingExtra           an optional package is needed
    ├── Unsupported            the engine cannot do what was asked
    ├── TrainingDiverged       the loss is no number any more
    ├── EngineError            the engine failed while it worked
    │   └── Overloaded         too many wait for an answer already
    ├── StoreUnavailable       the database or Redis does not answer
    ├── DatabaseVersion        the database is newer or older than this program
    └── KeyUnavailable         a key is missing, or is not the one that sealed the text

Each message is one sentence for a person: the cause, then what to do about it.
"""


class ChatkitError(Exception):
    """The root: catch this to catch everything that chatkit raises on purpose."""

    @property
    def kind(self) -> str:
        """The class name, used as a label in logs and metrics."""
        return type(self).__name__


class InputError(ChatkitError):
    """What the caller passed cannot be used."""


class SamplingError(InputError):
    """A sampling value is out of range, or the option is unknown."""


class PromptTooLong(InputError):
    """The prompt leaves no room in the model's context window."""


class TemplateError(InputError):
    """The messages do not fit the chat template, or the template itself is broken."""


class NotFound(InputError):
    """There is no such conversation or message, or it belongs to someone else."""


class ImportRefused(InputError):
    """A file to import is broken, hostile or of an unknown kind; nothing was stored."""


class NotSignedIn(ChatkitError):
    """Nobody is signed in any more, or the name and the password do not fit."""


class Forbidden(ChatkitError):
    """Somebody is signed in who may not do this."""


class UnknownModel(ChatkitError):
    """No model has this name."""


class ModelUnavailable(ChatkitError):
    """The model is known, but its files cannot be had."""


class NotPulled(ModelUnavailable):
    """The model is known, and its files are not on this machine yet."""


class GatedModel(ModelUnavailable):
    """The publisher asks for an access token or a signed agreement."""


class HubUnreachable(ModelUnavailable):
    """A source of model files did not answer, or the network is forbidden."""


class ChecksumMismatch(ModelUnavailable):
    """The bytes that arrived are not the bytes that were promised."""


class ModelFileError(ChatkitError):
    """A model file or adapter is corrupt, or was made for another base model."""


class NotEnoughMemory(ChatkitError):
    """The model does not fit: it was not loaded, or a graphics card was full while it loaded."""


class DiskFull(ChatkitError):
    """The disk has no room; what was there before is untouched."""


class MissingExtra(ChatkitError):
    """An optional package is needed for this."""


class Unsupported(ChatkitError):
    """The engine cannot do what was asked of it."""


class TrainingDiverged(ChatkitError):
    """The loss became infinite or no number; nothing after the last checkpoint is kept."""


class EngineError(ChatkitError):
    """The engine failed while it worked."""


class Overloaded(EngineError):
    """Too many wait for an answer already; nothing was begun.

    Args:
        sentence: the cause and what to do.
        retry_after: when to try again, in seconds.
    """

    def __init__(self, sentence: str, retry_after: float = 1.0) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after


class StoreUnavailable(ChatkitError):
    """The database or Redis does not answer."""


class DatabaseVersion(ChatkitError):
    """The database was made by a newer program, or must be upgraded first."""


class KeyUnavailable(ChatkitError):
    """A key is missing, or is not the one that sealed the text."""


def error_of(kind: str, sentence: str) -> ChatkitError:
    """Make the error again of which only the kind and the sentence were kept."""
    waiting: list[type[ChatkitError]] = [ChatkitError]
    while waiting:
        found = waiting.pop()
        if found.__name__ == kind:
            return found(sentence)
        waiting += found.__subclasses__()
    return EngineError(sentence)
