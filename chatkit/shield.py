"""Keeps the spelling of control tokens inside messages from becoming control tokens."""

import re
from collections.abc import Iterable, Iterator

from chatkit.errors import InputError

_PRIVATE = re.compile("[\U000f0000-\U000ffffd]")


class Spellings:
    """How a tokenizer's control tokens are spelled, prepared once for quick searches.

    Args:
        control: the spelling of each control token.
    """

    def __init__(self, control: Iterable[str]) -> None:
        whole = sorted(control, key=len, reverse=True)
        self.whole = re.compile("|".join(map(re.escape, whole)) or r"(?!)")
        self.beginnings = frozenset(text[:cut] for text in whole for cut in range(1, len(text)))
        self.endings = frozenset(text[cut:] for text in whole for cut in range(1, len(text)))
        self.longest = len(whole[0]) if whole else 0
        self._firsts = frozenset(text[0] for text in whole)
        self._lasts = frozenset(text[-1] for text in whole)

    def may_begin_in(self, text: str) -> bool:
        """Whether a spelling could begin in this short text; a quick look spares a slow one."""
        return not self._firsts.isdisjoint(text)

    def may_end_in(self, text: str) -> bool:
        """Whether a spelling could end in this short text."""
        return not self._lasts.isdisjoint(text)


class Shield:
    """Swaps dangerous spellings for private-use characters and back.

    Dangerous is a control token's whole spelling, and the beginning of one at the end of a
    message (or the end of one at its beginning), which the template's own text could complete.

    Args:
        spellings: the control tokens' spellings.
        texts: everything that will be rendered; private-use characters in it are not used.
    """

    def __init__(self, spellings: Spellings, texts: Iterable[str]) -> None:
        self._spellings = spellings
        self._free = _unused_private_characters(texts)
        self._private: dict[str, str] = {}

    def fresh(self) -> str:
        """Give a private-use character that occurs nowhere.

        Raises:
            InputError: the texts use up the whole private plane.
        """
        character = next(self._free, None)
        if character is None:
            raise InputError(
                "The messages use every private-use character; send text without them."
            )
        return character

    def cover(self, text: str) -> str:
        """Put every dangerous spelling out of the way."""
        text = self._spellings.whole.sub(lambda hit: self._swap(hit.group()), text)
        return self._cover_start(self._cover_end(text))

    def uncover(self, text: str) -> str:
        """Put everything back."""
        for original, character in self._private.items():
            text = text.replace(character, original)
        return text

    def _swap(self, spelling: str) -> str:
        if spelling not in self._private:
            self._private[spelling] = self.fresh()
        return self._private[spelling]

    def _cover_end(self, text: str) -> str:
        """Look at the end without its white space, which templates may trim."""
        body = text.rstrip()
        if not self._spellings.may_begin_in(body[-self._spellings.longest :]):
            return text
        for length in range(min(self._spellings.longest, len(body)), 0, -1):
            if body[-length:] in self._spellings.beginnings:
                return body[:-length] + self._swap(body[-length:]) + text[len(body) :]
        return text

    def _cover_start(self, text: str) -> str:
        body = text.lstrip()
        if not self._spellings.may_end_in(body[: self._spellings.longest]):
            return text
        for length in range(min(self._spellings.longest, len(body)), 0, -1):
            if body[:length] in self._spellings.endings:
                return text[: len(text) - len(body)] + self._swap(body[:length]) + body[length:]
        return text


def _unused_private_characters(texts: Iterable[str]) -> Iterator[str]:
    used = {character for text in texts for character in _PRIVATE.findall(text)}
    yield from (chr(code) for code in range(0xF0000, 0xFFFFE) if chr(code) not in used)
