-- Registered phones, and the SIP domains of accounts with who may use them.

CREATE TABLE bindings (
    id         TEXT   NOT NULL PRIMARY KEY,
    account    TEXT   NOT NULL,
    username   TEXT   NOT NULL,
    expires_at BIGINT NOT NULL,
    details    TEXT   NOT NULL
);
CREATE INDEX bindings_by_user ON bindings (account, username);
CREATE INDEX bindings_by_end ON bindings (expires_at);

CREATE TABLE sip_domains (
    id         TEXT   NOT NULL PRIMARY KEY,
    account    TEXT   NOT NULL,
    name       TEXT   NOT NULL UNIQUE,
    details    TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX sip_domains_by_account ON sip_domains (account, created_at, id);

CREATE TABLE sip_lists (
    id         TEXT   NOT NULL PRIMARY KEY,
    account    TEXT   NOT NULL,
    kind       TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX sip_lists_by_account ON sip_lists (account, kind, created_at, id);

CREATE TABLE sip_credentials (
    id         TEXT   NOT NULL PRIMARY KEY,
    account    TEXT   NOT NULL,
    list       TEXT   NOT NULL,
    username   TEXT   NOT NULL,
    ha1_md5    TEXT   NOT NULL,
    ha1_sha256 TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (list, username)
);
CREATE INDEX sip_credentials_by_account ON sip_credentials (account, list, created_at, id);

CREATE TABLE sip_addresses (
    id         TEXT   NOT NULL PRIMARY KEY,
    account    TEXT   NOT NULL,
    list       TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    network    TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX sip_addresses_by_account ON sip_addresses (account, list, created_at, id);

CREATE TABLE sip_mappings (
    id         TEXT   NOT NULL PRIMARY KEY,
    account    TEXT   NOT NULL,
    domain     TEXT   NOT NULL,
    list       TEXT   NOT NULL,
    purpose    TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (domain, list, purpose)
);
CREATE INDEX sip_mappings_by_list ON sip_mappings (list);
