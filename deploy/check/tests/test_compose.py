"""deploy/compose: the file is valid, fits the services, and each check can fail."""

import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aegis_deploy.composed import complaints
from aegis_deploy.places import DEPLOY, Object, compose, environment, run

COMPOSE = DEPLOY / "compose"


def test_nothing_is_wrong(file: Object, compose_secrets: Path) -> None:
    assert complaints(file, compose_secrets) == []


def test_the_example_has_every_setting_and_its_default() -> None:
    used = dict(re.findall(r"\$\{(AEGIS_\w+):-([^}]*)\}", (COMPOSE / "compose.yaml").read_text()))
    example = (COMPOSE / "example.env").read_text()
    named = re.findall(r"^# (AEGIS_\w+)=(.*)$", example, re.M)
    assert {name for name, _ in named} == used.keys()
    # The prefix and the host names have examples instead.
    shown = {name for name, value in named if used[name] == value}
    assert used.keys() - shown == {"AEGIS_IMAGE_PREFIX", "AEGIS_ALLOWED_HOSTS"}


def test_its_example_of_names_is_understood(compose_secrets: Path) -> None:
    file = compose(AEGIS_ALLOWED_HOSTS='["aegis.example"]', AEGIS_S3_START="objects/minio.sh")
    assert complaints(file, compose_secrets) == []
    assert file["configs"]["objects_start"]["file"] == str(COMPOSE / "objects" / "minio.sh")


def test_secrets_are_made_once_and_for_their_owner(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    script = [str(COMPOSE / "secrets.sh"), str(folder)]
    run(script, environment())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    first = {path.name: path.read_text() for path in folder.iterdir()}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o444 for path in folder.iterdir())
    (folder / "catalog_token").unlink()
    run(script, environment())
    again = {path.name: path.read_text() for path in folder.iterdir()}
    changed = {name for name in first if first[name] != again[name]}
    assert changed == {"catalog_token"}
    assert first["database_password"].strip() in first["database_url"]
    assert first["database_owner_password"].strip() in first["database_owner_url"]
    values = [value for name, value in first.items() if not name.endswith("_url")]
    assert len(values) == len(set(values))


def no_token(file: Object) -> None:
    del file["services"]["catalog"]["environment"]["AEGIS_CATALOG__SERVER__TOKEN"]


def swapped(file: Object) -> None:
    service = file["services"]["gateway"]
    service["environment"]["AEGIS_GATEWAY__CATALOG__TOKEN"] = '{ file = "/run/secrets/artifact_token" }'


def service(name: str) -> Callable[[Object], Any]:
    return lambda file: file["services"][name]


MUTATIONS: list[tuple[str, Callable[[Object], Any], str]] = [
    (
        "an unknown variable",
        lambda f: f["services"]["catalog"]["environment"].update(AEGIS_CATALOG__X="1"),
        "unknown key",
    ),
    (
        "another's variable",
        lambda f: f["services"]["catalog"]["environment"].update(MINIO_BUCKET="x"),
        "knows no variable",
    ),
    (
        "a secret in the open",
        lambda f: f["services"]["catalog"]["environment"].update(DATABASE_URL="postgres://x"),
        "not in a file",
    ),
    ("no token", no_token, "catalog does not start"),
    ("another's token", swapped, "gateway does not show what catalog demands"),
    (
        "another address",
        lambda f: f["services"]["artifact"]["environment"].update(
            AEGIS_ARTIFACT__CATALOG__ADDRESS="http://database:5432"
        ),
        "artifact calls",
    ),
    (
        "loopback",
        lambda f: f["services"]["catalog"]["environment"].update(AEGIS_CATALOG__SERVER__LISTEN="127.0.0.1:7103"),
        "listens on",
    ),
    ("a port more", lambda f: service("database")(f).update(ports=[{"target": 5432}]), "database can be reached"),
    ("all the world", lambda f: service("gateway")(f)["ports"][0].update(host_ip="0.0.0.0"), "gateway can be reached"),
    ("the machine's network", lambda f: service("gateway")(f).update(network_mode="host"), "gateway can be reached"),
    (
        "a runner beside the database",
        lambda f: service("garak-runner")(f)["networks"].update(database=None),
        "networks join",
    ),
    ("an open mesh", lambda f: f["networks"]["mesh"].pop("internal"), "network mesh is open"),
    ("no health check", lambda f: service("objects")(f).pop("healthcheck"), "objects has no health check"),
    (
        "another's health",
        lambda f: service("catalog")(f)["healthcheck"].update(test=["CMD", "true"]),
        "not asked itself",
    ),
    (
        "started only",
        lambda f: service("gateway")(f)["depends_on"]["catalog"].update(condition="service_started"),
        "gateway may start",
    ),
    ("no schema", lambda f: service("catalog")(f)["depends_on"].pop("migrate"), "before its schema"),
    ("a writable image", lambda f: service("garak-runner")(f).pop("read_only"), "may write its image"),
    ("root", lambda f: service("artifact")(f).update(user="0:0"), "artifact runs as root"),
    ("capabilities", lambda f: service("artifact")(f).update(cap_add=["SYS_ADMIN"]), "has capabilities"),
    ("privileges", lambda f: service("artifact")(f).pop("security_opt"), "gain privileges"),
    ("memory", lambda f: service("catalog")(f).pop("mem_limit"), "memory without bound"),
    ("processes", lambda f: service("catalog")(f).pop("pids_limit"), "processes without bound"),
    ("latest", lambda f: service("objects")(f).update(image="x/minio:latest"), "without version"),
    (
        "a shared volume",
        lambda f: service("catalog")(f).update(volumes=[{"type": "volume", "source": "uploads", "target": "/x"}]),
        "is used by",
    ),
    (
        "the machine's disk",
        lambda f: service("catalog")(f).update(volumes=[{"type": "bind", "source": "/", "target": "/x"}]),
        "of this machine",
    ),
    (
        "a credential too much",
        lambda f: service("garak-runner")(f)["secrets"].append({"source": "catalog_token"}),
        "does not use it",
    ),
    (
        "a credential of nobody",
        lambda f: f["secrets"].update(x={"name": "x", "file": "x"}),
        "nobody makes the secret x",
    ),
    (
        "a secret of the environment",
        lambda f: f["secrets"].update(api_token={"name": "x", "environment": "X"}),
        "is no file",
    ),
    ("killed too soon", lambda f: service("garak-runner")(f).update(stop_grace_period="1m0s"), "before it has drained"),
    (
        "the owner's role",
        lambda f: service("catalog")(f)["environment"].update(
            AEGIS_CATALOG__DATABASE_URL='{ file = "/run/secrets/database_owner_url" }'
        ),
        "owns the schema",
    ),
    (
        "changes its schema",
        lambda f: service("catalog")(f)["environment"].update(AEGIS_CATALOG__MIGRATE_ON_START="true"),
        "changes the schema",
    ),
    ("data in the image", lambda f: service("garak-runner")(f).pop("volumes"), "cannot write data_dir"),
    ("a container more", lambda f: f["services"].update(x={**f["services"]["catalog"]}), "there are"),
]


@pytest.mark.parametrize(("change", "says"), [m[1:] for m in MUTATIONS], ids=[m[0] for m in MUTATIONS])
def test_each_change_is_noticed(
    change: Callable[[Object], Any], says: str, file: Object, compose_secrets: Path
) -> None:
    change(file)
    found = complaints(file, compose_secrets)
    assert any(says in complaint for complaint in found), found


def test_docker_compose_refuses_what_it_does_not_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (COMPOSE / "compose.yaml").read_text()
    (tmp_path / "compose").mkdir()
    (tmp_path / "compose" / "compose.yaml").write_text(text.replace("pids_limit: 512", "pid_limit: 512", 1))
    monkeypatch.setattr("aegis_deploy.places.DEPLOY", tmp_path)
    with pytest.raises(AssertionError, match="pid_limit"):
        compose()
