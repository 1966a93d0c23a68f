"""What a model is asked while it is trained: the recipe's own questions, or held-out ones."""

from typing import TYPE_CHECKING, NamedTuple

from chatkit.finetuning.masking import last_answer
from chatkit.finetuning.recipe import Recipe
from chatkit.messages import user
from chatkit.template import ChatTemplate

if TYPE_CHECKING:
    from datasets import Dataset


class Asked(NamedTuple):
    """What is asked.

    Args:
        prompts: token ids of each.
        texts: what a person reads of each.
        references: what a good answer is compared with.
    """

    prompts: list[list[int]]
    texts: list[str]
    references: list[str | None]


def asked_questions(recipe: Recipe, template: ChatTemplate, held_out: "Dataset") -> Asked:
    """Choose what is asked.

    Args:
        recipe: says how many, or which.
        template: the model's.
        held_out: rows of any kind.
    """
    wanted = recipe.measure.questions
    if recipe.method == "reward":
        return Asked([], [], [])
    if not isinstance(wanted, int):
        prompts = [list(template.render([user(text)])) for text in wanted]
        return Asked(prompts, list(wanted), [None] * len(wanted))
    found = Asked([], [], [])
    for row in held_out.select(range(min(wanted, len(held_out)))):
        prompt, reference = _cut(row, template)
        found.prompts.append(prompt)
        found.texts.append(row.get("question") or _readable(prompt, template))
        found.references.append(reference)
    return found


def _cut(row: dict[str, list[int]], template: ChatTemplate) -> tuple[list[int], str | None]:
    """Cut a row before its last answer."""
    decode = template.tokenizer.decode
    if "input_ids" not in row:
        answer = row.get("chosen_ids") or row.get("completion_ids")
        reference = row.get("reference")
        return row["prompt_ids"], decode(answer[:-1]) if answer else str(reference or "") or None
    begin, end = last_answer(row["labels"])
    return row["input_ids"][:begin], decode(row["labels"][begin : end - 1])


def _readable(prompt: list[int], template: ChatTemplate) -> str:
    """Give the last turn of a prompt as text: what is between its last control tokens but one."""
    control = {token.id for token in template.tokenizer.control.values()}
    parts: list[list[int]] = [[]]
    for id in prompt:
        if id in control:
            parts.append([])
        else:
            parts[-1].append(id)
    texts = [template.tokenizer.decode(part).strip() for part in parts]
    turns = [text for text in texts if text]
    return turns[-2] if len(turns) > 1 else turns[-1]
