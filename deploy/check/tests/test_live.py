"""The compose file, brought up: its processes in a network of their own, with its names, ports and secrets."""

import json
import os
import subprocess
import sys
from pathlib import Path

from aegis_deploy.places import DEPLOY, SERVICES, environment, run


def test_it_comes_up_answers_and_ends_well(tmp_path: Path) -> None:
    run([str(DEPLOY / "compose" / "secrets.sh"), str(tmp_path / "secrets")], environment())
    # Whoever is not root is nobody else in there, either, but may make networks.
    user = [] if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps"]
    command = ["unshare", *user, "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command += [sys.executable, "-m", "aegis_deploy.live", str(tmp_path / "secrets")]
    done = subprocess.run(
        command, cwd=DEPLOY / "check", capture_output=True, text=True, timeout=540, check=False, env=environment()
    )
    assert done.returncode == 0, done.stderr[-6000:]
    said = json.loads(done.stdout)
    services = {"scan-orchestrator": "SERVING", "catalog": "SERVING", "artifact": "SERVING"}
    assert said["ready"] == [200, {"ready": True, "services": services}]
    assert (said["without token"], said["scans"]) == (401, 200)
    assert said["queue"] == [200, {"waiting": 0, "running": 0, "tasks": 0}]
    status, generators = said["generators"]
    assert status == 200 and len(generators["generators"]) == 1, "a runner has published what can be scanned"
    assert said["service's role"] == ["ERROR:  permission denied for schema public"]
    assert {name: said["ended"][name] for name in SERVICES} == dict.fromkeys(SERVICES, 0)
