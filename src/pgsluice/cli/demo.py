"""``pgsluice demo``."""

import click


@click.command()
def demo() -> int:
    """Show."""
    return 0
