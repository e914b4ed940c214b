"""What this machine is, as far as the choice of a profile needs it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psutil

CPU_PROFILE = "smollm2-135m"


def choose_profile() -> tuple[str, str]:
    """The profile that fits this machine, and the reason in words.

    A GPU makes the embedded profile faster, and does not change the choice: nemotron-4b is trained
    in 16 bits so far and comes from a model hub, so it is for those who ask for it.
    """
    gpu = gpu_name()
    memory = psutil.virtual_memory().total / 2**30
    if gpu:
        return CPU_PROFILE, f"{gpu} is here; for a larger model ask for --profile nemotron-4b"
    return CPU_PROFILE, f"no NVIDIA GPU; {os.cpu_count()} cores and {memory:.0f} GiB are enough"


def gpu_name() -> str | None:
    """Name of the first NVIDIA GPU, or None."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.strip().splitlines()
    return lines[0] if lines else None


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 matrices itself (AVX-512 BF16 or AMX): twice as fast."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def wait_policy() -> str:
    """How OpenMP's threads should wait: `active` on a quiet machine, else `passive`.

    Threads that spin are a fifth faster alone, and many times slower beside any busy process.
    """
    return "passive" if psutil.cpu_percent(interval=0.5) > 20 else "active"
