"""Errors as clients see them."""

from __future__ import annotations

import json

import pytest

from gateway.intake import clean_body
from gateway.replies import NO_ENGINE, TIMED_OUT, UNKNOWN_MODEL, Reply, clean_message, from_upstream


def upstream(message: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": None, "code": "400"}}).encode()


@pytest.mark.parametrize(
    ("message", "cleaned"),
    [
        ("stream: Input should be a boolean", "stream: Input should be a boolean"),
        (
            'litellm.BadRequestError: Hosted_vllmException - {"error":{"message":"too long"}}',
            "too long",
        ),
        (
            "litellm.BadRequestError: BadRequestError: Hosted_vllmException - too long. "
            "Received Model Group=toolsmith\nAvailable Model Group Fallbacks=None",
            "too long",
        ),
        ("bad request at http://10.0.0.7:8000/secret", "bad request at the engine"),
        ("no answer from 127.0.0.1:8000 now", "no answer from the engine now"),
        ("wrong\nTraceback (most recent call last):\n  File x", "wrong"),
        ("line 1 column 10 (char 9)", "line 1 column 10 (char 9)"),
        ("max_tokens:4096 is too large", "max_tokens:4096 is too large"),
        ('{"error": {"message": "Zürich"}}', "Zürich"),
        ('{"detail": [{"loc": "body"}]}', '[{"loc": "body"}]'),
    ],
)
def test_messages_lose_wrapping_and_addresses(message: str, cleaned: str) -> None:
    assert clean_message(message) == cleaned


@pytest.mark.parametrize("status", [500, 502, 503, 401, 403])
def test_our_own_faults_tell_nothing(status: int) -> None:
    assert from_upstream(status, upstream("Cannot connect to host 10.0.0.7:8000")) == NO_ENGINE


@pytest.mark.parametrize("status", [408, 504])
def test_time_outs_are_504(status: int) -> None:
    assert from_upstream(status, upstream("Timeout after 20")) == TIMED_OUT


def test_the_engines_words_reach_the_client_when_the_request_is_wrong() -> None:
    reply = from_upstream(422, upstream("litellm.UnprocessableEntityError: bad tools"))
    assert (reply.status, reply.message, reply.kind) == (422, "bad tools", "invalid_request_error")


def test_unknown_model_is_404() -> None:
    body = upstream("/chat/completions: Invalid model name passed in model=x. Call `/v1/models`")
    assert from_upstream(400, body) == UNKNOWN_MODEL


def test_too_many_requests_says_when_to_come_back() -> None:
    reply = from_upstream(429, upstream("slow down"))
    assert reply.status == 429
    assert dict(reply.headers)["retry-after"].isdigit()


@pytest.mark.parametrize("body", [b"", b"Internal Server Error", b"[1]", b"\xff"])
def test_any_body_becomes_openais_shape(body: bytes) -> None:
    error = json.loads(from_upstream(400, body).body())["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]


def test_a_clean_body_passes_byte_for_byte() -> None:
    raw = b'{ "model":"toolsmith",  "metadata": {"a": "b"}, "messages": [] , "x": 1.0}'
    assert clean_body(raw) is raw


def test_internal_fields_are_taken_out() -> None:
    body = {
        "model": "toolsmith",
        "messages": [{"role": "user", "content": "Zürich"}],
        "api_base": "http://169.254.169.254",
        "timeout": 0.001,
        "metadata": {"previous_models": [{}], "run": "7"},
    }
    cleaned = clean_body(json.dumps(body).encode())
    assert isinstance(cleaned, bytes)
    assert json.loads(cleaned) == {
        "model": "toolsmith",
        "messages": [{"role": "user", "content": "Zürich"}],
        "metadata": {"run": "7"},
    }


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 200_000])
def test_broken_bodies_are_refused(raw: bytes) -> None:
    reply = clean_body(raw)
    assert isinstance(reply, Reply)
    assert reply.status == 400
