"""The compose file against the services' real configuration, and against what it promises."""

import re
from pathlib import Path
from typing import Any

from .arrows import ARROWS, PORTS, called_by
from .binaries import Effective, Refused, effective
from .credentials import secret_file, token_files
from .places import SERVICES, Object
from .wiring import image_variables, unknown_variables

# Containers that are no service of ours, or not for long.
STORES = ("database", "objects")
# Who shares a network with whom. The first two lead outside.
NETWORKS = {
    "front": {"gateway"},
    "targets": {"garak-runner"},
    "mesh": set(SERVICES),
    "database": {"database", "catalog", "migrate"},
    "objects": {"objects", "artifact"},
}


def complaints(file: Object, secrets: Path) -> list[str]:
    """What is wrong with the file. `secrets` is a folder with what secrets.sh makes."""
    found = _containers(file) + _secrets(file, secrets) + _exposed(file) + _volumes(file) + _order(file)
    tokens, demanded = {}, {}
    for name in SERVICES:
        try:
            read = effective(name, {**image_variables(name), **_env(file, name)}, secrets)
        except Refused as error:
            found.append(f"{name} does not start: {error}")
            continue
        found += unknown_variables(name, _env(file, name)) + _reached(name, file, read)
        tokens[name] = token_files(_env(file, name))
        demanded[name] = tokens[name].get("server")
    found += _migration(file, secrets)
    for name, shown in tokens.items():
        for table, callee in called_by(name).items():
            if shown.get(table) is None or shown.get(table) != demanded.get(callee):
                found.append(f"{name} does not show what {callee} demands")
    return found


def _env(file: Object, name: str) -> dict[str, str]:
    return {key: str(value) for key, value in file["services"][name].get("environment", {}).items()}


def _containers(file: Object) -> list[str]:
    found = []
    known = {*SERVICES, *STORES, "migrate"}
    if file["services"].keys() != known:
        found.append(f"there are {sorted(file['services'])}")
    for name, service in file["services"].items():
        root = service.get("user") == "0:0"
        image, _, tag = service["image"].rpartition(":")
        wanted = {
            "may write its image": service.get("read_only") is True,
            "has capabilities": service.get("cap_drop") == ["ALL"] and not service.get("cap_add"),
            "may gain privileges": service.get("security_opt") == ["no-new-privileges:true"],
            "runs as root": bool(service.get("user")) and (not root or name == "objects"),
            "is privileged": not service.get("privileged"),
            "has memory without bound": int(service.get("mem_limit", 0)) > 0,
            "has processes without bound": int(service.get("pids_limit", 0)) > 0,
            "logs without bound": "max-size" in service.get("logging", {}).get("options", {}),
            "is not started again": service.get("restart") in ("unless-stopped", "on-failure"),
            "has an image without version": bool(image) and tag != "latest",
        }
        found += [f"{name} {what}" for what, fine in wanted.items() if not fine]
        found += _health(name, service)
    return found


def _health(name: str, service: Object) -> list[str]:
    if name == "migrate":
        return []
    test = service.get("healthcheck", {}).get("test", [])
    if not test or test[0] != "CMD":
        return [f"{name} has no health check that needs no shell"]
    # The image has no other program, and the service knows where it listens.
    if name in SERVICES and test != ["CMD", f"/usr/local/bin/aegis-{name}", "--health"]:
        return [f"{name} is not asked itself whether it is healthy"]
    return []


def _secrets(file: Object, secrets: Path) -> list[str]:
    found, used = [], set()
    for name, service in file["services"].items():
        mounted = {entry.get("target", f"/run/secrets/{entry['source']}") for entry in service.get("secrets", [])}
        used |= {entry["source"] for entry in service.get("secrets", [])}
        read = set()
        for variable, value in _env(file, name).items():
            try:
                path = secret_file(variable, value)
            except ValueError as error:
                found.append(f"{name}: {error}")
                continue
            read |= {path} if path else set()
            if path and path not in mounted:
                found.append(f"{name}: {variable} is in {path}, which it has not")
        # What the stores' scripts read is theirs to know.
        if name not in STORES:
            found += [f"{name} has {path} and does not use it" for path in sorted(mounted - read)]
    made = {path.name for path in secrets.iterdir()}
    found += [f"nobody makes the secret {name}" for name in sorted(file["secrets"].keys() - made)]
    found += [f"nobody uses the secret {name}" for name in sorted(file["secrets"].keys() - used)]
    found += [f"secret {n} is no file" for n, s in file["secrets"].items() if set(s) != {"name", "file"}]
    return found


def _exposed(file: Object) -> list[str]:
    found = []
    for name, service in file["services"].items():
        ports = [(port.get("host_ip"), port["target"]) for port in service.get("ports", [])]
        wanted = [("127.0.0.1", PORTS["gateway"])] if name == "gateway" else []
        if ports != wanted or service.get("expose") or service.get("network_mode"):
            found.append(f"{name} can be reached at {ports}")
    joined = {net: {n for n, s in file["services"].items() if net in s.get("networks", {})} for net in file["networks"]}
    if joined != NETWORKS:
        found.append(f"networks join {joined}")
    for name, network in file["networks"].items():
        if bool(network.get("internal")) == (name in ("front", "targets")):
            found.append(f"network {name} is {'closed' if network.get('internal') else 'open'}")
    return found


def _volumes(file: Object) -> list[str]:
    found = []
    users: dict[str, list[str]] = {name: [] for name in file["volumes"]}
    for name, service in file["services"].items():
        for volume in service.get("volumes", []):
            if volume["type"] != "volume":
                found.append(f"{name} mounts {volume.get('source')} of this machine")
            elif "source" in volume:
                users[volume["source"]].append(name)
    return found + [f"volume {v} is used by {names}" for v, names in users.items() if len(names) != 1]


def _order(file: Object) -> list[str]:
    """Everything is started after what it calls, and that is healthy by then."""
    after = {name: service.get("depends_on", {}) for name, service in file["services"].items()}
    wanted = {*ARROWS, ("catalog", "database"), ("artifact", "objects"), ("migrate", "database")}
    found = []
    for caller, callee in sorted(wanted):
        if after[caller].get(callee, {}).get("condition") != "service_healthy":
            found.append(f"{caller} may start before {callee} is healthy")
    if after["catalog"].get("migrate", {}).get("condition") != "service_completed_successfully":
        found.append("catalog may start before its schema is there")
    return found


def _migration(file: Object, secrets: Path) -> list[str]:
    """One role changes the schema, the other reads and writes rows."""
    found = []
    files = {}
    for name in ("migrate", "catalog"):
        try:
            read = effective("catalog", _env(file, name), secrets)
        except Refused as error:
            return [f"{name} does not start: {error}"]
        files[name] = secret_file("DATABASE_URL", _env(file, name).get("AEGIS_CATALOG__DATABASE_URL", ""))
        if name == "catalog" and read.get("migrate_on_start") is not False:
            found.append("catalog changes the schema by itself, which its role cannot")
    if files["migrate"] == files["catalog"]:
        found.append("catalog has the role that owns the schema")
    if file["services"]["migrate"].get("command") != ["migrate"]:
        found.append("migrate does something else")
    return found


def _reached(name: str, file: Object, read: Effective) -> list[str]:
    found = []
    # Nothing dials a runner.
    host = "127.0.0.1" if name == "garak-runner" else "0.0.0.0"
    if read.listen() != (host, PORTS[name]):
        found.append(f"{name} listens on {read.listen()}")
    wanted = {table: f"http://{callee}:{PORTS[callee]}" for table, callee in called_by(name).items()}
    if read.calls() != wanted:
        found.append(f"{name} calls {read.calls()}, and should {wanted}")
    service = file["services"][name]
    if _seconds(service.get("stop_grace_period", "10s")) < read.drain_seconds():
        found.append(f"{name} is killed before it has drained, which may take {read.drain_seconds()} s")
    folders = {volume["target"] for volume in service.get("volumes", [])}
    for key in ("data_dir", "catalogue_dir"):
        # catalog's is for SQLite.
        if name != "catalog" and read.get(key) and read.get(key) not in folders:
            found.append(f"{name} cannot write {key}, {read.get(key)}")
    return found


def _seconds(text: Any) -> int:
    parts = {unit: int(number) for number, unit in re.findall(r"(\d+)([hms])", str(text))}
    return parts.get("h", 0) * 3600 + parts.get("m", 0) * 60 + parts.get("s", 0)
