"""`release.json`: everything an engine needs to serve a release the way it was trained.

The schema is versioned `major.minor`. A reader accepts any minor of its own major (unknown keys
of a later minor are kept) and refuses a newer major.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticSerializationError

from release.errors import ReleaseError

SCHEMA_MAJOR = 1
SCHEMA_VERSION = "1.0"
MANIFEST = "release.json"

# What the store says about a release. Everything else, unknown keys too, is content and is hashed.
_RECORD = {"schema_version", "id", "created", "content_sha256", "files", "parity"}
_NAME = r"[a-z0-9][a-z0-9.-]{0,62}"
ID_PATTERN = rf"^{_NAME}-[0-9]{{8}}-[0-9a-f]{{8}}$"

ToolFormat = Literal["hermes", "llama-nemotron"]


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path != "/".join(parts) or parts[0] == "/" or ".." in parts:
        raise ValueError(f"{path!r} is not a plain path inside the release")
    # False for control characters, which could fake a line of output, and for names not in UTF-8.
    if not path.isprintable():
        raise ValueError(f"{path!r} holds characters that cannot be printed")
    return path


# A path relative to the release, with forward slashes; engines join it to the release's folder.
InsidePath = Annotated[str, AfterValidator(_inside)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    # A later minor version may add keys: keep them, so that reading and writing loses nothing.
    model_config = ConfigDict(extra="allow", frozen=True)


class Base(_Part):
    """The model that was fine-tuned: a hub id, a local folder or the embedded one."""

    name: str
    revision: str


class Dataset(_Part):
    """The rows trained on; `sha256` is over the raw file, `rows` counts what was trained."""

    name: str
    revision: str
    sha256: str
    rows: int


class Engines(_Part):
    """The name of the tool-call parser for each engine that needs one."""

    vllm_tool_parser: str


class Served(_Part):
    """How the model must be prompted and stopped; both engines start from this alone.

    `context_length` is in tokens; ids are of the tokenizer in merged/.
    """

    chat_template_file: InsidePath = "merged/chat_template.jinja"
    chat_template_sha256: str
    tool_format: ToolFormat
    engines: Engines
    bos_token_id: int | None
    eos_token_id: int
    stop_tokens: list[str]
    context_length: int
    dtype: Literal["float32", "bfloat16", "float16"]


class Score(_Part):
    """Exact-match tool-call accuracy on one held-out set: share of `cases` in 0..1."""

    set: str
    cases: int
    base: float | None
    tuned: float


class File(_Part):
    """One file of the release: path relative to it, size in bytes, SHA-256 in hex."""

    path: InsidePath
    size: int = Field(ge=0)
    sha256: Sha256


class Draft(_Part):
    """What the trainer knows of a release before it is sealed.

    Put no time and no duration in here: equal inputs must give equal content.
    """

    name: str = Field(pattern=rf"^{_NAME}$")
    base: Base
    dataset: Dataset
    training: dict[str, Any]
    libraries: dict[str, str]
    served: Served
    scores: list[Score]
    # A verdict about the content, so no part of its hash; None means not proven yet.
    parity: dict[str, Any] | None = None


class Manifest(Draft):
    """A sealed release. `id` = <name>-<yyyymmdd>-<first 8 hex of content_sha256>."""

    schema_version: str = SCHEMA_VERSION
    id: str = Field(pattern=ID_PATTERN)
    created: AwareDatetime
    content_sha256: Sha256
    files: list[File]

    def gguf(self) -> dict[str, str]:
        """Quantization → path of each GGUF file, from gguf/<name>.<QUANT>.gguf."""
        return {
            Path(f.path).stem.rpartition(".")[2]: f.path
            for f in self.files
            if f.path.startswith("gguf/") and f.path.endswith(".gguf")
        }


def content_of(draft: Draft) -> dict[str, Any]:
    """The part of a draft or manifest that is hashed, as JSON values.

    A manifest that was read gives the keys that were in its file and no defaults of a later schema,
    so that an old release keeps its hash.

    Raises:
        ReleaseError: a value has no JSON form.
    """
    try:
        return draft.model_dump(
            mode="json", exclude=_RECORD, exclude_unset=isinstance(draft, Manifest)
        )
    except PydanticSerializationError as error:
        raise ReleaseError(f"the draft of release {draft.name} is not JSON: {error}") from error


def content_sha256(content: dict[str, Any], files: Iterable[File]) -> str:
    """Hash of what a release is: `content_of` it, and path, size and SHA-256 of each file.

    Raises:
        ReleaseError: a number is NaN or infinite.
    """
    rows = sorted([file.path, file.size, file.sha256] for file in files)
    try:
        canonical = json.dumps(
            {"content": content, "files": rows},
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
        )
    except ValueError as error:
        raise ReleaseError(f"a field of the release is not JSON: {error}") from error
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()


def read_manifest(directory: Path) -> Manifest:
    """Read and check a release's manifest.

    Raises:
        ReleaseError: no manifest, not JSON, a newer major version, or a field that does not fit.
    """
    path = directory / MANIFEST
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ReleaseError(f"{directory} holds no {MANIFEST}: it is not a release") from None
    except (OSError, ValueError) as error:
        raise ReleaseError(f"{path} cannot be read as JSON: {error}") from error
    version = str(raw.get("schema_version", "")) if isinstance(raw, dict) else ""
    major = version.partition(".")[0]
    if not major.isdigit():
        raise ReleaseError(f"{path} names no schema_version: it is not a release manifest")
    if int(major) > SCHEMA_MAJOR:
        raise ReleaseError(
            f"{path} has schema {version}; this Toolsmith reads up to {SCHEMA_MAJOR}.x. "
            "Upgrade Toolsmith to use this release"
        )
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ReleaseError(f"{path}: {where}: {first['msg']}") from error
