-- The ledger of revocations, the block list of keys and the jobs of mass revocation.
--
-- Locks are taken in this order and no other: range rows, key blocks (advisory), ledger_head, audit_head.

-- kind: 1 revoke, 2 reason_change, 3 hold, 4 release, 5 void, 6 restore (revocation.Kind).
CREATE TABLE ledger (
	seq           bigint PRIMARY KEY,
	issuer        bytea CHECK (octet_length(issuer) = 10),
	epoch         integer,  -- with idx: null for imported and forged serials
	idx           bigint,
	serial        bytea CHECK (octet_length(serial) = 20),
	kind          smallint NOT NULL CHECK (kind BETWEEN 1 AND 6),
	reason        smallint NOT NULL CHECK (reason BETWEEN 0 AND 10),
	revoked_at    timestamptz NOT NULL,
	invalidity_at timestamptz,
	recorded_at   timestamptz NOT NULL,
	job           bytea CHECK (octet_length(job) = 16),
	actor         text NOT NULL,
	CHECK ((epoch IS NULL) = (idx IS NULL)),
	CHECK ((kind = 6) = (issuer IS NULL) AND (kind = 6) = (serial IS NULL))
);
CREATE INDEX ledger_position ON ledger (issuer, epoch, idx, seq) WHERE epoch IS NOT NULL; -- last entry; a shard
CREATE INDEX ledger_foreign ON ledger (issuer, serial, seq) WHERE epoch IS NULL;          -- last entry; all of them
CREATE INDEX ledger_epoch ON ledger (epoch, seq) WHERE epoch IS NOT NULL;                 -- start-up

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger FOR EACH STATEMENT EXECUTE FUNCTION signet_append_only();

-- One row: the last sequence. Its row lock, held to commit, makes sequences visible in order, which a database sequence
-- would not: `seq > last` is a correct cursor.
CREATE TABLE ledger_head (
	one boolean PRIMARY KEY DEFAULT true CHECK (one),
	seq bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO ledger_head (seq) VALUES (0);

-- An entry to be appended; expected is the sequence of the certificate's last entry as the caller read it, 0 for none.
CREATE TYPE ledger_entry AS (
	issuer        bytea,
	epoch         integer,
	idx           bigint,
	serial        bytea,
	kind          smallint,
	reason        smallint,
	revoked_at    timestamptz,
	invalidity_at timestamptz,
	job           bytea,
	actor         text,
	expected      bigint
);

-- signet_ledger_append is the one function that inserts into the ledger. Call it inside the transaction of the mutation,
-- after every lock but that of the audit head; no two entries may be of one certificate. It returns the last sequence,
-- and raises SG910 if an entry is not the successor of what it expects. Sequential scans are off because a plan made
-- while the table was small would outlive that.
CREATE FUNCTION signet_ledger_append(p_entries ledger_entry[]) RETURNS bigint LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
	v_count integer := coalesce(cardinality(p_entries), 0);
	v_last  bigint;
	v_now   timestamptz;
	v_stale bytea;
BEGIN
	IF v_count = 0 THEN
		RETURN (SELECT seq FROM ledger_head);
	END IF;
	UPDATE ledger_head SET seq = seq + v_count RETURNING seq INTO STRICT v_last;
	-- A later statement, so that it sees what was committed while this one waited for the lock.
	SELECT e.serial INTO v_stale FROM unnest(p_entries) AS e
		WHERE e.expected <> coalesce(CASE WHEN e.epoch IS NULL
			THEN (SELECT max(l.seq) FROM ledger l WHERE l.epoch IS NULL AND l.issuer = e.issuer AND l.serial = e.serial)
			ELSE (SELECT max(l.seq) FROM ledger l WHERE l.epoch = e.epoch AND l.issuer = e.issuer AND l.idx = e.idx) END, 0)
		LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'certificate % has a newer ledger entry', encode(v_stale, 'hex') USING ERRCODE = 'SG910';
	END IF;
	v_now := clock_timestamp();
	INSERT INTO ledger (seq, issuer, epoch, idx, serial, kind, reason, revoked_at, invalidity_at, recorded_at, job, actor)
		SELECT v_last - v_count + e.n, e.issuer, e.epoch, e.idx, e.serial, e.kind, e.reason, e.revoked_at, e.invalidity_at, v_now, e.job, e.actor
		FROM unnest(p_entries) WITH ORDINALITY AS e (issuer, epoch, idx, serial, kind, reason, revoked_at, invalidity_at, job, actor, expected, n);
	PERFORM pg_notify('signet_ledger', ''); -- a hint without data; sent once, at commit
	RETURN v_last;
END $$;

-- signet_ledger_write is revocation's Books.AppendLedger.
CREATE FUNCTION signet_ledger_write(p_issuer bytea[], p_epoch integer[], p_idx bigint[], p_serial bytea[], p_kind smallint[],
	p_reason smallint[], p_revoked_at timestamptz[], p_invalidity_at timestamptz[], p_job bytea[], p_actor text[], p_expected bigint[],
	p_audit jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	v_entries ledger_entry[];
	v_last    bigint;
BEGIN
	v_entries := ARRAY(SELECT ROW(e.issuer, e.epoch, e.idx, e.serial, e.kind, e.reason, e.revoked_at, e.invalidity_at, e.job, e.actor, e.expected)::ledger_entry
		FROM unnest(p_issuer, p_epoch, p_idx, p_serial, p_kind, p_reason, p_revoked_at, p_invalidity_at, p_job, p_actor, p_expected)
			WITH ORDINALITY AS e (issuer, epoch, idx, serial, kind, reason, revoked_at, invalidity_at, job, actor, expected, n) ORDER BY e.n);
	v_last := signet_ledger_append(v_entries);
	PERFORM signet_audit_append(p_audit);
	RETURN v_last;
END $$;

-- Keys that must never be certified again, by the SHA-256 of the SubjectPublicKeyInfo and of the key material: both are
-- blocked, either matches.
CREATE TABLE blocked_keys (
	hash       bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
	proof      text NOT NULL, -- how the compromise was shown
	comment    text NOT NULL,
	actor      text NOT NULL,
	blocked_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- signet_blocked_keys returns those of the hashes that are blocked. Whoever records certificates calls it in the
-- transaction: the shared lock, held to commit, keeps a compromise from slipping between this look and the commit.
CREATE FUNCTION signet_blocked_keys(p_hashes bytea[]) RETURNS SETOF bytea LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_advisory_xact_lock_shared(signet_key_blocks_lock());
	-- A later statement, so that it sees what was blocked while this one waited.
	RETURN QUERY SELECT hash FROM blocked_keys WHERE hash = ANY (p_hashes);
END $$;

-- signet_key_blocks_lock is the number of the advisory lock: "keyblock" in ASCII.
CREATE FUNCTION signet_key_blocks_lock() RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT x'6b6579626c6f636b'::bigint $$;
