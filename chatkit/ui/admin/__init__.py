"""The administration: people, models, usage, errors, the audit log."""
