"""What the scripts of deploy/ make, and what its files are rendered to: once for all tests."""

import base64
import copy
from pathlib import Path

import pytest
import yaml

from aegis_deploy.objects import kind, secret_mounts, workloads
from aegis_deploy.places import DEPLOY, Object, compose, environment, kustomize, run

KUSTOMIZATIONS = ("base", "overlays/keda", "overlays/jobs")

STORES = {
    "AEGIS_DATABASE_URL": "postgres://aegis_service:pa%24s@db.example/aegis?sslmode=verify-full",
    "AEGIS_DATABASE_OWNER_URL": "postgres://aegis_owner:pa%24s@db.example/aegis?sslmode=verify-full",
    "AEGIS_S3_ENDPOINT": "https://s3.example",
    "AEGIS_S3_ACCESS_KEY": "AKIA-example",
    "AEGIS_S3_SECRET_KEY": 'with "quotes", $signs and\\slashes',
}


@pytest.fixture(scope="session")
def rendered() -> dict[str, list[Object]]:
    return {name: kustomize(DEPLOY / "k8s" / name) for name in KUSTOMIZATIONS}


@pytest.fixture(params=KUSTOMIZATIONS)
def objects(request: pytest.FixtureRequest, rendered: dict[str, list[Object]]) -> list[Object]:
    """Each kustomization's objects, to change as a test likes."""
    return copy.deepcopy(rendered[request.param])


@pytest.fixture(scope="session")
def given() -> list[Object]:
    """What deploy/k8s/secrets.sh prints."""
    text = run([str(DEPLOY / "k8s" / "secrets.sh")], environment(**STORES))
    return list(yaml.safe_load_all(text))


@pytest.fixture(scope="session")
def mounted(rendered: dict[str, list[Object]], given: list[Object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in /run/secrets' place, with what the pods have there."""
    folder = tmp_path_factory.mktemp("run-secrets")
    data = {name: secret["data"] for name, secret in kind(given, "Secret").items()}
    for objects in rendered.values():
        for workload in workloads(objects):
            for container in workload.containers:
                for file, (secret, key) in secret_mounts(workload, container).items():
                    path = folder / Path(file).relative_to("/run/secrets")
                    path.parent.mkdir(exist_ok=True)
                    path.write_bytes(base64.b64decode(data[secret][key]))
    return folder


@pytest.fixture(scope="session")
def compose_read() -> Object:
    return compose()


@pytest.fixture
def file(compose_read: Object) -> Object:
    """The compose file, to change as a test likes."""
    return copy.deepcopy(compose_read)


@pytest.fixture(scope="session")
def compose_secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What deploy/compose/secrets.sh makes, at `secrets` of a folder in /run's place."""
    folder = tmp_path_factory.mktemp("run") / "secrets"
    run([str(DEPLOY / "compose" / "secrets.sh"), str(folder)], environment())
    return folder
