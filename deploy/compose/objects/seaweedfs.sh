#!/bin/sh
# Starts SeaweedFS as the object store, with one key that can use one bucket: objects.sh start|health
set -eu

# Images have one or the other.
fetch() {
  if command -v wget >/dev/null; then wget -q -O - "$1"; else curl -fsS "$1"; fi
}
secret() { cat "${AEGIS_SECRETS:-/run/secrets}/$1"; }

case "$1" in
start)
  umask 077
  access=$(secret s3_access_key)
  key=$(secret s3_secret_key)
  # Admin of this bucket alone, because artifact makes it.
  cat >"${TMPDIR:-/tmp}/s3.json" <<JSON
{"identities": [{"name": "artifact",
  "credentials": [{"accessKey": "$access", "secretKey": "$key"}],
  "actions": ["Admin:$AEGIS_BUCKET", "Read:$AEGIS_BUCKET", "Write:$AEGIS_BUCKET", "List:$AEGIS_BUCKET", "Tagging:$AEGIS_BUCKET"]}]}
JSON
  # All but S3 listens on loopback. Volumes are made as they are needed.
  exec weed server -dir="$AEGIS_DATA" -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.telemetry=false \
    -master.volumeSizeLimitMB=1024 -volume.port=9334 -volume.max=0 -filer -filer.port=9335 -filer.defaultReplicaPlacement=000 \
    -s3 -s3.ip.bind=0.0.0.0 -s3.port=9000 -s3.port.iceberg=0 -s3.port.lance=0 -s3.config="${TMPDIR:-/tmp}/s3.json"
  ;;
health)
  # It answers before it has a volume to write to.
  fetch http://127.0.0.1:9333/dir/assign | grep -q '"fid"'
  fetch http://127.0.0.1:9000/healthz >/dev/null
  ;;
*)
  echo "usage: objects.sh start|health" >&2
  exit 2
  ;;
esac
