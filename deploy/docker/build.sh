#!/bin/sh
# Builds the five images with buildah: deploy/docker/build.sh [SERVICE...]
#
#   AEGIS_IMAGE_PREFIX   what images are called, before the service's name; "aegis/"
#   AEGIS_IMAGE_TAG      their tag; the workspace's version
#   AEGIS_BUILD_ARGS     further arguments of buildah, such as
#                        "--build-arg BASE_IMAGE=registry.example/base@sha256:…"
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
prefix=${AEGIS_IMAGE_PREFIX-aegis/}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml" | head -n 1)
tag=${AEGIS_IMAGE_TAG:-$version}

if ! command -v buildah >/dev/null 2>&1; then
  echo "missing: buildah (a package of most distributions). docker buildx build takes the same" >&2
  echo "Containerfile: docker buildx build -f deploy/docker/Containerfile --target catalog -t ${prefix}catalog:$tag ." >&2
  exit 1
fi

[ $# -gt 0 ] || set -- gateway scan-orchestrator catalog artifact garak-runner
for service in "$@"; do
  echo "--- $prefix$service:$tag"
  # Arguments of the caller, several words on purpose.
  # shellcheck disable=SC2086
  buildah bud --layers \
    --file "$root/deploy/docker/Containerfile" \
    --ignorefile "$root/deploy/docker/containerignore" \
    --target "$service" --tag "$prefix$service:$tag" \
    ${AEGIS_BUILD_ARGS:-} "$root"
done
