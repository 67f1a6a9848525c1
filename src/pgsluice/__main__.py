"""``python -m pgsluice``."""

from pgsluice.cli import main

main()
