"""The decoding loop of the transformers engine: read prompts, then draw token after token."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from chatkit.engine import Chance, WrittenToken
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
        self._mask: torch.Tensor | None = None
        self._draws = [_Draw(row, model) for row in rows]
        self._running = [True] * len(rows)

    def steps(self, stopped: Callable[[], bool]) -> Iterator[list[WrittenToken | None]]:
        """Give each step's tokens, None for a row that has ended.

        Args:
            stopped: asked between the pieces of a long prompt.
        """
        logits = self._read(stopped)
        for step in range(max(row.room for row in self._rows)):
            if logits is None:
                return
            column, tokens = self._draw(logits, step)
            yield tokens
            if not any(self._running):
                return
            logits = self._forward(column)

    def _read(self, stopped: Callable[[], bool]) -> "torch.Tensor | None":
        """Read the prompts, padded on the left; give the logits after them, (rows, vocabulary)."""
        import torch

        device = self._model.device
        width = max(len(row.ids) for row in self._rows)
        padding = [width - len(row.ids) for row in self._rows]
        ids = torch.tensor(
            [[0] * p + list(r.ids) for p, r in zip(padding, self._rows, strict=True)],
            device=device,
        )
        if any(padding):
            mask = [[0] * p + [1] * (width - p) for p in padding]
            self._mask = torch.tensor(mask, device=device)
        # A piece of nothing but padding would attend to nothing, so a padded batch is read whole.
        piece = PIECE_TOKENS if self._mask is None else width
        logits = None
        for start in range(0, width, piece):
            if stopped():
                return None
            logits = self._call(ids[:, start : start + piece])
        return logits

    def _forward(self, tokens: "torch.Tensor") -> "torch.Tensor":
        """Read one token per row, (rows, 1)."""
        import torch

        if self._mask is not None:
            self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        return self._call(tokens)

    def _call(self, ids: "torch.Tensor") -> "torch.Tensor":
        """Run the model on new ids, (rows, new); give the last position's logits in 32 bits."""
        import torch

        new = ids.shape[1]
        with torch.inference_mode():
            if self._mask is None:
                first = self._cache.get_seq_length()
                positions = torch.arange(first, first + new, device=ids.device).unsqueeze(0)
            else:
                positions = (self._mask.cumsum(1) - 1).clamp(min=0)[:, -new:]
            output = self._model(
                input_ids=ids,
                # Without padding there is nothing to mask, and the model need not look for it.
                attention_mask=self._mask,
                position_ids=positions,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    def _draw(
        self, logits: "torch.Tensor", step: int
    ) -> "tuple[torch.Tensor, list[WrittenToken | None]]":
        """Draw a token for each row that runs: all of them as a column, and those that count."""
        import torch

        idle = torch.zeros(1, dtype=torch.long, device=logits.device)
        column = torch.stack(
            [
                draw.next(logits[index]) if self._running[index] else idle
                for index, draw in enumerate(self._draws)
            ]
        )
        tokens: list[WrittenToken | None] = []
        # All rows cross from the device at once, since each crossing waits for it.
        for index, token in enumerate(column.flatten().tolist()):
            most = self._rows[index].sampling.logprobs
            told = WrittenToken(token, None) if most is None else _told(logits[index], token, most)
            tokens.append(told if self._running[index] else None)
            if token in self._ends or step + 1 >= self._rows[index].room:
                self._running[index] = False
        return column, tokens


def _told(logits: "torch.Tensor", token: int, most: int) -> WrittenToken:
    """Tell a drawn token with its log-probability, from the logits, (vocabulary,)."""
    chances = logits.log_softmax(-1)
    best = chances.topk(most) if most else ()
    likeliest = (
        tuple(Chance(*pair) for pair in zip(best[1].tolist(), best[0].tolist(), strict=True))
        if best
        else ()
    )
    return WrittenToken(token, float(chances[token]), likeliest)


class _Draw:
    """Draws one row's tokens, in the order of the lines in `_processors`."""

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

    def next(self, logits: "torch.Tensor") -> "torch.Tensor":
        """Draw one token from the logits, (vocabulary,); it stays on the device, (1,)."""
        import torch

        scores = self._processors(self._seen, self._penalised(logits).unsqueeze(0))
        if not self._sampling.temperature:
            token = scores.argmax(-1, keepdim=True)
        else:
            token = torch.multinomial(scores.softmax(-1), 1, generator=self._generator)
        self._seen = torch.cat([self._seen, token.view(1, 1)], dim=1)
        return token.view(1)

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
        TypicalLogitsWarper,
    )

    steps: Any = LogitsProcessorList()
    if sampling.repetition_penalty not in (None, 1.0):
        steps.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if not sampling.temperature:
        return cast("Process", steps)
    steps.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        steps.append(TopKLogitsWarper(sampling.top_k))
    if sampling.typical_p and sampling.typical_p < 1:
        steps.append(TypicalLogitsWarper(sampling.typical_p))
    if sampling.top_p and sampling.top_p < 1:
        steps.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        steps.append(MinPLogitsWarper(sampling.min_p))
    return cast("Process", steps)
