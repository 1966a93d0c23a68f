"""Models side by side: `chatkit.compare` asks them the same, and keeps what came of it."""
