"""The data report as text and as one HTML page that needs nothing from outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from train.data.report import DataReport

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Line:
    """One figure; `share` (0 to 1) is of the section's whole, where there is one."""

    name: str
    value: str
    share: float | None = None


@dataclass(frozen=True)
class Section:
    """Figures that belong together. `about` says how to read them."""

    title: str
    about: str
    lines: tuple[Line, ...]


def page(report: DataReport) -> str:
    """The report as HTML, for reports/report.html of a release."""
    return _TEMPLATES.get_template("report.html.jinja").render(
        report=report, sections=sections(report)
    )


def sections(report: DataReport) -> list[Section]:
    """The report's figures in the order in which people read them."""
    rows, functions, tokens = report.rows, report.functions, report.tokens
    used = sum(rows.parts.values())
    found = [
        Section(
            "Rows",
            "What became of every row of the source.",
            (
                Line("in the source", f"{rows.total:,}"),
                Line("refused", f"{rows.refused:,}", _share(rows.refused, rows.total)),
                Line(
                    "left out (doubts)",
                    f"{sum(rows.left_out.values()):,}",
                    _share(sum(rows.left_out.values()), rows.total),
                ),
                Line("duplicates", f"{rows.duplicates:,}", _share(rows.duplicates, rows.total)),
                *_counted(rows.parts, rows.total),
            ),
        ),
        Section(
            "Refused rows",
            "Rows that cannot be read with certainty, by reason.",
            _counted(rows.rejects, rows.total),
        ),
        Section(
            "Rows left out",
            "Rows that were read but would teach something wrong, by their first doubt.",
            _counted(rows.left_out, rows.total),
        ),
        Section("Kinds", "Each used row is of one kind.", _counted(report.kinds, used)),
        Section("Traits", "A used row has any number of them.", _counted(report.traits, used)),
        Section(
            "Functions",
            "By name; offered in a row, called in any turn.",
            (
                Line("offered", f"{functions.offered:,}"),
                Line("called", f"{functions.called:,}"),
                Line("never called", f"{functions.never_called:,}"),
                Line("calls", f"{functions.calls:,}"),
            ),
        ),
        Section(
            "Most called functions",
            "Calls of each.",
            _counted(functions.most_called, functions.calls),
        ),
    ]
    if tokens:
        found.append(
            Section(
                "Tokens",
                f"Of the rows to train on; the sequence holds {tokens.sequence_length:,}.",
                (
                    Line("rows", f"{tokens.rows:,}"),
                    *(
                        Line(f"dropped, {reason}", f"{count:,}")
                        for reason, count in tokens.dropped.items()
                    ),
                    Line("tokens", f"{tokens.total:,}"),
                    Line("trained tokens", f"{tokens.trained:,}", tokens.trained_share),
                    *(
                        Line(name, f"{length:,}", _share(length, tokens.sequence_length))
                        for name, length in tokens.percentiles.items()
                    ),
                    Line(
                        "packs" if tokens.packing.used else "packs, if packed",
                        f"{tokens.packing.sequences:,}",
                    ),
                    Line("filled when packed", "", tokens.packing.efficiency),
                    Line("filled when padded", "", tokens.packing.unpacked_efficiency),
                ),
            )
        )
    return [section for section in found if section.lines]


def _counted(counts: Mapping[str, int], whole: int) -> tuple[Line, ...]:
    return tuple(
        Line(name, f"{count:,}", _share(count, whole)) for name, count in counts.items() if count
    )


def _share(count: int, whole: int) -> float:
    return count / whole if whole else 0.0
