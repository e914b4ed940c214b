"""What to serve: a release from the store, and what of it the engines need."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from release.errors import ReleaseError
from release.manifest import Manifest
from release.store import ReleaseStore
from serve.errors import ServeError
from serve.settings import Settings

# Best first: small and good enough, then nearer to the original and slower.
QUANTS = ("Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "BF16", "F16", "F32")


@dataclass(frozen=True)
class Sampling:
    """How a request that names no sampling of its own is sampled; neutral as in OpenAI's API.

    `top_k` 0 means all tokens.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0


@dataclass(frozen=True)
class Source:
    """A release and its folder."""

    manifest: Manifest
    path: Path

    @property
    def merged(self) -> Path:
        """Folder of the 16-bit weights and the tokenizer."""
        return self.path / "merged"

    @property
    def chat_template(self) -> Path:
        """The template that the model was trained with."""
        return self.path / self.manifest.served.chat_template_file

    def gguf(self, quant: str | None = None) -> Path:
        """The GGUF file of a quantization, or of the best one there is.

        Raises:
            ServeError: the release has none, or not this one.
        """
        files = self.manifest.gguf()
        if not files:
            raise ServeError(f"release {self.manifest.id} has no GGUF file: llama.cpp needs one")
        if quant is None:
            quant = min(files, key=lambda q: (QUANTS.index(q) if q in QUANTS else len(QUANTS), q))
        if quant not in files:
            raise ServeError(
                f"release {self.manifest.id} has no GGUF of {quant}; it has {', '.join(files)}"
            )
        return self.path / files[quant]

    def context_length(self, wanted: int | None) -> int:
        """Tokens that a request may span.

        Raises:
            ServeError: more is wanted than the release allows.
        """
        most = self.manifest.served.context_length
        if wanted is not None and wanted > most:
            raise ServeError(
                f"release {self.manifest.id} spans {most} tokens, not {wanted}: "
                f"choose a context length of at most {most}"
            )
        return wanted or most

    def sampling(self) -> Sampling:
        """The sampling that the release recommends, one source for both engines.

        From merged/generation_config.json. Penalties in it are left out: they would change greedy
        answers, and with them what evaluation measured.

        Raises:
            ServeError: the file is damaged.
        """
        path = self.merged / "generation_config.json"
        if not path.is_file():
            return Sampling()
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            named = {
                name: type(neutral)(found[name])
                for name, neutral in asdict(Sampling()).items()
                if found.get(name) is not None
            }
            if found.get("do_sample") is False:
                # transformers' word for greedy; the engines say it with a temperature.
                named["temperature"] = 0.0
            return Sampling(**named)
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise ServeError(f"{path} is damaged: {error}") from error


def select(settings: Settings, ref: str | None = None) -> Source:
    """The release that `ref` (id, channel or start of an id) or the settings' channel names.

    Raises:
        ServeError: there is none, or its manifest cannot be read.
    """
    store = ReleaseStore(settings.store)
    try:
        release_id = store.resolve(ref) if ref else store.channel(settings.channel).release
        return Source(store.get(release_id), store.path(release_id).resolve())
    except ReleaseError as error:
        raise ServeError(str(error)) from error
