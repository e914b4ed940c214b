"""Any conversation that the typed form allows, for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from train.messages import Conversation, Message, Tool, ToolCall

# Everything that a string can hold, and often what the formats are made of.
MARKS = [
    *(
        "<tool_call>",
        "</tool_call>",
        "<tool_call",
        "<TOOLCALL>[",
        "]</TOOLCALL>",
        "</tool_response>",
    ),
    *("<|im_end|>", "<|eot_id|>", "<|begin_of_text|>", "<filename>", "</", "\\u003c", "\\"),
    *(
        '"',
        "'",
        "\n",
        "{",
        "}",
        "[",
        "]",
        "\\n",
        "</b>",
        "é",
        "🌧",
        "東京",
        "\u2028",
        "\x00",
        "\x7f",
    ),
]
TEXT = st.lists(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=8) | st.sampled_from(MARKS),
    max_size=5,
).map("".join)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
CALLS = st.builds(ToolCall, name=TEXT, arguments=st.dictionaries(TEXT, VALUES, max_size=4))
TOOLS = st.builds(
    Tool, name=TEXT, description=TEXT, parameters=st.dictionaries(TEXT, VALUES, max_size=3)
)
MESSAGES = (
    st.builds(Message, role=st.sampled_from(["system", "user", "tool"]), content=TEXT)
    | st.builds(
        Message,
        role=st.just("assistant"),
        content=TEXT,
        tool_calls=st.lists(CALLS, max_size=3).map(tuple),
    )
)  # fmt: skip
CONVERSATIONS = st.builds(
    Conversation,
    messages=st.lists(MESSAGES, min_size=1, max_size=5).map(tuple),
    tools=st.lists(TOOLS, max_size=2).map(tuple),
)
