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
