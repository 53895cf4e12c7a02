"""The scaler against what it asks: its address, its token, its numbers."""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from .arrows import PORTS
from .binaries import Refused, effective
from .objects import kind, secret_mounts, variables, workloads
from .places import ROOT, Object
from .wiring import image_variables

CONTRACT = ROOT / "proto" / "aegis" / "admin" / "v1" / "queue_service.proto"


def contract() -> tuple[str, set[str]]:
    """The queue's path over HTTP, and the numbers that it answers with."""
    text = CONTRACT.read_text()
    path = re.search(r'get: "([^"]+)"', text)
    answer = re.search(r"message GetQueueResponse \{(.*?)\n\}", text, re.S)
    assert path and answer, "the contract has another shape"
    return path.group(1), set(re.findall(r"int32 (\w+) =", answer.group(1)))


def complaints(objects: list[Object], secrets: Path) -> list[str]:
    """Where a ScaledObject or ScaledJob would ask wrongly, or scale wrongly by what it is told."""
    found = []
    gateway = next(w for w in workloads(objects) if w.service == "gateway")
    runner = next(w for w in workloads(objects) if w.service == "garak-runner")
    orchestrator = next(w for w in workloads(objects) if w.service == "scan-orchestrator")
    token_file = variables(gateway.main)["AEGIS_GATEWAY__QUEUE_TOKEN"].split('"')[1]
    token = secret_mounts(gateway, gateway.main)[token_file]
    env = {**image_variables("garak-runner"), **variables(runner.main)}
    slots = _number("garak-runner", env, secrets, "slots")
    scans = _number("scan-orchestrator", variables(orchestrator.main), secrets, "max_running_scans")
    for scaler in [*kind(objects, "ScaledObject").values(), *kind(objects, "ScaledJob").values()]:
        name = f"{scaler['kind']} {scaler['metadata']['name']}"
        spec = scaler["spec"]
        if [trigger["type"] for trigger in spec["triggers"]] != ["metrics-api"]:
            found.append(f"{name} asks something else than the gateway")
            continue
        trigger = spec["triggers"][0]
        asked = _asked(trigger["metadata"], scaler["metadata"]["namespace"], slots, spec.get("maxReplicaCount"))
        found += [f"{name} {what}" for what in asked]
        authentication = kind(objects, "TriggerAuthentication").get(trigger["authenticationRef"]["name"], {})
        shown = authentication.get("spec", {}).get("secretTargetRef", [])
        if shown != [{"parameter": "token", "name": token[0], "key": token[1]}]:
            found.append(f"{name} does not show the queue's token, which opens nothing else")
        least, most = spec.get("minReplicaCount"), spec.get("maxReplicaCount")
        if least not in (0, 1) or most != scans:
            found.append(f"{name} starts {least} to {most} runners, and {scans} scans run at once")
    target = [o["spec"]["scaleTargetRef"] for o in kind(objects, "ScaledObject").values()]
    if any(t != {"apiVersion": "apps/v1", "kind": "Deployment", "name": "garak-runner"} for t in target):
        found.append("ScaledObject scales something else than the runners")
    found += _drains(objects, runner.pod["terminationGracePeriodSeconds"])
    return found


def _number(service: str, env: Mapping[str, str], secrets: Path, key: str) -> int | None:
    """A number of a service's configuration; None when it does not start, which is complained of elsewhere."""
    try:
        number: int = effective(service, env, secrets).get(key)
    except Refused:
        return None
    return number


def _asked(metadata: Mapping[str, str], namespace: str, slots: int | None, most: int | None) -> list[str]:
    path, numbers = contract()
    url = urlsplit(metadata["url"])
    asked = parse_qs(url.query)
    wanted = {
        "asks another address": url.netloc == f"gateway.{namespace}.svc:{PORTS['gateway']}",
        "asks another path": (url.scheme, url.path) == ("http", path),
        "takes another number": metadata["valueLocation"] == "tasks" and "tasks" in numbers,
        "shows its token otherwise": metadata.get("authMode") == "bearer",
        "counts other slots than runners have": metadata["targetValue"] == str(slots)
        and asked == {"slots": [str((slots or 0) * (most or 0))]},
    }
    return [what for what, fine in wanted.items() if not fine]


def _drains(objects: list[Object], grace: int) -> list[str]:
    """Runners are stopped slowly: what runs gets its grace, and is not stopped for a moment's lull."""
    found = []
    for scaler in kind(objects, "ScaledObject").values():
        down = scaler["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
        if down["stabilizationWindowSeconds"] < 300 or grace < 300:
            found.append("ScaledObject stops runners that are at work")
    for job in kind(objects, "ScaledJob").values():
        target = job["spec"]["jobTargetRef"]
        if target["template"]["spec"]["containers"][0].get("args") != ["--once"]:
            found.append("ScaledJob runs runners that do not end")
        if target["template"]["spec"].get("restartPolicy") != "Never" or target.get("backoffLimit") != 0:
            found.append("ScaledJob runs a job again that its queue runs again")
        if "activeDeadlineSeconds" not in target:
            found.append("ScaledJob has jobs without end")
    return found
