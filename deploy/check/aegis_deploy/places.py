"""Where things are, and how the programs that read them are run."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
# Where this interpreter's tools are: docker-compose, kubectl, hadolint, shellcheck.
TOOLS = Path(sys.executable).parent

SERVICES = ("gateway", "scan-orchestrator", "catalog", "artifact", "garak-runner")

# Anything of Kubernetes or Compose, as it was read.
Object = dict[str, Any]


def run(command: list[str], env: Mapping[str, str] | None = None, stdin: str = "") -> str:
    """Runs a program that must succeed and be silent on standard error; its output."""
    done = subprocess.run(command, env=env, input=stdin, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0 or done.stderr:
        raise AssertionError(f"{' '.join(command)}: {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def environment(**more: str) -> dict[str, str]:
    """An environment that has nothing of this machine's but where programs are."""
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **more}


def kustomize(folder: Path) -> list[Object]:
    """The objects of a kustomization."""
    text = run([str(TOOLS / "kubectl"), "kustomize", str(folder)], environment())
    return [document for document in yaml.safe_load_all(text) if document]


def compose(**settings: str) -> Object:
    """The compose file as Docker Compose understands it, which refuses what it does not know."""
    file = DEPLOY / "compose" / "compose.yaml"
    command = [str(TOOLS / "docker-compose"), "--file", str(file), "config", "--format", "json"]
    read: Object = json.loads(run(command, environment(**settings)))
    return read
