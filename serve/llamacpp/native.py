"""Runs llama.cpp's own HTTP server in this process, through xllamacpp.

python -m serve.llamacpp.native '<LlamaCppSettings as JSON>'
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from serve.llamacpp.settings import LlamaCppSettings, native_params


def common_params(settings: LlamaCppSettings, api_key: str | None) -> Any:
    """xllamacpp's CommonParams for the settings."""
    import xllamacpp  # type: ignore[import-untyped, import-not-found, unused-ignore]

    params = xllamacpp.CommonParams()
    for dotted, value in native_params(settings).items():
        *owners, name = dotted.split(".")
        target: Any = params
        for owner in owners:
            target = getattr(target, owner)
        setattr(target, name, value)
    # What the flags do as well: sampling that a GGUF recommends must not replace ours.
    given = xllamacpp.common_params_sampling_config
    params.sampling.user_sampling_config = (
        given.COMMON_PARAMS_SAMPLING_CONFIG_TEMP
        | given.COMMON_PARAMS_SAMPLING_CONFIG_TOP_K
        | given.COMMON_PARAMS_SAMPLING_CONFIG_TOP_P
        | given.COMMON_PARAMS_SAMPLING_CONFIG_MIN_P
    )
    if api_key:
        params.api_keys = [api_key]
    return params


def main() -> None:
    """Serve until a signal ends the process."""
    settings = LlamaCppSettings.from_json(sys.argv[1])
    import xllamacpp

    # The variable that llama-server reads as well.
    params = common_params(settings, os.environ.get("LLAMA_API_KEY"))
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        sys.exit(f"llama.cpp does not start with {settings.model}: {error}")
    while server:
        signal.pause()


if __name__ == "__main__":
    main()
