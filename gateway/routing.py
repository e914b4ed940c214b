"""LiteLLM's hooks: which engine a request goes to, and what its failure says about the engine."""

from __future__ import annotations

import logging
from typing import Any

import litellm  # type: ignore[import-not-found, unused-ignore]
from litellm.integrations.custom_logger import (  # type: ignore[import-not-found, unused-ignore]
    CustomLogger,
)

from gateway.config import ENGINE_ORDER, EngineName, GatewayConfig, engine_of
from gateway.health import Prober

logger = logging.getLogger(__name__)

# What an engine answers to a client's mistake: the other engine would say the same.
_CLIENT_ERRORS: dict[str, Any] = {
    "BadRequestError": litellm.BadRequestError,
    "NotFoundError": litellm.NotFoundError,
    "UnprocessableEntityError": litellm.UnprocessableEntityError,
}


class EngineRouting(CustomLogger):  # type: ignore[misc, unused-ignore]
    """Sends each request to the first engine that can answer it.

    LiteLLM picks the lowest `order` among what `async_filter_deployments` leaves, and calls it
    again with the next order when that engine fails before its first byte.
    """

    def __init__(self, config: GatewayConfig, prober: Prober) -> None:
        super().__init__()
        self._release_id = config.release_id
        self._prober = prober

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[dict[str, Any]],
        messages: Any,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: Any = None,
    ) -> list[dict[str, Any]]:
        """Keep the deployments whose engine can answer.

        Raises:
            litellm.ServiceUnavailableError: no engine is left for this request.
            litellm.BadRequestError: the engine before refused the request; it is not tried again.
        """
        request = request_kwargs or {}
        earlier = _earlier_attempts(request)
        if earlier:
            _stop_at_client_error(earlier[-1], model)
        by_engine = {engine_of(one["model_info"]["id"]): one for one in healthy_deployments}
        tried = {engine_of(attempt.get("deployment_id")) for attempt in earlier}
        order = request.get("_target_order")
        names: list[EngineName] = [
            name
            for position, name in enumerate(ENGINE_ORDER, start=1)
            if name in by_engine and name not in tried and order in (None, position)
        ]
        release = model if model == self._release_id else None
        chosen = self._prober.candidates(names, release)
        if not chosen:
            raise litellm.ServiceUnavailableError(
                message="No engine can answer now.", model=model, llm_provider=""
            )
        return [by_engine[name] for name in chosen]

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Tell the prober of each failed attempt that is the engine's fault."""
        error = kwargs.get("exception")
        params = kwargs.get("litellm_params") or {}
        engine = engine_of((params.get("model_info") or {}).get("id"))
        status = getattr(error, "status_code", 500)
        timed_out = isinstance(error, litellm.Timeout)
        if engine is None or not (timed_out or status >= 500):
            return
        # The class and the status only: a message may quote the prompt.
        logger.warning("engine %s failed a request: %s (%s)", engine, type(error).__name__, status)
        self._prober.report_fault(engine, timed_out=timed_out)


def _earlier_attempts(request: dict[str, Any]) -> list[dict[str, Any]]:
    metadata = request.get("litellm_metadata") or request.get("metadata") or {}
    return list(metadata.get("previous_models") or ())


def _stop_at_client_error(attempt: dict[str, Any], model: str) -> None:
    error = _CLIENT_ERRORS.get(str(attempt.get("exception_type")))
    if error is not None:
        raise error(message=str(attempt.get("exception_string")), model=model, llm_provider="")
