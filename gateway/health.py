"""Which engines can answer: one active prober for each engine.

An engine is asked every second whether it is alive. When it comes back, or when a request to it has
failed, it must generate one token before it is trusted again. Only engines' faults count, never
what a client sent, so a bad request cannot take an engine out of rotation.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Self

import httpx

from gateway.config import ENGINE_KEY, Engine, EngineName, GatewayConfig, Timeouts
from release.manifest import ID_PATTERN

logger = logging.getLogger(__name__)

_RELEASE_ID = re.compile(ID_PATTERN)
# A busy machine may miss one deadline; a refused connection needs no second look.
_TIMEOUTS_TO_DOWN = 2


class State(StrEnum):
    """UP: alive and has generated a token. SUSPECT: alive, unproven. DOWN: does not answer."""

    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"


@dataclass
class EngineHealth:
    """What is known of one engine; written by its prober, read for each request."""

    engine: Engine
    state: State = State.DOWN
    # The release id that the engine itself names, None when it names none.
    release: str | None = None
    # Has generated a token since it was last down; a later doubt does not take that back.
    proven: bool = False
    reason: str = "not asked yet"
    missed: int = 0
    doubted: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Prober:
    """Watches all engines while it is entered as a context.

    Example:
        async with Prober(config) as prober:
            prober.candidates(["gpu", "cpu"])
    """

    def __init__(self, config: GatewayConfig) -> None:
        self._model = config.model_name
        self._limits: Timeouts = config.timeouts
        self.engines: dict[EngineName, EngineHealth] = {
            engine.name: EngineHealth(engine) for engine in config.engines
        }
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        key = os.environ.get(ENGINE_KEY)
        self._client = httpx.AsyncClient(
            trust_env=False,
            timeout=self._limits.health_s,
            headers={"authorization": f"Bearer {key}"} if key else None,
        )
        self._tasks = [asyncio.create_task(self._watch(one)) for one in self.engines.values()]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    def ready(self) -> bool:
        """True when at least one engine is alive and has generated a token."""
        return any(one.state is not State.DOWN and one.proven for one in self.engines.values())

    def candidates(self, names: list[EngineName], release: str | None = None) -> list[EngineName]:
        """The engines of `names` to send a request to; empty when none can answer.

        Proven engines come alone; suspects only where no proven one is left. With `release`, an
        engine that says it serves another one is left out.
        """
        alive = [
            one
            for one in (self.engines[name] for name in names if name in self.engines)
            if one.state is not State.DOWN and (not release or one.release in (None, release))
        ]
        up = [one for one in alive if one.state is State.UP]
        return [one.engine.name for one in up or alive]

    def report_fault(self, name: EngineName, reason: str, *, timed_out: bool) -> None:
        """A request failed by the engine's fault (`reason`): make it prove itself now.

        After a time-out it is passed over until it has, since each try would cost as long again.
        An error came fast and may be the request's own, so the engine stays in use meanwhile.
        """
        health = self.engines[name]
        if not health.doubted:
            logger.warning("engine %s failed a request: %s", name, reason)
        health.doubted = True
        if timed_out and health.state is State.UP:
            self._set(health, State.SUSPECT, "a request timed out")
        health.wake.set()

    async def _watch(self, health: EngineHealth) -> None:
        while True:
            try:
                await self._look(health)
            except Exception as error:  # noqa: BLE001 - a prober that dies would freeze the state
                logger.error("probing engine %s failed: %r", health.engine.name, error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(health.wake.wait(), self._limits.probe_interval_s)
            health.wake.clear()

    async def _look(self, health: EngineHealth) -> None:
        try:
            answer = await self._client.get(f"{health.engine.url}/health")
        except httpx.TimeoutException:
            health.missed += 1
            if health.missed >= _TIMEOUTS_TO_DOWN or health.state is not State.UP:
                self._down(health, "/health timed out")
            return
        except httpx.HTTPError as error:
            self._down(health, f"/health failed: {type(error).__name__}")
            return
        if answer.status_code != httpx.codes.OK:
            self._down(health, f"/health answered {answer.status_code}")
            return
        health.missed = 0
        await self._read_release(health)
        if health.state is not State.UP or health.doubted:
            await self._prove(health)

    async def _read_release(self, health: EngineHealth) -> None:
        with contextlib.suppress(httpx.HTTPError, ValueError, LookupError, TypeError):
            listed = (await self._client.get(f"{health.engine.url}/v1/models")).json()["data"]
            names = [str(entry["id"]) for entry in listed]
            names += [str(alias) for entry in listed for alias in entry.get("aliases") or []]
            health.release = next((name for name in names if _RELEASE_ID.match(name)), None)

    async def _prove(self, health: EngineHealth) -> None:
        if health.state is State.DOWN:
            self._set(health, State.SUSPECT, "alive, no token generated yet")
        health.doubted = False
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": 1,
        }
        url = f"{health.engine.url}/v1/chat/completions"
        try:
            answer = await self._client.post(url, json=body, timeout=self._limits.proof_s)
            answer.raise_for_status()
        except httpx.TimeoutException:
            self._set(health, State.SUSPECT, "generating one token timed out")
        except httpx.HTTPStatusError as error:
            code = error.response.status_code
            # 429 comes from an engine that is busy with real requests.
            health.proven = health.proven and code == httpx.codes.TOO_MANY_REQUESTS
            self._set(health, State.SUSPECT, f"generating one token answered {code}")
        except httpx.HTTPError as error:
            self._down(health, f"generating one token failed: {type(error).__name__}")
        else:
            health.proven = True
            if not health.doubted:
                self._set(health, State.UP, "generated a token")

    def _down(self, health: EngineHealth, reason: str) -> None:
        health.proven = False
        health.release = None
        self._set(health, State.DOWN, reason)

    def _set(self, health: EngineHealth, state: State, reason: str) -> None:
        if state is not health.state:
            level = logging.INFO if state is State.UP else logging.WARNING
            logger.log(level, "engine %s is %s: %s", health.engine.name, state, reason)
        health.state, health.reason = state, reason
