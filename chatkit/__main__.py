"""`python -m chatkit`."""

from chatkit.cli.main import main

main()
