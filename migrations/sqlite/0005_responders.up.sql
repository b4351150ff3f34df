-- Where OCSP responders and issuing instances find each other. Room: ocsp/ocspserver/store.go. Bookkeeping, like
-- heartbeats: what is audited is the issuance.
CREATE TABLE responders (
	issuer        BLOB NOT NULL CHECK (length(issuer) = 10),
	key_hash      BLOB NOT NULL CHECK (length(key_hash) = 32), -- SHA-256 of the responder's SubjectPublicKeyInfo
	csr           BLOB NOT NULL CHECK (length(csr) BETWEEN 1 AND 8192),
	requested_at  INTEGER NOT NULL,
	open          INTEGER NOT NULL CHECK (open IN (0, 1)),
	claimed_until INTEGER NOT NULL, -- nobody else answers an open request before
	certificate   BLOB,             -- the last one
	PRIMARY KEY (issuer, key_hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX responders_open ON responders (requested_at) WHERE open;
CREATE INDEX responders_key ON responders (key_hash);
