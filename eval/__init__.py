"""The command line for measuring models, and its suites."""
