"""A data report without a run: one pass over the rows, none of them kept."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from train.config import TrainConfig
from train.data.census import Census
from train.data.reading import Reader
from train.data.report import DataReport, SourceFacts, TokenFacts, build, token_facts
from train.data.rows import Rows, shares, source
from train.data.split import Selection
from train.messages import Conversation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from train.tokens import EncodedRows


def survey(
    config: TrainConfig,
    tokenizer: PreTrainedTokenizerBase | None = None,
    reject_file: Path | None = None,
) -> DataReport:
    """Report on the configured data, however many rows are refused.

    With a tokenizer that has our template, the lengths are of the rows that would be trained.
    Raises DataError where no row can be read.
    """
    reader = Reader(source(config), max_rejects=1, reject_file=reject_file)
    selection = Selection(shares(config), keep_doubtful=config.keep_doubtful)
    census = Census()

    def to_train() -> Iterator[Conversation]:
        for part, conversation in selection.sort(reader):
            census.add(conversation)
            if part == "train":
                yield conversation

    tokens = _tokens(tokenizer, to_train(), config)
    facts = SourceFacts(
        name=str(config.data),
        format=str(reader.format),
        revision=reader.revision(),
        sha256=reader.sha256,
    )
    return build(facts, reader.counts, selection, census, tokens)


def _tokens(
    tokenizer: PreTrainedTokenizerBase | None, rows: Iterator[Conversation], config: TrainConfig
) -> TokenFacts | None:
    """Facts about the rows' tokens, as far as there are any; reads all rows in any case."""
    if tokenizer is None:
        for _ in rows:
            pass
        return None
    # Imported late: without a tokenizer nothing here needs transformers.
    from train.tokens import NothingLeftError, encode_rows

    with tempfile.TemporaryDirectory(prefix="toolsmith-") as scratch:
        try:
            encoded = encode_rows(tokenizer, rows, config.sequence_length, folder=Path(scratch))
        except NothingLeftError:
            return None
        return _facts(encoded, config.sequence_length)


def _facts(encoded: EncodedRows, sequence_length: int) -> TokenFacts:
    return token_facts(
        encoded.lengths.tolist(),
        encoded.trained_lengths.tolist(),
        {str(reason): count for reason, count in encoded.dropped.items()},
        sequence_length,
        packed=encoded.packs is not None,
    )


def run_report(rows: Rows, encoded: EncodedRows, sequence_length: int) -> DataReport:
    """The report of a run that trains `encoded`."""
    facts = SourceFacts(
        name=rows.dataset.name,
        format=rows.format,
        revision=rows.dataset.revision,
        sha256=rows.dataset.sha256,
    )
    tokens = _facts(encoded, sequence_length)
    return build(facts, rows.counts, rows.selection, rows.census, tokens)
