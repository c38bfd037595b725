-- One dialect of SQL for SQLite and PostgreSQL: identifiers are TEXT (32 lower-case hex digits), times BIGINT
-- (microseconds since 1970 UTC), JSON is TEXT and booleans are BIGINT 0 or 1.

CREATE TABLE calls (
    id           TEXT   NOT NULL PRIMARY KEY,
    session      TEXT   NOT NULL,
    parent       TEXT,
    account      TEXT   NOT NULL,
    dialect      TEXT   NOT NULL,
    direction    TEXT   NOT NULL,
    from_address TEXT   NOT NULL,
    to_address   TEXT   NOT NULL,
    status       TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    answered_at  BIGINT,
    ended_at     BIGINT,
    updated_at   BIGINT NOT NULL,
    sip_status   BIGINT,
    cause        TEXT,
    details      TEXT   NOT NULL
);
CREATE INDEX calls_by_account ON calls (account, created_at, id);
CREATE INDEX calls_by_to ON calls (account, to_address, created_at);
CREATE INDEX calls_by_from ON calls (account, from_address, created_at);
CREATE INDEX calls_by_session ON calls (session);
CREATE INDEX calls_by_parent ON calls (parent);
CREATE INDEX calls_by_end ON calls (ended_at);

CREATE TABLE recordings (
    id          TEXT   NOT NULL PRIMARY KEY,
    account     TEXT   NOT NULL,
    dialect     TEXT   NOT NULL,
    leg         TEXT   NOT NULL,
    session     TEXT   NOT NULL,
    source      TEXT   NOT NULL,
    channels    BIGINT NOT NULL,
    track       TEXT   NOT NULL,
    format      TEXT   NOT NULL,
    path        TEXT   NOT NULL,
    status      TEXT   NOT NULL,
    started_at  BIGINT NOT NULL,
    ended_at    BIGINT,
    duration_ms BIGINT,
    bytes       BIGINT,
    details     TEXT   NOT NULL
);
CREATE INDEX recordings_by_account ON recordings (account, started_at, id);
CREATE INDEX recordings_by_leg ON recordings (leg);
CREATE INDEX recordings_by_session ON recordings (session);
CREATE INDEX recordings_by_end ON recordings (ended_at);

CREATE TABLE deliveries (
    id          TEXT   NOT NULL PRIMARY KEY,
    queue       TEXT   NOT NULL,
    seq         BIGINT NOT NULL,
    session     TEXT   NOT NULL,
    account     TEXT   NOT NULL,
    dialect     TEXT   NOT NULL,
    event       TEXT   NOT NULL,
    request     TEXT   NOT NULL,
    state       TEXT   NOT NULL,
    attempts    BIGINT NOT NULL,
    next_at     BIGINT,
    created_at  BIGINT NOT NULL,
    done_at     BIGINT,
    last_status BIGINT,
    last_error  TEXT
);
CREATE INDEX deliveries_by_queue ON deliveries (state, queue, seq);
CREATE INDEX deliveries_by_session ON deliveries (session, seq);
CREATE INDEX deliveries_by_seq ON deliveries (seq);

CREATE TABLE events (
    session TEXT   NOT NULL,
    seq     BIGINT NOT NULL,
    leg     TEXT,
    at      BIGINT NOT NULL,
    kind    TEXT   NOT NULL,
    text    TEXT   NOT NULL,
    data    TEXT,
    PRIMARY KEY (session, seq)
);

CREATE TABLE server (
    key   TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
CREATE INDEX events_by_time ON events (at);
CREATE INDEX deliveries_by_end ON deliveries (done_at);
