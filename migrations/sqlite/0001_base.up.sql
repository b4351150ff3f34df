-- The audit log and the books of running instances. Times are Unix microseconds.

CREATE TABLE audit_head (
	one  INTEGER PRIMARY KEY CHECK (one = 1),
	seq  INTEGER NOT NULL,
	head BLOB NOT NULL CHECK (length(head) = 32)
) STRICT;
INSERT INTO audit_head (one, seq, head) VALUES (1, 0, zeroblob(32));

CREATE TABLE audit_batches (
	last  INTEGER PRIMARY KEY,
	first INTEGER NOT NULL,
	head  BLOB NOT NULL CHECK (length(head) = 32)
) STRICT;

CREATE TABLE audit_events (
	seq     INTEGER PRIMARY KEY,
	at      INTEGER NOT NULL,
	actor   TEXT NOT NULL,
	action  TEXT NOT NULL,
	target  TEXT NOT NULL,
	outcome TEXT NOT NULL CHECK (outcome IN ('ok', 'refused', 'failed')),
	request TEXT NOT NULL,
	source  TEXT NOT NULL,
	detail  TEXT NOT NULL
) STRICT;
CREATE INDEX audit_events_target ON audit_events (target, seq);
CREATE INDEX audit_events_at ON audit_events (at);

CREATE TRIGGER audit_events_no_update BEFORE UPDATE ON audit_events BEGIN SELECT RAISE(ABORT, 'table audit_events is append-only'); END;
CREATE TRIGGER audit_events_no_delete BEFORE DELETE ON audit_events BEGIN SELECT RAISE(ABORT, 'table audit_events is append-only'); END;
CREATE TRIGGER audit_batches_no_update BEFORE UPDATE ON audit_batches BEGIN SELECT RAISE(ABORT, 'table audit_batches is append-only'); END;
CREATE TRIGGER audit_batches_no_delete BEFORE DELETE ON audit_batches BEGIN SELECT RAISE(ABORT, 'table audit_batches is append-only'); END;

CREATE TABLE heartbeats (
	instance BLOB NOT NULL CHECK (length(instance) = 16),
	product  TEXT NOT NULL,
	seq      INTEGER NOT NULL,
	at       INTEGER NOT NULL,
	PRIMARY KEY (instance, product)
) STRICT, WITHOUT ROWID;

-- One row: how often these books were moved past what a lost copy of them may have handed out. What begins afterwards,
-- a week of serials or a series of CRL numbers, begins above what the lost copy can have reached.
CREATE TABLE restores (
	one   INTEGER PRIMARY KEY CHECK (one = 1),
	count INTEGER NOT NULL
) STRICT;
INSERT INTO restores (one, count) VALUES (1, 0);
