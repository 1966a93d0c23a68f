"""What all routes share: the engine, its limits, and what is counted."""

from chatkit.engine import Engine
from chatkit.prompt import Prompt, raw_prompt
from chatkit.telemetry import event
from serve.wire.metrics import Metrics
from serve.wire.options import WireOptions
from serve.wire.permits import Permits
from serve.wire.refusals import Refusal, Refused, validation
from serve.wire.writing import Writer

# What clients send as the model's name when they mean whatever the server has.
NO_NAME = ("", "tgi", "dummy")
_FAILURES = {
    "validation": "validation",
    "overloaded": "overloaded",
    "generation": "generation",
    "incomplete_generation": "incomplete",
    "incomplete_generation_stream": "incomplete",
    "template_error": "template",
}


class WireService:
    """One engine behind many routes.

    Args:
        engine: who answers.
        options: what is allowed.
    """

    def __init__(self, engine: Engine, options: WireOptions) -> None:
        self.engine = engine
        self.options = options
        self.permits = Permits(options.max_concurrent_requests)
        self.metrics = Metrics(options.max_total_tokens)
        self.writer = Writer(engine)

    def adapter(self, name: str | None) -> str | None:
        """Give the adapter that a name means, None for the base.

        Raises:
            Refusal: there is no such adapter; with `tgi_compat` it means the base.
        """
        if name is None or name in (*NO_NAME, self.options.model_id, self.engine.name):
            return None
        if name in self.engine.adapters:
            return name
        if self.options.tgi_compat:
            return None
        there = ", ".join(self.engine.adapters) or "none"
        raise Refusal(validation(f"there is no model or adapter {name!r} here; adapters: {there}"))

    def shown(self, name: str | None) -> str:
        """Give the name that a reply shows: an adapter's as it was asked for, else the model's."""
        return name if name in self.engine.adapters and name else self.options.model_id

    def raw_prompt(self, text: str, truncate: int | None = None) -> Prompt:
        """Make a prompt of hand-written text.

        Args:
            text: what is to be continued; spellings of control tokens are tokens.
            truncate: keep only so many of the last tokens.
        """
        prompt = raw_prompt(self.writer.tokenizer, text)
        if truncate is None or len(prompt.ids) <= truncate:
            return prompt
        tokens = self.writer.tokenizer.encode_raw(text)[-truncate:]
        return Prompt(prompt.ids[-truncate:], text[tokens[0].start :], (), "")

    def longest_answer(self, prompt: Prompt, asked: int | None) -> int:
        """Give how many tokens an answer may have.

        Args:
            prompt: what is read.
            asked: what the caller allows; None for all that fits.

        Raises:
            Refusal: prompt and answer do not fit.
        """
        read, options = len(prompt.ids), self.options
        left = options.max_total_tokens - read
        # As TGI, which works in pieces of 1,024 tokens, a limit far beyond the window is no error.
        piece = min(asked, 1024) if asked is not None else 1
        if piece > left and read <= options.max_input_tokens:
            raise Refusal(
                validation(
                    f"`inputs` tokens + `max_new_tokens` must be <= {options.max_total_tokens}. "
                    f"Given: {read} `inputs` tokens and {piece} `max_new_tokens`"
                )
            )
        if read > options.max_input_tokens:
            raise Refusal(
                validation(
                    f"`inputs` must have less than {options.max_input_tokens} tokens. Given: {read}"
                )
            )
        return min(left, asked if asked is not None else left)

    def failed(self, refused: Refused) -> None:
        """Count and log a request that was not answered."""
        self.metrics.failed(_FAILURES.get(refused.kind, "validation"))
        event("request refused", status=refused.status, kind=refused.kind or "request")

    def dropped(self) -> None:
        """Count a request whose client went away."""
        self.metrics.failed("dropped")
        event("client gone", model=self.options.model_id)

    @property
    def metrics_text(self) -> str:
        """Everything that was counted, for Prometheus."""
        return self.metrics.text(self.engine.waiting, self.permits.taken)
