-- Who may call the API. Room: internal/auth/store.go. Rows are never removed: a name in an audit event means the same
-- for ever.

CREATE TABLE credentials (
	name        text COLLATE "C" PRIMARY KEY,
	kind        smallint NOT NULL CHECK (kind BETWEEN 1 AND 3), -- 1 token, 2 certificate by name, 3 certificate by key
	role        smallint NOT NULL CHECK (role BETWEEN 1 AND 4), -- 1 auditor, 2 requester, 3 admin, 4 approver
	account     text NOT NULL,
	profiles    text[] NOT NULL,
	digest      bytea UNIQUE CHECK (octet_length(digest) = 32), -- SHA-256 of the token
	issuer      bytea CHECK (octet_length(issuer) = 10),
	identifier  text,                                           -- "dns:agent.example"
	key_hash    bytea CHECK (octet_length(key_hash) = 32),
	created_at  timestamptz NOT NULL,
	created_by  text NOT NULL,
	expires_at  timestamptz,
	disabled_at timestamptz,
	CHECK ((kind = 1) = (digest IS NOT NULL) AND (kind = 1) = (issuer IS NULL)
		AND (kind = 2) = (identifier IS NOT NULL) AND (kind = 3) = (key_hash IS NOT NULL))
);

-- A certificate proves one credential at most.
CREATE UNIQUE INDEX credentials_identifier ON credentials (issuer, identifier) WHERE disabled_at IS NULL AND kind = 2;
CREATE UNIQUE INDEX credentials_key ON credentials (issuer, key_hash) WHERE disabled_at IS NULL AND kind = 3;

CREATE FUNCTION signet_credential_create(p_name text, p_kind smallint, p_role smallint, p_account text, p_profiles text[], p_digest bytea,
	p_issuer bytea, p_identifier text, p_key_hash bytea, p_created_at timestamptz, p_created_by text, p_expires_at timestamptz, p_audit audit_batch)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO credentials (name, kind, role, account, profiles, digest, issuer, identifier, key_hash, created_at, created_by, expires_at)
		VALUES (p_name, p_kind, p_role, p_account, p_profiles, p_digest, p_issuer, p_identifier, p_key_hash, p_created_at, p_created_by, p_expires_at);
	PERFORM signet_audit_append(p_audit);
END $$;

-- signet_credential_disable writes no event for a credential that is disabled already, and fails for none.
CREATE FUNCTION signet_credential_disable(p_name text, p_at timestamptz, p_audit audit_batch) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	UPDATE credentials SET disabled_at = p_at WHERE name = p_name AND disabled_at IS NULL;
	IF FOUND THEN
		PERFORM signet_audit_append(p_audit);
	ELSIF NOT EXISTS (SELECT FROM credentials WHERE name = p_name) THEN
		RAISE EXCEPTION 'there is no credential of this name' USING ERRCODE = 'SG404', COLUMN = 'credential';
	END IF;
END $$;
