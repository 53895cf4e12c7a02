#!/bin/sh
# Prints what deploy/k8s refers to and does not have: one Secret for each credential, with new random
# tokens, and the object store's address.
#
#   kubectl apply -f deploy/k8s/base/namespace.yaml
#   deploy/k8s/secrets.sh | kubectl create --namespace aegis --filename -
#
# "create", which leaves alone what is there. From the environment, all but the last two demanded:
#
#   AEGIS_DATABASE_URL         postgres://aegis_service:…@db.example/aegis?sslmode=verify-full
#   AEGIS_DATABASE_OWNER_URL   postgres://aegis_owner:…@db.example/aegis?sslmode=verify-full
#   AEGIS_S3_ENDPOINT          https://s3.example
#   AEGIS_S3_ACCESS_KEY, AEGIS_S3_SECRET_KEY
#   AEGIS_S3_BUCKET            aegis-reports
#   AEGIS_S3_REGION            us-east-1
set -eu

missing=
for name in AEGIS_DATABASE_URL AEGIS_DATABASE_OWNER_URL AEGIS_S3_ENDPOINT AEGIS_S3_ACCESS_KEY AEGIS_S3_SECRET_KEY; do
  eval "[ -n \"\${$name:-}\" ]" || missing="$missing $name"
done
if [ -n "$missing" ]; then
  echo "secrets.sh: set$missing" >&2
  exit 64
fi

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

# secret NAME KEY VALUE [KEY VALUE]
secret() {
  printf -- '---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\ndata:\n' "$1"
  shift
  while [ $# -gt 0 ]; do
    printf '  %s: %s\n' "$1" "$(printf %s "$2" | base64 | tr -d '\n')"
    shift 2
  done
}

# What clients of the gateway show, and what the scaler does.
secret aegis-api token "$(random)"
secret aegis-queue token "$(random)"
# What each service demands of the others; "page-key" signs the tokens of its pages.
secret aegis-orchestrator token "$(random)" page-key "$(random)"
secret aegis-catalog token "$(random)"
secret aegis-artifact token "$(random)" page-key "$(random)"
secret aegis-runner token "$(random)"
# The stores.
secret aegis-database url "$AEGIS_DATABASE_URL"
secret aegis-database-owner url "$AEGIS_DATABASE_OWNER_URL"
secret aegis-objects access-key "$AEGIS_S3_ACCESS_KEY" secret-key "$AEGIS_S3_SECRET_KEY"
cat <<YAML
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: aegis-objects
data:
  MINIO_ENDPOINT: "$AEGIS_S3_ENDPOINT"
  MINIO_BUCKET: "${AEGIS_S3_BUCKET:-aegis-reports}"
  MINIO_REGION: "${AEGIS_S3_REGION:-us-east-1}"
YAML
