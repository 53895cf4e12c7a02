"""What a pod must be: unprivileged, bounded, probed, replaceable."""

from .arrows import PORTS
from .objects import NAME, Workload, kind, quantity, workloads
from .places import Object

_LIVENESS = "liveness"


def complaints(objects: list[Object]) -> list[str]:
    """Everything that a pod, or what makes it, lacks."""
    found = []
    for workload in workloads(objects):
        found += _pod(workload)
        for container in workload.containers:
            found += _container(workload, container)
        found += _probes(workload)
        if workload.kind == "Deployment":
            found += _replicas(workload, objects)
    for name, account in kind(objects, "ServiceAccount").items():
        if account.get("automountServiceAccountToken") is not False:
            found.append(f"ServiceAccount {name} hands out tokens")
    return found


def _pod(workload: Workload) -> list[str]:
    pod, name = workload.pod, f"{workload.kind} {workload.name}"
    security = pod.get("securityContext", {})
    wanted = {
        "does not run as a user of its own": security.get("runAsNonRoot") is True and security.get("runAsUser", 0) > 0,
        "has no seccomp profile": security.get("seccompProfile") == {"type": "RuntimeDefault"},
        "cannot read its secrets": security.get("fsGroup", 0) > 0,
        "mounts a token": pod.get("automountServiceAccountToken") is False,
        "has variables of other services": pod.get("enableServiceLinks") is False,
        "has not its own account": pod.get("serviceAccountName") == workload.service,
        "shares something of its node": not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")),
        "is not spread over nodes": bool(pod.get("topologySpreadConstraints")),
    }
    found = [f"{name} {what}" for what, fine in wanted.items() if not fine]
    for volume in pod.get("volumes", []):
        used = set(volume) - {"name"}
        if not used <= {"projected", "emptyDir"}:
            found.append(f"{name}: volume {volume['name']} is {used}, which outlives or leaves the pod")
        if "emptyDir" in used and "sizeLimit" not in volume["emptyDir"]:
            found.append(f"{name}: volume {volume['name']} has no bound")
    return found


def _container(workload: Workload, container: Object) -> list[str]:
    where, security = workload.where(container), container.get("securityContext", {})
    resources = container.get("resources", {})
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    tag = str(container["image"]).rpartition(":")
    wanted = {
        "may gain privileges": security.get("allowPrivilegeEscalation") is False,
        "may write its image": security.get("readOnlyRootFilesystem") is True,
        "has capabilities": security.get("capabilities") == {"drop": ["ALL"]},
        "is privileged": not security.get("privileged"),
        "requests no processor": "cpu" in requests,
        "requests no memory": "memory" in requests,
        "has memory without bound": "memory" in limits,
        "has an image without version": bool(tag[0]) and tag[2] not in ("", "latest"),
    }
    return [f"{where} {what}" for what, fine in wanted.items() if not fine]


def _probes(workload: Workload) -> list[str]:
    container, port = workload.main, PORTS[workload.service]
    where = workload.where(container)
    # A process is ended for what ails itself; it gets no calls for what ails its dependencies, too.
    wanted = {
        "startupProbe": {"port": port, "service": _LIVENESS},
        "livenessProbe": {"port": port, "service": _LIVENESS},
        "readinessProbe": {"port": port},
    }
    found = [
        f"{where} has not this {probe}: {grpc}"
        for probe, grpc in wanted.items()
        if {k: v for k, v in container.get(probe, {}).get("grpc", {}).items() if v} != grpc
    ]
    ports = [entry["containerPort"] for entry in container.get("ports", [])]
    return found if ports == [port] else [*found, f"{where} has ports {ports}, not {port}"]


def _replicas(workload: Workload, objects: list[Object]) -> list[str]:
    spec, name = workload.object["spec"], workload.name
    labels = workload.template["metadata"]["labels"]
    scaled = [o["spec"]["scaleTargetRef"]["name"] for o in kind(objects, "ScaledObject").values()]
    found = []
    if name in scaled and "replicas" in spec:
        found.append(f"Deployment {name} has a number of replicas and a scaler")
    if name not in scaled and spec.get("replicas", 1) < 2:
        found.append(f"Deployment {name} has no second replica")
    if spec["selector"]["matchLabels"] != {NAME: name} or labels.get(NAME) != name:
        found.append(f"Deployment {name} does not select its own pods")
    budget = kind(objects, "PodDisruptionBudget").get(name, {}).get("spec", {})
    if budget != {"maxUnavailable": 1, "selector": {"matchLabels": {NAME: name}}}:
        found.append(f"Deployment {name} has no disruption budget of one pod")
    rolling = spec.get("strategy", {}).get("rollingUpdate", {})
    if rolling.get("maxUnavailable") != 0:
        found.append(f"Deployment {name} is smaller while it is updated")
    return found


def storage(workload: Workload) -> int:
    """Bytes that the pod's own volumes may have together."""
    volumes = workload.pod.get("volumes", [])
    return sum(quantity(v["emptyDir"].get("sizeLimit", 0)) for v in volumes if "emptyDir" in v)
