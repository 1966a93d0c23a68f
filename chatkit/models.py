"""The models of this process: each loaded once, shared, within a memory budget."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache

from chatkit import telemetry
from chatkit.engine import Engine
from chatkit.engines.freed_memory import return_freed_memory
from chatkit.engines.opening import LoadOptions, memory_needed, open_engine
from chatkit.errors import ChatkitError, InputError, NotEnoughMemory
from chatkit.hardware import available_memory
from chatkit.loading.progress import size_text

Key = tuple[str, LoadOptions]


@dataclass(frozen=True, slots=True)
class ModelState:
    """A model as it is now.

    Args:
        name: its name.
        needed: the memory that it is counted with, in bytes.
        users: how many use it at this moment.
        pinned: whether it stays whatever else is loaded.
        trouble: why it cannot answer, empty when it can; None while it is being loaded.
    """

    name: str
    needed: int
    users: int
    pinned: bool
    trouble: str | None


@dataclass(eq=False, slots=True)
class _Loaded:
    key: Key
    needed: int
    engine: "Future[Engine]" = field(default_factory=Future)
    users: int = 0
    pinned: bool = False
    last_used: float = field(default_factory=time.monotonic)


class Models:
    """Loads each model once, and lets the least recently used go when memory runs short.

    Works from any thread and event loop.

    Args:
        budget: bytes that all models may hold together; None is what was free at the start,
            less a tenth.
    """

    def __init__(self, budget: int | None = None) -> None:
        self._budget = budget if budget is not None else int(available_memory() * 0.9)
        self._lock = threading.Lock()
        self._loaded: dict[Key, _Loaded] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The loaded models, least recently used first."""
        with self._lock:
            return tuple(loaded.key[0] for loaded in self._oldest_first())

    async def states(self) -> tuple[ModelState, ...]:
        """Ask every loaded model how it is, the last used one first."""
        with self._lock:
            loaded = self._oldest_first()[::-1]
        return tuple([await _state(one) for one in loaded])

    @asynccontextmanager
    async def use(self, name: str, options: LoadOptions | None = None) -> AsyncIterator[Engine]:
        """Lend a model's engine, loading it when it is not there; it stays while it is lent.

        Raises:
            NotEnoughMemory: it does not fit beside the models that cannot leave.
            ChatkitError: whatever `open_engine` raises.
        """
        loaded, leaving, mine = self._take((name, options or LoadOptions()))
        try:
            if mine:
                threading.Thread(target=self._load, args=(loaded, leaving)).start()
            # Shielded, since others wait for the same load.
            yield await asyncio.shield(asyncio.wrap_future(loaded.engine))
        finally:
            self._give_back(loaded)

    def pin(self, name: str, options: LoadOptions | None = None) -> None:
        """Keep a loaded model, whatever else is loaded.

        Raises:
            InputError: the model is not loaded.
        """
        with self._lock:
            loaded = self._loaded.get((name, options or LoadOptions()))
            if loaded is None:
                raise InputError(f"{name} is not loaded, so it cannot be pinned; use it first.")
            loaded.pinned = True

    def forget_texts(self) -> None:
        """Let every loaded model's template forget the texts that it remembers for speed."""
        with self._lock:
            loaded = [one.engine for one in self._loaded.values() if one.engine.done()]
        for engine in loaded:
            if engine.exception() is None:
                engine.result().template.forget()

    async def unload_idle(self, seconds: float) -> None:
        """Let every model go that nobody has used for so long and that is not pinned."""
        before = time.monotonic() - seconds
        with self._lock:
            leaving = [one for one in self._can_leave() if one.last_used <= before]
            for one in leaving:
                del self._loaded[one.key]
        await asyncio.to_thread(self._close, leaving)

    async def close(self) -> None:
        """Let every model go, pinned ones too; what is under way ends first."""
        with self._lock:
            leaving = list(self._loaded.values())
            self._loaded.clear()
        await asyncio.to_thread(self._close, leaving)

    def _take(self, key: Key) -> tuple[_Loaded, list[_Loaded], bool]:
        """Find or begin a load: what is used, what must leave for it, and who loads it."""
        with self._lock:
            if key in self._loaded:
                loaded = self._loaded[key]
                loaded.users += 1
                return loaded, [], False
            needed = memory_needed(*key)
            leaving = [] if key[1].force else self._make_room(key[0], needed)
            loaded = self._loaded[key] = _Loaded(key, needed, users=1)
            return loaded, leaving, True

    def _make_room(self, name: str, needed: int) -> list[_Loaded]:
        """Choose what leaves, the least recently used first; nothing changes when it is in vain."""
        free = self._budget - sum(one.needed for one in self._loaded.values())
        leaving: list[_Loaded] = []
        for one in self._can_leave():
            if free >= needed:
                break
            leaving.append(one)
            free += one.needed
        if free < needed:
            raise NotEnoughMemory(
                f"{name} needs about {size_text(needed)} and {size_text(max(free, 0))} can be "
                "freed; choose a smaller or quantised model, or load it with force (`--force`)."
            )
        for one in leaving:
            del self._loaded[one.key]
        return leaving

    def _load(self, loaded: _Loaded, leaving: list[_Loaded]) -> None:
        try:
            self._close(leaving)
            engine = open_engine(*loaded.key)
            return_freed_memory()
        except BaseException as error:
            with self._lock:
                self._loaded.pop(loaded.key, None)
            loaded.engine.set_exception(error)
            return
        loaded.engine.set_result(engine)
        telemetry.models_loaded(len(self.names))

    def _close(self, leaving: Iterable[_Loaded]) -> None:
        for one in leaving:
            asyncio.run(one.engine.result().close())
        telemetry.models_loaded(len(self.names))

    def _give_back(self, loaded: _Loaded) -> None:
        with self._lock:
            loaded.users -= 1
            loaded.last_used = time.monotonic()

    def _oldest_first(self) -> list[_Loaded]:
        return sorted(self._loaded.values(), key=lambda one: one.last_used)

    def _can_leave(self) -> list[_Loaded]:
        return [
            one
            for one in self._oldest_first()
            if not one.users and not one.pinned and one.engine.done()
        ]


async def _state(loaded: _Loaded) -> ModelState:
    trouble: str | None = None
    if loaded.engine.done():
        try:
            await loaded.engine.result().health()
            trouble = ""
        except ChatkitError as error:
            trouble = str(error)
    return ModelState(loaded.key[0], loaded.needed, loaded.users, loaded.pinned, trouble)


@cache
def shared_models() -> Models:
    """Give the models that this process shares."""
    return Models()
