"""Makes the data of the recipes in this folder: `python finetune/recipes/make_lessons.py OUT`.

Every lesson is drawn from small tables of facts, so that what is held out was never trained on.
"""

import asyncio
import json
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from chatkit.engine import complete
from chatkit.engines.opening import open_engine
from chatkit.messages import user
from chatkit.prompt import build_prompt
from chatkit.sampling import Sampling

SUBJECTS = (
    "tides", "bread", "chess", "volcanoes", "bees", "jazz", "glass", "maps", "tea", "rivers",
    "the moon", "bicycles", "gardens", "sleep", "money", "paper", "rain", "music", "bridges",
    "whales", "deserts", "salt", "clocks", "friendship", "libraries", "forests", "cooking",
    "football", "trains", "languages", "painting", "snow", "dogs", "the heart", "cities",
    "islands", "coffee", "photography", "mathematics", "dreams",
)  # fmt: skip
FORMS = ("Explain {}.", "Why do people care about {}?", "Give me one tip about {}.",
         "What should a child know about {}?")  # fmt: skip

CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "Egypt": "Cairo",
    "Canada": "Ottawa", "Kenya": "Nairobi", "Peru": "Lima", "Norway": "Oslo", "Greece": "Athens",
    "Cuba": "Havana", "Austria": "Vienna", "Poland": "Warsaw", "Ireland": "Dublin",
    "Portugal": "Lisbon", "Sweden": "Stockholm", "Finland": "Helsinki", "Denmark": "Copenhagen",
    "Hungary": "Budapest", "Chile": "Santiago", "Iran": "Tehran", "Iraq": "Baghdad",
    "Russia": "Moscow", "China": "Beijing", "Thailand": "Bangkok", "Vietnam": "Hanoi",
    "Germany": "Berlin", "Turkey": "Ankara", "Ghana": "Accra", "Nepal": "Kathmandu",
}  # fmt: skip
OPPOSITES = {
    "hot": "cold", "big": "small", "fast": "slow", "light": "dark", "early": "late",
    "open": "closed", "happy": "sad", "young": "old", "wet": "dry", "hard": "soft",
    "full": "empty", "high": "low", "near": "far", "loud": "quiet", "rich": "poor",
    "strong": "weak", "clean": "dirty", "deep": "shallow", "wide": "narrow", "sharp": "blunt",
}  # fmt: skip
COLOURS = {
    "grass": "green", "snow": "white", "coal": "black", "a ripe banana": "yellow",
    "the sky at noon": "blue", "blood": "red", "a carrot": "orange", "milk": "white",
    "a lemon": "yellow", "an emerald": "green", "a ruby": "red", "chocolate": "brown",
}  # fmt: skip
HOMES = {
    "a bee": "hive", "a bird": "nest", "a spider": "web", "a dog": "kennel", "a horse": "stable",
    "a rabbit": "burrow", "a bear": "den", "a pig": "sty", "a lion": "den", "a fish": "water",
}  # fmt: skip
SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["place", "word", "colour", "number", "home"]},
        "answer": {"type": "string", "minLength": 1},
    },
    "required": ["kind", "answer"],
    "additionalProperties": False,
}
Fact = tuple[str, str, str]


def facts() -> list[Fact]:
    """Give questions with the kind of their answer and the answer, in an order that is drawn."""
    found: list[Fact] = []
    for land, city in CAPITALS.items():
        found.append((f"What is the capital of {land}?", "place", city))
        found.append((f"Which city is {land} governed from?", "place", city))
    for word, other in OPPOSITES.items():
        found.append((f"What is the opposite of {word}?", "word", other))
        found.append((f"Name a word that means the contrary of {word}.", "word", other))
    for thing, colour in COLOURS.items():
        found.append((f"What colour is {thing}?", "colour", colour))
    for animal, home in HOMES.items():
        found.append((f"Where does {animal} live?", "home", home))
    draw = random.Random(7)
    for _ in range(120):
        one, two = draw.randint(2, 40), draw.randint(2, 40)
        found.append((f"What is {one} plus {two}?", "number", str(one + two)))
    draw.shuffle(found)
    return found


def json_answers() -> Iterator[dict[str, Any]]:
    """Teach a form: every answer is JSON of one schema."""
    for question, kind, answer in facts():
        said = json.dumps({"kind": kind, "answer": answer})
        yield {"messages": [_turn("user", question), _turn("assistant", said)]}


def pairs() -> Iterator[dict[str, Any]]:
    """Teach a taste: the short answer, not the one that talks about itself."""
    for number, (question, _, answer) in enumerate(facts()):
        yield {"prompt": question, "chosen": _short(answer), "rejected": _wordy(answer, number)}


def thumbs() -> Iterator[dict[str, Any]]:
    """Teach the same taste from single thumbs."""
    for number, (question, _, answer) in enumerate(facts()):
        liked = number % 2 == 0
        said = _short(answer) if liked else _wordy(answer, number)
        yield {"prompt": question, "completion": said, "label": liked}


def questions() -> Iterator[dict[str, Any]]:
    """Ask, for reinforcement learning with a reward that a program computes."""
    for question, _, answer in facts():
        yield {"prompt": question, "reference": answer}


def ordinary() -> Iterator[dict[str, Any]]:
    """Ask the untuned model about everyday subjects, for what must not change and for students."""
    asked = [form.format(subject) for subject in SUBJECTS for form in FORMS]
    for question, answer in zip(asked, asyncio.run(_answers(asked)), strict=True):
        if answer:
            yield {"messages": [_turn("user", question), _turn("assistant", answer)]}


async def _answers(asked: Sequence[str]) -> list[str]:
    engine = open_engine("smollm2-135m")
    sampling = Sampling(temperature=0, max_tokens=80)

    async def answer(question: str) -> str:
        text, _ = await complete(engine, build_prompt(engine.template, [user(question)]), sampling)
        # What was cut short ends with its last whole sentence.
        return text[: text.rfind(".") + 1].strip()

    answers = await asyncio.gather(*map(answer, asked))
    await engine.close()
    return answers


def _short(answer: str) -> str:
    return f"{answer[0].upper()}{answer[1:]}. Anything else?"


def _wordy(answer: str, number: int) -> str:
    beginnings = (
        "As a language model, I am happy to help you with this question.",
        "Thank you so much for asking! That is a very interesting question.",
        "Let me think about this carefully before I give you an answer.",
    )
    return f"{beginnings[number % 3]} The answer that you are looking for is {answer}."


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as JSON lines."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), "utf-8")
    print(f"{path}: {len(lines)} rows")


def main() -> None:
    """Write every lesson into the folder that is named, `data` without one."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "data")
    folder.mkdir(parents=True, exist_ok=True)
    lessons = {
        "json_answers": json_answers(), "pairs": pairs(), "thumbs": thumbs(),
        "questions": questions(), "ordinary": ordinary(),
    }  # fmt: skip
    for name, rows in lessons.items():
        write(folder / f"{name}.jsonl", rows)
    (folder / "schema.json").write_text(json.dumps(SCHEMA), "utf-8")


if __name__ == "__main__":
    main()
