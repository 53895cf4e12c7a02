"""deploy/k8s: what it renders to is valid, fits the services, and each check can fail."""

import copy
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from aegis_deploy import network, pods, scaling, schema, wiring
from aegis_deploy.objects import kind, secret_mounts, workloads
from aegis_deploy.places import DEPLOY, TOOLS, Object, environment, kustomize, run

Change = Callable[[dict[str, Object]], Any]


def config(given: list[Object]) -> dict[str, str]:
    data: dict[str, str] = kind(given, "ConfigMap")["aegis-objects"]["data"]
    return data


def complaints(objects: list[Object], given: list[Object], mounted: Path) -> list[str]:
    return [
        *schema.complaints(objects),
        *pods.complaints(objects),
        *network.complaints(objects),
        *wiring.complaints(objects, config(given), mounted),
        *scaling.complaints(objects, mounted),
    ]


def test_nothing_is_wrong(objects: list[Object], given: list[Object], mounted: Path) -> None:
    assert complaints(objects, given, mounted) == []


def test_what_is_given_is_valid_and_is_all_that_is_referred_to(objects: list[Object], given: list[Object]) -> None:
    assert schema.complaints(given) == []
    assert not kind(objects, "Secret"), "secrets are referred to, and lie in no repository"
    keys = {(name, key) for name, secret in kind(given, "Secret").items() for key in secret["data"]}
    used = {s for w in workloads(objects) for c in w.containers for s in secret_mounts(w, c).values()}
    assert used == keys, "a secret is missing, or is of no use"


def test_the_script_demands_what_it_cannot_make_up() -> None:
    script = str(DEPLOY / "k8s" / "secrets.sh")
    done = subprocess.run([script], env=environment(), capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (64, "")
    assert "AEGIS_DATABASE_OWNER_URL" in done.stderr


def test_an_overlay_names_the_images_for_all_of_them(tmp_path: Path) -> None:
    link = tmp_path / "k8s"
    run(["cp", "-r", str(DEPLOY / "k8s"), str(link)])
    (tmp_path / "kustomization.yaml").write_text(
        "resources: [k8s/overlays/jobs]\n"
        "images: [{name: aegis/garak-runner, newName: registry.example/runner, digest: 'sha256:" + "a" * 64 + "'}]\n"
    )
    images = {w.name: w.main["image"] for w in workloads(kustomize(tmp_path)) if w.service == "garak-runner"}
    digest = "registry.example/runner@sha256:" + "a" * 64
    assert images == {"garak-runner": digest, "garak-runner-first": digest}


def test_the_version_is_the_workspaces(objects: list[Object]) -> None:
    version = re.search(r'^version = "(.+)"$', (DEPLOY.parent / "Cargo.toml").read_text(), re.M)
    assert version
    assert {w.main["image"] for w in workloads(objects)} == {
        f"aegis/{w.service}:{version.group(1)}" for w in workloads(objects)
    }


def test_scripts_are_sound() -> None:
    run([str(TOOLS / "shellcheck"), *map(str, sorted(DEPLOY.rglob("*.sh")))])


def pod(objects: dict[str, Object], name: str) -> Any:
    return objects[f"Deployment {name}"]["spec"]["template"]["spec"]


def main(objects: dict[str, Object], name: str) -> Any:
    return pod(objects, name)["containers"][0]


def set_variable(objects: dict[str, Object], service: str, name: str, value: str) -> None:
    env = main(objects, service)["env"]
    entry = next((entry for entry in env if entry["name"] == name), None)
    if entry is None:
        env.append({"name": name, "value": value})
    else:
        entry["value"] = value


def policy(objects: dict[str, Object], name: str) -> Any:
    return objects[f"NetworkPolicy {name}"]["spec"]


def drop_secret(o: dict[str, Object]) -> None:
    pod(o, "gateway")["volumes"][0]["projected"]["sources"].pop()


def swap_tokens(o: dict[str, Object]) -> None:
    for source in pod(o, "scan-orchestrator")["volumes"][0]["projected"]["sources"]:
        if source["secret"]["name"] == "aegis-catalog":
            source["secret"]["name"] = "aegis-artifact"


def more_room(o: dict[str, Object]) -> None:
    pod(o, "artifact")["volumes"][1]["emptyDir"]["sizeLimit"] = "16Gi"


def runner_to_catalog(o: dict[str, Object]) -> None:
    peer = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "catalog"}}}
    policy(o, "garak-runner")["egress"].append({"to": [peer], "ports": [{"protocol": "TCP", "port": 7103}]})


def runner_to_metadata(o: dict[str, Object]) -> None:
    policy(o, "garak-runner")["egress"][-1]["to"][0]["ipBlock"]["except"].remove("169.254.0.0/16")


def any_pod(o: dict[str, Object]) -> None:
    policy(o, "catalog")["ingress"][0]["from"].append({"podSelector": {}})


def any_port(o: dict[str, Object]) -> None:
    del policy(o, "catalog")["ingress"][0]["ports"]


def trigger(o: dict[str, Object]) -> Any:
    return o["ScaledObject garak-runner"]["spec"]["triggers"][0]


MUTATIONS: list[tuple[str, Change, str]] = [
    # The schemas.
    ("a field that nobody knows", lambda o: pod(o, "gateway").update(hostnetwork=True), "is not valid in 1.32"),
    ("a number that is text", lambda o: main(o, "catalog")["ports"][0].update(containerPort="x"), "is not valid"),
    ("KEDA's field misspelt", lambda o: o["ScaledObject garak-runner"]["spec"].update(cooldown=3), "spec.cooldown"),
    ("KEDA's number is text", lambda o: o["ScaledObject garak-runner"]["spec"].update(minReplicaCount="1"), "no int"),
    ("KEDA's text is a number", lambda o: trigger(o)["metadata"].update(targetValue=2), "no str"),
    # Pods.
    ("root", lambda o: pod(o, "gateway")["securityContext"].update(runAsUser=0), "user of its own"),
    ("seccomp", lambda o: pod(o, "catalog")["securityContext"].pop("seccompProfile"), "no seccomp"),
    ("a token", lambda o: pod(o, "artifact").update(automountServiceAccountToken=True), "mounts a token"),
    ("an account's token", lambda o: o["ServiceAccount catalog"].pop("automountServiceAccountToken"), "hands out"),
    ("another's account", lambda o: pod(o, "artifact").update(serviceAccountName="catalog"), "not its own account"),
    ("the node's network", lambda o: pod(o, "garak-runner").update(hostNetwork=True), "something of its node"),
    ("a writable image", lambda o: main(o, "gateway")["securityContext"].update(readOnlyRootFilesystem=False), "write"),
    ("a capability", lambda o: main(o, "gateway")["securityContext"]["capabilities"].update(add=["X"]), "capabilities"),
    ("no memory limit", lambda o: main(o, "catalog")["resources"].pop("limits"), "memory without bound"),
    ("an image without tag", lambda o: main(o, "catalog").update(image="aegis/catalog"), "without version"),
    ("latest", lambda o: main(o, "catalog").update(image="aegis/catalog:latest"), "without version"),
    ("a privileged first one", lambda o: pod(o, "catalog")["initContainers"][1].pop("securityContext"), "migrate may"),
    ("scratch without bound", lambda o: pod(o, "artifact")["volumes"][1].update(emptyDir={}), "no bound"),
    ("the node's disk", lambda o: pod(o, "artifact")["volumes"].append({"name": "x", "hostPath": {}}), "outlives"),
    ("liveness by the database", lambda o: main(o, "catalog")["livenessProbe"]["grpc"].pop("service"), "livenessProbe"),
    ("readiness by nothing", lambda o: main(o, "catalog").pop("readinessProbe"), "readinessProbe"),
    ("another port's probe", lambda o: main(o, "catalog")["startupProbe"]["grpc"].update(port=7104), "startupProbe"),
    ("one replica", lambda o: o["Deployment catalog"]["spec"].update(replicas=1), "no second replica"),
    ("no budget", lambda o: o.pop("PodDisruptionBudget artifact"), "no disruption budget"),
    ("a budget of none", lambda o: o["PodDisruptionBudget artifact"]["spec"].update(maxUnavailable=0), "disruption"),
    ("other pods", lambda o: o["Deployment catalog"]["spec"]["selector"].update(matchLabels={}), "its own pods"),
    ("a scaled number", lambda o: o["Deployment garak-runner"]["spec"].update(replicas=3), "and a scaler"),
    # Who may talk to whom.
    ("no denial", lambda o: o.pop("NetworkPolicy default-deny"), "is not denied"),
    ("denial of one way", lambda o: policy(o, "default-deny").update(policyTypes=["Ingress"]), "is not denied"),
    ("an arrow too much", runner_to_catalog, "no arrow: ('garak-runner', 'catalog', 7103)"),
    ("an arrow too little", lambda o: policy(o, "gateway")["egress"].pop(), "cannot be sent: ('gateway', 'artifact'"),
    ("an end missing", lambda o: policy(o, "artifact")["ingress"][0]["from"].pop(), "is not let in"),
    ("the provider's metadata", runner_to_metadata, "networks of the cluster"),
    ("any pod", any_pod, "is let in, and is no arrow"),
    ("any port", any_port, "is let in, and is no arrow"),
    ("more than names", lambda o: policy(o, "dns")["egress"][0].pop("ports"), "more than names"),
    (
        "a policy more",
        lambda o: o.update({"NetworkPolicy x": {**o["NetworkPolicy dns"], "metadata": {"name": "x"}}}),
        "not known",
    ),
    ("somebody dials a runner", lambda o: policy(o, "garak-runner").update(ingress=[{}]), "no arrow: ('anybody'"),
    # The services' own configuration.
    ("an unknown variable", lambda o: set_variable(o, "gateway", "AEGIS_GATEWAY__LISTN", "x"), "unknown key `listn`"),
    ("another's variable", lambda o: set_variable(o, "gateway", "AEGIS_CATALOG__X", "x"), "knows no variable"),
    ("a plain one misspelt", lambda o: set_variable(o, "artifact", "MINIO_REGIO", "x"), "knows no variable"),
    ("out of range", lambda o: set_variable(o, "garak-runner", "AEGIS_GARAK_RUNNER__SLOTS", "65"), "slots is 65"),
    ("no token off loopback", drop_secret, "which is not mounted"),
    ("loopback", lambda o: set_variable(o, "catalog", "AEGIS_CATALOG__SERVER__LISTEN", "127.0.0.1:7103"), "listens on"),
    (
        "another port",
        lambda o: set_variable(o, "gateway", "AEGIS_GATEWAY__CATALOG__ADDRESS", "http://catalog:7104"),
        "calls",
    ),
    (
        "a secret in the open",
        lambda o: set_variable(o, "catalog", "AEGIS_CATALOG__SERVER__TOKEN", "hunter2"),
        "not in a file",
    ),
    ("another's token", swap_tokens, "does not show what catalog demands"),
    ("a credential too much", lambda o: main(o, "gateway")["env"].pop(1), "does not use it"),
    ("killed too soon", lambda o: pod(o, "garak-runner").update(terminationGracePeriodSeconds=600), "is killed after"),
    ("gone at once", lambda o: main(o, "artifact").pop("lifecycle"), "before its callers know"),
    ("less room than it may fill", more_room, "may need 17179869184"),
    (
        "less room than its volumes",
        lambda o: main(o, "artifact")["resources"]["limits"].pop("ephemeral-storage"),
        "store",
    ),
    # Services.
    ("a virtual address", lambda o: o["Service catalog"]["spec"].pop("clusterIP"), "headless"),
    ("nobody's pods", lambda o: o["Service catalog"]["spec"].update(selector={"x": "y"}), "select its pods"),
    ("a service's port", lambda o: o["Service artifact"]["spec"]["ports"][0].update(port=80), "has ports"),
    ("opened", lambda o: o["Service gateway"]["spec"].update(type="LoadBalancer"), "opened to the outside"),
    # The scaler.
    (
        "another path",
        lambda o: trigger(o)["metadata"].update(url="http://gateway.aegis.svc:8080/v1/queue?slots=2"),
        "path",
    ),
    (
        "another address",
        lambda o: trigger(o)["metadata"].update(url="http://catalog:7103/v1/admin/queue?slots=2"),
        "address",
    ),
    ("the database", lambda o: trigger(o).update(type="postgresql"), "something else than the gateway"),
    (
        "the token for all",
        lambda o: o["TriggerAuthentication aegis-queue"]["spec"]["secretTargetRef"][0].update(name="aegis-api"),
        "queue's token",
    ),
    ("a number that is none", lambda o: trigger(o)["metadata"].update(valueLocation="depth"), "another number"),
    ("other slots", lambda o: set_variable(o, "garak-runner", "AEGIS_GARAK_RUNNER__SLOTS", "4"), "other slots"),
    (
        "more runners than scans",
        lambda o: o["ScaledObject garak-runner"]["spec"].update(maxReplicaCount=21),
        "20 scans run at once",
    ),
    (
        "stopped at once",
        lambda o: o["ScaledObject garak-runner"]["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"][
            "scaleDown"
        ].update(stabilizationWindowSeconds=0),
        "at work",
    ),
]


@pytest.mark.parametrize(("change", "says"), [m[1:] for m in MUTATIONS], ids=[m[0] for m in MUTATIONS])
def test_each_change_is_noticed(
    change: Change, says: str, rendered: dict[str, list[Object]], given: list[Object], mounted: Path
) -> None:
    named = {f"{o['kind']} {o['metadata']['name']}": o for o in copy.deepcopy(rendered["overlays/keda"])}
    change(named)
    found = complaints(list(named.values()), given, mounted)
    assert any(says in complaint for complaint in found), found


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda job: job["template"]["spec"]["containers"][0].pop("args"), "do not end"),
        (lambda job: job["template"]["spec"].update(restartPolicy="OnFailure"), "again"),
        (lambda job: job.update(backoffLimit=6), "again"),
        (lambda job: job.pop("activeDeadlineSeconds"), "without end"),
        (lambda job: job.update(completion=1), "is not valid in"),
    ],
)
def test_each_change_of_the_jobs_is_noticed(
    change: Callable[[Any], None], says: str, rendered: dict[str, list[Object]], given: list[Object], mounted: Path
) -> None:
    objects = copy.deepcopy(rendered["overlays/jobs"])
    change(kind(objects, "ScaledJob")["garak-runner"]["spec"]["jobTargetRef"])
    found = complaints(objects, given, mounted)
    assert any(says in complaint for complaint in found), found


def test_what_kustomize_reads_is_yaml_without_duplicates() -> None:
    for path in DEPLOY.rglob("*.yaml"):
        assert list(yaml.safe_load_all(path.read_text())), path
