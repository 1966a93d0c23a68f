"""The first form of the store.

The tables are written out, since a step must not change when the schema moves on.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# In the order in which they may be dropped.
TABLES = (
    "node_text",
    "audit",
    "workers",
    "feedback",
    "heads",
    "answers",
    "nodes",
    "conversations",
    "users",
)

_number = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make every table."""
    _users_and_conversations()
    _nodes_and_answers()
    _what_viewers_add()
    _workers_and_audit()
    _search()


def downgrade() -> None:
    """Drop every table."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER audit_is_append_only ON audit")
        op.execute("DROP FUNCTION audit_refuses()")
    for name in [
        "node_text",
        "audit",
        "workers",
        "feedback",
        "heads",
        "answers",
        "nodes",
        "conversations",
        "users",
    ]:
        op.drop_table(name)


def _users_and_conversations() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("sealed_preferences", sa.LargeBinary),
        sa.Column("retention_days", sa.Float(53)),
    )
    op.create_table(
        "conversations",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("user_id", sa.String(64), _of("users.id"), nullable=False),
        sa.Column("sealed_title", sa.LargeBinary, nullable=False),
        sa.Column("titled_by", sa.String(8), nullable=False, server_default="nobody"),
        sa.Column("sealed_settings", sa.LargeBinary, nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("updated", sa.Float(53), nullable=False),
        sa.Column("forked_from", sa.String(32)),
        sa.Column("forked_at", sa.String(32)),
    )
    op.create_index("conversations_of_user", "conversations", ["user_id", "updated", "id"])
    op.create_index("conversations_by_age", "conversations", ["updated"])


def _nodes_and_answers() -> None:
    op.create_table(
        "nodes",
        sa.Column("number", _number, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(32), nullable=False, unique=True),
        sa.Column("conversation_id", sa.String(32), _of("conversations.id"), nullable=False),
        sa.Column("parent", sa.String(32)),
        sa.Column("kind", sa.String(8), nullable=False, server_default="message"),
        sa.Column("role", sa.String(9), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("pinned", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("client_id", sa.String(64)),
        sa.UniqueConstraint("conversation_id", "client_id", name="nodes_sent_once"),
        sqlite_autoincrement=True,
    )
    op.create_index("nodes_of_parent", "nodes", ["conversation_id", "parent", "number"])
    is_summary = sa.text("kind = 'summary'")
    op.create_index(
        "summaries",
        "nodes",
        ["conversation_id"],
        sqlite_where=is_summary,
        postgresql_where=is_summary,
    )
    op.create_table(
        "answers",
        sa.Column("node_id", sa.String(32), _of("nodes.id"), primary_key=True),
        sa.Column("status", sa.String(11), nullable=False),
        sa.Column("worker", sa.String(32)),
        sa.Column("stop_asked", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("flushed", sa.Integer, nullable=False, server_default="0"),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("adapter", sa.Text),
        sa.Column("template_identity", sa.String(64)),
        sa.Column("seed", sa.BigInteger),
        sa.Column("finish", sa.String(8)),
        sa.Column("prompt_tokens", sa.Integer),
        sa.Column("cached_tokens", sa.Integer),
        sa.Column("completion_tokens", sa.Integer),
        sa.Column("stage_seconds", sa.Text),
        sa.Column("error_kind", sa.String(64)),
        sa.Column("sealed_error", sa.LargeBinary),
        sa.Column("sealed_sampling", sa.LargeBinary),
        sa.Column("sealed_ledger", sa.LargeBinary),
    )
    is_open = sa.text("status IN ('queued', 'running')")
    op.create_index(
        "answers_open", "answers", ["worker"], sqlite_where=is_open, postgresql_where=is_open
    )


def _what_viewers_add() -> None:
    op.create_table(
        "heads",
        sa.Column("user_id", sa.String(64), _of("users.id"), primary_key=True),
        sa.Column("conversation_id", sa.String(32), _of("conversations.id"), primary_key=True),
        sa.Column("node_id", sa.String(32)),
    )
    op.create_index("heads_of_conversation", "heads", ["conversation_id"])
    op.create_table(
        "feedback",
        sa.Column("node_id", sa.String(32), _of("nodes.id"), primary_key=True),
        sa.Column("user_id", sa.String(64), _of("users.id"), primary_key=True),
        sa.Column("thumb", sa.String(4)),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
    )
    op.create_index("feedback_of_user", "feedback", ["user_id"])


def _workers_and_audit() -> None:
    op.create_table(
        "workers",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("beat", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "audit",
        sa.Column("number", _number, primary_key=True, autoincrement=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("actor", sa.String(32), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(32), nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION audit_refuses() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$"
        )
        op.execute(
            "CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON audit "
            "FOR EACH ROW EXECUTE FUNCTION audit_refuses()"
        )
        return
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_refuses_{change.lower()} BEFORE {change} ON audit "
            "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
        )


def _search() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.create_table(
            "node_text",
            sa.Column(
                "number", _number, _of("nodes.number"), primary_key=True, autoincrement=False
            ),
            sa.Column("text", sa.Text, nullable=False),
        )
        op.execute(
            "CREATE INDEX node_text_words ON node_text USING gin (to_tsvector('simple', text))"
        )
        return
    op.execute("CREATE VIRTUAL TABLE node_text USING fts5(text, tokenize = 'unicode61')")
    op.execute(
        "CREATE TRIGGER node_text_follows AFTER DELETE ON nodes "
        "BEGIN DELETE FROM node_text WHERE rowid = old.number; END"
    )


def _of(column: str) -> sa.ForeignKey:
    return sa.ForeignKey(column, ondelete="CASCADE")
