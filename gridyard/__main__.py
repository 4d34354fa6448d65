"""`python -m gridyard` is `gridyard`."""

from gridyard.cli import main

main()
