"""Accounts: who may sign in, how long, and who may look after others."""

import pytest
from command import ran, run
from scripted_service import opened
from stores import opened_store, rows, sealed_values

from chatkit.errors import Forbidden, InputError, NotFound, NotSignedIn
from chatkit.identity import sessions as rows_of_sessions
from chatkit.identity.identity import Identity
from chatkit.identity.lockout import FREE_TRIES, LONGEST_SECONDS, wait_after
from chatkit.identity.openid import Claims
from chatkit.messages import user
from chatkit.store.records import VoteRecord
from chatkit.store.verify import verify

pytest_plugins = "store_fixtures"
pytestmark = pytest.mark.anyio

GOOD, OTHER = "correct horse battery", "staple tomorrow window"


class Clock:
    """The time, which a test may move."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("identity", "sessions", "accounts"):
        monkeypatch.setattr(f"chatkit.identity.{module}.time", clock)
    return clock


@pytest.mark.lengthy
async def test_somebody_signs_in_is_known_and_signs_out(database: str) -> None:
    async with opened_store() as store:
        identity = Identity(store)
        anna = await identity.add("Anna", "admin", GOOD)
        token = await identity.sign_in("ANNA ", GOOD, "a browser")
        assert await identity.who(token) == anna
        await identity.sign_out(token)
        with pytest.raises(NotSignedIn, match="sign in again"):
            await identity.who(token)


@pytest.mark.parametrize("token", ["", "0" * 64, "x", "' OR 1=1"])
async def test_a_forged_session_is_nobody(own_home: object, token: str) -> None:
    async with opened_store() as store:
        with pytest.raises(NotSignedIn):
            await Identity(store).who(token)


@pytest.mark.lengthy
async def test_a_wrong_name_and_a_wrong_password_say_the_same(own_home: object) -> None:
    async with opened_store() as store:
        identity = Identity(store)
        await identity.add("anna", "user", GOOD)
        for name, password in (("anna", OTHER), ("nobody", GOOD), ("anna", "")):
            with pytest.raises(NotSignedIn, match="The name or the password is wrong"):
                await identity.sign_in(name, password)


@pytest.mark.lengthy
async def test_guessing_locks_for_a_while_and_a_right_password_forgives(
    database: str, clock: Clock
) -> None:
    async with opened_store() as store:
        identity = Identity(store)
        await identity.add("anna", "user", GOOD)
        for _ in range(FREE_TRIES - 1):
            with pytest.raises(NotSignedIn, match="wrong; try"):
                await identity.sign_in("anna", OTHER)
        await identity.sign_in("anna", GOOD)
        for _ in range(FREE_TRIES):
            with pytest.raises(NotSignedIn, match="wrong; try"):
                await identity.sign_in("anna", OTHER)
        with pytest.raises(NotSignedIn, match="wait 1 minute and"):
            await identity.sign_in("anna", GOOD)
        clock.now += 31
        assert await identity.sign_in("anna", GOOD)


def test_each_wrong_password_costs_more_up_to_a_quarter_of_an_hour() -> None:
    waits = [wait_after(failures) for failures in range(200)]
    assert waits == sorted(waits) and waits[FREE_TRIES - 1] == 0 < waits[FREE_TRIES]
    assert waits[-1] == LONGEST_SECONDS


@pytest.mark.lengthy
async def test_a_session_ends_when_it_is_not_used_and_at_last_anyway(
    database: str, clock: Clock
) -> None:
    async with opened_store() as store:
        identity = Identity(store)
        await identity.add("anna", "user", GOOD)
        token = await identity.sign_in("anna", GOOD)
        for _ in range(6):
            clock.now += rows_of_sessions.IDLE_SECONDS - 1
            await identity.who(token)
        clock.now += rows_of_sessions.IDLE_SECONDS - 1
        with pytest.raises(NotSignedIn):
            await identity.who(token)
        token = await identity.sign_in("anna", GOOD)
        clock.now += rows_of_sessions.IDLE_SECONDS + 1
        with pytest.raises(NotSignedIn):
            await identity.who(token)


@pytest.mark.lengthy
async def test_sessions_are_listed_and_ended_one_by_one_or_together(database: str) -> None:
    async with opened_store() as store:
        identity = Identity(store)
        anna = await identity.add("anna", "user", GOOD)
        bo = await identity.add("bo", "user", OTHER)
        tokens = [await identity.sign_in("anna", GOOD, agent) for agent in ("phone", "desk")]
        bos = await identity.sign_in("bo", OTHER)
        listed = {one.agent: one.id for one in await identity.sessions(anna.id)}
        assert set(listed) == {"phone", "desk"}
        assert await identity.end_sessions(bo.id, listed["phone"]) == 0
        assert await identity.end_sessions(anna.id, listed["phone"]) == 1
        with pytest.raises(NotSignedIn):
            await identity.who(tokens[0])
        assert (await identity.who(tokens[1])).id == anna.id
        assert await identity.end_sessions(anna.id) == 1
        assert (await identity.who(bos)).id == bo.id


@pytest.mark.lengthy
async def test_a_changed_password_and_a_disabled_account_end_sessions(database: str) -> None:
    async with opened_store() as store:
        identity = Identity(store)
        anna = await identity.add("anna", "user", GOOD)
        token = await identity.sign_in("anna", GOOD)
        with pytest.raises(NotSignedIn, match="old password"):
            await identity.change_password(anna.id, OTHER, OTHER)
        await identity.change_password(anna.id, GOOD, OTHER)
        with pytest.raises(NotSignedIn):
            await identity.who(token)
        token = await identity.sign_in("anna", OTHER)
        await identity.set_enabled(anna.id, False)
        for wrong in (identity.who(token), identity.sign_in("anna", OTHER)):
            with pytest.raises(NotSignedIn):
                await wrong
        await identity.set_enabled(anna.id, True)
        assert await identity.sign_in("anna", OTHER)


@pytest.mark.lengthy
async def test_only_admins_look_after_accounts_and_one_of_them_stays(database: str) -> None:
    async with opened_store() as store:
        identity = Identity(store)
        anna = await identity.add("anna", "admin", GOOD)
        bo = await identity.add("bo", "user", OTHER, anna.id)
        for forbidden in (
            identity.add("cy", "admin", GOOD, bo.id),
            identity.accounts(bo.id),
            identity.set_role(bo.id, "admin", bo.id),
            identity.set_enabled(anna.id, False, bo.id),
            identity.set_password(anna.id, OTHER, bo.id),
            identity.check_may_go(anna.id, bo.id),
            identity.check_admin("visitor:0"),
        ):
            with pytest.raises(Forbidden, match="Only an admin"):
                await forbidden
        for last in (
            identity.set_role(anna.id, "user", anna.id),
            identity.set_enabled(anna.id, False, anna.id),
            identity.check_may_go(anna.id, anna.id),
        ):
            with pytest.raises(InputError, match="only admin"):
                await last
        await identity.set_role(bo.id, "admin", anna.id)
        await identity.set_role(anna.id, "user", bo.id)
        with pytest.raises(Forbidden):
            await identity.accounts(anna.id)


@pytest.mark.parametrize(
    ("name", "password", "why"),
    [
        ("", GOOD, "empty"),
        (" \n", GOOD, "empty"),
        ("a\u202eb", GOOD, "cannot be seen"),
        ("a" * 65, GOOD, "may have 64"),
        ("anna", "short", "12 to"),
        ("anna", "x" * 1025, "12 to"),
        ("anna", "abababababab", "repeats"),
        ("anna@example.org", "i am Anna of old", "holds the name"),
    ],
)
async def test_bad_names_and_passwords_are_refused(
    own_home: object, name: str, password: str, why: str
) -> None:
    async with opened_store() as store:
        with pytest.raises(InputError, match=why):
            await Identity(store).add(name, "user", password)


@pytest.mark.lengthy
async def test_two_spellings_are_one_name(database: str) -> None:
    async with opened_store() as store:
        identity = Identity(store)
        await identity.add("Straße", "user", GOOD)
        with pytest.raises(InputError, match="already"):
            await identity.add("STRASSE", "user", GOOD)
        with pytest.raises(InputError, match="already"):
            await identity.add("straße  ", "user", GOOD)


@pytest.mark.lengthy
async def test_names_passwords_and_tokens_are_nowhere_to_be_read(database: str) -> None:
    async with opened_store() as store:
        identity = Identity(store)
        await identity.add("markeranna", "user", GOOD)
        token = await identity.sign_in("markeranna", GOOD, "markeragent")
        stored = [*await rows(store, "SELECT * FROM accounts")]
        stored += await rows(store, "SELECT * FROM sessions")
        said = repr(stored).casefold()
        assert not any(secret in said for secret in ("marker", GOOD, token))
        assert len(await sealed_values(store)) == 2
        assert not (await verify(store)).broken


@pytest.mark.lengthy
async def test_an_account_goes_with_its_person(database: str) -> None:
    async with opened() as service:
        anna = await service.identity.add("anna", "user", GOOD)
        token = await service.identity.sign_in("anna", GOOD)
        await service.vote(anna.id, VoteRecord((user("x"),), "a", "b", "y", "z", 1.0, True))
        await service.delete_user(anna.id)
        with pytest.raises(NotSignedIn):
            await service.identity.who(token)
        with pytest.raises(NotFound):
            await service.identity.find("anna")
        for table in ("accounts", "sessions", "users", "votes"):
            assert not await rows(service.store, f"SELECT * FROM {table}")


@pytest.mark.lengthy
async def test_what_happens_to_accounts_is_in_the_audit_log(database: str) -> None:
    async with opened_store() as store:
        identity = Identity(store)
        anna = await identity.add("anna", "admin", GOOD)
        await identity.sign_in("anna", GOOD)
        await identity.set_password(anna.id, OTHER, anna.id)
        actions = [entry["action"] for entry in await store.audit.entries()]
        assert actions == ["add account", "sign in", "set password", "end session"]
        assert (await store.audit.verify()).broken_at is None


@pytest.mark.lengthy
async def test_who_signs_in_elsewhere_takes_the_account_of_their_address(database: str) -> None:
    async with opened_store() as store:
        identity, nobody = Identity(store), frozenset[str]()
        anna = await identity.add("anna@example.org", "admin")
        token = await identity.sign_in_elsewhere(Claims("iss 1", "Anna@example.org"), nobody)
        assert (await identity.who(token)).id == anna.id
        # From now on by who they are there; the address may change, or be given to another.
        token = await identity.sign_in_elsewhere(Claims("iss 1", "married@example.org"), nobody)
        assert (await identity.who(token)).id == anna.id
        with pytest.raises(NotSignedIn, match="belongs to somebody"):
            await identity.sign_in_elsewhere(Claims("iss 2", "anna@example.org"), nobody)
        with pytest.raises(NotSignedIn, match="wrong"):
            await identity.sign_in("anna@example.org", "")


async def test_strangers_from_elsewhere_come_in_by_their_domain_only(database: str) -> None:
    async with opened_store() as store:
        identity, domains = Identity(store), frozenset({"example.org"})
        token = await identity.sign_in_elsewhere(Claims("iss 1", "cy@example.org"), domains)
        assert (await identity.who(token)).role == "user"
        for claims, why in (
            (Claims("iss 2", "x@example.com"), "ask an admin to make one"),
            (Claims("iss 2", "x@example.org@example.com"), "ask an admin to make one"),
            (Claims("iss 2", ""), "no checked mail address"),
        ):
            with pytest.raises(NotSignedIn, match=why):
                await identity.sign_in_elsewhere(claims, domains)


@pytest.mark.lengthy
def test_the_command_looks_after_accounts(
    own_home: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = run("users", "add", "anna", "--role", "admin")
    assert said.code == 2 and "--password-stdin" in said.error
    assert run("users", "add", "anna", "--role", "boss", "--elsewhere").code == 2
    assert ran("users", "add", "anna@example.org", "--role", "admin", "--elsewhere")
    assert ran("users", "add", "bo@example.org", "--elsewhere")
    assert ran("users", "role", "bo@example.org", "admin")
    assert "bo@example.org" in ran("users", "list") and "admin" in ran("users", "list", "--json")
    assert ran("users", "disable", "bo@example.org")
    assert "disabled" in ran("users", "list")
    assert ran("users", "enable", "bo@example.org")
    assert "0 sessions" in ran("users", "sign-out", "bo@example.org")
    assert ran("users", "delete", "bo@example.org", "--yes")
    refused = run("users", "delete", "anna@example.org", "--yes")
    assert refused.code == 2 and "only admin" in refused.error
    assert "bo@" not in ran("users", "list")
