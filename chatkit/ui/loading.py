"""How the app loads models."""

from chatkit.engines.opening import LoadOptions
from chatkit.settings import settings


def app_loading() -> LoadOptions:
    """Tell how the app loads a model: where people sign in, many at once are expected.

    A page of guests is mostly one person's own.
    """
    return LoadOptions(shared=settings().auth != "none")
