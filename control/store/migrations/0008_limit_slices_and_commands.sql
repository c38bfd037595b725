-- The slices of the limits that the nodes of a cluster share: the part of a limit that each node may use. The sum of the
-- slices of a limit is not above the limit. `changed` orders the changes; it is about the time in microseconds.

CREATE TABLE limit_slices (
    name    TEXT   NOT NULL,
    epoch   BIGINT NOT NULL,
    amount  BIGINT NOT NULL,
    need    BIGINT NOT NULL,
    urgency BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    PRIMARY KEY (name, epoch)
);
CREATE INDEX limit_slices_by_change ON limit_slices (changed);

-- The commands of the last minutes that have an id, and that any node of a cluster may receive. A command without an answer
-- is being executed by the node with this epoch.
CREATE TABLE commands (
    key    TEXT   NOT NULL PRIMARY KEY,
    epoch  BIGINT NOT NULL,
    at     BIGINT NOT NULL,
    answer TEXT
);
CREATE INDEX commands_by_time ON commands (at);
