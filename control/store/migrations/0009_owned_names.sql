-- The conferences and queues of a cluster that are live now, by name. The id names the node that owns them. A server that
-- is alone leaves this table empty.

CREATE TABLE owned_names (
    kind    TEXT NOT NULL,
    account TEXT NOT NULL,
    name    TEXT NOT NULL,
    id      TEXT NOT NULL,
    PRIMARY KEY (kind, account, name)
);
CREATE INDEX owned_names_by_id ON owned_names (id);
