-- Times are Unix microseconds.
-- Issuers, their certificates, the counters and ranges of indices, and what was issued.
-- Rooms: ca/store.go (issuers, ranges, certificates, inventory), revocation (reads ranges and certificates).

CREATE TABLE issuers (
	id             BLOB PRIMARY KEY CHECK (length(id) = 10),
	label          TEXT NOT NULL UNIQUE,
	key_uri        TEXT NOT NULL,                -- '' when the key is not at this site (off-line, imported)
	subject        BLOB NOT NULL UNIQUE,         -- DER Name: one name, one key
	spki           BLOB NOT NULL UNIQUE,         -- DER SubjectPublicKeyInfo
	spki_hash      BLOB NOT NULL UNIQUE CHECK (length(spki_hash) = 32),
	visibility     INTEGER NOT NULL CHECK (visibility BETWEEN 0 AND 1), -- 0 private, 1 public
	state          INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3), -- 0 pending, 1 active, 2 disabled for issuance, 3 retired
	signed_outside INTEGER NOT NULL DEFAULT 0,   -- the `foreign` mark: it ever signed outside the serial scheme
	base_url       TEXT NOT NULL,                -- goes into CDP and AIA of what it issues, without a trailing slash
	csr            BLOB,                         -- while a parent elsewhere has not signed yet
	succeeds       BLOB REFERENCES issuers (id), -- while that one issues, this one is used only where it is named
	retain         INTEGER NOT NULL DEFAULT 0,   -- seconds that certificates are answered for after their end; only grows
	retain_since   INTEGER,                      -- what had expired before is not
	created_at     INTEGER NOT NULL
);

-- Keys of issuers that were given up before they had a certificate: none is made with them again.
CREATE TABLE deleted_issuers (
	spki_hash BLOB PRIMARY KEY CHECK (length(spki_hash) = 32)
) STRICT, WITHOUT ROWID;

CREATE TABLE issuer_certificates (
	fingerprint BLOB PRIMARY KEY CHECK (length(fingerprint) = 32), -- SHA-256 of der
	issuer      BLOB NOT NULL REFERENCES issuers (id),
	der         BLOB NOT NULL,
	chain       BLOB NOT NULL,    -- DER certificates above it, one after the other, nearest first, root last
	not_after   INTEGER NOT NULL,
	chosen      INTEGER NOT NULL, -- the one that chains and AIA show; one per issuer
	added_at    INTEGER NOT NULL
);
CREATE UNIQUE INDEX issuer_certificates_chosen ON issuer_certificates (issuer) WHERE chosen;

-- The next index never reserved of every (issuer, epoch).
CREATE TABLE epochs (
	issuer   BLOB NOT NULL REFERENCES issuers (id),
	epoch    INTEGER NOT NULL CHECK (epoch BETWEEN 0 AND 65535),
	next_idx INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (issuer, epoch)
);

-- Ranges [from_idx, to_idx) of indices. Rows of one (issuer, epoch) never overlap and together cover 0 to next_idx.
--   1 open    somebody issues from it; range_key is null: it is derived from K, nonce and key_from
--   2 closed  every index is recorded or void; range_key lets anyone check serials
--   3 free    reserved before, never signed, given back; the next reservation takes it first
--   4 lost    skipped by a restore; treated as never issued
-- A range key is derived with key_from, which stays when a closed range is cut into pieces.
CREATE TABLE ranges (
	id          INTEGER PRIMARY KEY AUTOINCREMENT,
	issuer      BLOB NOT NULL REFERENCES issuers (id),
	epoch       INTEGER NOT NULL,
	from_idx    INTEGER NOT NULL,
	to_idx      INTEGER NOT NULL,
	state       INTEGER NOT NULL CHECK (state BETWEEN 1 AND 4),
	key_from    INTEGER NOT NULL,
	nonce       BLOB NOT NULL CHECK (length(nonce) = 16),
	owner       BLOB NOT NULL CHECK (length(owner) = 16),
	base_url    TEXT NOT NULL,    -- names the shard in CDPs of this range
	lease_until INTEGER NOT NULL, -- by the database's clock; counts while open
	range_key   BLOB CHECK (length(range_key) = 32),
	changed_at  INTEGER NOT NULL, -- of the last change of state, by the database's clock
	CHECK (from_idx < to_idx),
	CHECK ((state = 2) = (range_key IS NOT NULL))
);
CREATE UNIQUE INDEX ranges_place ON ranges (issuer, epoch, from_idx);
CREATE INDEX ranges_open ON ranges (id) WHERE state = 1; -- a renewed lease touches no index
CREATE INDEX ranges_changed ON ranges (changed_at);

CREATE TABLE certificates (
	issuer     BLOB NOT NULL,
	epoch      INTEGER NOT NULL,
	idx        INTEGER NOT NULL,
	serial     BLOB NOT NULL,
	range_id   INTEGER NOT NULL,
	profile    TEXT NOT NULL,
	account    TEXT NOT NULL,
	subject    TEXT NOT NULL,              -- RFC 4514, for people
	spki_hash  BLOB NOT NULL,
	not_before INTEGER NOT NULL,
	not_after  INTEGER NOT NULL,
	issued_at  INTEGER NOT NULL,
	der        BLOB NOT NULL,
	authority  INTEGER NOT NULL DEFAULT 0, -- of an authority: whatever is below it ends with it
	PRIMARY KEY (issuer, epoch, idx)
);
CREATE INDEX certificates_issued ON certificates (issued_at);
CREATE INDEX certificates_expiry ON certificates (not_after);
CREATE INDEX certificates_key ON certificates (spki_hash);
CREATE INDEX certificates_profile ON certificates (profile, issued_at);
CREATE INDEX certificates_account ON certificates (account, issued_at);
CREATE INDEX certificates_authorities ON certificates (issuer, epoch, idx) WHERE authority;

-- Names as ca.ReversedName has them, lower case and from the end, so that one index serves the exact name and the suffix.
CREATE TABLE certificate_names (
	epoch    INTEGER NOT NULL,
	reversed TEXT NOT NULL,
	kind     INTEGER NOT NULL, -- pki.IdentifierType; 0 is the common name
	issuer   BLOB NOT NULL,
	idx      INTEGER NOT NULL,
	PRIMARY KEY (reversed, kind, issuer, epoch, idx)
) WITHOUT ROWID;

-- Client request ids, kept for 24 hours: a repeat returns the first certificate.
-- A row stands for a certificate, or for a request that was filed for approval, and then goes with that.
CREATE TABLE issue_requests (
	account    TEXT NOT NULL,
	request_id TEXT NOT NULL,
	digest     BLOB NOT NULL, -- of what was asked, so that an id used for something else is seen
	issuer     BLOB,
	epoch      INTEGER,
	idx        INTEGER,
	approval   BLOB,
	expires_at INTEGER NOT NULL,
	PRIMARY KEY (account, request_id),
	CHECK ((approval IS NULL) = (issuer IS NOT NULL AND epoch IS NOT NULL AND idx IS NOT NULL))
);
CREATE INDEX issue_requests_expiry ON issue_requests (expires_at);
CREATE INDEX issue_requests_approval ON issue_requests (approval) WHERE approval IS NOT NULL;

-- Requests that need an approval. Room: ca/approval/store.go.
--   1 pending, 2 approved, 3 issued, 4 denied, 5 refused; expired is 1 or 2 after expires_at
CREATE TABLE approvals (
	id            BLOB PRIMARY KEY CHECK (length(id) = 16), -- sorts by time
	state         INTEGER NOT NULL CHECK (state BETWEEN 1 AND 5),
	profile       TEXT NOT NULL,
	account       TEXT NOT NULL,
	asked         TEXT NOT NULL,            -- JSON of what was asked and by whom; never changes
	filed_at      INTEGER NOT NULL,
	expires_at    INTEGER NOT NULL,
	claimed_until INTEGER,                  -- some instance issues it until then, or it is not tried again before
	delay         TEXT NOT NULL DEFAULT '', -- why the last try, if there was one, did not issue it
	pause         INTEGER NOT NULL DEFAULT 0, -- microseconds after which that is tried again
	decided_at    INTEGER,
	decided_by    TEXT NOT NULL DEFAULT '',
	comment       TEXT NOT NULL DEFAULT '',
	issuer        BLOB,
	epoch         INTEGER,
	idx           INTEGER,
	serial        BLOB,
	CHECK ((state = 3) = (issuer IS NOT NULL AND epoch IS NOT NULL AND idx IS NOT NULL AND serial IS NOT NULL))
);
CREATE INDEX approvals_open ON approvals (state, id) WHERE state IN (1, 2);

-- One row: how often every instance was asked to read its profile files; and what each said when it last did.
CREATE TABLE profile_rollout (
	one        INTEGER PRIMARY KEY CHECK (one = 1),
	generation INTEGER NOT NULL
) STRICT;
INSERT INTO profile_rollout (one, generation) VALUES (1, 0);
CREATE TABLE profile_reports (
	instance   BLOB PRIMARY KEY CHECK (length(instance) = 16),
	name       TEXT NOT NULL,
	generation INTEGER NOT NULL,
	digest     BLOB NOT NULL CHECK (length(digest) = 32),
	count      INTEGER NOT NULL,
	failure    TEXT NOT NULL,
	at         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
