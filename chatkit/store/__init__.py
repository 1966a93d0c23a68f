"""What people and models wrote, in SQLite or PostgreSQL, and the keys that open it."""
