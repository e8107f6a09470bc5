"""The Typer program ``simreal``, one file a command."""
