"""Data sets of tool calling, whatever their layout → typed conversations.

    from train.data import read

    for row in read("rows.jsonl"):       # or a folder, or a hub id
        row.conversation                  # messages with tool calls, and tools as JSON Schema

Glaive v2, OpenAI, ShareGPT, Hermes and xLAM are read. A row that cannot be read with certainty is
counted and refused, never guessed at.
"""

from train.data.errors import DOUBTS, REASONS, DataError, Doubt, RowError
from train.data.files import RawRow, Reject
from train.data.formats import FORMATS, Format, detect, parse_row
from train.data.reading import Counts, Loaded, Reader, Row, Source, load, read
from train.data.split import PARTS, Part, Selection, Shares, fingerprint, part
from train.data.turns import Reading
from train.messages import Conversation, Message, Tool, ToolCall

__all__ = [
    "DOUBTS",
    "FORMATS",
    "PARTS",
    "REASONS",
    "Conversation",
    "Counts",
    "DataError",
    "Doubt",
    "Format",
    "Loaded",
    "Message",
    "Part",
    "RawRow",
    "Reader",
    "Reading",
    "Reject",
    "Row",
    "RowError",
    "Selection",
    "Shares",
    "Source",
    "Tool",
    "ToolCall",
    "detect",
    "fingerprint",
    "load",
    "parse_row",
    "part",
    "read",
]
