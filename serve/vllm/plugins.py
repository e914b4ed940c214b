"""Tool-call parsers that vLLM does not have: name → the file that vLLM loads into its process."""

from __future__ import annotations

from pathlib import Path

PARSER_PLUGINS = {"toolsmith_nemotron": Path(__file__).parent / "nemotron_tool_parser.py"}
