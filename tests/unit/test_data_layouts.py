"""OpenAI's, ShareGPT's, Hermes' and xLAM's rows, one quirk each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from train.data import (
    FORMATS,
    REASONS,
    Conversation,
    Format,
    Message,
    Reading,
    RowError,
    Tool,
    ToolCall,
    parse_row,
)
from train.data.functions import tools_in_text

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
FUNCTION = {"name": "weather", "description": "The weather", "parameters": SCHEMA}
TOOL = Tool(name="weather", description="The weather", parameters=SCHEMA)
OSLO, ROME = (ToolCall(name="weather", arguments={"city": city}) for city in ("Oslo", "Rome"))

ONE_CALL = Conversation(
    tools=(TOOL,),
    messages=(
        Message(role="user", content="Oslo?"),
        Message(role="assistant", tool_calls=(OSLO,)),
        Message(role="tool", content='{"sky": "it\'s blue"}'),
        Message(role="assistant", content="Blue."),
    ),
)
PARALLEL = Conversation(
    tools=(TOOL,),
    messages=(
        Message(role="system", content="Be brief."),
        Message(role="user", content="Oslo and Rome?"),
        Message(role="assistant", content="Both.", tool_calls=(OSLO, ROME)),
        Message(role="tool", content="blue"),
        Message(role="tool", content="grey"),
        Message(role="assistant", content="Blue, grey."),
    ),
)


def read(format: Format, row: dict[str, Any]) -> Reading:
    return parse_row(row, format)


def refused(format: Format, row: dict[str, Any]) -> RowError:
    with pytest.raises(RowError) as caught:
        parse_row(row, format)
    assert caught.value.reason in REASONS
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    return caught.value


# OpenAI


def openai_row(conversation: Conversation, **more: Any) -> dict[str, Any]:
    messages = []
    ids: list[str] = []
    for message in conversation.messages:
        entry = message.openai()
        if message.role == "tool":
            entry["tool_call_id"] = ids.pop(0)
        ids = [call["id"] for call in entry.get("tool_calls", [])] or ids
        messages.append(entry)
    return {"messages": messages, "tools": [tool.openai() for tool in conversation.tools], **more}


@pytest.mark.parametrize("conversation", [ONE_CALL, PARALLEL])
def test_openai(conversation: Conversation) -> None:
    row = openai_row(conversation, parallel_tool_calls=True)
    assert read("openai", row) == Reading(conversation)
    assert read("openai", {**row, "tools": json.dumps(row["tools"])}) == Reading(conversation)


def test_openai_results_stand_in_the_order_of_their_calls() -> None:
    row = openai_row(PARALLEL)
    row["messages"][3:5] = reversed(row["messages"][3:5])
    assert read("openai", row) == Reading(PARALLEL)


def test_openai_legacy_functions() -> None:
    row = {
        "functions": [FUNCTION],
        "messages": [
            {"role": "user", "content": "Oslo?", "name": "ann"},
            {
                "role": "assistant",
                "content": None,
                "function_call": {"name": "weather", "arguments": '{"city": "Oslo"}'},
            },
            {"role": "function", "name": "weather", "content": '{"sky": "it\'s blue"}'},
            {"role": "assistant", "content": "Blue.", "tool_calls": None, "function_call": None},
        ],
    }
    assert read("openai", row) == Reading(ONE_CALL)


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab"),
        ({"content": None, "refusal": "No."}, "No."),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, "No."),
        ({"content": "a", "weight": 1, "audio": None}, "a"),
    ],
)
def test_openai_content(message: dict[str, Any], content: str) -> None:
    row = {"messages": [{"role": "developer", "content": "s"}, {"role": "assistant", **message}]}
    system, answer = read("openai", row).conversation.messages
    assert (system.role, answer.content) == ("system", content)


@pytest.mark.parametrize(
    ("arguments", "read_as"),
    [
        ("", {}),
        ("{}", {}),
        ({"city": "Oslo"}, {"city": "Oslo"}),
        ('{"city": "O\'o"}', {"city": "O'o"}),
    ],
)
def test_openai_arguments(arguments: Any, read_as: dict[str, Any]) -> None:
    function = {"name": "weather", "arguments": arguments}
    answer = {"role": "assistant", "tool_calls": [{"id": "1", "function": function}]}
    (call,) = read("openai", {"messages": [answer]}).conversation.messages[0].tool_calls
    assert call.arguments == read_as


USER = {"role": "user", "content": "u"}
ANSWER = {"role": "assistant", "content": "a"}


def calls(*entries: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(entries)}


def entry(call_id: Any = "1", **function: Any) -> dict[str, Any]:
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": "f", "arguments": "{}"} | function,
    }


@pytest.mark.parametrize(
    ("reason", "row"),
    [
        ("columns", {}),
        ("columns", {"messages": "text"}),
        ("columns", {"messages": [{"role": "user", "content": "\ud800"}, ANSWER]}),
        ("columns", {"messages": [ANSWER], "tools": 1}),
        ("turns", {"messages": []}),
        ("turns", {"messages": ["text"]}),
        ("turns", {"messages": [{"role": "robot", "content": "a"}]}),
        ("turns", {"messages": [{"content": "a"}]}),
        ("unsupported", {"messages": [{"role": "user", "content": 1}, ANSWER]}),
        ("unsupported", {"messages": [{**USER, "content": [{"type": "image_url"}]}, ANSWER]}),
        ("unsupported", {"messages": [USER, {**ANSWER, "weight": 0}]}),
        ("unsupported", {"messages": [USER, calls({"type": "custom", "custom": {}})]}),
        ("unsupported", {"messages": [USER, calls("text")]}),
        ("call", {"messages": [USER, calls(entry(arguments="[1]"))]}),
        ("call", {"messages": [USER, calls(entry(arguments=None))]}),
        ("call", {"messages": [USER, calls(entry(arguments={"a": float("nan")}))]}),
        ("call", {"messages": [USER, calls(entry(name=None))]}),
        ("call", {"messages": [USER, calls(entry(), entry())]}),
        ("call", {"messages": [USER, calls(entry(1))]}),
        ("call", {"messages": [USER, {**calls(entry()), "function_call": {"name": "f"}}]}),
        ("results", {"messages": [USER, calls(entry()), {"role": "tool", "tool_call_id": "2"}]}),
        (
            "results",
            {"messages": [USER, calls(entry()), *[{"role": "tool", "tool_call_id": "1"}] * 2]},
        ),
        ("functions", {"messages": [USER, ANSWER], "tools": [{"type": "function"}]}),
        ("functions", {"messages": [USER, ANSWER], "tools": "[{]"}),
        ("functions", {"messages": [USER, ANSWER], "tools": [FUNCTION], "functions": ["g"]}),
        (
            "functions",
            {"messages": [USER, ANSWER], "tools": [FUNCTION], "functions": [{"name": "g"}]},
        ),
        ("nothing-to-learn", {"messages": [USER]}),
    ],
)  # fmt: skip
def test_openai_rows_that_are_refused(reason: str, row: dict[str, Any]) -> None:
    assert refused("openai", row).reason == reason


# ShareGPT


def turn(who: str, value: str) -> dict[str, str]:
    return {"from": who, "value": value}


CALL = json.dumps({"name": "weather", "arguments": {"city": "Oslo"}})
CALLS = json.dumps([{"name": "weather", "arguments": {"city": city}} for city in ("Oslo", "Rome")])
SHAREGPT = {
    "conversations": [
        turn("human", "Oslo?"),
        turn("function_call", CALL),
        turn("observation", '{"sky": "it\'s blue"}'),
        turn("gpt", "Blue."),
    ],
    "tools": json.dumps([FUNCTION]),
}


def test_sharegpt() -> None:
    assert read("sharegpt", SHAREGPT) == Reading(ONE_CALL)
    assert read("sharegpt", {**SHAREGPT, "tools": [FUNCTION]}) == Reading(ONE_CALL)
    assert read("sharegpt", {**SHAREGPT, "tools": "", "system": None}).doubts[0].kind == (
        "unknown-function"
    )


@pytest.mark.parametrize(
    "results", [[json.dumps(["blue", "grey"])], ["blue", "grey"]], ids=["a list", "one each"]
)
def test_sharegpt_parallel(results: list[str]) -> None:
    row = {
        "system": "Be brief.",
        "conversations": [
            turn("human", "Oslo and Rome?"),
            turn("gpt", "Both."),
            turn("function_call", CALLS),
            *(turn("observation", result) for result in results),
            turn("gpt", "Blue, grey."),
        ],
        "tools": json.dumps([FUNCTION]),
    }
    assert read("sharegpt", row) == Reading(PARALLEL)


@pytest.mark.parametrize("result", ["blue and grey", "[1, 2, 3]", "[1", "{}"])
def test_sharegpt_results_that_are_not_one_for_each_call(result: str) -> None:
    row = {
        "conversations": [
            turn("human", "u"),
            turn("function_call", CALLS),
            turn("observation", result),
            turn("gpt", "a"),
        ],
        "tools": json.dumps([FUNCTION]),
    }
    reading = read("sharegpt", row)
    assert reading.conversation.messages[2] == Message(role="tool", content=result)
    assert [doubt.kind for doubt in reading.doubts] == ["results"]


def test_sharegpt_calls_with_quoted_arguments() -> None:
    text = """{"name": "weather", "arguments": '{"city": "Coeur d'Alene"}'}"""
    row = {**SHAREGPT, "conversations": [turn("human", "u"), turn("function-call", text)]}
    (call,) = read("sharegpt", row).conversation.messages[1].tool_calls
    assert call.arguments == {"city": "Coeur d'Alene"}


@pytest.mark.parametrize(
    ("reason", "row"),
    [
        ("columns", {}),
        ("columns", {"conversations": [turn("gpt", "a")], "system": 1}),
        ("columns", {"conversations": [turn("gpt", "\udfff")]}),
        ("turns", {"conversations": []}),
        ("turns", {"conversations": [{"from": "gpt", "value": None}]}),
        ("turns", {"conversations": [turn("bing", "a")]}),
        ("call", {"conversations": [turn("function_call", "weather(Oslo)")]}),
        ("call", {"conversations": [turn("function_call", "[]")]}),
        ("call", {"conversations": [turn("gpt", f"<tool_call>{CALL}</tool_call>")]}),
        ("nothing-to-learn", {"conversations": [turn("human", "u")]}),
    ],
)
def test_sharegpt_rows_that_are_refused(reason: str, row: dict[str, Any]) -> None:
    assert refused("sharegpt", row).reason == reason


# Hermes

HERMES_2 = (
    "You are a function calling AI model. You are provided with function signatures within "
    "<tools> </tools> XML tags. You may call one or more functions to assist with the user query. "
    "Don't make assumptions about what values to plug into functions.\n<tools>\n{tools}\n</tools>\n"
    "For each function call return a json object with function name and arguments within "
    "<tool_call> </tool_call> tags with the following schema:\n"
    "<tool_call>\n{{'arguments': <args-dict>, 'name': <function-name>}}\n</tool_call>\n"
)
HERMES_3 = (
    "You are a function calling AI model. You are provided with function signatures within "
    "<tools></tools> XML tags. You may call one or more functions to assist with the user query. "
    "Don't make assumptions about what values to plug into functions. Here are the available "
    "tools: <tools> {tools} </tools> Use the following pydantic model json schema for each tool "
    'call you will make: {{"properties": {{"arguments": {{"title": "Arguments", "type": '
    '"object"}}, "name": {{"title": "Name", "type": "string"}}}}, "required": ["arguments", '
    '"name"], "title": '
    '"FunctionCall", "type": "object"}} For each function call return a json object with function '
    "name and arguments within <tool_call></tool_call> XML tags as follows:\n<tool_call>\n"
    '{{"arguments": <args-dict>, "name": <function-name>}}\n</tool_call>'
)


def marked(*texts: str, mark: str = "tool_call") -> str:
    return "\n".join(f"<{mark}>\n{text}\n</{mark}>" for text in texts)


def hermes_row(system: str, *turns: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"id": "1", "conversations": [turn("system", system), *turns], **more}


@pytest.mark.parametrize("prompt", [HERMES_2, HERMES_3])
@pytest.mark.parametrize("tools", [f"[{json.dumps(FUNCTION)}]", json.dumps(FUNCTION)])
@pytest.mark.parametrize(
    "call", [CALL, "{'arguments': {'city': 'Oslo'}, 'name': 'weather'}"], ids=["JSON", "Python"]
)
def test_hermes(prompt: str, tools: str, call: str) -> None:
    row = hermes_row(
        prompt.format(tools=tools),
        turn("human", "Oslo?"),
        turn("gpt", marked(call)),
        turn(
            "tool",
            marked('{"name": "weather", "content": {"sky": "it\'s blue"}}', mark="tool_response"),
        ),
        turn("gpt", "Blue."),
        tools=json.dumps([{"type": "function", "function": FUNCTION}]),
    )
    assert read("hermes", row) == Reading(ONE_CALL)


def test_hermes_parallel_and_a_system_text_of_its_own() -> None:
    prompt = "Be brief.\n" + HERMES_2.format(tools=json.dumps([FUNCTION]))
    row = hermes_row(
        prompt,
        turn("human", "Oslo and Rome?"),
        turn("gpt", "Both.\n" + marked(*(json.dumps(call.model_dump()) for call in (OSLO, ROME)))),
        turn("tool", marked("blue", '{"content": "grey"}', mark="tool_response")),
        turn("gpt", "Blue, grey."),
    )
    assert read("hermes", row) == Reading(PARALLEL)


def test_hermes_without_functions_keeps_its_system_prompt() -> None:
    prompt = "You are a helpful assistant that answers in JSON. <schema>{}</schema>"
    messages = read("hermes", hermes_row(prompt, turn("human", "u"), turn("gpt", "{}")))
    assert messages.conversation.messages[0].content == prompt
    assert not messages.conversation.tools


def test_hermes_end_mark_inside_an_argument() -> None:
    call = json.dumps({"name": "weather", "arguments": {"city": "a </tool_call> b"}})
    prompt = HERMES_2.format(tools=json.dumps(FUNCTION))
    row = hermes_row(prompt, turn("human", "u"), turn("gpt", marked(call)))
    assert read("hermes", row).conversation.messages[-1].tool_calls[0].arguments == {
        "city": "a </tool_call> b"
    }


def test_hermes_results_that_are_not_marked_stay_as_they_are() -> None:
    value = "so: " + marked("{}", mark="tool_response")
    prompt = HERMES_2.format(tools=json.dumps(FUNCTION))
    row = hermes_row(
        prompt, turn("human", "u"), turn("gpt", marked(CALL)), turn("tool", value), turn("gpt", "a")
    )
    assert read("hermes", row).conversation.messages[2].content == value


@pytest.mark.parametrize(
    ("reason", "turns", "more"),
    [
        ("call", [turn("gpt", "<tool_call>\n{}")], {}),
        ("call", [turn("gpt", marked("weather(Oslo)"))], {}),
        ("call", [turn("gpt", marked(CALL) + " and more")], {}),
        ("call", [turn("gpt", marked(CALL) + " and " + marked(CALL))], {}),
        ("call", [turn("gpt", "a </tool_call>")], {}),
        ("turns", [turn("function_call", CALL)], {}),
        ("functions", [turn("gpt", "a")], {"tools": '[{"name": "other"}]'}),
        ("functions", [turn("system", "<tools> what? </tools>"), turn("gpt", "a")], {}),
        ("nothing-to-learn", [turn("human", "u")], {}),
    ],
)
def test_hermes_rows_that_are_refused(
    reason: str, turns: list[dict[str, str]], more: dict[str, Any]
) -> None:
    prompt = HERMES_2.format(tools=json.dumps(FUNCTION))
    assert refused("hermes", hermes_row(prompt, *turns, **more)).reason == reason


# xLAM


def xlam_row(parameters: dict[str, Any], answers: Any = CALLS, **more: Any) -> dict[str, Any]:
    tools = [{"name": "weather", "description": "d", "parameters": parameters}]
    return {"id": 1, "query": "u", "tools": json.dumps(tools), "answers": answers, **more}


def test_xlam() -> None:
    reading = read("xlam", xlam_row({"city": {"type": "str", "description": "Where"}}))
    assert reading == Reading(
        Conversation(
            messages=(
                Message(role="user", content="u"),
                Message(role="assistant", tool_calls=(OSLO, ROME)),
            ),
            tools=(
                Tool(
                    name="weather",
                    description="d",
                    parameters={
                        "type": "object",
                        "properties": {"city": {"type": "string", "description": "Where"}},
                        "required": ["city"],
                    },
                ),
            ),
        )
    )
    assert read("xlam", xlam_row({"city": {"type": "str"}}, json.loads(CALLS))).conversation


@pytest.mark.parametrize(
    ("parameter", "schema", "required"),
    [
        ({"type": "int"}, {"type": "integer"}, True),
        ({"type": "float, optional"}, {"type": "number"}, False),
        ({"type": "bool", "default": False}, {"type": "boolean", "default": False}, False),
        ({"type": "Optional[str]"}, {"type": "string"}, False),
        ({"type": "List[int]"}, {"type": "array", "items": {"type": "integer"}}, True),
        (
            {"type": "List[Dict[str, int]], optional"},
            {"type": "array", "items": {"type": "object"}},
            False,
        ),
        ({"type": "List[Union[int, str]]"}, {"type": "array"}, True),
        ({"type": "Tuple[int, int]"}, {"type": "array"}, True),
        ({"type": "dict"}, {"type": "object"}, True),
        ({"type": "list"}, {"type": "array"}, True),
        ({"type": "Callable[[float], float]"}, {}, True),
        ({"type": "str", "required": False}, {"type": "string"}, False),
        (
            {"type": "str", "required": True, "default": "a"},
            {"type": "string", "default": "a"},
            True,
        ),
    ],
)
def test_xlam_types(parameter: dict[str, Any], schema: dict[str, Any], required: bool) -> None:
    (tool,) = read("xlam", xlam_row({"city": parameter})).conversation.tools
    assert tool.parameters["properties"] == {"city": schema}
    assert tool.parameters.get("required", []) == (["city"] if required else [])


def test_xlam_with_a_json_schema() -> None:
    assert read("xlam", xlam_row(SCHEMA)).conversation.tools[0].parameters == SCHEMA


@pytest.mark.parametrize(
    ("reason", "row"),
    [
        ("columns", {}),
        ("columns", xlam_row({}, 1)),
        ("columns", xlam_row({}, query="\ud800")),
        ("call", xlam_row({}, "nonsense")),
        ("call", xlam_row({}, '[{"name": "f"}]')),
        ("functions", xlam_row({}, tools="[")),
        ("functions", xlam_row({}, tools='[{"name": "f", "parameters": {"a": "int"}}]')),
        ("nothing-to-learn", xlam_row({}, "[]")),
    ],
)
def test_xlam_rows_that_are_refused(reason: str, row: dict[str, Any]) -> None:
    assert refused("xlam", row).reason == reason


@pytest.mark.parametrize("format", FORMATS)
def test_nesting_without_end_is_refused(format: Format) -> None:
    deep: Any = "x"
    for _ in range(500):
        deep = {"a": deep}
    nested = {"type": "object", "properties": deep}
    row = {
        "system": deep, "chat": deep, "query": "u", "answers": [{"name": "f", "arguments": deep}],
        "messages": [calls(entry(arguments=deep))], "tools": [{"name": "f", "parameters": nested}],
    }  # fmt: skip
    if format in ("sharegpt", "hermes"):
        row["messages"] = [turn("gpt", "a")]
    assert refused(format, row).reason in REASONS


def test_functions_as_a_python_literal_are_read() -> None:
    """Hermes' rows have them so."""
    text = "[{'type': 'function', 'function': {'name': 'f', 'parameters': {'type': 'object', "
    text += "'properties': {'a': {'type': 'string', 'default': None}}}}}]"
    assert [tool.name for tool in tools_in_text(text)] == ["f"]
    with pytest.raises(RowError, match="function 1 is not JSON"):
        tools_in_text("[{'name': f}]")
