-- What the publishers of CRLs know of each other. Room: crl/crlserver/store.go. Times are Unix microseconds.

-- One row per sequence of CRL numbers: a shard, or the complete list of an issuer and its deltas (epoch and block -1).
-- The number of the last lease is the fencing token: nothing is published with a smaller one.
CREATE TABLE publication_series (
	issuer      BLOB NOT NULL CHECK (length(issuer) = 10),
	epoch       INTEGER NOT NULL,
	block       INTEGER NOT NULL,
	number      INTEGER NOT NULL,
	published   INTEGER NOT NULL DEFAULT 0, -- how many were finished with
	owner       BLOB NOT NULL CHECK (length(owner) = 16),
	lease_until INTEGER NOT NULL,
	PRIMARY KEY (issuer, epoch, block)
) STRICT, WITHOUT ROWID;

-- The last publication of each list. kind: 1 shard, 2 complete, 3 delta (crlserver.Kind).
CREATE TABLE publications (
	issuer       BLOB NOT NULL,
	epoch        INTEGER NOT NULL,
	block        INTEGER NOT NULL,
	kind         INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 3),
	number       INTEGER NOT NULL,
	seq          INTEGER NOT NULL, -- the ledger up to here
	from_epoch   INTEGER NOT NULL, -- first week on it
	this_update  INTEGER NOT NULL,
	next_update  INTEGER NOT NULL,
	base         INTEGER NOT NULL,
	base_seq     INTEGER NOT NULL,
	base_update  INTEGER NOT NULL,
	urls         TEXT NOT NULL,    -- JSON array
	freshest     TEXT NOT NULL,    -- JSON array
	algorithm    BLOB NOT NULL,
	signature    BLOB NOT NULL,
	sum          BLOB NOT NULL CHECK (length(sum) = 32),
	size         INTEGER NOT NULL,
	entries      INTEGER NOT NULL,
	final        INTEGER NOT NULL,
	expired      BLOB NOT NULL CHECK (length(expired) % 20 = 0), -- serials that an imported list need not have
	der          BLOB,             -- null where every instance rebuilds it
	published_at INTEGER NOT NULL,
	PRIMARY KEY (issuer, epoch, block, kind),
	FOREIGN KEY (issuer, epoch, block) REFERENCES publication_series
) STRICT;
CREATE INDEX publications_at ON publications (published_at);
