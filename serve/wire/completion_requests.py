"""The completion request of OpenAI's API; prompts are text or token ids.

Source: OpenAI API reference, completions; text-generation-inference v3.3.7, router/src/lib.rs.
"""

from typing import Annotated, Any

from pydantic import Field

from chatkit.prompt import Prompt
from serve.wire.chat_requests import Drawing
from serve.wire.refusals import Refusal, Refused, validation
from serve.wire.service import WireService
from serve.wire.tgi_requests import Flag, Number, Unsigned

Ids = Annotated[list[Unsigned], Field(min_length=1)]


class CompletionRequest(Drawing):
    """Prompts to go on with, and how."""

    prompt: str | Ids | Annotated[list[str | Ids], Field(min_length=1)]
    suffix: str | None = None
    logprobs: Unsigned | None = None
    echo: Flag | None = None
    repetition_penalty: Number | None = None
    top_k: Annotated[int, Field(strict=True, ge=-1)] | None = None
    min_p: Number | None = None
    return_token_ids: Flag | None = None
    structured_outputs: dict[str, Any] | None = None

    def prompts(self, service: WireService) -> list[Prompt]:
        """Make the prompts.

        Raises:
            Refusal: there are too many, one is empty, or an id is no token.
        """
        if self.suffix is not None:
            said = "Suffix is not supported and can be achieved by preprocessing the prompt."
            raise Refusal(Refused(422, said, "suffix not supported"))
        if self.echo:
            raise Refusal(validation("`echo` is not supported here; leave it out"))
        several = isinstance(self.prompt, list) and not isinstance(self.prompt[0], int)
        given: list[Any] = self.prompt if several else [self.prompt]  # type: ignore[assignment]
        most = service.options.max_client_batch_size
        if len(given) > most:
            said = f"Number of prompts exceeds the maximum allowed batch size of {most}"
            raise Refusal(Refused(422, said, "batch size exceeded"))
        return [_prompt(one, service) for one in given]


def _prompt(given: str | list[int], service: WireService) -> Prompt:
    if isinstance(given, str):
        if not given:
            raise Refusal(validation("`inputs` cannot be empty"))
        return service.raw_prompt(given)
    tokenizer = service.writer.tokenizer
    if max(given) >= tokenizer.vocabulary_size:
        raise Refusal(
            validation(
                f"the prompt has the token {max(given)} and there are only "
                f"{tokenizer.vocabulary_size}; use this model's own tokenizer"
            )
        )
    return Prompt(tuple(given), tokenizer.decode(given), (), "")
