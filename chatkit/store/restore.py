"""Puts a backup into an empty database, all of it or nothing."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from sqlalchemy import MetaData, Table, delete, func, insert, inspect, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, IntegrityError

from chatkit.errors import DatabaseVersion, InputError, KeyUnavailable
from chatkit.sealing import PlainSeal
from chatkit.settings import Settings
from chatkit.store.backup import TABLES
from chatkit.store.backup_file import BackupReader, Manifest
from chatkit.store.database import Database
from chatkit.store.keys import Keys
from chatkit.store.migrate import NEWEST, downgrade, known_versions, upgrade, version
from chatkit.store.opening import open_keys, open_store
from chatkit.store.records import message_from_text
from chatkit.store.schema import OPEN_STATUSES, answers, conversations, nodes
from chatkit.store.text_index import make_searchable
from chatkit.store.transaction import Transaction

_BATCH = 500
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore has done.

    Args:
        manifest: what the backup says of itself.
        skipped: how many conversations were left out, since the key store lacks their keys.
        erased: how many conversations did not come back, since they were deleted meanwhile.
    """

    manifest: Manifest
    skipped: int
    erased: int


async def restore(
    settings: Settings, source: Path, actor: str, *, skip_unreadable: bool = False
) -> Restored:
    """Put a backup into the empty database that the settings name, and erase again who was erased.

    Args:
        settings: where to; the key store must be the one of the backup's time, or a later one.
        source: the backup.
        actor: who asked for it, for the audit log.
        skip_unreadable: leave out conversations whose keys the key store lacks.

    Raises:
        ImportRefused: the file is no backup, or was damaged.
        InputError: the database is not empty, or the file cannot be read.
        DatabaseVersion: a newer program made the backup.
        KeyUnavailable: the key store does not belong to the backup.
    """
    with BackupReader(source) as backup:
        backup.check()
        manifest, lost = backup.manifest, await _put(settings, backup, skip_unreadable)
    # Opening brings it to this program's form and deletes what was deleted since.
    store = await open_store(settings)
    try:
        await store.pruning.replay()
        left = await store.database.read(_count_conversations)
        await store.audit.note(actor, "restore", "database")
    finally:
        await store.close()
    rows = manifest.tables[conversations.name].rows
    return Restored(manifest, len(lost), rows - len(lost) - left)


async def _put(settings: Settings, backup: BackupReader, skip_unreadable: bool) -> frozenset[str]:
    """Fill the database; give the conversations that were left out."""
    database, keys = Database(settings.database), open_keys(settings)
    try:
        await keys.open()
        _check_encryption(keys, backup)
        await _make_ready(database, backup)
        lost = await _without_keys(keys, backup)
        if lost and not skip_unreadable:
            raise KeyUnavailable(
                f"The key store lacks the keys of {len(lost):,} conversations of the backup, so "
                "they could never be read; restore the key store that belongs to the backup, or "
                "leave them out with --skip-unreadable."
            )
        await database.write(lambda now: _insert(now, database, keys, backup, lost))
        return lost
    finally:
        await database.close()
        await keys.close()


def _check_encryption(keys: Keys, backup: BackupReader) -> None:
    if backup.manifest.encrypted != keys.encrypted:
        found, wanted = (
            ("encrypted", "on") if backup.manifest.encrypted else ("in the clear", "off")
        )
        raise KeyUnavailable(
            f"The backup is {found}, and this database would not be; set CHATKIT_ENCRYPTION to "
            f"{wanted} to restore it."
        )


async def _without_keys(keys: Keys, backup: BackupReader) -> frozenset[str]:
    """Name what could not be read any more, though it was not erased."""
    if not keys.encrypted:
        return frozenset()
    known, erased = await keys.known(), await keys.erased()
    names = (str(row["id"]) for row in backup.rows(conversations))
    return frozenset(id for id in names if id not in known and keys.pseudonym(id) not in erased)


async def _make_ready(database: Database, backup: BackupReader) -> None:
    """Bring an empty database to the form that the backup has."""
    wanted = backup.manifest.schema_version
    if wanted not in known_versions():
        raise DatabaseVersion(
            f"The backup has version {wanted} and this program knows up to {NEWEST}; update "
            "chatkit and restore again."
        )
    found = await version(database)
    if found is not None and await database.read(_is_filled):
        raise _not_empty(database)
    if found is not None and found != wanted:
        await downgrade(database, "base")
    if found != wanted:
        await upgrade(database, wanted)
    if {table.name for table in await database.read(_tables)} != set(backup.manifest.tables):
        raise backup.refused("it holds other tables than a backup of its version")


def _not_empty(database: Database) -> InputError:
    return InputError(
        f"The database {database.name} is not empty; name an empty one in CHATKIT_DATABASE_URL: "
        "a restore never mixes with what is there."
    )


async def _is_filled(connection: Transaction) -> bool:
    for table in await _tables(connection):
        if (await connection.execute(select(table).limit(1))).first() is not None:
            return True
    return False


async def _count_conversations(connection: Transaction) -> int:
    query = select(func.count()).select_from(conversations)
    return int((await connection.execute(query)).scalar_one())


async def _insert(
    connection: Transaction,
    database: Database,
    keys: Keys,
    backup: BackupReader,
    lost: frozenset[str],
) -> None:
    if await _is_filled(connection):
        raise _not_empty(database)
    for table in await _tables(connection):
        await _fill(connection, table, backup)
    gone = update(answers).where(answers.c.status.in_(OPEN_STATUSES))
    await connection.execute(gone.values(status="interrupted", worker=None))
    for ids in _batches(iter(lost)):
        await connection.execute(delete(conversations).where(conversations.c.id.in_(ids)))
    if not database.is_sqlite:
        # The numbers came with the rows, so the counter does not know of them.
        sequence = func.pg_get_serial_sequence("nodes", "number")
        newest = select(func.coalesce(func.max(nodes.c.number), 1)).scalar_subquery()
        await connection.execute(select(func.setval(sequence, newest)))
    if not keys.encrypted:
        await _index(connection, database, backup)


async def _tables(connection: Transaction) -> list[Table]:
    """Read the forms of the tables from the database, since the backup may be of an older one."""
    return list(await connection.run_sync(_as_they_are))


def _as_they_are(connection: Connection) -> list[Table]:
    there = set(inspect(connection).get_table_names())
    return [
        Table(table.name, MetaData(), autoload_with=connection, resolve_fks=False)
        for table in TABLES
        if table.name in there
    ]


async def _fill(connection: Transaction, table: Table, backup: BackupReader) -> None:
    for rows in _batches(backup.rows(table)):
        try:
            await connection.execute(insert(table), rows)
        except (IntegrityError, DataError) as error:
            raise backup.refused("the database refuses a row", table.name) from error


async def _index(connection: Transaction, database: Database, backup: BackupReader) -> None:
    """Make what is not sealed findable by its words."""
    seal = PlainSeal()
    for rows in _batches(backup.rows(nodes)):
        texts: dict[str, str] = {}
        for row in rows:
            # What was sealed before encryption was switched off is not found by its words.
            with suppress(KeyUnavailable):
                body = seal.open(row["sealed"], f"node:{row['id']}")
                texts[row["id"]] = message_from_text(row["role"], body).content
        await make_searchable(connection, database, texts)


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while batch := list(islice(rows, _BATCH)):
        yield batch
