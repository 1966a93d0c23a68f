"""The command line: `python -m chatkit`, one module per command."""
