"""The configuration: which layer wins, and what a wrong one says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from train.config import ENV_PREFIX, PROFILES, TrainConfig, load_config, profiles
from train.errors import ConfigError
from train.template import KNOWN

PROFILE = "smollm2-135m"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own settings must not reach the tests."""
    for variable in list(os.environ):
        if variable.startswith(ENV_PREFIX):
            monkeypatch.delenv(variable)


def write(folder: Path, text: str) -> Path:
    file = folder / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def refused(profile: str = PROFILE, **layers: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(profile, **layers)  # type: ignore[arg-type]
    return str(caught.value)


def test_a_later_layer_wins_over_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = yaml.safe_load((PROFILES / f"{PROFILE}.yaml").read_text(encoding="utf-8"))
    keys = ("epochs", "lora_alpha", "lora_r", "seed", "batch_size")
    seen = [load_config(PROFILE)]
    file = write(tmp_path, "lora_alpha: 5\nlora_r: 5\nseed: 5\nbatch_size: 5\n")
    seen.append(load_config(PROFILE, file=file))
    for key in ("lora_r", "seed", "batch_size"):
        monkeypatch.setenv(f"TOOLSMITH_TRAIN_{key.upper()}", "6")
    seen.append(load_config(PROFILE, file=file))
    seen.append(load_config(PROFILE, file=file, overrides={"batch_size": 7, "seed": None}))

    assert "seed" not in profile, "the default is what this test needs"
    assert [[getattr(config, key) for key in keys] for config in seen] == [
        [profile["epochs"], profile["lora_alpha"], profile["lora_r"], 42, profile["batch_size"]],
        [profile["epochs"], 5, 5, 5, 5],
        [profile["epochs"], 5, 6, 6, 6],
        [profile["epochs"], 5, 6, 6, 7],
    ]


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load_config(PROFILE, file=write(tmp_path, "# nothing\n")) == load_config(PROFILE)


def test_the_environment_lists_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLSMITH_TRAIN_GGUF", "F16,Q8_0")
    assert load_config(PROFILE).gguf == ("F16", "Q8_0")


def test_an_unknown_key_names_the_nearest_and_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, "lora_rank: 8\nlerning_rate: 1\n")
    assert refused(file=file) == f"unknown setting 'lora_rank' in {file}: did you mean 'lora_r'?"
    assert "in the command line: did you mean 'epochs'?" in refused(overrides={"epoch": 1})
    monkeypatch.setenv("TOOLSMITH_TRAIN_LERNING_RATE", "1")
    assert "'lerning_rate' in the environment: did you mean 'learning_rate'?" in refused()


def test_an_unknown_key_like_no_other_lists_the_known(tmp_path: Path) -> None:
    message = refused(file=write(tmp_path, "zzz: 8\n"))
    assert "known are name, base," in message


def test_an_unknown_profile_names_the_nearest() -> None:
    assert refused("smolm2-135m") == "unknown profile 'smolm2-135m': did you mean 'smollm2-135m'?"
    assert refused("../x") == f"unknown profile '../x'; known are {', '.join(profiles())}"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lora_r", 0),
        ("lora_r", "many"),
        ("held_out", 1.0),
        ("learning_rate", -1),
        ("sequence_length", 12),
        ("max_samples", 0),
        ("engine", "magic"),
        ("gguf", ["Q9_9"]),
        ("name", "Upper Case"),
        ("name", "../up"),
        ("merge", "perhaps"),
    ],
)
def test_a_bad_value_names_the_setting_and_the_value(key: str, value: object) -> None:
    message = refused(overrides={key: value})
    assert message.startswith(f"setting {key}")
    shown = value[0] if isinstance(value, list) else value
    assert f"(got {shown!r})" in message


@pytest.mark.parametrize("text", ["a: [1", "\tx: 1", "- a\n- b\n", "only words\n"])
def test_a_file_that_holds_no_settings_is_named(tmp_path: Path, text: str) -> None:
    file = write(tmp_path, text)
    assert str(file) in refused(file=file)


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path}/none.yaml" in refused(file=tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    assert "bytes.yaml" in refused(file=tmp_path / "bytes.yaml")


@pytest.mark.parametrize("profile", profiles())
def test_a_profile_holds_known_settings_only(profile: str) -> None:
    values = yaml.safe_load((PROFILES / f"{profile}.yaml").read_text(encoding="utf-8"))
    assert set(values) <= set(TrainConfig.model_fields)


def test_the_embedded_profile_needs_no_network() -> None:
    config = load_config(PROFILE)
    assert (config.base, config.data) == ("embedded:smollm2-135m", "embedded")


def test_the_nemotron_profile_trains_the_corrected_template() -> None:
    config = load_config("nemotron-4b")
    assert config.base == "nvidia/Llama-3.1-Nemotron-Nano-4B-v1.1"
    assert config.data == "glaiveai/glaive-function-calling-v2"
    assert (config.template, config.engine) == ("llama-nemotron", "trl")
    assert (config.lora_r, config.sequence_length) == (16, 4096)


def test_every_template_can_be_chosen() -> None:
    for template in KNOWN:
        assert load_config(PROFILE, overrides={"template": template}).template == template
    assert "template" in refused(overrides={"template": "none"})
