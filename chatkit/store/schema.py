"""The tables. What people or models wrote is in columns named `sealed…` only."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
    text,
)

OPEN_STATUSES = ("queued", "running")
# The condition of an index on PostgreSQL is in the migrations only: here it would load all that
# belongs to that database, 2 MB, for those who have SQLite.
_IS_OPEN = text("status IN ('queued', 'running')")

# SQLite counts up by itself only in a column of type INTEGER.
_Number = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

users = Table(
    "users",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("created", Float(53), nullable=False),
    Column("sealed_preferences", LargeBinary),
    Column("retention_days", Float(53)),
)

conversations = Table(
    "conversations",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("sealed_title", LargeBinary, nullable=False),
    Column("titled_by", String(8), nullable=False, server_default="nobody"),
    Column("sealed_settings", LargeBinary, nullable=False),
    Column("created", Float(53), nullable=False),
    Column("updated", Float(53), nullable=False),
    # Not foreign keys: a fork outlives what it was forked from.
    Column("forked_from", String(32)),
    Column("forked_at", String(32)),
    Index("conversations_of_user", "user_id", "updated", "id"),
    Index("conversations_by_age", "updated"),
)

nodes = Table(
    "nodes",
    metadata,
    # The order in which nodes came, whatever clocks say.
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("conversation_id", ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
    Column("parent", String(32)),
    Column("kind", String(8), nullable=False, server_default="message"),
    Column("role", String(9), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created", Float(53), nullable=False),
    Column("pinned", Boolean, nullable=False, server_default=text("false")),
    Column("client_id", String(64)),
    UniqueConstraint("conversation_id", "client_id", name="nodes_sent_once"),
    Index("nodes_of_parent", "conversation_id", "parent", "number"),
    Index(
        "summaries",
        "conversation_id",
        sqlite_where=text("kind = 'summary'"),
    ),
    sqlite_autoincrement=True,
)

answers = Table(
    "answers",
    metadata,
    Column("node_id", ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True),
    Column("status", String(11), nullable=False),
    Column("worker", String(32)),
    Column("stop_asked", Boolean, nullable=False, server_default=text("false")),
    # The number of the last event whose text is in the node.
    Column("flushed", Integer, nullable=False, server_default="0"),
    Column("request_id", String(64), nullable=False),
    Column("model", Text, nullable=False),
    Column("adapter", Text),
    Column("template_identity", String(64)),
    Column("seed", BigInteger),
    Column("finish", String(8)),
    Column("prompt_tokens", Integer),
    Column("cached_tokens", Integer),
    Column("completion_tokens", Integer),
    Column("stage_seconds", Text),
    Column("error_kind", String(64)),
    Column("sealed_error", LargeBinary),
    Column("sealed_sampling", LargeBinary),
    Column("sealed_ledger", LargeBinary),
    Index("answers_open", "worker", sqlite_where=_IS_OPEN),
)

# Spelt out as in the index: SQLite uses a partial index only for the very words that made it.
is_open: ColumnElement[bool] = answers.c.status.in_(
    [literal_column(f"'{status}'") for status in OPEN_STATUSES]
)

heads = Table(
    "heads",
    metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column(
        "conversation_id",
        ForeignKey("conversations.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("node_id", String(32)),
    Index("heads_of_conversation", "conversation_id"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("node_id", ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("thumb", String(4)),
    Column("sealed", LargeBinary, nullable=False),
    Column("created", Float(53), nullable=False),
    Index("feedback_of_user", "user_id"),
)

votes = Table(
    "votes",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    # The names of the models; 1 when the first has won, 0 when the second has.
    Column("first", Text, nullable=False),
    Column("second", Text, nullable=False),
    Column("won", Float(53), nullable=False),
    Column("blind", Boolean, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created", Float(53), nullable=False),
    Index("votes_of_user", "user_id", "created", "id"),
)

accounts = Table(
    "accounts",
    metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    # What a name or a person elsewhere is found by: a digest under a key of the key store.
    Column("name_digest", String(32), nullable=False, unique=True),
    Column("external", String(32), unique=True),
    Column("sealed_name", LargeBinary, nullable=False),
    Column("role", String(8), nullable=False),
    Column("password", Text),
    Column("enabled", Boolean, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("locked_until", Float(53), nullable=False),
    Column("created", Float(53), nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    # A digest of what the browser keeps.
    Column("id", String(64), primary_key=True),
    Column("user_id", ForeignKey("accounts.user_id", ondelete="CASCADE"), nullable=False),
    Column("created", Float(53), nullable=False),
    Column("seen", Float(53), nullable=False),
    Column("sealed_agent", LargeBinary, nullable=False),
    Index("sessions_of_user", "user_id"),
)

workers = Table(
    "workers",
    metadata,
    Column("id", String(32), primary_key=True),
    # Counts up while the worker lives: clocks of machines differ and jump.
    Column("beat", BigInteger, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=False),
    Column("at", Float(53), nullable=False),
    Column("actor", String(32), nullable=False),
    Column("action", String(32), nullable=False),
    Column("subject", String(32), nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)

# Filled only while encryption is off. On SQLite the migration makes it an FTS5 table.
node_text = Table(
    "node_text",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False),
)

# What SQLite has beside the tables; a test compares it with what the migrations make.
SQLITE_SEARCH = (
    "CREATE VIRTUAL TABLE node_text USING fts5(text, tokenize = 'unicode61')",
    "CREATE TRIGGER node_text_follows AFTER DELETE ON nodes "
    "BEGIN DELETE FROM node_text WHERE rowid = old.number; END",
)
SQLITE_AUDIT = tuple(
    f"CREATE TRIGGER audit_refuses_{change.lower()} BEFORE {change} ON audit "
    "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
    for change in ("UPDATE", "DELETE")
)

key_metadata = MetaData()

key_facts = Table(
    "key_facts",
    key_metadata,
    Column("name", String(32), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
)

user_keys = Table(
    "user_keys",
    key_metadata,
    Column("user_id", String(64), primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
)

conversation_keys = Table(
    "conversation_keys",
    key_metadata,
    Column("conversation_id", String(32), primary_key=True),
    Column("user_id", String(64), nullable=False, index=True),
    Column("wrapped", LargeBinary, nullable=False),
)

erasures = Table(
    "erasures",
    key_metadata,
    Column("pseudonym", String(32), primary_key=True),
    Column("kind", String(12), nullable=False),
    Column("at", Float(53), nullable=False),
)
