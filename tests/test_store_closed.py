"""A store that was closed while somebody still asks it."""

from pathlib import Path

import pytest

from chatkit.errors import StoreUnavailable
from chatkit.store.opening import open_temporary_store

pytestmark = pytest.mark.anyio


@pytest.mark.slow
async def test_who_asks_a_closed_store_is_told_so(own_home: Path) -> None:
    store = await open_temporary_store()
    await store.close()
    with pytest.raises(StoreUnavailable, match="was closed, since this process ends"):
        await store.conversations.ids("ada")
