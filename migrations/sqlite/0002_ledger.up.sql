-- The ledger of revocations, the block list of keys and the jobs of mass revocation. Times are Unix microseconds.

-- kind: 1 revoke, 2 reason_change, 3 hold, 4 release, 5 void, 6 restore (revocation.Kind).
CREATE TABLE ledger (
	seq           INTEGER PRIMARY KEY,
	issuer        BLOB CHECK (length(issuer) = 10),
	epoch         INTEGER, -- with idx: null for imported and forged serials
	idx           INTEGER,
	serial        BLOB CHECK (length(serial) = 20),
	kind          INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 6),
	reason        INTEGER NOT NULL CHECK (reason BETWEEN 0 AND 10),
	revoked_at    INTEGER NOT NULL,
	invalidity_at INTEGER,
	recorded_at   INTEGER NOT NULL,
	job           BLOB CHECK (length(job) = 16),
	actor         TEXT NOT NULL,
	CHECK ((epoch IS NULL) = (idx IS NULL)),
	CHECK ((kind = 6) = (issuer IS NULL) AND (kind = 6) = (serial IS NULL))
) STRICT;
CREATE INDEX ledger_position ON ledger (epoch, issuer, idx, seq) WHERE epoch IS NOT NULL; -- last entry; a shard; start-up
CREATE INDEX ledger_foreign ON ledger (issuer, serial, seq) WHERE epoch IS NULL;          -- last entry; all of them

CREATE TRIGGER ledger_no_update BEFORE UPDATE ON ledger BEGIN SELECT RAISE(ABORT, 'table ledger is append-only'); END;
CREATE TRIGGER ledger_no_delete BEFORE DELETE ON ledger BEGIN SELECT RAISE(ABORT, 'table ledger is append-only'); END;

-- One row: the last sequence. It may stand above the last entry after a restore.
CREATE TABLE ledger_head (
	one INTEGER PRIMARY KEY CHECK (one = 1),
	seq INTEGER NOT NULL
) STRICT;
INSERT INTO ledger_head (one, seq) VALUES (1, 0);

-- Keys that must never be certified again, by the SHA-256 of the SubjectPublicKeyInfo and of the key material: both are
-- blocked, either matches.
CREATE TABLE blocked_keys (
	hash       BLOB PRIMARY KEY CHECK (length(hash) = 32),
	material   INTEGER NOT NULL, -- 1: of the key material; lists leave it out
	proof      TEXT NOT NULL, -- how the compromise was shown
	comment    TEXT NOT NULL,
	actor      TEXT NOT NULL,
	blocked_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Mass revocations. The cursor moves in the transaction that appends a chunk, so a job goes on exactly where it stopped.
CREATE TABLE jobs (
	id            BLOB PRIMARY KEY CHECK (length(id) = 16),
	state         INTEGER NOT NULL CHECK (state BETWEEN 1 AND 6), -- 1 planned, 2 running, 3 paused, 4 done, 5 cancelled, 6 failed
	selector      TEXT NOT NULL,              -- JSON of revocation.Selector
	reason        INTEGER NOT NULL,
	invalidity_at INTEGER,
	actor         TEXT NOT NULL,              -- who made it; its entries carry this actor
	comment       TEXT NOT NULL,
	selected      INTEGER NOT NULL DEFAULT 0, -- by the dry run
	authorities   INTEGER NOT NULL DEFAULT 0, -- of them, certificates of authorities: those in job_authorities
	counted       INTEGER NOT NULL DEFAULT 0, -- authorities that are not in job_authorities are left alone
	revoked       INTEGER NOT NULL DEFAULT 0, -- entries appended
	skipped       INTEGER NOT NULL DEFAULT 0, -- selected, and revoked before
	examined      INTEGER NOT NULL DEFAULT 0, -- indices, or list entries, passed by the cursor
	sweeps        INTEGER NOT NULL DEFAULT 0, -- 1: the scan is over; what was recorded behind it is looked for
	sweeps_from   INTEGER,                  -- the last change of a range when it started, whatever the clock said: the sweep begins there
	cursor_epoch  INTEGER NOT NULL DEFAULT -1, -- everything before (epoch, issuer, idx) is done
	cursor_issuer BLOB NOT NULL DEFAULT x'',
	cursor_idx    INTEGER NOT NULL DEFAULT -1,
	last_seq      INTEGER NOT NULL DEFAULT 0,
	failure       TEXT NOT NULL DEFAULT '',
	created_at    INTEGER NOT NULL,
	started_at    INTEGER,
	ended_at      INTEGER
) STRICT;

-- The certificates of a job that names them one by one.
CREATE TABLE job_serials (
	job    BLOB NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
	n      INTEGER NOT NULL,
	issuer BLOB NOT NULL,
	epoch  INTEGER NOT NULL,
	idx    INTEGER NOT NULL,
	serial BLOB NOT NULL,
	PRIMARY KEY (job, n)
) STRICT, WITHOUT ROWID;

-- The certificates of authorities that a job selected when they were last counted: who starts it means these.
CREATE TABLE job_authorities (
	job    BLOB NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
	issuer BLOB NOT NULL,
	epoch  INTEGER NOT NULL,
	idx    INTEGER NOT NULL,
	PRIMARY KEY (job, issuer, epoch, idx)
) STRICT, WITHOUT ROWID;
