"""LiteLLM's hooks: which engine a request goes to, and what its failure says about the engine."""

from __future__ import annotations

from typing import Any

import litellm  # type: ignore[import-not-found, unused-ignore]
from litellm.integrations.custom_logger import (  # type: ignore[import-not-found, unused-ignore]
    CustomLogger,
)

from gateway.config import ENGINE_ORDER, EngineName, GatewayConfig, engine_of
from gateway.health import Prober

# What an engine answers to a client's mistake: the other engine would say the same.
_CLIENT_ERRORS = ("BadRequestError", "NotFoundError", "UnprocessableEntityError")
# Said again when no other engine is left; anything else becomes ServiceUnavailableError.
_KEPT_ERRORS = ("RateLimitError", "Timeout")


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
            litellm.BadRequestError, NotFoundError, UnprocessableEntityError: the engine before
                refused the request; it is not tried again.
            litellm.RateLimitError, Timeout: so ended the last engine that was left.
        """
        request = request_kwargs or {}
        earlier = _earlier_attempts(request)
        if earlier:
            self._learn(earlier[-1])
            _raise_again(earlier[-1], model, _CLIENT_ERRORS)
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
            if earlier:
                _raise_again(earlier[-1], model, _KEPT_ERRORS)
            raise litellm.ServiceUnavailableError(
                message="No engine can answer now.", model=model, llm_provider=""
            )
        return [by_engine[name] for name in chosen]

    async def async_pre_call_deployment_hook(
        self, kwargs: dict[str, Any], call_type: Any
    ) -> dict[str, Any]:
        """Hand the tools over untouched.

        hosted_vllm/ deletes "strict" and "additionalProperties": false at any depth of a tool's
        schema, even a parameter that is called strict. The prompt would not be the one that the
        model was trained on. What is in extra_body it leaves alone; tool_choice goes along, since
        LiteLLM drops it where it sees no tools.
        """
        moved = {n: kwargs.pop(n) for n in ("tools", "tool_choice") if kwargs.get(n) is not None}
        if moved:
            kwargs["extra_body"] = {**(kwargs.get("extra_body") or {}), **moved}
        return kwargs

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Tell the prober of a failure that no other engine made good, as a broken stream is.

        LiteLLM rewrites these arguments when it goes on to another engine, so those failures are
        learnt in `async_filter_deployments`.
        """
        error = kwargs.get("exception")
        params = kwargs.get("litellm_params") or {}
        if error is None or _earlier_attempts(params):
            return
        deployment = (params.get("model_info") or {}).get("id")
        self._blame(deployment, type(error).__name__, getattr(error, "status_code", 500))

    def _learn(self, attempt: dict[str, Any]) -> None:
        kind = str(attempt.get("exception_type"))
        if kind not in (*_CLIENT_ERRORS, "RateLimitError"):
            self._blame(attempt.get("deployment_id"), kind, 500)

    def _blame(self, deployment: object, kind: str, status: int) -> None:
        engine = engine_of(deployment)
        if engine is None or (status < 500 and kind != "Timeout"):
            return
        # The class only: a message may quote the prompt.
        self._prober.report_fault(engine, kind, timed_out=kind == "Timeout")


def _earlier_attempts(request: dict[str, Any]) -> list[dict[str, Any]]:
    metadata = request.get("litellm_metadata") or request.get("metadata") or {}
    return list(metadata.get("previous_models") or ())


def _raise_again(attempt: dict[str, Any], model: str, kinds: tuple[str, ...]) -> None:
    kind = str(attempt.get("exception_type"))
    if kind in kinds:
        raise getattr(litellm, kind)(
            message=str(attempt.get("exception_string")), model=model, llm_provider=""
        )
