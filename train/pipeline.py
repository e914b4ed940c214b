"""The whole run: rows → tokens → base score → training → tuned score → files → sealed release."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from release.manifest import Base, Draft, Manifest, Score, Served
from release.store import ReleaseStore
from train import export
from train.base import BaseModel, load_tokenizer, resolve_base
from train.closed_loop import Checked, check
from train.config import TrainConfig
from train.data.page import page
from train.data.rows import Rows, load_rows
from train.data.survey import run_report
from train.evaluate import Case, Evaluation, cases, evaluate
from train.generate import load_for_inference
from train.messages import Conversation
from train.progress import Reporter
from train.template import KNOWN, Template
from train.tokens import EncodedRows, encode_rows
from train.training import Step, load_for_training, train

log = logging.getLogger(__name__)

LIBRARIES = ("torch", "transformers", "trl", "peft", "gguf")


@dataclass(frozen=True)
class Places:
    """Where a run reads and writes: the release store, the cache, llama.cpp's tools.

    `vllm_python` is the interpreter of vLLM's environment, None where there is none.
    """

    store: Path
    cache: Path
    llama_cpp: Path
    vllm_python: Path | None


@dataclass(frozen=True)
class Outcome:
    """What a run left behind: a sealed release or, with `merge: false`, an adapter folder."""

    release: Manifest | None
    adapter: Path | None
    reused: bool
    seconds: dict[str, float]
    tokens_per_second: float | None


def run(config: TrainConfig, places: Places, report: Reporter, *, reuse: bool = False) -> Outcome:
    """Fine-tune as configured; `reuse` hands back a release made from the same inputs.

    Raises:
        TrainError, DataError, ReleaseError: with what to do about it; nothing half-written stays.
    """
    if config.merge:
        export.check_gguf_tools(config, places.llama_cpp)
    places.cache.mkdir(parents=True, exist_ok=True)
    with report.stage("Rows") as stage:
        rows = load_rows(config, places.cache / "rejects.jsonl")
        sets = {name: cases(held, config.eval_cases) for name, held in rows.held_out.items()}
        sets = {name: found for name, found in sets.items() if found}
        stage.note = f"{len(rows.train)} to train on, held out " + ", ".join(
            f"{len(found)} calls {name}" for name, found in sets.items()
        )
    with report.stage("Base model") as stage:
        base = resolve_base(config.base, config.base_revision, places.cache)
        stage.note = base.name
    template = KNOWN[config.template]
    fingerprint = _fingerprint(config, rows, base, template)
    if reuse and config.merge and (found_release := _find(places.store, fingerprint)):
        return Outcome(found_release, None, True, report.seconds, None)
    with report.stage("Tokens", len(rows.train)) as stage:
        tokenizer = load_tokenizer(base)
        export.set_template(tokenizer, template)
        encoded = encode_rows(
            tokenizer,
            rows.train,
            config.sequence_length,
            packing=config.packing,
            folder=places.cache,
            on_done=stage.advance,
        )
        stage.note = encoded.summary()
        model = load_for_training(base, config)
    kept = [rows.train[encoded.source(number)] for number in range(len(encoded))]
    checked = _check(tokenizer, template, kept, places.vllm_python, report)
    key = f"{base.name}/{base.revision}/{template.sha256}"
    before = _base_scores(model, tokenizer, sets, places.cache, key, report)
    steps = _train(model, tokenizer, encoded, config, report)
    model = _at_full_precision(model, tokenizer, places.cache)
    # Merged for the time being: every layer then costs one matrix product, not three.
    model.merge_adapter()
    after = {name: _evaluate(model, tokenizer, sets[name], name, report) for name in sets}
    model.unmerge_adapter()
    speed = steps[-1].tokens / report.seconds["Training"]
    if not config.merge:
        adapter = _keep_adapter(model, tokenizer, places.store / "adapters" / config.name, report)
        return Outcome(None, adapter, False, report.seconds, speed)
    draft = _draft(config, rows, base, template, tokenizer, encoded, steps, fingerprint)
    draft = draft.model_copy(update={"scores": _scores(sets, before, after)})
    data = run_report(rows, encoded, config.sequence_length)
    reports = {
        "data.json": data.model_dump_json(indent=2),
        "report.html": page(data),
        "closed-loop.json": json.dumps(vars(checked), indent=2),
        "training.jsonl": "".join(json.dumps(vars(step)) + "\n" for step in steps),
        "evaluation.json": json.dumps(
            {name: evaluation.report() for name, evaluation in after.items()},
            ensure_ascii=False,
            indent=2,
        ),
    }
    sealed = _seal(model, tokenizer, config, places, draft, reports, report)
    return Outcome(sealed, None, False, report.seconds, speed)


def _check(
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    rows: Sequence[Conversation],
    vllm_python: Path | None,
    report: Reporter,
) -> Checked:
    with report.stage("Closed loop", len(rows)) as stage:
        checked = check(tokenizer, template, rows, vllm_python, stage.advance)
        stage.note = f"{checked.calls} calls in {checked.turns} turns read back by {checked.parser}"
    return checked


def _base_scores(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    sets: dict[str, list[Case]],
    cache: Path,
    key: str,
    report: Reporter,
) -> dict[str, float]:
    """Accuracy of the untrained model per set; measured once for each base, template and set."""
    scores: dict[str, float] = {}
    for name, held_out in sets.items():
        content = f"{key}/{held_out!r}".encode()
        path = cache / "evaluations" / f"{hashlib.sha256(content).hexdigest()[:16]}.json"
        if not path.is_file():
            with model.disable_adapter():
                evaluation = _evaluate(
                    model, tokenizer, held_out, f"{name}, base", report, trained=False
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch = path.with_suffix(".new")
            scratch.write_text(json.dumps({"accuracy": evaluation.accuracy}), encoding="utf-8")
            scratch.replace(path)
        scores[name] = float(json.loads(path.read_text(encoding="utf-8"))["accuracy"])
    return scores


def _evaluate(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    held_out: list[Case],
    name: str,
    report: Reporter,
    *,
    trained: bool = True,
) -> Evaluation:
    model.eval()
    with report.stage(f"Evaluation ({name})", len(held_out)) as stage:
        evaluation = evaluate(model, tokenizer, held_out, stage.advance, trained=trained)
        stage.note = f"{evaluation.exact} of {evaluation.cases} calls exact"
    return evaluation


def _train(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    encoded: EncodedRows,
    config: TrainConfig,
    report: Reporter,
) -> list[Step]:
    with (
        tempfile.TemporaryDirectory(prefix="toolsmith-") as scratch,
        report.stage("Training", 1) as stage,
    ):

        def on_step(step: Step) -> None:
            stage.set_total(step.steps)
            stage.advance(
                step.step, f"loss {step.loss:.3f}, {step.tokens / stage.elapsed:.0f} tokens/s"
            )

        steps = train(model, tokenizer, encoded, config, Path(scratch), on_step)
        stage.note = (
            f"{len(steps)} steps, loss {_mean_loss(steps[:5]):.3f} → {_mean_loss(steps[-5:]):.3f}, "
            f"{steps[-1].tokens / stage.elapsed:.0f} tokens/s"
        )
    return steps


def _at_full_precision(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, cache: Path
) -> PeftModel:
    """The adapter on the base as it is: training may have rounded the frozen weights."""
    with tempfile.TemporaryDirectory(prefix="toolsmith-") as scratch:
        export.save_adapter(model, tokenizer, Path(scratch))
        loaded, _ = load_for_inference(Path(scratch), cache)
    assert isinstance(loaded, PeftModel)
    return loaded


def _mean_loss(steps: Sequence[Step]) -> float:
    return sum(step.loss for step in steps) / len(steps)


def _keep_adapter(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path, report: Reporter
) -> Path:
    """Write the adapter beside the releases; an older one of the same name is replaced."""
    with report.stage("Adapter") as stage:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".staging-", dir=folder.parent) as scratch:
            written = Path(scratch) / "new"
            export.save_adapter(model, tokenizer, written)
            if folder.exists():
                folder.rename(Path(scratch) / "old")
            written.rename(folder)
        stage.note = str(folder)
    return folder


def _seal(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    config: TrainConfig,
    places: Places,
    draft: Draft,
    reports: dict[str, str],
    report: Reporter,
) -> Manifest:
    store = ReleaseStore(places.store)
    size = 2 * sum(parameter.numel() for parameter in model.parameters())
    # Merged in 16 bits, an f16 GGUF on the way, and at most that again for each file kept.
    with store.stage(needs=size * (2 + len(config.gguf))) as folder:
        with report.stage("Adapter and merged weights"):
            export.save_adapter(model, tokenizer, folder / "adapter")
            export.save_merged(model, tokenizer, config, folder / "merged")
        with report.stage("GGUF") as stage:
            export.write_ggufs(
                folder / "merged", folder / "gguf", config.name, config.gguf, places.llama_cpp
            )
            stage.note = ", ".join(config.gguf)
        with report.stage("Seal") as stage:
            (folder / "reports").mkdir()
            for name, content in reports.items():
                (folder / "reports" / name).write_text(content, encoding="utf-8")
            sealed = store.seal(folder, draft)
            stage.note = sealed.id
    return sealed


def _draft(
    config: TrainConfig,
    rows: Rows,
    base: BaseModel,
    template: Template,
    tokenizer: PreTrainedTokenizerBase,
    encoded: EncodedRows,
    steps: Sequence[Step],
    fingerprint: str,
) -> Draft:
    training: dict[str, Any] = {
        "config": config.model_dump(mode="json"),
        **encoded.manifest(),
        "steps": len(steps),
        "final_loss": round(_mean_loss(steps[-5:]), 4),
        "fingerprint": fingerprint,
    }
    return Draft(
        name=config.name,
        base=Base(name=base.name, revision=base.revision),
        dataset=rows.dataset,
        training=training,
        libraries={name: importlib.metadata.version(name) for name in LIBRARIES},
        served=Served(
            chat_template_sha256=template.sha256,
            tool_format=template.tool_format,
            engines=template.engines,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            stop_tokens=list(template.stop_tokens),
            context_length=config.context_length,
            dtype=config.merged_dtype,
        ),
        scores=[],
    )


def _scores(
    sets: dict[str, list[Case]], before: dict[str, float], after: dict[str, Evaluation]
) -> list[Score]:
    return [
        Score(
            set=name,
            cases=len(held_out),
            base=round(before[name], 4),
            tuned=round(after[name].accuracy, 4),
        )
        for name, held_out in sets.items()
    ]


def _fingerprint(config: TrainConfig, rows: Rows, base: BaseModel, template: Template) -> str:
    """Hash of everything that decides what a run makes."""
    inputs = {
        "config": config.model_dump(mode="json"),
        "dataset": rows.dataset.model_dump(),
        "base": vars(base) | {"source": ""},
        "template": template.sha256,
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _find(root: Path, fingerprint: str) -> Manifest | None:
    """The newest undamaged release that was made from these inputs."""
    store = ReleaseStore(root)
    for manifest in store.list().releases:
        if manifest.training.get("fingerprint") == fingerprint:
            problems = store.verify_files(manifest.id)
            if not problems:
                return manifest
            log.warning("%s is damaged (%s); training again", manifest.id, problems[0])
    return None
