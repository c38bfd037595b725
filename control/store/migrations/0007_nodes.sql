-- The servers of a cluster. Each start of a server is one row: an epoch. The last 16 bits of the ids that the server makes
-- are those of its epoch, so the id of a call names its owner.

CREATE TABLE nodes (
    epoch    BIGINT NOT NULL PRIMARY KEY,
    name     TEXT   NOT NULL,
    state    TEXT   NOT NULL,
    alive_at BIGINT NOT NULL,
    heir     BIGINT,
    details  TEXT   NOT NULL
);
CREATE INDEX nodes_by_state ON nodes (state, epoch);

-- The name of the node at which a phone has registered: only this node has the connection to the phone.
ALTER TABLE bindings ADD COLUMN node TEXT;
