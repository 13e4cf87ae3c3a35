"""`python -m xpod.cli` is `xpod`."""

from xpod.cli.main import main

main()
