"""Errors of serving; the CLI prints their message and exits with 1."""


class ServeError(Exception):
    """An engine or the stack cannot be started, reached or stopped.

    The message says what, where and what to do.
    """


class EngineDiedError(ServeError):
    """An engine's process ended when it should be running."""
