"""`python -m msgcore` is the `msgcore` command."""

from msgcore.cli import main

main()
