"""The decoding loop of the transformers engine: read prompts, then draw token after token."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from chatkit.sampling import Sampling

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Process: TypeAlias = "Callable[[torch.Tensor, torch.Tensor], torch.Tensor]"

# A prompt is read in pieces, so that a stop is heard before its end.
PIECE_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt of a batch.

    Args:
        ids: the prompt's token ids.
        sampling: how to draw, with nothing left unset that matters.
        room: the most tokens that the answer may take.
    """

    ids: tuple[int, ...]
    sampling: Sampling
    room: int


class Decoding:
    """Draws the answers to a batch of prompts, one token per row and step.

    Args:
        model: a causal language model in evaluation mode.
        rows: the prompts.
        ends: ids of the tokens that end an answer.
    """

    def __init__(self, model: "PreTrainedModel", rows: Sequence[Row], ends: frozenset[int]) -> None:
        from transformers import DynamicCache

        self._model = model
        self._rows = rows
        self._ends = ends
        self._cache = DynamicCache()
        self._draws = [_Draw(row, model) for row in rows]
        self._running = [True] * len(rows)

    def steps(self, stopped: Callable[[], bool]) -> Iterator[list[int | None]]:
        """Give each step's tokens, None for a row that has ended.

        Args:
            stopped: asked between the pieces of a long prompt.
        """
        logits = self._read(stopped)
        for step in range(max(row.room for row in self._rows)):
            if logits is None:
                return
            tokens = self._draw(logits, step)
            yield tokens
            if not any(self._running):
                return
            logits = self._forward([token or 0 for token in tokens])

    def _read(self, stopped: Callable[[], bool]) -> "torch.Tensor | None":
        """Read the prompts, padded on the left; give the logits after them, (rows, vocabulary)."""
        import torch

        device = self._model.device
        width = max(len(row.ids) for row in self._rows)
        padding = [width - len(row.ids) for row in self._rows]
        ids = torch.tensor(
            [[0] * p + list(r.ids) for p, r in zip(padding, self._rows, strict=True)]
        )
        mask = torch.tensor([[0] * p + [1] * (width - p) for p in padding])
        self._mask, ids = mask.to(device), ids.to(device)
        # A piece of nothing but padding would attend to nothing, so a batch is read whole.
        piece = PIECE_TOKENS if len(self._rows) == 1 else width
        logits = None
        for start in range(0, width, piece):
            if stopped():
                return None
            end = min(start + piece, width)
            logits = self._call(ids[:, start:end], self._mask[:, :end])
        return logits

    def _forward(self, tokens: list[int]) -> "torch.Tensor":
        import torch

        one = torch.ones((len(tokens), 1), dtype=self._mask.dtype, device=self._mask.device)
        self._mask = torch.cat([self._mask, one], dim=1)
        ids = torch.tensor(tokens, device=self._mask.device).unsqueeze(1)
        return self._call(ids, self._mask)

    def _call(self, ids: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
        """Run the model on new ids, (rows, new); give the last position's logits in 32 bits."""
        import torch

        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        with torch.inference_mode():
            output = self._model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    def _draw(self, logits: "torch.Tensor", step: int) -> list[int | None]:
        tokens: list[int | None] = []
        for index, draw in enumerate(self._draws):
            if not self._running[index]:
                tokens.append(None)
                continue
            token = draw.next(logits[index])
            tokens.append(token)
            if token in self._ends or step + 1 >= self._rows[index].room:
                self._running[index] = False
        return tokens


class _Draw:
    """Draws one row's tokens, in the order: penalties, temperature, top-k, top-p, min-p."""

    def __init__(self, row: Row, model: "PreTrainedModel") -> None:
        import torch

        self._sampling = row.sampling
        self._seen = torch.tensor([row.ids], device=model.device)
        self._processors = _processors(row.sampling)
        self._generator = torch.Generator(device=model.device)
        if row.sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(row.sampling.seed)

    def next(self, logits: "torch.Tensor") -> int:
        """Draw one token from the logits, (vocabulary,)."""
        import torch

        scores = self._processors(self._seen, self._penalised(logits).unsqueeze(0))
        if not self._sampling.temperature:
            token = scores.argmax(-1, keepdim=True)
        else:
            token = torch.multinomial(scores.softmax(-1), 1, generator=self._generator)
        self._seen = torch.cat([self._seen, token.view(1, 1)], dim=1)
        return int(token)

    def _penalised(self, logits: "torch.Tensor") -> "torch.Tensor":
        presence = self._sampling.presence_penalty or 0.0
        frequency = self._sampling.frequency_penalty or 0.0
        if not presence and not frequency:
            return logits
        tokens, counts = self._seen[0].unique(return_counts=True)
        logits = logits.clone()
        logits[tokens] -= presence + frequency * counts
        return logits


def _processors(sampling: Sampling) -> "Process":
    from transformers import (
        LogitsProcessorList,
        MinPLogitsWarper,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    steps: Any = LogitsProcessorList()
    if sampling.repetition_penalty not in (None, 1.0):
        steps.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if not sampling.temperature:
        return cast("Process", steps)
    steps.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        steps.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p and sampling.top_p < 1:
        steps.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        steps.append(MinPLogitsWarper(sampling.min_p))
    return cast("Process", steps)
