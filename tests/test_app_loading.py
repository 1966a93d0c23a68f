"""How the app loads models."""

import pytest

from chatkit.engines.opening import LoadOptions
from chatkit.ui.loading import app_loading


def test_a_page_of_guests_expects_few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHATKIT_AUTH", raising=False)
    # As a notebook asks for it, so that both share what is loaded.
    assert app_loading() == LoadOptions()


def test_where_people_sign_in_many_at_once_are_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATKIT_AUTH", "password")
    assert app_loading() == LoadOptions(shared=True)
