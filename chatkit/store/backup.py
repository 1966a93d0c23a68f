"""Takes a copy of a database while others write to it."""

import time
from pathlib import Path

from sqlalchemy import Table, select, tuple_

from chatkit.store.backup_file import BackupWriter, Manifest
from chatkit.store.migrate import NEWEST
from chatkit.store.opening import Store
from chatkit.store.schema import (
    accounts,
    answers,
    audit,
    conversations,
    feedback,
    heads,
    nodes,
    users,
    votes,
)
from chatkit.store.transaction import Transaction
from chatkit.store.whole_file import whole_file

# What is backed up, parents before children. Not: who is alive, the index of words, and who is
# signed in: whoever reads a backup or restores one is nobody's guest.
TABLES = (users, conversations, nodes, answers, heads, feedback, votes, accounts, audit)
BATCH = 500


async def back_up(store: Store, target: Path, actor: str) -> Manifest:
    """Write a backup of one moment of the database.

    Args:
        store: what is backed up.
        target: the file to write; none of that name may be there.
        actor: who asked for it, for the audit log.

    Raises:
        InputError: there is a file of that name, or none can be written there.
        DiskFull: the disk has no room.
        StoreUnavailable: the database does not answer.
    """
    with whole_file(target) as file:

        async def work(connection: Transaction) -> Manifest:
            with BackupWriter(file, target) as writer:
                for table in TABLES:
                    await _copy(connection, table, writer)
                manifest = Manifest(
                    schema_version=NEWEST,
                    made=time.time(),
                    encrypted=store.keys.encrypted,
                    tables=writer.parts,
                )
                writer.finish(manifest)
            return manifest

        manifest = await store.database.read(work)
    await store.audit.note(actor, "backup", "database")
    return manifest


async def _copy(connection: Transaction, table: Table, writer: BackupWriter) -> None:
    """Copy a table batch by batch, in the order of its primary key."""
    key = tuple(table.primary_key)
    query = select(table).order_by(*key).limit(BATCH)
    with writer.table(table) as part:
        rows = (await connection.execute(query)).all()
        while rows:
            part.add(rows)
            last = tuple(rows[-1]._mapping[column.name] for column in key)
            rows = (await connection.execute(query.where(tuple_(*key) > tuple_(*last)))).all()
