-- What applications make and keep by REST: numbers, applications, queues, keys, ... One table, as none is looked for by more
-- than its owner, its kind, its parent, its name.

CREATE TABLE resources (
    id         TEXT   NOT NULL PRIMARY KEY,
    account    TEXT   NOT NULL,
    kind       TEXT   NOT NULL,
    parent     TEXT,
    name       TEXT   NOT NULL,
    claim      TEXT   UNIQUE,
    details    TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX resources_by_account ON resources (account, kind, created_at, id);
CREATE INDEX resources_by_parent ON resources (parent, kind, created_at, id);
CREATE INDEX resources_by_name ON resources (kind, name);
