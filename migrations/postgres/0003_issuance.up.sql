-- Issuers, their certificates, the counters and ranges of indices, and what was issued.
-- Rooms: ca/store.go (issuers, ranges, certificates, inventory), revocation (reads ranges and certificates).

CREATE TABLE issuers (
    id          bytea PRIMARY KEY CHECK (octet_length(id) = 10),
    label       text NOT NULL UNIQUE,
    key_uri     text NOT NULL,                  -- '' when the key is not at this site (off-line, imported)
    subject     bytea NOT NULL UNIQUE,          -- DER Name: one name, one key
    spki        bytea NOT NULL UNIQUE,          -- DER SubjectPublicKeyInfo
    spki_hash   bytea NOT NULL UNIQUE CHECK (octet_length(spki_hash) = 32),
    visibility  smallint NOT NULL,              -- 0 private, 1 public
    state       smallint NOT NULL,              -- 0 pending, 1 active, 2 disabled for issuance, 3 retired
    signed_outside boolean NOT NULL DEFAULT false, -- the `foreign` mark: it ever signed outside the serial scheme
    base_url    text NOT NULL,                  -- goes into CDP and AIA of what it issues, without a trailing slash
    csr         bytea,                          -- while a parent elsewhere has not signed yet
    created_at  timestamptz NOT NULL
);

CREATE TABLE issuer_certificates (
    fingerprint bytea PRIMARY KEY CHECK (octet_length(fingerprint) = 32), -- SHA-256 of der
    issuer      bytea NOT NULL REFERENCES issuers (id),
    der         bytea NOT NULL,
    chain       bytea NOT NULL,                 -- DER certificates above it, one after the other, nearest first, root last
    not_after   timestamptz NOT NULL,
    chosen      boolean NOT NULL,               -- the one that chains and AIA show; one per issuer
    added_at    timestamptz NOT NULL
);
CREATE UNIQUE INDEX issuer_certificates_chosen ON issuer_certificates (issuer) WHERE chosen;

-- signet_issuer_create inserts an issuer that is new in label, name and key.
CREATE FUNCTION signet_issuer_create(p_id bytea, p_label text, p_key_uri text, p_subject bytea, p_spki bytea, p_spki_hash bytea, p_visibility smallint,
	p_state smallint, p_foreign boolean, p_base_url text, p_csr bytea, p_created_at timestamptz, p_audit jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO issuers (id, label, key_uri, subject, spki, spki_hash, visibility, state, signed_outside, base_url, csr, created_at)
		VALUES (p_id, p_label, p_key_uri, p_subject, p_spki, p_spki_hash, p_visibility, p_state, p_foreign, p_base_url, p_csr, p_created_at)
		ON CONFLICT DO NOTHING;
	IF FOUND THEN
		PERFORM signet_audit_append(p_audit);
	ELSIF EXISTS (SELECT FROM issuers WHERE label = p_label) THEN
		RAISE EXCEPTION 'there is an issuer with this label already' USING ERRCODE = 'SG409', COLUMN = 'label';
	ELSIF EXISTS (SELECT FROM issuers WHERE subject = p_subject) THEN
		RAISE EXCEPTION 'there is an issuer with this subject name already: a new key means a new name' USING ERRCODE = 'SG409', COLUMN = 'subject';
	ELSE
		RAISE EXCEPTION 'there is an issuer with this key already: a new name means a new key' USING ERRCODE = 'SG409', COLUMN = 'key';
	END IF;
END $$;

-- signet_issuer_certificate adds a certificate, or chooses one that is known. The first one is always chosen, and ends
-- the pending state.
CREATE FUNCTION signet_issuer_certificate(p_issuer bytea, p_fingerprint bytea, p_der bytea, p_chain bytea, p_not_after timestamptz, p_chosen boolean,
	p_added_at timestamptz, p_audit jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	v_chosen boolean;
BEGIN
	PERFORM FROM issuers WHERE id = p_issuer FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no issuer of this id' USING ERRCODE = 'SG404', COLUMN = 'issuer';
	END IF;
	v_chosen := p_chosen OR NOT EXISTS (SELECT FROM issuer_certificates WHERE issuer = p_issuer);
	IF v_chosen THEN
		UPDATE issuer_certificates SET chosen = false WHERE issuer = p_issuer AND chosen;
	END IF;
	INSERT INTO issuer_certificates (fingerprint, issuer, der, chain, not_after, chosen, added_at)
		VALUES (p_fingerprint, p_issuer, p_der, p_chain, p_not_after, v_chosen, p_added_at)
		ON CONFLICT (fingerprint) DO UPDATE SET chain = excluded.chain, chosen = issuer_certificates.chosen OR excluded.chosen;
	UPDATE issuers SET state = 1, csr = NULL WHERE id = p_issuer AND state = 0;
	PERFORM signet_audit_append(p_audit);
END $$;

-- signet_issuer_state moves an issuer between active (1), disabled (2) and retired (3). Retired is the end.
CREATE FUNCTION signet_issuer_state(p_issuer bytea, p_state smallint, p_audit jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	v_state smallint;
BEGIN
	SELECT state INTO v_state FROM issuers WHERE id = p_issuer FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no issuer of this id' USING ERRCODE = 'SG404', COLUMN = 'issuer';
	ELSIF v_state = p_state THEN
		RETURN;
	ELSIF v_state = 0 THEN
		RAISE EXCEPTION 'the issuer has no certificate yet' USING ERRCODE = 'SG412', COLUMN = 'state';
	ELSIF v_state = 3 THEN
		RAISE EXCEPTION 'the issuer is retired, which is for ever' USING ERRCODE = 'SG412', COLUMN = 'state';
	END IF;
	UPDATE issuers SET state = p_state WHERE id = p_issuer;
	PERFORM signet_audit_append(p_audit);
END $$;

-- The next index never reserved of every (issuer, epoch). Its row appears with the partition of the epoch.
CREATE TABLE epochs (
    issuer   bytea NOT NULL REFERENCES issuers (id),
    epoch    integer NOT NULL CHECK (epoch BETWEEN 0 AND 65535),
    next_idx bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (issuer, epoch)
);

-- Ranges [from_idx, to_idx) of indices. Rows of one (issuer, epoch) never overlap and together cover 0 to next_idx.
--   1 open    somebody issues from it; range_key is null: it is derived from K, nonce and key_from
--   2 closed  every index is recorded or void; range_key lets anyone check serials
--   3 free    reserved before, never signed, given back; the next reservation takes it first
--   4 lost    skipped by a restore; treated as never issued
-- A range key is derived with key_from, which stays when a closed range is cut into pieces.
CREATE TABLE ranges (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    issuer      bytea NOT NULL REFERENCES issuers (id),
    epoch       integer NOT NULL,
    from_idx    bigint NOT NULL,
    to_idx      bigint NOT NULL,
    state       smallint NOT NULL CHECK (state BETWEEN 1 AND 4),
    key_from    bigint NOT NULL,
    nonce       bytea NOT NULL CHECK (octet_length(nonce) = 16),
    owner       bytea NOT NULL CHECK (octet_length(owner) = 16),
    base_url    text NOT NULL,                  -- names the shard in CDPs of this range
    lease_until timestamptz NOT NULL,           -- by the database's clock; counts while open
    range_key   bytea CHECK (octet_length(range_key) = 32),
    changed_at  timestamptz NOT NULL,           -- of the last change of state, by the database's clock
    CHECK (from_idx < to_idx),
    CHECK ((state = 2) = (range_key IS NOT NULL))
);
CREATE UNIQUE INDEX ranges_place ON ranges (issuer, epoch, from_idx);
CREATE INDEX ranges_open ON ranges (lease_until) WHERE state = 1;
CREATE INDEX ranges_changed ON ranges (changed_at);

-- One partition per epoch, made with the first reservation of the epoch; no default partition.
CREATE TABLE certificates (
    issuer     bytea NOT NULL,
    epoch      integer NOT NULL,
    idx        bigint NOT NULL,
    serial     bytea NOT NULL,
    range_id   bigint NOT NULL,
    profile    text NOT NULL,
    account    text NOT NULL,
    subject    text NOT NULL,                   -- RFC 4514, for people
    spki_hash  bytea NOT NULL,
    not_before timestamptz NOT NULL,
    not_after  timestamptz NOT NULL,
    issued_at  timestamptz NOT NULL,
    der        bytea NOT NULL,
    PRIMARY KEY (issuer, epoch, idx)
) PARTITION BY LIST (epoch);
ALTER TABLE certificates ALTER COLUMN der SET STORAGE EXTERNAL; -- random octets do not compress
CREATE INDEX certificates_issued ON certificates (issued_at);
CREATE INDEX certificates_expiry ON certificates (not_after);
CREATE INDEX certificates_key ON certificates (spki_hash);
CREATE INDEX certificates_profile ON certificates (profile, issued_at);
CREATE INDEX certificates_account ON certificates (account, issued_at);

-- Names with their octets reversed, so that one index serves the exact name and the suffix.
CREATE TABLE certificate_names (
    epoch    integer NOT NULL,
    reversed text COLLATE "C" NOT NULL,
    kind     smallint NOT NULL,                 -- pki.IdentifierType; 0 is the common name
    issuer   bytea NOT NULL,
    idx      bigint NOT NULL,
    PRIMARY KEY (reversed, kind, issuer, epoch, idx)
) PARTITION BY LIST (epoch);

-- Client request ids, kept for 24 hours: a repeat returns the first certificate.
CREATE TABLE issue_requests (
    account    text NOT NULL,
    request_id text NOT NULL,
    digest     bytea NOT NULL,                  -- of what was asked, so that an id used for something else is seen
    issuer     bytea NOT NULL,
    epoch      integer NOT NULL,
    idx        bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (account, request_id)
);
CREATE INDEX issue_requests_expiry ON issue_requests (expires_at);
