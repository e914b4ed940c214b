"""How fast rows become tokens: reading, rendering, tokenizing and masking, as `finetune` does it.

    .venv/bin/python bench/data_speed.py                  # 112,960 rows, as many as Glaive v2 has
    .venv/bin/python bench/data_speed.py --rows 5000      # a quick look

The rows are made once, seeded, in Glaive v2's raw layout and with its lengths (median 370 tokens,
longest 4,076). They are then read in a process of their own, whose memory is watched. The baseline
is transformers' `apply_chat_template(return_assistant_tokens_mask=True)`, row by row, on a sample
of the same rows, beside this project's encoding of the same sample.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from train.base import prepare_embedded
from train.data.files import RawRow, file_rows
from train.data.glaive import parse_row, write_row
from train.data.strict_json import plain_at
from train.embedded.generator import conversations
from train.encode import CHUNK_ROWS, Encoded, Encoder, encode_stream
from train.export import set_template
from train.messages import Conversation, Message
from train.progress import Reporter
from train.template import KNOWN, template_variables
from train.tokens import encode_rows

ROWS = 112_960
MEDIAN, SPREAD, LONGEST = 370, 0.56, 4076  # tokens; a log-normal that reaches 4,076 once in 113,000
SAMPLE = 2000
SECONDS, GIBIBYTES = 90, 2.0  # what it may take


def main() -> None:
    """Make the rows, read them in another process, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=ROWS, help=f"default {ROWS}")
    parser.add_argument("--cache", type=Path, default=Path(".cache"), help="default .cache")
    parser.add_argument("--part", choices=("make", "read", "compare"), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    tokenizer = _tokenizer(arguments.cache)
    if arguments.part == "make":
        _make(tokenizer, arguments.rows, arguments.file)
    elif arguments.part == "read":
        print(json.dumps(_read(tokenizer, arguments.rows, arguments.file)))
    elif arguments.part == "compare":
        print(json.dumps(_compare(tokenizer, arguments.file)))
    else:
        sys.exit(_all(arguments.rows, arguments.cache))


def _all(rows: int, cache: Path) -> int:
    with tempfile.TemporaryDirectory(prefix="toolsmith-bench-") as folder:
        file = Path(folder) / "rows.jsonl"
        common = [sys.executable, __file__, "--rows", str(rows), "--cache", str(cache)]
        common += ["--file", str(file), "--part"]
        subprocess.run([*common, "make"], check=True)
        print(f"{rows:,} rows, {file.stat().st_size / 2**20:.0f} MiB, {os.cpu_count()} cores")
        found, peak = _watched([*common, "read"])
        for name, value in found.items():
            print(f"{name:>24}: {value:,}")
        print(f"{'peak memory':>24}: {peak:.2f} GiB, all processes together")
        for name, value in json.loads(_output([*common, "compare"])).items():
            print(f"{name:>24}: {value}")
    within = found["seconds"] <= SECONDS and peak <= GIBIBYTES
    print(f"{'limits':>24}: {SECONDS} s and {GIBIBYTES} GiB, {'kept' if within else 'NOT KEPT'}")
    return 0 if within else 1


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _watched(command: list[str]) -> tuple[dict[str, float], float]:
    """A command's JSON answer, and the most memory that its process tree had at once, in GiB."""
    process = psutil.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.05):
            try:
                tree = [process, *process.children(recursive=True)]
                peak = max(peak, sum(each.memory_info().rss for each in tree))
            except psutil.NoSuchProcess:
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        output, _ = process.communicate()
    finally:
        ended.set()
        watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with {process.returncode}")
    return json.loads(output), peak / 2**30


def _tokenizer(cache: Path) -> PreTrainedTokenizerBase:
    tokenizer = AutoTokenizer.from_pretrained(prepare_embedded(cache).source)
    set_template(tokenizer, KNOWN["chatml-hermes"])
    return tokenizer


def _read(tokenizer: PreTrainedTokenizerBase, rows: int, file: Path) -> dict[str, float]:
    """What `finetune` does with a file, as one stream."""
    reporter = Reporter(Console(stderr=True))
    started, cpu = time.perf_counter(), time.process_time()
    with reporter.stage("Rows to tokens", rows) as stage:

        def on_done(done: int) -> None:
            stage.advance(done, f"{done / stage.elapsed:,.0f} rows/s")

        encoded = encode_rows(
            tokenizer, _conversations(file), LONGEST * 2, folder=file.parent, on_done=on_done
        )
        stage.note = encoded.summary()
    seconds = time.perf_counter() - started
    packed = time.perf_counter()
    packs = type(encoded)(encoded.table, encoded.dropped, LONGEST * 2).packs
    assert packs is not None
    return {
        "seconds": round(seconds, 1),
        "CPU seconds": round(time.process_time() - cpu, 1),
        "rows/s": round(rows / seconds),
        "tokens/s": round(encoded.tokens / seconds),
        "tokens": encoded.tokens,
        "median tokens": sorted(encoded.lengths.tolist())[len(encoded) // 2],
        "longest": int(encoded.lengths.max()),
        "dropped": sum(encoded.dropped.values()),
        "packing seconds": round(time.perf_counter() - packed, 2),
        "packs": len(packs.packs),
        "packing efficiency": round(packs.efficiency, 4),
    }


def _conversations(file: Path) -> Iterator[Conversation]:
    for row in file_rows(file):
        assert isinstance(row, RawRow), row
        yield parse_row(row.data).conversation


def _compare(tokenizer: PreTrainedTokenizerBase, file: Path) -> dict[str, str]:
    """The baseline and each stage alone on a sample, in microseconds a row."""
    with file.open(encoding="utf-8") as open_file:
        lines = list(islice(open_file, SAMPLE))
    data = [plain_at(line, 0)[0] for line in lines]
    rows = [parse_row(each).conversation for each in data]
    for row, encoded in zip(rows, encode_stream(tokenizer, rows), strict=True):
        assert encoded == _transformers(tokenizer, row), "the result differs from transformers'"
    encoder = Encoder(tokenizer)
    variables = [template_variables(row.messages, row.tools) for row in rows]
    texts = [encoder._render(each)[0] for each in variables]

    def tokenize() -> None:
        for at in range(0, len(texts), CHUNK_ROWS):
            encoder._tokenizer.encode_batch(texts[at : at + CHUNK_ROWS], add_special_tokens=False)

    def baseline() -> None:
        for row in rows:
            _transformers(tokenizer, row)

    # Nothing is kept of what is timed: what is kept is what Python's collector goes through.
    seconds = {
        "JSON": _timed(lambda: [plain_at(line, 0) and None for line in lines]),
        "layout to conversation": _timed(lambda: [parse_row(each) and None for each in data]),
        "rendering": _timed(lambda: [encoder._render(each) and None for each in variables]),
        "tokenizing (all cores)": _timed(tokenize),
        "encode_rows (all cores)": _timed(lambda: encode_rows(tokenizer, rows, LONGEST * 2)),
        "transformers row by row": _timed(baseline),
    }
    shown = {name: f"{1e6 * value / len(rows):.0f} µs a row" for name, value in seconds.items()}
    ratio = seconds["transformers row by row"] / seconds["encode_rows (all cores)"]
    return {**shown, "encode_rows is": f"{ratio:.2f} times as fast as transformers row by row"}


def _timed(work: Callable[[], Any]) -> float:
    """The best of three, in seconds."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def _transformers(tokenizer: PreTrainedTokenizerBase, row: Conversation) -> Encoded:
    variables = template_variables(row.messages, row.tools)
    encoded = tokenizer.apply_chat_template(
        variables["messages"],
        tools=variables["tools"],
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    return Encoded(encoded["input_ids"], [bool(mark) for mark in encoded["assistant_masks"]])


def _make(tokenizer: PreTrainedTokenizerBase, count: int, file: Path) -> None:
    """Rows of the wanted lengths: exchanges of the embedded generator, strung together.

    Questions and answers of their words, `each` tokens a word, fill a row up to its length.
    """
    stock = list(conversations("train", 3000, 0))
    said = (m for row in stock for m in row.messages if m.role in ("user", "assistant"))
    words = [word for message in said for word in message.content.split()]
    each = len(tokenizer(" ".join(words))["input_ids"]) / len(words)
    plain = [row for row in stock if not row.tools]
    sizes = {id(row): _size(tokenizer, row) for row in stock}
    with file.open("w", encoding="utf-8") as out:
        for index in range(count):
            rng = random.Random(index)
            # The last row is the longest, whatever the dice say.
            drawn = MEDIAN * rng.lognormvariate(0, SPREAD) if index + 1 < count else LONGEST
            row = _row(rng, min(drawn, LONGEST), stock, plain, words, each, sizes)
            out.write(json.dumps(write_row(row), ensure_ascii=False) + "\n")


def _size(tokenizer: PreTrainedTokenizerBase, row: Conversation) -> int:
    return len(next(r for r in encode_stream(tokenizer, [row]) if isinstance(r, Encoded)).input_ids)


def _row(
    rng: random.Random,
    tokens: float,
    stock: list[Conversation],
    plain: list[Conversation],
    words: list[str],
    each: float,
    sizes: dict[int, int],
) -> Conversation:
    row = next((r for r in rng.sample(stock, 5) if sizes[id(r)] <= tokens), rng.choice(plain))
    left = tokens - sizes[id(row)]
    messages = list(row.messages)
    while left > 60:
        length = int(min(left, 400) / each) - 16
        question, answer = rng.choices(words, k=max(length // 4, 2)), rng.choices(words, k=length)
        messages.append(Message(role="user", content=f"And {' '.join(question)}?"))
        messages.append(Message(role="assistant", content=f"Well, {' '.join(answer)}."))
        left -= each * (len(question) + length) + 16
    return Conversation(messages=tuple(messages), tools=row.tools)


if __name__ == "__main__":
    main()
