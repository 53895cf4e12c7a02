"""Rendered objects of Kubernetes: finding things in them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .places import Object

NAME = "app.kubernetes.io/name"


def kind(objects: list[Object], wanted: str) -> dict[str, Object]:
    """The objects of a kind, by name."""
    return {o["metadata"]["name"]: o for o in objects if o["kind"] == wanted}


@dataclass(frozen=True)
class Workload:
    """What makes pods, and the pods that it makes."""

    kind: str
    name: str
    object: Object
    template: Object

    @property
    def service(self) -> str:
        """The service whose pods they are."""
        return str(self.template["metadata"]["labels"].get(NAME))

    @property
    def pod(self) -> Object:
        """The pod's specification."""
        spec: Object = self.template["spec"]
        return spec

    @property
    def containers(self) -> list[Object]:
        """All containers, those that run first among them."""
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]

    @property
    def main(self) -> Object:
        """The service's container."""
        container: Object = self.pod["containers"][0]
        return container

    def where(self, container: Object) -> str:
        """Names a container in a complaint."""
        return f"{self.kind} {self.name}, container {container['name']}"


def workloads(objects: list[Object]) -> Iterator[Workload]:
    """Everything that makes pods."""
    for o in objects:
        match o["kind"]:
            case "Deployment" | "Job" | "StatefulSet" | "DaemonSet":
                template = o["spec"]["template"]
            case "ScaledJob":
                template = o["spec"]["jobTargetRef"]["template"]
            case "CronJob":
                template = o["spec"]["jobTemplate"]["spec"]["template"]
            case "Pod":
                template = o
            case _:
                continue
        yield Workload(o["kind"], o["metadata"]["name"], o, template)


def variables(container: Object) -> dict[str, str]:
    """The variables that stand in the container itself."""
    return {entry["name"]: entry.get("value", "") for entry in container.get("env", [])}


def secret_mounts(workload: Workload, container: Object) -> dict[str, tuple[str, str]]:
    """The files of Secrets in a container: name and key of the Secret by the file's path."""
    volumes = {volume["name"]: volume for volume in workload.pod.get("volumes", [])}
    files = {}
    for mount in container.get("volumeMounts", []):
        for source in volumes[mount["name"]].get("projected", {}).get("sources", []):
            secret = source["secret"]
            for item in secret["items"]:
                files[f"{mount['mountPath']}/{item['path']}"] = (secret["name"], item["key"])
    return files


def quantity(text: Any) -> int:
    """A quantity of memory or storage, in bytes."""
    units = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "k": 10**3, "M": 10**6, "G": 10**9}
    text = str(text)
    for unit, factor in units.items():
        if text.endswith(unit):
            return int(text.removesuffix(unit)) * factor
    return int(text)
