"""The sections of the administration as HTML."""

import time
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from chatkit.identity.account import Account
from chatkit.loading.progress import size_text
from chatkit.models import ModelState
from chatkit.store.usage import DAY_SECONDS, Usage
from chatkit.ui.admin.charts import day_chart, rate

RANGES = (1, 7, 30, 90)


def overview(usage: Usage, days: int, people: int) -> str:
    """Write the most important numbers."""
    answers = sum(one.answers for one in usage.models)
    failed = sum(one.failed for one in usage.models)
    up, down = (sum(getattr(one, name) for one in usage.models) for name in ("up", "down"))
    liked = f"{100 * up / (up + down):.0f} %" if up + down else "–"
    tiles = (
        (f"{answers:,}", "answers"),
        (f"{usage.people:,} of {people:,}", "people asked"),
        (liked, f"of {up + down:,} thumbs are up"),
        (f"{100 * failed / answers:.1f} %" if answers else "–", "failed"),
    )
    return (
        f"<p class='ranges'>{_ranges(days)}</p><div class='tiles'>"
        + "".join(f"<div><b>{number}</b>{escape(name)}</div>" for number, name in tiles)
        + "</div>"
    )


def usage_section(usage: Usage, days: int) -> str:
    """Write what answers came to, by day and by model."""
    if not usage.models:
        return "<p>Nobody has asked anything in these days.</p>"
    first = int(time.time() // DAY_SECONDS) - days + 1
    chart = day_chart(usage.days, [one.model for one in usage.models], first)
    rows = "".join(
        f"<tr><th scope='row'>{escape(one.model)}</th><td>{one.answers:,}</td>"
        f"<td>{one.tokens:,}</td>{rate(one.up, one.up + one.down)}"
        f"{rate(one.down, one.up + one.down)}{rate(one.regenerated, one.answers)}"
        f"{rate(one.edited, one.answers)}{rate(one.stopped, one.answers)}"
        f"{rate(one.failed + one.interrupted, one.answers)}</tr>"
        for one in usage.models
    )
    names = (
        *("Model", "Answers", "Tokens", "Thumbs up", "Thumbs down", "Asked once more"),
        *("Question edited", "Stopped", "Failed or cut off"),
    )
    return chart + _table("Answers by model", names, rows)


def people_section(accounts: Sequence[Account], me: str, passwords: bool) -> str:
    """Write who may sign in, with what an admin may do to them."""
    rows = "".join(_person(one, me) for one in sorted(accounts, key=lambda one: one.name))
    password = (
        "<label>First password, 12 characters or more<input name='password' type='password' "
        "minlength='12' required autocomplete='new-password'></label>"
        if passwords
        else ""
    )
    return (
        _table("People", ("Name", "Role", "State", "Since", "What to do"), rows)
        + "<details><summary>Add somebody</summary><form method='post' class='add'>"
        "<input type='hidden' name='do' value='add'>"
        "<label>Name, or mail address<input name='name' required autocomplete='off'></label>"
        "<label>Role<select name='role'><option>user</option><option>admin</option></select>"
        f"</label>{password}<button>Add</button></form></details>"
    )


def models_section(states: Sequence[ModelState]) -> str:
    """Write which models this process has loaded, and how they are."""
    if not states:
        return "<p>No model is loaded now; the first question loads one.</p>"
    rows = "".join(
        f"<tr><th scope='row'>{escape(one.name)}</th><td>{_health(one)}</td>"
        f"<td>{size_text(one.needed)}</td><td>{one.users}</td>"
        f"<td>{'yes' if one.pinned else 'no'}</td></tr>"
        for one in states
    )
    return _table("Models", ("Model", "Health", "Memory", "In use by", "Stays"), rows)


def errors_section(usage: Usage) -> str:
    """Write what went wrong; whose question it was and what it said is not told."""
    if not usage.errors:
        return "<p>Nothing went wrong in these days.</p>"
    rows = "".join(
        f"<tr><th scope='row'>{escape(one.kind)}</th><td>{escape(one.model)}</td>"
        f"<td>{one.count:,}</td><td>{moment(one.last)}</td></tr>"
        for one in usage.errors
    )
    return _table("Errors", ("Kind", "Model", "How often", "Last"), rows)


def audit_section(entries: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> str:
    """Write the last entries of the audit log.

    Args:
        entries: newest first.
        names: of people by the pseudonyms under which the log knows them.
    """
    rows = "".join(
        f"<tr><td>{entry['number']}</td><td>{moment(entry['at'])}</td>"
        f"<td>{_known(entry['actor'], names)}</td><td>{escape(entry['action'])}</td>"
        f"<td>{_known(entry['subject'], names)}</td></tr>"
        for entry in entries
    )
    return _table("Audit log", ("Number", "When", "Who", "Did what", "To what"), rows)


def deletion(account: Account, conversations: int) -> str:
    """Write the question before somebody is deleted."""
    return (
        f"<p>Delete <b>{escape(account.name)}</b> with {conversations:,} conversations, feedback "
        "and votes, for good? Nobody can bring them back, from no backup either.</p>"
        "<form method='post' class='sure'><input type='hidden' name='do' value='delete'>"
        f"<input type='hidden' name='user' value='{escape(account.id)}'>"
        "<button class='bad'>Delete for good</button></form><p><a href='admin'>Keep them</a></p>"
    )


def new_password(account: Account) -> str:
    """Write the form that gives somebody another password."""
    return (
        f"<p>{escape(account.name)} will be signed out everywhere. Tell them the new password, and "
        "that they can change it on the page of their account.</p>"
        "<form method='post' class='sure'><input type='hidden' name='do' value='password'>"
        f"<input type='hidden' name='user' value='{escape(account.id)}'>"
        "<label>New password, 12 characters or more<input name='password' type='password' "
        "minlength='12' required autocomplete='new-password'></label>"
        "<button>Set the password</button></form><p><a href='admin'>Keep the old one</a></p>"
    )


def moment(seconds: float) -> str:
    """Write a moment for people and for machines."""
    at = time.gmtime(seconds)
    machine = time.strftime("%Y-%m-%dT%H:%M:%SZ", at)
    return f"<time datetime='{machine}'>{time.strftime('%Y-%m-%d %H:%M', at)}</time>"


def _person(account: Account, me: str) -> str:
    other_role = "user" if account.role == "admin" else "admin"
    buttons = [
        _button("role", account, f"Make {other_role}", other_role),
        _button("sign out", account, "Sign out"),
        _button("disable", account, "Disable")
        if account.enabled
        else _button("enable", account, "Enable"),
    ]
    if account.has_password:
        label = f"New password: {escape(account.name)}"
        address = f"admin?password={escape(account.id)}"
        buttons.append(f"<a href='{address}' aria-label='{label}'>New password</a>")
    if account.id != me:
        label = f"Delete {escape(account.name)}"
        address = f"admin?delete={escape(account.id)}"
        buttons.append(f"<a href='{address}' aria-label='{label}'>Delete</a>")
    state = "may sign in" if account.enabled else "disabled"
    how = "" if account.has_password else "<small>signs in elsewhere</small>"
    return (
        f"<tr><th scope='row'>{escape(account.name)}{how}</th><td>{account.role}</td>"
        f"<td>{state}</td><td>{moment(account.created)}</td>"
        f"<td class='deeds'>{''.join(buttons)}</td></tr>"
    )


def _button(do: str, account: Account, text: str, value: str = "") -> str:
    return (
        f"<form method='post'><input type='hidden' name='do' value='{do}'>"
        f"<input type='hidden' name='user' value='{escape(account.id)}'>"
        f"<input type='hidden' name='value' value='{value}'>"
        f"<button class='plain' aria-label='{text}: {escape(account.name)}'>{text}</button></form>"
    )


def _health(state: ModelState) -> str:
    if state.trouble is None:
        return "is being loaded"
    return f"<b>✗</b> {escape(state.trouble)}" if state.trouble else "✓ answers"


def _known(pseudonym: str, names: Mapping[str, str]) -> str:
    if pseudonym in names:
        return escape(names[pseudonym])
    return f"<code title='{pseudonym}'>{pseudonym[:8]}</code>"


def _ranges(days: int) -> str:
    def link(one: int) -> str:
        text = "today" if one == 1 else f"{one} days"
        here = " aria-current='page'" if one == days else ""
        return f"<a href='admin?days={one}'{here}>{text}</a>"

    return " ".join(map(link, RANGES))


def _table(caption: str, names: Sequence[str], rows: str) -> str:
    head = "".join(f"<th scope='col'>{name}</th>" for name in names)
    return (
        f"<div class='wide-table' role='region' tabindex='0' aria-label='{caption}'><table>"
        f"<caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
        "</table></div>"
    )
