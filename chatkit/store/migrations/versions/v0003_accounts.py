"""Accounts and their sessions."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make their tables."""
    op.create_table(
        "accounts",
        sa.Column(
            "user_id",
            sa.String(64),
            sa.ForeignKey("users.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("name_digest", sa.String(32), nullable=False, unique=True),
        sa.Column("external", sa.String(32), unique=True),
        sa.Column("sealed_name", sa.LargeBinary, nullable=False),
        sa.Column("role", sa.String(8), nullable=False),
        sa.Column("password", sa.Text),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("locked_until", sa.Float(53), nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column(
            "user_id",
            sa.String(64),
            sa.ForeignKey("accounts.user_id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("seen", sa.Float(53), nullable=False),
        sa.Column("sealed_agent", sa.LargeBinary, nullable=False),
    )
    op.create_index("sessions_of_user", "sessions", ["user_id"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("sessions")
    op.drop_table("accounts")
