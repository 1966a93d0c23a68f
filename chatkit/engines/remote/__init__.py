"""Models that other servers run, asked over HTTP."""
