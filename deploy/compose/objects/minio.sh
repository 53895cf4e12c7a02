#!/bin/sh
# Starts a server of MinIO's family as the object store: objects.sh start|health
# Its key is the server's own: nothing else uses this server.
set -eu

case "$1" in
start)
  export MINIO_ROOT_USER_FILE="${AEGIS_SECRETS:-/run/secrets}/s3_access_key"
  export MINIO_ROOT_PASSWORD_FILE="${AEGIS_SECRETS:-/run/secrets}/s3_secret_key"
  export HOME=/tmp
  exec minio server --address :9000 --console-address 127.0.0.1:9001 "$AEGIS_DATA"
  ;;
health)
  curl -fsS -o /dev/null http://127.0.0.1:9000/minio/health/live
  ;;
*)
  echo "usage: objects.sh start|health" >&2
  exit 2
  ;;
esac
