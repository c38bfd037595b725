-- SQLite has no statistics about its tables. So each list has an index with all columns that the list compares, followed
-- by the columns of its order: SQLite takes such an index without statistics, and reads only the rows of one page.

DROP INDEX calls_by_to;
DROP INDEX calls_by_from;
DROP INDEX calls_by_session;
DROP INDEX calls_by_parent;
DROP INDEX calls_by_end;
CREATE INDEX calls_by_to ON calls (account, to_address, created_at, id);
CREATE INDEX calls_by_from ON calls (account, from_address, created_at, id);
CREATE INDEX calls_by_status ON calls (account, status, created_at, id);
CREATE INDEX calls_by_direction ON calls (account, direction, created_at, id);
CREATE INDEX calls_by_session ON calls (session, account, created_at, id);
CREATE INDEX calls_by_parent ON calls (account, parent, created_at, id) WHERE parent IS NOT NULL;
CREATE INDEX calls_by_answer ON calls (account, answered_at, id) WHERE answered_at IS NOT NULL;
CREATE INDEX calls_by_end ON calls (account, ended_at, id) WHERE ended_at IS NOT NULL;
CREATE INDEX calls_live ON calls (account, created_at, id) WHERE ended_at IS NULL;

DROP INDEX recordings_by_leg;
DROP INDEX recordings_by_session;
DROP INDEX recordings_by_end;
CREATE INDEX recordings_by_leg ON recordings (account, leg, started_at, id);
CREATE INDEX recordings_by_session ON recordings (session, account, started_at, id);
CREATE INDEX recordings_by_status ON recordings (account, status, started_at, id);
CREATE INDEX recordings_live ON recordings (started_at, id) WHERE ended_at IS NULL;

DROP INDEX resources_by_name;
DROP INDEX resources_by_parent;
CREATE INDEX resources_by_kind ON resources (kind, created_at, id);
CREATE INDEX resources_by_name ON resources (account, kind, name, created_at, id);
CREATE INDEX resources_by_parent ON resources (parent, account, kind, created_at, id) WHERE parent IS NOT NULL;

-- The usage of each account on the days that are over. A call that began on such a day has ended.

CREATE TABLE usage_days (
    account   TEXT   NOT NULL,
    day       BIGINT NOT NULL,
    direction TEXT   NOT NULL,
    party     TEXT   NOT NULL,
    entries   BIGINT NOT NULL,
    minutes   BIGINT NOT NULL,
    PRIMARY KEY (account, day, direction, party)
);
