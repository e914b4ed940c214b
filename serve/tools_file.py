"""Reads `--tools FILE`: the functions that a model may call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from serve.errors import ServeError


def load_tools(path: Path) -> list[dict[str, Any]]:
    """Tools from a JSON list, in OpenAI's format.

    An entry is {"type": "function", "function": {…}} or the bare function, and one entry alone
    need not be in a list.

    Raises:
        ServeError: no such file, not JSON, or an entry that is no function; says which.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ServeError(f"tools file {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ServeError(f"tools file {path} is not JSON: {error}") from error
    entries = raw if isinstance(raw, list) else [raw]
    return [_tool(path, index, entry) for index, entry in enumerate(entries)]


def _tool(path: Path, index: int, entry: object) -> dict[str, Any]:
    where = f"tools file {path}, entry {index + 1}"
    if not isinstance(entry, dict):
        raise ServeError(f"{where}: a function is a JSON object, this is {json.dumps(entry)[:60]}")
    function = entry.get("function") if entry.get("type") == "function" else entry
    if not isinstance(function, dict):
        raise ServeError(f'{where}: its "function" is not a JSON object')
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise ServeError(f'{where}: it has no "name"')
    parameters = function.get("parameters", {"type": "object", "properties": {}})
    if not isinstance(parameters, dict):
        raise ServeError(f'{where} ({name}): its "parameters" are not a JSON Schema object')
    description = function.get("description") or ""
    rest = {
        key: value
        for key, value in function.items()
        if key not in ("name", "description", "parameters")
    }
    # The key order of training, which the template prints.
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters, **rest},
    }
