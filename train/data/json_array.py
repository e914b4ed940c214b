"""The elements of one JSON array in a file, read one at a time.

A data set in one array can be larger than memory; Python's json reads only whole documents.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import BinaryIO

from train.data.strict_json import BLANK, plain_at

CHUNK = 1024 * 1024  # bytes


def elements(file: BinaryIO, max_element: int, chunk: int = CHUNK) -> Iterator[tuple[object, str]]:
    """Yield each element and its raw text; no more than one element and a chunk are in memory.

    `max_element` is in characters: a longer element counts as broken. Raises ValueError with the
    number of the element where the text stops being an array in UTF-8.
    """
    window = _Window(file, chunk)
    window.take("[")
    number = 0
    while window.peek() != "]":
        number += 1
        yield window.value(number, max_element)
        if not window.take(","):
            if window.peek() != "]":
                raise ValueError(f"no comma or ] after row {number}; is the file cut off?")
        elif window.peek() == "]":
            raise ValueError(f"a comma but no row after row {number}")
    window.take("]")
    if rest := window.peek():
        raise ValueError(f"{rest!r} stands after the end of the array; is it JSON Lines?")


class _Window:
    """The part of the text that is in memory; it grows until it holds a whole value."""

    def __init__(self, file: BinaryIO, chunk: int) -> None:
        self._file = file
        self._chunk = chunk
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0

    def peek(self) -> str:
        """The next character that is not blank; empty at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in BLANK:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._grow(self._chunk):
                return ""

    def take(self, character: str) -> bool:
        """Step over the next character that is not blank, if it is this one."""
        found = self.peek() == character
        self._at += found
        return found

    def value(self, number: int, max_length: int) -> tuple[object, str]:
        self.peek()
        size = self._chunk
        while True:
            try:
                value, end = plain_at(self._text, self._at)
            except ValueError as error:
                # The value may go on in what is not read yet. Each read is twice as long as the
                # one before, so that parsing again from the start stays linear in all.
                if len(self._text) - self._at <= max_length and self._grow(size):
                    size *= 2
                    continue
                raise ValueError(f"row {number} is not JSON: {error}") from error
            raw = self._text[self._at : end]
            self._at = end
            return value, raw

    def _grow(self, size: int) -> bool:
        """Drop what was read and add up to `size` bytes; False at the end of the file."""
        data = self._file.read(size)
        more = self._decoder.decode(data, final=not data)  # UnicodeDecodeError is a ValueError
        self._text = self._text[self._at :] + more
        self._at = 0
        return bool(data)
