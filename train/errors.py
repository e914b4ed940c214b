"""Errors that a person can act on; the CLI prints their message and exits with 1."""


class TrainError(Exception):
    """A run cannot go on. The message says what, where and what to do next."""


class ConfigError(TrainError):
    """A setting is unknown, out of range or does not fit the machine; exits with 2."""
