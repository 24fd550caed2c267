"""`python -m dlc` is the `dlc` command."""

from dlc.cli import main

main()
