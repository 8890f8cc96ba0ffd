"""Rewrite a project from Channels, channels_redis and Daphne to Sealane: ``python -m sealane.migrate [--write] PATH``.

It needs the extra ``migrate``. What it does, what it leaves to you and its exit codes are in the documentation:
docs/how-to/migrate-with-the-codemod.md.
"""

__all__: list[str] = []
