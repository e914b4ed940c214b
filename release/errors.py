"""Errors of the release store; the CLI prints their message and exits with 1."""


class ReleaseError(Exception):
    """A release cannot be sealed, read or promoted. The message says what, where and what to do."""


class NotFoundError(ReleaseError):
    """No release or channel of that name is in the store (yet)."""
