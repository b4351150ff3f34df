-- Where OCSP responders and issuing instances find each other. Room: ocsp/ocspserver/store.go. Bookkeeping, like
-- heartbeats: what is audited is the issuance.
CREATE TABLE responders (
	issuer        bytea NOT NULL CHECK (octet_length(issuer) = 10),
	key_hash      bytea NOT NULL CHECK (octet_length(key_hash) = 32), -- SHA-256 of the responder's SubjectPublicKeyInfo
	csr           bytea NOT NULL CHECK (octet_length(csr) BETWEEN 1 AND 8192),
	requested_at  timestamptz NOT NULL,
	open          boolean NOT NULL,
	claimed_until timestamptz NOT NULL, -- nobody else answers an open request before
	certificate   bytea,                -- the last one
	PRIMARY KEY (issuer, key_hash)
) WITH (fillfactor = 50);
CREATE INDEX responders_open ON responders (requested_at) WHERE open;
CREATE INDEX responders_key ON responders (key_hash);

-- signet_responder_claim removes responders that have gone and claims open requests of all issuers but some, oldest first.
CREATE FUNCTION signet_responder_claim(p_except bytea[], p_limit integer) RETURNS TABLE (r_issuer bytea, r_key_hash bytea, r_csr bytea) LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM responders WHERE requested_at < clock_timestamp() - interval '30 days';
	RETURN QUERY WITH picked AS (
		SELECT issuer, key_hash FROM responders WHERE open AND claimed_until <= clock_timestamp() AND issuer <> ALL (p_except)
		ORDER BY requested_at LIMIT p_limit FOR UPDATE SKIP LOCKED
	), claimed AS (
		UPDATE responders r SET claimed_until = clock_timestamp() + interval '1 minute'
		FROM picked p WHERE r.issuer = p.issuer AND r.key_hash = p.key_hash
		RETURNING r.issuer, r.key_hash, r.csr, r.requested_at
	) SELECT issuer, key_hash, csr FROM claimed ORDER BY requested_at;
END $$;
