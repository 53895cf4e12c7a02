#!/bin/sh
# Runs once, when the database's volume is new: one role owns the schema and changes it, the service
# has another that reads and writes rows, and nothing else (docs/database.md).
set -eu

secret() { cat "${AEGIS_SECRETS:-/run/secrets}/$1"; }

psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username="${POSTGRES_USER:-postgres}" --dbname="$POSTGRES_DB" \
  --set=owner="$(secret database_owner_password)" --set=service="$(secret database_password)" <<'SQL'
CREATE ROLE aegis_owner LOGIN PASSWORD :'owner';
CREATE ROLE aegis_service LOGIN PASSWORD :'service';
REVOKE ALL ON DATABASE aegis FROM PUBLIC;
GRANT CONNECT ON DATABASE aegis TO aegis_owner, aegis_service;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT CREATE, USAGE ON SCHEMA public TO aegis_owner;
GRANT USAGE ON SCHEMA public TO aegis_service;
ALTER DEFAULT PRIVILEGES FOR ROLE aegis_owner IN SCHEMA public
  GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO aegis_service;
SQL
