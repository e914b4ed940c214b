"""A data report without a run: one pass over the rows, none of them kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from train.config import TrainConfig
from train.data.census import Census
from train.data.reading import Reader
from train.data.report import DataReport, SourceFacts, build, token_facts
from train.data.rows import Rows, shares, source
from train.data.split import Selection

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
    lengths: list[int] = []
    trained: list[int] = []
    for part, conversation in selection.sort(reader):
        census.add(conversation)
        if tokenizer and part == "train":
            from train.template import encode

            encoded = encode(tokenizer, conversation)
            lengths.append(len(encoded.input_ids))
            trained.append(sum(encoded.trained))
    facts = SourceFacts(
        name=str(config.data),
        format=str(reader.format),
        revision=reader.revision(),
        sha256=reader.sha256,
    )
    fits = any(length <= config.sequence_length for length in lengths)
    tokens = token_facts(lengths, trained, config.sequence_length) if fits else None
    return build(facts, reader.counts, selection, census, tokens)


def run_report(
    rows: Rows, lengths: list[int], trained: list[int], sequence_length: int, dropped: int
) -> DataReport:
    """The report of a run: `lengths` and `trained` are of the rows that are trained."""
    facts = SourceFacts(
        name=rows.dataset.name,
        format=rows.format,
        revision=rows.dataset.revision,
        sha256=rows.dataset.sha256,
    )
    tokens = token_facts(lengths, trained, sequence_length, dropped=dropped)
    return build(facts, rows.counts, rows.selection, rows.census, tokens)
