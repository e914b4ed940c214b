"""The prober's states, against a server that the test switches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from gateway.config import GatewayConfig, Timeouts, parse_engines
from gateway.health import Prober, State

RELEASE = "demo-20261123-0a1b2c3d"
FAST = Timeouts(probe_interval_s=0.02, health_s=0.2, proof_s=0.2)


class Engines:
    """Answers for both engines; `faults` maps (host, path) to a status or an exception."""

    def __init__(self) -> None:
        self.faults: dict[tuple[str, str], int | type[httpx.HTTPError]] = {}
        self.proofs = 0
        self.models: list[dict[str, Any]] = [{"id": "toolsmith", "aliases": [RELEASE]}]

    def answer(self, request: httpx.Request) -> httpx.Response:
        fault = self.faults.get((request.url.host, request.url.path), 200)
        if not isinstance(fault, int):
            raise fault("as the test wants", request=request)
        if request.url.path == "/v1/chat/completions":
            assert json.loads(request.content)["max_tokens"] == 1
            self.proofs += 1
        return httpx.Response(fault, json={"data": self.models})


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Engines:
    fake = Engines()
    real = httpx.AsyncClient

    def client(**options: Any) -> httpx.AsyncClient:
        return real(transport=httpx.MockTransport(fake.answer), **options)

    monkeypatch.setattr("gateway.health.httpx.AsyncClient", client)
    return fake


def with_prober(act: Callable[[Prober], Awaitable[None]]) -> None:
    """Run `act` with a prober of both engines that are up."""
    specs = parse_engines(["gpu=http://gpu", "cpu=http://cpu"])
    config = GatewayConfig(release_id=RELEASE, engines=specs, timeouts=FAST)

    async def run() -> None:
        async with asyncio.timeout(10), Prober(config) as prober:
            assert not prober.ready(), "nothing is proven before the first probe"
            await until(lambda: states(prober) == (State.UP, State.UP))
            await act(prober)

    asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def states(prober: Prober) -> tuple[State, State]:
    return prober.engines["gpu"].state, prober.engines["cpu"].state


def test_up_engines_are_candidates_in_order_and_named(engines: Engines) -> None:
    async def act(prober: Prober) -> None:
        assert prober.ready()
        assert prober.candidates(["gpu", "cpu"]) == ["gpu", "cpu"]
        assert prober.engines["gpu"].release == RELEASE

    with_prober(act)


@pytest.mark.parametrize("fault", [503, httpx.ConnectError, httpx.ReadTimeout])
def test_a_dead_engine_leaves_and_comes_back_after_a_token(
    engines: Engines, fault: int | type[httpx.HTTPError]
) -> None:
    async def act(prober: Prober) -> None:
        engines.faults["gpu", "/health"] = fault
        await until(lambda: prober.engines["gpu"].state is State.DOWN)
        assert prober.candidates(["gpu", "cpu"]) == ["cpu"]
        assert prober.candidates(["gpu"]) == []
        before = engines.proofs
        engines.faults.clear()
        await until(lambda: prober.engines["gpu"].state is State.UP)
        assert engines.proofs == before + 1

    with_prober(act)


def test_an_engine_that_lives_but_generates_nothing_is_the_last_choice(engines: Engines) -> None:
    async def act(prober: Prober) -> None:
        engines.faults["gpu", "/v1/chat/completions"] = 500
        prober.report_fault("gpu", "InternalServerError", timed_out=False)
        assert prober.engines["gpu"].state is State.UP, "one error alone takes no engine out"
        await until(lambda: prober.engines["gpu"].state is State.SUSPECT)
        assert prober.candidates(["gpu", "cpu"]) == ["cpu"]
        assert prober.candidates(["gpu"]) == ["gpu"]
        engines.faults["cpu", "/health"] = httpx.ConnectError
        await until(lambda: prober.engines["cpu"].state is State.DOWN)
        assert not prober.ready()

    with_prober(act)


def test_a_timed_out_request_passes_the_engine_over_at_once(engines: Engines) -> None:
    async def act(prober: Prober) -> None:
        prober.report_fault("gpu", "Timeout", timed_out=True)
        assert prober.candidates(["gpu", "cpu"]) == ["cpu"]
        assert prober.ready()
        await until(lambda: prober.engines["gpu"].state is State.UP)

    with_prober(act)


@pytest.mark.parametrize("fault", [429, httpx.ReadTimeout])
def test_a_busy_engine_stays_ready(engines: Engines, fault: int | type[httpx.HTTPError]) -> None:
    async def act(prober: Prober) -> None:
        for name in ("gpu", "cpu"):
            engines.faults[name, "/v1/chat/completions"] = fault
        prober.report_fault("gpu", "Timeout", timed_out=True)
        prober.report_fault("cpu", "Timeout", timed_out=True)
        await until(lambda: all("one token" in one.reason for one in prober.engines.values()))
        assert prober.ready()
        assert prober.candidates(["gpu", "cpu"]) == ["gpu", "cpu"]

    with_prober(act)


def test_a_release_id_reaches_only_engines_that_serve_it(engines: Engines) -> None:
    async def act(prober: Prober) -> None:
        both = prober.candidates(["gpu", "cpu"], RELEASE)
        assert both == ["gpu", "cpu"]
        assert prober.candidates(["gpu", "cpu"], "other-20261123-0a1b2c3d") == []
        engines.models = [{"id": "toolsmith"}]
        await until(lambda: prober.engines["cpu"].release is None)
        assert "cpu" in prober.candidates(["gpu", "cpu"], "other-20261123-0a1b2c3d")

    with_prober(act)
