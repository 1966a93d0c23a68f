"""Charts as SVG and as bars in tables: no script draws them, and a screen reader reads them."""

import time
from collections.abc import Mapping, Sequence
from html import escape

from chatkit.store.usage import DAY_SECONDS

# Told apart also by who sees no red or green, after Okabe and Ito.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_HEIGHT, _WIDTH = 120, 600


def day_chart(days: Mapping[int, Mapping[str, int]], models: Sequence[str], first: int) -> str:
    """Draw answers by day, a column for each from the first day until today.

    Args:
        days: answers by model, by day since 1970.
        models: in the order of their colours.
        first: the first day since 1970.
    """
    today = int(time.time() // DAY_SECONDS)
    shown = range(first, today + 1)
    most = max((sum(days.get(day, {}).values()) for day in shown), default=0) or 1
    step = _WIDTH / len(shown)
    columns = "".join(
        _column(days.get(day, {}), models, day, (step * place, step), most)
        for place, day in enumerate(shown)
    )
    total = sum(sum(one.values()) for one in days.values())
    legend = "".join(
        f"<li><i style='background:{_colour(place)}'></i>{escape(model)}</li>"
        for place, model in enumerate(models)
    )
    return (
        f"<figure><svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img' preserveAspectRatio='none' "
        f"aria-label='{total:,} answers by day, {most:,} on the busiest day'>{columns}</svg>"
        f"<figcaption><span>{_date(first)}</span><span>at most {most:,} a day</span>"
        f"<span>today</span></figcaption><ul class='legend'>{legend}</ul></figure>"
    )


def bar(share: float, text: str) -> str:
    """Write a table's cell with a bar as long as a share of 1."""
    width = round(100 * min(1.0, max(0.0, share)))
    return f"<td class='bar'><span style='width:{width}%'></span>{escape(text)}</td>"


def rate(part: int, whole: int) -> str:
    """Write a table's cell with a share in per cent and as a bar."""
    if not whole:
        return "<td>–</td>"
    return bar(part / whole, f"{100 * part / whole:.1f} % ({part:,})")


def _column(
    counts: Mapping[str, int],
    models: Sequence[str],
    day: int,
    place: tuple[float, float],
    most: int,
) -> str:
    left, step = place
    parts, top = [], float(_HEIGHT)
    for number, model in enumerate(models):
        height = _HEIGHT * counts.get(model, 0) / most
        top -= height
        if height:
            parts.append(
                f"<rect x='{left + 0.1 * step:.2f}' y='{top:.2f}' width='{0.8 * step:.2f}' "
                f"height='{height:.2f}' fill='{_colour(number)}'/>"
            )
    told = ", ".join(f"{model}: {count:,}" for model, count in counts.items())
    return f"<g><title>{_date(day)} {escape(told)}</title>{''.join(parts)}</g>" if parts else ""


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def _date(day: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(day * DAY_SECONDS))
