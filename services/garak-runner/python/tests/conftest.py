"""One warm process for the whole session, driven over its real protocol."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_PYTHON = Path(__file__).resolve().parents[4] / ".tools/garak/bin/python"
GARAK_PYTHON = os.environ.get("AEGIS_GARAK_PYTHON", str(DEFAULT_PYTHON))

READY_WITHIN = 120.0
"""Seconds for importing garak; the machine may be busy."""

Json = dict[str, Any]


class WarmProcess:
    """A running `python -m aegis_garak.warm`."""

    def __init__(self, home: Path) -> None:
        self.env = {
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": str(ROOT),
            "HF_HUB_OFFLINE": "1",
            "XDG_DATA_HOME": str(home / "data"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_CACHE_HOME": str(home / "cache"),
        }
        with (home / "stderr").open("wb") as stderr:
            self.process = subprocess.Popen(
                [GARAK_PYTHON, "-m", "aegis_garak.warm"],
                env=self.env,
                cwd=home,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        self.replies: queue.Queue[Json] = queue.Queue()
        self.raw: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.raw.append(line.decode())
            self.replies.put(json.loads(line))

    def send(self, request: Json | bytes) -> None:
        assert self.process.stdin is not None
        line = request if isinstance(request, bytes) else json.dumps(request).encode()
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def receive(self, timeout: float = 30) -> Json:
        return self.replies.get(timeout=timeout)

    def wait_for(self, event: str, timeout: float = 30) -> Json:
        while (reply := self.receive(timeout))["event"] != event:
            pass
        return reply

    def wait_for_body(self, kind: str, timeout: float = 30) -> Json:
        while True:
            reply = self.receive(timeout)
            if reply["event"] == "child" and reply["body"]["type"] == kind:
                body: Json = reply["body"]
                return body

    def finish(self, identity: str, timeout: float = 60) -> Outcome:
        bodies: list[Json] = []
        while True:
            reply = self.receive(timeout)
            assert reply["event"] != "refused", reply
            if reply.get("id") != identity:
                continue
            if reply["event"] == "child":
                bodies.append(reply["body"])
            if reply["event"] == "ended":
                return Outcome(bodies, reply)

    def run(self, kind: str, scratch: Path, job: Json, env: dict[str, str] | None = None) -> Outcome:
        identity = str(uuid.uuid4())
        self.start(identity, kind, scratch, job, env)
        return self.finish(identity)

    def start(self, identity: str, kind: str, scratch: Path, job: Json, env: dict[str, str] | None = None) -> None:
        self.send(
            {
                "op": "run",
                "id": identity,
                "kind": kind,
                "scratch": str(scratch),
                "env": env or {},
                "job": job,
            }
        )

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(10) == 0


class Outcome:
    """The events of one child."""

    def __init__(self, bodies: list[Json], ended: Json) -> None:
        self.bodies = bodies
        self.ended = ended

    def of(self, kind: str) -> list[Json]:
        return [body for body in self.bodies if body["type"] == kind]

    @property
    def result(self) -> Json:
        results = self.of("result")
        assert len(results) == 1, self.bodies
        assert self.bodies[-1] is results[0]
        return results[0]


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmProcess]:
    process = WarmProcess(tmp_path_factory.mktemp("warm"))
    assert process.receive(READY_WITHIN)["event"] == "ready"
    yield process
    process.stop()


@pytest.fixture
def own_warm(tmp_path: Path) -> Iterator[WarmProcess]:
    """A warm process for a test that ends it."""
    home = tmp_path / "warm"
    home.mkdir()
    process = WarmProcess(home)
    assert process.receive(READY_WITHIN)["event"] == "ready"
    yield process
    process.process.kill()
    process.process.wait()


def probe_job(probe: str, generator: str = "test.Blank", **changes: Any) -> Json:
    return {
        "probe": probe,
        "detectors": None,
        "garak_config": {"run": {"generations": 1}},
        "generator": generator,
        "run_id": "00000000-0000-4000-8000-000000000001",
        "seed": 7,
        "max_in_flight": 4,
        "target_patience_seconds": 2.0,
        "request_timeout_seconds": 5.0,
        "limits": {},
    } | changes


def check(warm: WarmProcess, scratch: Path, source: str | bytes, name: str = "acme_leak", **changes: Any) -> Json:
    """What a check of this source finds."""
    path = scratch / f"{name}.py"
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    output = scratch / "validation.json"
    output.unlink(missing_ok=True)
    job = {"name": name, "source": str(path), "output": str(output), "timeout_seconds": 20, "memory_bytes": 256 << 20}
    result = warm.run("check", scratch, job | changes).result
    assert result["outcome"] == "made", result
    found: Json = json.loads(output.read_text())
    return found


def openai_config(base_url: str, generations: int = 1) -> Json:
    return {
        "run": {"generations": generations},
        "plugins": {
            "target_name": "fake",
            "generators": {"openai": {"OpenAICompatible": {"uri": f"{base_url}/v1/"}}},
        },
    }


def openai_job(probe: str, base_url: str, generations: int = 1, **changes: Any) -> Json:
    return probe_job(
        probe,
        "openai.OpenAICompatible",
        garak_config=openai_config(base_url, generations),
        **changes,
    )


def rest_config(base_url: str, generations: int = 1) -> Json:
    return {
        "run": {"generations": generations},
        "plugins": {
            "generators": {
                "rest": {
                    "RestGenerator": {
                        "uri": f"{base_url}/generate",
                        "headers": {"Authorization": "Bearer $KEY", "Content-Type": "application/json"},
                        "req_template_json_object": {"prompt": "$INPUT"},
                        "response_json": True,
                        "response_json_field": "text",
                    }
                }
            }
        },
    }


OPENAI_KEY = {"OPENAICOMPATIBLE_API_KEY": "sk-secret-0123456789"}
REST_KEY = {"REST_API_KEY": "sk-secret-0123456789"}


def evals(report: str | Path) -> list[Json]:
    entries = [json.loads(line) for line in Path(report).read_text().splitlines()]
    return [entry for entry in entries if entry["entry_type"] == "eval"]


def eventually(condition: Callable[[], object], seconds: float = 2.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return bool(condition())


def session_members(session: int) -> list[int]:
    """Living processes of a session."""
    members = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue
        state, _, _, its_session = stat[stat.rindex(")") + 2 :].split()[:4]
        if int(its_session) == session and state not in "ZX":
            members.append(int(entry.name))
    return members
