"""What an operation on the database is given, whichever database it is."""

from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol, TypeVar

Result = TypeVar("Result", covariant=True)
# `remake` is `disk` for steps that make tables anew: on SQLite dropping one would take along
# whatever refers to it.
Durability = Literal["disk", "soon", "remake"]


class Transaction(Protocol):
    """Statements that happen together or not at all.

    An operation awaits nothing but this: on SQLite it runs whole on a thread of the database.
    """

    async def execute(self, statement: Any, parameters: Any = None) -> Any:
        """Run one statement of SQLAlchemy's, once or with each of several parameters."""
        ...

    async def run_sync(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Give the synchronous connection to code that needs one, such as a migration."""
        ...


Operation = Callable[[Transaction], Awaitable[Result]]
