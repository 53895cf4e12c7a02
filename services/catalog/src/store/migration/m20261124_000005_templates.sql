-- A row stays when its template is deleted: its versions are never numbered again.
CREATE TABLE templates (
    project_id TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    version    INTEGER NOT NULL CHECK (version >= 1),
    deleted    BOOLEAN NOT NULL,
    created_by TEXT    NOT NULL,
    created_at BIGINT  NOT NULL,
    PRIMARY KEY (project_id, name)
);

CREATE TABLE template_versions (
    project_id   TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    version      INTEGER NOT NULL CHECK (version >= 1),
    display_name TEXT    NOT NULL,
    description  TEXT    NOT NULL,
    spec         {json}  NOT NULL,
    created_at   BIGINT  NOT NULL,
    PRIMARY KEY (project_id, name, version),
    FOREIGN KEY (project_id, name) REFERENCES templates (project_id, name)
);
