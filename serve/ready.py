"""Readiness: an engine is ready when it has generated a token, not when it says that it is well."""

from __future__ import annotations

import httpx

from serve.engine import NotReadyError
from serve.errors import ServeError

# The request itself is wrong, so no waiting will help.
_FINAL = {400, 401, 403, 404, 422}


def generate_token(client: httpx.Client, model: str) -> None:
    """Ask for one token through /v1/chat/completions.

    Raises:
        NotReadyError: not yet.
        ServeError: the engine refuses the request, and always will.
        httpx.HTTPError: it cannot be reached.
    """
    response = client.post(
        "/v1/chat/completions",
        json={
            "model": model,
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 1,
            "temperature": 0,
        },
    )
    where = response.request.url
    if response.status_code in _FINAL:
        raise ServeError(f"{where} refused a plain request: {_said(response)}")
    if response.status_code != httpx.codes.OK:
        raise NotReadyError(f"{where} answers {_said(response)}")
    try:
        generated = response.json()["usage"]["completion_tokens"]
    except (ValueError, LookupError, TypeError):
        raise ServeError(f"{where} gave no chat completion: {_said(response)}") from None
    if not generated:
        raise NotReadyError(f"{where} generated no token")


def get_json(client: httpx.Client, path: str) -> dict[str, object]:
    """The JSON object at `path`.

    Raises:
        NotReadyError: any answer but a JSON object.
        httpx.HTTPError: the engine cannot be reached.
    """
    response = client.get(path)
    if response.status_code != httpx.codes.OK:
        raise NotReadyError(f"{response.request.url} answers {_said(response)}")
    try:
        found = response.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise NotReadyError(f"{response.request.url} gave no JSON object")
    return found


def _said(response: httpx.Response) -> str:
    return f"{response.status_code} {response.text[:300]}".rstrip()
