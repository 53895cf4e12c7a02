#!/bin/sh
# Makes what compose.yaml needs as secrets, each a file of its own: deploy/compose/secrets.sh [FOLDER]
# What is there stays as it is. Their folder is for its owner alone; the files can be read by the
# containers' users, which no other user of this machine can reach through the folder.
set -eu

folder=${1:-$(dirname "$0")/secrets}
umask 077
mkdir -p "$folder"
chmod 700 "$folder"

random() {
  # 192 bits in letters that need no quoting in a URL, a header or a script.
  od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

# put NAME TEXT: unless it is there. Written aside: a file is whole or not there.
put() {
  [ -e "$folder/$1" ] && return 0
  printf '%s\n' "$2" >"$folder/$1.new"
  chmod 444 "$folder/$1.new"
  mv "$folder/$1.new" "$folder/$1"
  echo "made $folder/$1"
}

for name in api_token orchestrator_token orchestrator_page_key catalog_token artifact_token \
  artifact_page_key database_superuser_password database_owner_password database_password \
  s3_secret_key; do
  put "$name" "$(random)"
done
put s3_access_key aegis-artifact
# No TLS: the network between catalog and its database is closed, and on this machine.
put database_owner_url "postgres://aegis_owner:$(cat "$folder/database_owner_password")@database:5432/aegis?sslmode=disable"
put database_url "postgres://aegis_service:$(cat "$folder/database_password")@database:5432/aegis?sslmode=disable"
