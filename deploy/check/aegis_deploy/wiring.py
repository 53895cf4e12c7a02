"""Pods against the services' real configuration: variables, addresses, ports, tokens, times, room."""

import re
from collections.abc import Mapping
from pathlib import Path

from .arrows import PORTS, called_by
from .binaries import Effective, Refused, effective
from .credentials import secret_file, token_files
from .objects import NAME, Workload, kind, quantity, secret_mounts, variables, workloads
from .places import DEPLOY, ROOT, SERVICES, Object
from .pods import storage

# Until Kubernetes' own clock and ours agree that it is over.
_MARGIN = 5


def complaints(objects: list[Object], config: Mapping[str, str], secrets: Path) -> list[str]:
    """Where pods and configuration do not fit. `config` is what the ConfigMap has, `secrets` a folder
    with a file for each path below /run/secrets.
    """
    found = services(objects)
    servers = {}
    for workload in workloads(objects):
        for container in workload.containers:
            found += _secrets_of(workload, container)
        name = workload.service
        env = {**image_variables(name), **variables(workload.main)}
        if any("configMapRef" in source for source in workload.main.get("envFrom", [])):
            env |= config
        found += unknown_variables(name, env)
        try:
            read = effective(name, env, secrets)
        except Refused as error:
            found.append(f"{workload.kind} {workload.name} does not start: {error}")
            continue
        found += _reached(workload, read) + _calls(workload, read) + _time(workload, read) + _room(workload, read)
        servers[workload.name] = workload
    return found + _tokens(servers)


def image_variables(service: str) -> dict[str, str]:
    """The variables of ours that the service's image sets."""
    text = (DEPLOY / "docker" / "Containerfile").read_text()
    stage = re.search(rf"^FROM \S+ AS {service}$(.*?)(?=^FROM |\Z)", text, re.M | re.S)
    assert stage, f"the Containerfile has no stage {service}"
    return dict(re.findall(r"(AEGIS_[A-Z_]+)=(\S+)", stage.group(1)))


def plain_variables(service: str) -> set[str]:
    """The variables without prefix that the service takes, from its source."""
    sources = (ROOT / "services" / service / "src" / "config").glob("*.rs")
    source = ROOT / "services" / service / "src"
    config = source / "config.rs"
    files = [*sources, config if config.exists() else source / "config" / "mod.rs"]
    return {n for file in files for n in re.findall(r'PlainVariable::(?:text|file)\(\s*"(\w+)"', file.read_text())}


def unknown_variables(service: str, env: Mapping[str, str]) -> list[str]:
    """Variables that the service never looks at. (What it looks at, it refuses by itself.)"""
    prefix = f"AEGIS_{service.upper().replace('-', '_')}__"
    known = plain_variables(service)
    return [f"{service} knows no variable {name}" for name in env if not name.startswith(prefix) and name not in known]


def services(objects: list[Object]) -> list[str]:
    """Services against the pods that they stand for: without an address of their own but for the gateway."""
    found = []
    every = kind(objects, "Service")
    for name in SERVICES:
        if name == "garak-runner":
            # Nothing dials a runner.
            found += [f"Service {name} is for nobody"] if name in every else []
            continue
        spec = every.get(name, {}).get("spec", {})
        if spec.get("selector") != {NAME: name}:
            found.append(f"Service {name} does not select its pods")
        if (spec.get("clusterIP") == "None") != (name != "gateway"):
            found.append(f"Service {name}: headless is for what gRPC clients of the mesh dial")
        if spec.get("type", "ClusterIP") != "ClusterIP":
            found.append(f"Service {name} is opened to the outside, which is an overlay's decision")
        ports = [(entry["port"], entry["targetPort"]) for entry in spec.get("ports", [])]
        if ports != [(PORTS[name], "http" if name == "gateway" else "grpc")]:
            found.append(f"Service {name} has ports {ports}")
    return found


def _secrets_of(workload: Workload, container: Object) -> list[str]:
    where, mounts = workload.where(container), secret_mounts(workload, container)
    found, used = [], set()
    for name, value in variables(container).items():
        try:
            file = secret_file(name, value)
        except ValueError as error:
            found.append(f"{where}: {error}")
            continue
        if file:
            used.add(file)
            found += [] if file in mounts else [f"{where}: {name} is in {file}, which is not mounted"]
    # A credential that is of no use to a process is one that it must not have.
    return found + [f"{where} has {file} and does not use it" for file in sorted(mounts.keys() - used)]


def _reached(workload: Workload, read: Effective) -> list[str]:
    if read.listen() == ("0.0.0.0", PORTS[workload.service]):
        return []
    return [f"{workload.kind} {workload.name} listens on {read.listen()}"]


def _calls(workload: Workload, read: Effective) -> list[str]:
    wanted = {table: f"http://{callee}:{PORTS[callee]}" for table, callee in called_by(workload.service).items()}
    if read.calls() == wanted:
        return []
    return [f"{workload.kind} {workload.name} calls {read.calls()}, and should {wanted}"]


def _time(workload: Workload, read: Effective) -> list[str]:
    before = workload.main.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    needed = before + read.drain_seconds() + _MARGIN
    found = []
    # Whoever is called is told of its leaving before it leaves.
    if workload.service != "garak-runner" and before < 3:
        found.append(f"{workload.kind} {workload.name} leaves before its callers know")
    granted = workload.pod.get("terminationGracePeriodSeconds", 30)
    if granted < needed:
        found.append(f"{workload.kind} {workload.name} is killed after {granted} s, and may need {needed}")
    return found


def _room(workload: Workload, read: Effective) -> list[str]:
    mounted = {mount["mountPath"]: mount["name"] for mount in workload.main.get("volumeMounts", [])}
    volumes = {volume["name"]: volume for volume in workload.pod["volumes"]}
    folder = read.get("data_dir")
    needed = {
        "artifact": lambda: max(read.get("max_scratch_bytes"), read.get("max_upload_bytes")),
        # A probe's report and hit log, for each slot.
        "garak-runner": lambda: read.get("slots") * 2 * read.get("limits.file_bytes"),
    }.get(workload.service)
    found = []
    if needed:
        volume = volumes.get(mounted.get(folder, ""), {})
        room = quantity(volume.get("emptyDir", {}).get("sizeLimit", 0))
        if room <= needed():
            found.append(f"{workload.kind} {workload.name} has {room} bytes at {folder}, and may need {needed()}")
    limit = workload.main["resources"].get("limits", {}).get("ephemeral-storage")
    if storage(workload) and (limit is None or quantity(limit) < storage(workload)):
        found.append(f"{workload.kind} {workload.name} may store {limit}, and its volumes {storage(workload)} bytes")
    return found


def _tokens(pods: Mapping[str, Workload]) -> list[str]:
    """Each caller shows what the callee demands: the same key of the same Secret."""
    found: list[str] = []
    demanded: dict[str, tuple[str, str] | None] = {}
    for workload in pods.values():
        mounts = secret_mounts(workload, workload.main)
        tokens = {key: mounts.get(file) for key, file in token_files(variables(workload.main)).items()}
        demanded.setdefault(workload.service, tokens.get("server"))
        callees = called_by(workload.service)
        if tokens.keys() - {"server"} != callees.keys():
            found.append(f"{workload.kind} {workload.name} has tokens for {sorted(tokens)}")
    for workload in pods.values():
        mounts = secret_mounts(workload, workload.main)
        tokens = {key: mounts.get(file) for key, file in token_files(variables(workload.main)).items()}
        for table, callee in called_by(workload.service).items():
            if tokens.get(table) is None or tokens.get(table) != demanded.get(callee):
                found.append(f"{workload.kind} {workload.name} does not show what {callee} demands")
    own = [token for token in demanded.values() if token]
    if len(own) != len(set(own)):
        found.append("two services demand the same token")
    return found
