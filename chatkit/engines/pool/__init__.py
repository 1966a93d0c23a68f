"""Several servers of one model as one engine."""
