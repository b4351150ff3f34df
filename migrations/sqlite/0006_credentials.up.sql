-- Who may call the API. Room: internal/auth/store.go. Times are Unix microseconds. Rows are never removed: a name in an
-- audit event means the same for ever.

CREATE TABLE credentials (
	name        TEXT PRIMARY KEY,
	kind        INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 3), -- 1 token, 2 certificate by name, 3 certificate by key
	role        INTEGER NOT NULL CHECK (role BETWEEN 1 AND 4), -- 1 auditor, 2 requester, 3 admin, 4 approver
	account     TEXT NOT NULL,
	profiles    TEXT NOT NULL,                                 -- JSON array of strings
	digest      BLOB UNIQUE CHECK (length(digest) = 32),       -- SHA-256 of the token
	issuer      BLOB CHECK (length(issuer) = 10),
	identifier  TEXT,                                          -- "dns:agent.example"
	key_hash    BLOB CHECK (length(key_hash) = 32),
	created_at  INTEGER NOT NULL,
	created_by  TEXT NOT NULL,
	expires_at  INTEGER,
	disabled_at INTEGER,
	CHECK ((kind = 1) = (digest IS NOT NULL) AND (kind = 1) = (issuer IS NULL)
		AND (kind = 2) = (identifier IS NOT NULL) AND (kind = 3) = (key_hash IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- A certificate proves one credential at most.
CREATE UNIQUE INDEX credentials_identifier ON credentials (issuer, identifier) WHERE disabled_at IS NULL AND kind = 2;
CREATE UNIQUE INDEX credentials_key ON credentials (issuer, key_hash) WHERE disabled_at IS NULL AND kind = 3;
