"""Errors of the gateway; the CLI prints their message and exits with their code."""


class GatewayError(Exception):
    """The gateway cannot start. The message says what, where and what to do."""

    exit_code = 1


class UsageError(GatewayError):
    """The gateway was asked for something that it does not offer."""

    exit_code = 2
