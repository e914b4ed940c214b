"""The training configuration: each default stands here once.

A value comes from, in rising order: the default below, the profile, the user's YAML file, the
environment (`TOOLSMITH_TRAIN_LORA_R=32`), the command line.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from train.errors import ConfigError

PROFILES = Path(__file__).parent / "profiles"
ENV_PREFIX = "TOOLSMITH_TRAIN_"
EMBEDDED = "embedded"
Quantization = Literal["F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0"]


class TrainConfig(BaseModel):
    """Everything that decides what a run trains. Lengths are in tokens, sizes in rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("tools", pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$", description="release name")
    base: str = Field(description="hub id, local folder, or embedded:smollm2-135m")
    base_revision: str = Field("main", description="hub revision of the base")
    data: str = Field(description="a file or folder of rows, a hub id, or `embedded`")
    data_format: Literal["auto", "glaive", "openai", "sharegpt", "hermes", "xlam"] = Field(
        "auto", description="layout of the rows; auto detects it"
    )
    data_revision: str = Field("main", description="hub revision of the data: pin a commit")
    data_subset: str | None = Field(None, description="hub subset of the data")
    data_split: str = Field("train", description="hub split of the data")
    max_rejects: float = Field(0.1, ge=0, le=1, description="share of rows that may be unreadable")
    max_samples: int | None = Field(
        None, ge=1, description="rows to train on; empty means all, and 430 of the embedded ones"
    )
    held_out: float = Field(0.1, gt=0, lt=1, description="share of the rows kept to evaluate")
    held_out_functions: float = Field(
        0, ge=0, lt=1, description="share of the functions whose rows are all kept to evaluate"
    )
    keep_doubtful: bool = Field(
        False, description="train on rows with doubts too: calls to functions not offered, …"
    )
    eval_cases: int = Field(60, ge=1, description="tool-call turns per held-out set")
    template: Literal["chatml-hermes", "llama-nemotron"] = Field(
        "chatml-hermes", description="chat template, shared with the servers"
    )
    engine: Literal["trl"] = Field("trl", description="what trains")
    sequence_length: int = Field(2048, ge=64, description="longer rows are dropped and counted")
    packing: bool = Field(False, description="several rows in one sequence, up to sequence_length")
    context_length: int = Field(4096, ge=64, description="tokens that a server allows")
    lora_r: int = Field(16, ge=1, description="rank of the adapter")
    lora_alpha: int = Field(32, ge=1, description="scale of the adapter, over its rank")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="dropout inside the adapter")
    lora_skip_share: float = Field(
        0, ge=0, lt=1, description="share of the lowest layers left as they are: no backward pass"
    )
    learning_rate: float = Field(2e-4, gt=0, description="peak, after warm-up")
    warmup_share: float = Field(0.05, ge=0, lt=1, description="share of steps of warm-up")
    epochs: float = Field(1, gt=0, description="passes over the rows")
    max_steps: int | None = Field(None, ge=1, description="optimizer steps; empty means by epochs")
    batch_size: int = Field(1, ge=1, description="rows per forward pass")
    accumulation: int = Field(1, ge=1, description="forward passes per optimizer step")
    optimizer: str = Field("adamw_torch", description="a name of transformers' optimizers")
    adam_beta2: float = Field(
        0.999, gt=0, lt=1, description="memory of Adam's second moment; less for a short run"
    )
    seed: int = Field(42, ge=0, description="of data, order and adapter")
    merge: bool = Field(True, description="merge and seal a release; false keeps the adapter only")
    merged_dtype: Literal["float16", "bfloat16"] = Field("bfloat16", description="of merged/")
    gguf: tuple[Quantization, ...] = Field(
        ("Q4_K_M", "Q8_0"), min_length=1, description="GGUF files to write"
    )


def profiles() -> list[str]:
    """Names of the profiles that come with Toolsmith."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def load_config(
    profile: str, *, file: Path | None = None, overrides: dict[str, Any] | None = None
) -> TrainConfig:
    """Layer defaults, profile, file, environment and overrides (None means not given).

    Raises:
        ConfigError: unknown profile or key (with the nearest known one), bad YAML, bad value.
    """
    if profile not in profiles():
        raise ConfigError(f"unknown profile {profile!r}{_nearest(profile, profiles())}")
    values: dict[str, Any] = {}
    for source, layer in (
        (f"profile {profile}", _read_yaml(PROFILES / f"{profile}.yaml")),
        (str(file), _read_yaml(file) if file else {}),
        ("the environment", _environment()),
        ("the command line", {k: v for k, v in (overrides or {}).items() if v is not None}),
    ):
        for key in layer:
            if key not in TrainConfig.model_fields:
                known = list(TrainConfig.model_fields)
                raise ConfigError(f"unknown setting {key!r} in {source}{_nearest(key, known)}")
        values |= layer
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"setting {where}: {first['msg']} (got {first['input']!r})") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold settings as `key: value`, not {type(values).__name__}")
    return {str(key): value for key, value in values.items()}


def _environment() -> dict[str, Any]:
    """Settings from TOOLSMITH_TRAIN_<SETTING>."""
    found: dict[str, Any] = {}
    for variable, value in os.environ.items():
        if variable.startswith(ENV_PREFIX):
            key = variable.removeprefix(ENV_PREFIX).lower()
            found[key] = value.split(",") if key == "gguf" else value
    return found


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
