"""`infer-vllm` against a server that answers from a script."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from serve.client import _app
from serve.errors import ServeError
from serve.tools_file import load_tools

WEATHER = {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}


def plain(message: dict[str, Any], finish: str = "stop") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    return json.dumps({"model": "m", "choices": [choice], "usage": usage}).encode()


def streamed(*deltas: dict[str, Any], finish: str | None = "stop") -> bytes:
    chunks: list[dict[str, Any]] = [
        {"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in deltas
    ]
    if finish:
        choice = {"index": 0, "delta": {}, "finish_reason": finish}
        chunks.append({"model": "m", "choices": [choice]})
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return "".join([*lines, "data: [DONE]\n\n" if finish else ""]).encode()


class Server:
    """Answers each request with the next of its replies, and keeps the requests."""

    def __init__(self) -> None:
        self.replies: list[tuple[int, bytes]] = []
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.url = ""

    def reply(self, body: bytes, status: int = 200) -> None:
        self.replies.append((status, body))


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            server.requests.append(json.loads(self.rfile.read(length)))
            server.keys.append(self.headers["Authorization"])
            status, body = server.replies.pop(0)
            kind = "text/event-stream" if body.startswith(b"data:") else "application/json"
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_port}/v1"
        thread = Thread(target=http.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


def ask(server: Server, *arguments: str, text: str | None = None, **env: str) -> Result:
    return CliRunner().invoke(
        _app, [*arguments, "--base-url", server.url], input=text, env={"NO_COLOR": "1", **env}
    )


def test_text_is_streamed(server: Server) -> None:
    server.reply(streamed({"content": "Hel"}, {"content": "lo"}))
    result = ask(server, "hi", "--max-tokens", "7")
    assert (result.exit_code, result.stdout) == (0, "Hello\n")
    request = server.requests[0]
    assert request["messages"] == [{"role": "user", "content": "hi"}]
    assert (request["model"], request["temperature"], request["max_tokens"]) == ("toolsmith", 0, 7)
    assert "tools" not in request


def test_streamed_calls_are_put_together(server: Server, tmp_path: Path) -> None:
    server.reply(
        streamed(
            {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": '{"x":'}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": " [1]}"}}]},
            {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g"}}]},
            finish="tool_calls",
        )
    )
    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps([WEATHER]))
    result = ask(server, "hi", "--tools", str(tools))
    assert result.stdout == 'f({"x": [1]})\ng()\n'
    assert server.requests[0]["tools"][0]["function"]["name"] == "get_weather"


@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
def test_json_is_one_object(server: Server, stream: str) -> None:
    message = {"content": "Let me see [1/2].", "tool_calls": [{"index": 0, **CALL}]}
    if stream == "--stream":
        server.reply(streamed(message, finish="tool_calls"))
    else:
        server.reply(plain(message, "tool_calls"))
    result = ask(server, "hi", "--json", stream)
    answer = json.loads(result.stdout)
    assert answer["content"] == "Let me see [1/2]."
    assert answer["tool_calls"] == [{"id": "c1", "name": "get_weather", "arguments": {}}]
    assert answer["finish_reason"] == "tool_calls"


def test_plain_text_is_printed_as_it_is(server: Server) -> None:
    server.reply(plain({"content": "[bold]not markup[/bold]"}))
    assert ask(server, "hi", "--no-stream").stdout == "[bold]not markup[/bold]\n"


def test_a_conversation_sends_what_was_said_and_results_of_calls(server: Server) -> None:
    server.reply(plain({"content": None, "tool_calls": [CALL]}, "tool_calls"))
    server.reply(plain({"content": "It is warm."}))
    server.reply(plain({"content": "Bye."}))
    result = ask(server, "--no-stream", text='Weather?\n{"degrees": 21}\nThanks\n')
    assert result.exit_code == 0, result.output
    roles = [message["role"] for message in server.requests[2]["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]
    result_message = server.requests[1]["messages"][2]
    assert result_message == {"role": "tool", "tool_call_id": "c1", "content": '{"degrees": 21}'}
    assert result.stdout.splitlines() == ["get_weather({})", "It is warm.", "Bye."]


def test_the_key_goes_to_the_server(server: Server, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "api_key").write_text("from-file\n")
    for _ in range(3):
        server.reply(plain({"content": "Hi"}))
    cache = str(tmp_path)
    ask(server, "hi", "--no-stream", "--cache", cache)
    ask(server, "hi", "--no-stream", "--cache", cache, TOOLSMITH_API_KEY="from-env")
    ask(server, "hi", "--no-stream", "--cache", cache, "--api-key", "given")
    assert server.keys == ["Bearer from-file", "Bearer from-env", "Bearer given"]


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, {"error": {"message": "no"}}, "asks for an API key"),
        (404, {"error": {"message": "no such model"}}, "refuses the request (404): no such model"),
        (500, {"detail": "broken"}, "(500)"),
    ],
)
def test_refusals_are_explained(
    server: Server, tmp_path: Path, status: int, body: dict[str, Any], message: str
) -> None:
    server.reply(json.dumps(body).encode(), status)
    result = ask(server, "hi", "--cache", str(tmp_path))
    assert result.exit_code == 1
    assert message in result.stderr


def test_no_server_is_explained() -> None:
    result = CliRunner().invoke(_app, ["hi", "--base-url", "http://127.0.0.1:1/v1"])
    assert result.exit_code == 1
    assert "no server at http://127.0.0.1:1/v1" in result.stderr
    assert "serve up" in result.stderr


def test_a_stream_that_just_ends_is_an_error(server: Server) -> None:
    server.reply(streamed({"content": "Hel"}, finish=None))
    result = ask(server, "hi")
    assert result.exit_code == 1
    assert "cut off" in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ('["f"]', 'entry 1: a function is a JSON object, this is "f"'),
        ('[{"name": "f"}, {"description": "g"}]', 'entry 2: it has no "name"'),
        ('{"type": "function"}', 'its "function" is not a JSON object'),
        ('[{"name": "f", "parameters": []}]', 'entry 1 (f): its "parameters"'),
    ],
)
def test_a_bad_tools_file_says_what_and_where(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "tools.json"
    path.write_text(text)
    with pytest.raises(ServeError) as caught:
        load_tools(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_tools_file_is_an_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(_app, ["hi", "--tools", str(tmp_path / "none.json")])
    assert result.exit_code == 1
    assert "cannot be read: No such file" in result.stderr


def test_bare_functions_and_openai_tools_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "tools.json"
    path.write_text(json.dumps([WEATHER, {"type": "function", "function": WEATHER}]))
    bare, whole = load_tools(path)
    assert bare == whole
    assert list(bare["function"]) == ["name", "description", "parameters"]
    path.write_text(json.dumps(WEATHER))
    assert load_tools(path) == [bare]
