"""What a run depended on: code, packages, hardware and the command."""

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from record.folders import hidden

PACKAGES = ("torch", "torchvision", "ray", "optuna", "numpy", "fvcore", "moocore")


def environment() -> dict[str, Any]:
    """Return git commit, packages, hardware and command as plain values."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": hidden(shlex.join(["python", *sys.argv])),
        "commit": commit(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def commit() -> str | None:
    """Return the commit of the source tree, with "+" if it has changes; None outside a repository."""

    def git(*arguments: str) -> str:
        root = Path(__file__).parent
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "HEAD").strip() + ("+" if git("status", "--porcelain", "-uno").strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """Return the name of the CPU."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(": ")[2] if names else platform.processor()
