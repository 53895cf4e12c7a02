"""deploy/docker: the Containerfile is sound, pinned, and ends in images without privileges."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from aegis_deploy.arrows import PORTS
from aegis_deploy.places import DEPLOY, ROOT, SERVICES, TOOLS, run

CONTAINERFILE = DEPLOY / "docker" / "Containerfile"


def stages() -> dict[str, str]:
    text = CONTAINERFILE.read_text()
    return dict(re.findall(r"^FROM \S+ AS (\S+)$(.*?)(?=^FROM |\Z)", text, re.M | re.S))


def test_the_linter_has_nothing_to_say() -> None:
    assert run([str(TOOLS / "hadolint"), str(CONTAINERFILE)]) == ""


def test_the_linter_would_say_it(tmp_path: Path) -> None:
    loose = tmp_path / "Containerfile"
    loose.write_text("FROM debian\nRUN apt-get install x\n")
    with pytest.raises(AssertionError, match="DL3006"):
        run([str(TOOLS / "hadolint"), str(loose)])


def test_bases_are_pinned() -> None:
    bases = re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", CONTAINERFILE.read_text(), re.M)
    assert {name for name, _ in bases} == {"RUST_IMAGE", "PYTHON_IMAGE", "BASE_IMAGE"}
    for name, image in bases:
        assert re.search(r":\d+\.\d+(\.\d+)?-slim", image), f"{name} is {image}"
    rust = re.search(r'rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text())
    assert rust
    assert f":{rust.group(1)}." in dict(bases)["RUST_IMAGE"]


def test_each_service_is_a_target_with_its_binary_port_and_user() -> None:
    found = stages()
    for service in SERVICES:
        body = found[service]
        assert f'ENTRYPOINT ["/usr/local/bin/aegis-{service}"]' in body
        assert re.findall(r"^EXPOSE (\d+)$", body, re.M) == [str(PORTS[service])]
        binaries = re.findall(r"/out/bin/(\S+)", body)
        assert binaries == [f"aegis-{service}"], "and no other's"
        # What is run while a last stage is built would need a shell in the image.
        assert not re.search(r"^RUN", body, re.M)
        inherited = found["service"] if f"FROM service AS {service}" in CONTAINERFILE.read_text() else ""
        assert "USER 65532:65532" in body + inherited


def test_every_binary_is_built() -> None:
    built = set(re.findall(r"-p aegis-([a-z-]+)", stages()["build"]))
    assert built == set(SERVICES)


def test_what_is_copied_is_there_and_let_in() -> None:
    let_in = [line[1:] for line in (DEPLOY / "docker" / "containerignore").read_text().splitlines() if line[:1] == "!"]
    copied = set()
    for line in re.findall(r"^COPY (?!--from)(.+)$", CONTAINERFILE.read_text(), re.M):
        copied |= set(line.split()[:-1])
    assert all((ROOT / path).exists() for path in copied)
    assert {path.split("/")[0] for path in copied} == set(let_in)


def test_without_buildah_it_says_so(tmp_path: Path) -> None:
    for tool in ("dirname", "head", "sed", "sh"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or "")
    script = str(DEPLOY / "docker" / "build.sh")
    env = {"PATH": str(tmp_path)}
    done = subprocess.run([script], env=env, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("missing: buildah")
