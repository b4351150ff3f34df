-- The ledger of revocations, the block list of keys and the jobs of mass revocation.
--
-- Locks are taken in this order and no other: range rows, key blocks (advisory), job rows, ledger_head, audit_head.

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
CREATE INDEX ledger_position ON ledger (epoch, issuer, idx, seq) WHERE epoch IS NOT NULL; -- last entry; a shard; start-up
CREATE INDEX ledger_foreign ON ledger (issuer, serial, seq) WHERE epoch IS NULL;          -- last entry; all of them

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
-- and raises SG910 if an entry is not the successor of what it expects. p_read, if not null, is where the ledger ended
-- before the caller read what it expects, here or in memory: only what came afterwards can be news, and mostly nothing did.
--
-- Plans are cached, and one made while a table was small outlives that: so sequential scans and hash joins are off here
-- and below; the last entry of a certificate is found by "seq + 0", or the planner would walk back the primary key; and it is read by
-- a subquery with LIMIT, since a join could go through the whole ledger for each certificate.
CREATE FUNCTION signet_ledger_append(p_entries ledger_entry[], p_read bigint DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql
	SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
	v_count integer := coalesce(cardinality(p_entries), 0);
	v_last  bigint;
	v_had   bigint;
	v_now   timestamptz;
	v_stale bytea;
BEGIN
	IF v_count = 0 THEN
		RETURN (SELECT seq FROM ledger_head);
	END IF;
	UPDATE ledger_head SET seq = seq + v_count WHERE one RETURNING seq INTO STRICT v_last;
	v_had := v_last - v_count;
	-- Later statements, so that they see what was committed while this one waited for the lock. A ledger that ends before p_read is
	-- another one, of which the caller knows nothing. Looking up a few certificates is faster than reading what is new.
	IF v_count > 100 AND v_had > p_read AND v_had <= p_read + 8 * v_count THEN
		v_stale := signet_ledger_stale(p_entries, p_read);
	ELSIF v_had IS DISTINCT FROM p_read THEN
		SELECT e.serial INTO v_stale FROM unnest(p_entries) AS e
			WHERE e.expected <> coalesce(CASE WHEN e.epoch IS NULL
				THEN (SELECT max(l.seq + 0) FROM ledger l WHERE l.epoch IS NULL AND l.issuer = e.issuer AND l.serial = e.serial)
				ELSE (SELECT max(l.seq + 0) FROM ledger l WHERE l.epoch = e.epoch AND l.issuer = e.issuer AND l.idx = e.idx) END, 0)
			LIMIT 1;
	END IF;
	IF v_stale IS NOT NULL THEN
		RAISE EXCEPTION 'certificate % has a newer ledger entry', encode(v_stale, 'hex') USING ERRCODE = 'SG910';
	END IF;
	v_now := clock_timestamp();
	INSERT INTO ledger (seq, issuer, epoch, idx, serial, kind, reason, revoked_at, invalidity_at, recorded_at, job, actor)
		SELECT v_had + e.n, e.issuer, e.epoch, e.idx, e.serial, e.kind, e.reason, e.revoked_at, e.invalidity_at, v_now, e.job, e.actor
		FROM unnest(p_entries) WITH ORDINALITY AS e (issuer, epoch, idx, serial, kind, reason, revoked_at, invalidity_at, job, actor, expected, n);
	PERFORM pg_notify('signet_ledger', v_last::text); -- at commit; who has this entry already reads nothing
	RETURN v_last;
END $$;

-- signet_ledger_stale returns the serial of an entry whose certificate has an entry after p_read that it does not expect. A hash
-- join, whichever side is the larger.
CREATE FUNCTION signet_ledger_stale(p_entries ledger_entry[], p_read bigint) RETURNS bytea LANGUAGE plpgsql STABLE
	SET enable_seqscan = off SET enable_nestloop = off SET enable_hashjoin = on SET enable_mergejoin = off AS $$
BEGIN
	RETURN (SELECT e.serial FROM ledger l JOIN unnest(p_entries) AS e
			ON l.serial = e.serial AND l.issuer = e.issuer AND l.epoch IS NOT DISTINCT FROM e.epoch AND l.seq > e.expected
		WHERE l.seq > p_read LIMIT 1);
END $$;

-- signet_ledger_write is revocation's LedgerStore.AppendLedger.
CREATE FUNCTION signet_ledger_write(p_entries ledger_entry[], p_read bigint, p_audit audit_batch) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	v_last bigint := signet_ledger_append(p_entries, p_read);
BEGIN
	PERFORM signet_audit_append(p_audit);
	RETURN v_last;
END $$;

-- signet_certificate_facts is revocation's LedgerStore.CertificateFacts: for each claim the certificate recorded there under the
-- serial, and the last entry of the serial; null where there is none, epoch and idx null where no position is claimed.
CREATE FUNCTION signet_certificate_facts(p_issuer bytea[], p_serial bytea[], p_epoch integer[], p_idx bigint[])
	RETURNS TABLE (o_not_after timestamptz, o_account text, o_last ledger) LANGUAGE plpgsql STABLE ROWS 64
	SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
	RETURN QUERY SELECT c.not_after, c.account, l.entry
		FROM unnest(p_issuer, p_serial, p_epoch, p_idx) WITH ORDINALITY AS k (issuer, serial, epoch, idx, n)
		LEFT JOIN LATERAL (SELECT x.not_after, x.account FROM certificates x
			WHERE x.issuer = k.issuer AND x.epoch = k.epoch AND x.idx = k.idx AND x.serial = k.serial LIMIT 1) c ON true
		LEFT JOIN LATERAL (SELECT max(x.seq + 0) AS seq FROM ledger x WHERE x.issuer = k.issuer AND x.epoch = k.epoch AND x.idx = k.idx AND x.serial = k.serial) d ON true
		LEFT JOIN LATERAL (SELECT max(x.seq + 0) AS seq FROM ledger x WHERE x.epoch IS NULL AND x.issuer = k.issuer AND x.serial = k.serial) f ON true
		LEFT JOIN LATERAL (SELECT x AS entry FROM ledger x WHERE x.seq = greatest(d.seq, f.seq) LIMIT 1) l ON true
		ORDER BY k.n;
END $$;

-- Keys that must never be certified again, by the SHA-256 of the SubjectPublicKeyInfo and of the key material: both are
-- blocked, either matches.
CREATE TABLE blocked_keys (
	hash       bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
	material   boolean NOT NULL, -- it is of the key material; lists leave it out
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

-- Mass revocations. The cursor moves in the transaction that appends a chunk, so a job goes on exactly where it stopped.
CREATE TABLE jobs (
	id            bytea PRIMARY KEY CHECK (octet_length(id) = 16),
	state         smallint NOT NULL CHECK (state BETWEEN 1 AND 6), -- 1 planned, 2 running, 3 paused, 4 done, 5 cancelled, 6 failed
	selector      text NOT NULL,            -- JSON of revocation.Selector
	reason        smallint NOT NULL,
	invalidity_at timestamptz,
	actor         text NOT NULL,            -- who made it; its entries carry this actor
	comment       text NOT NULL,
	selected      bigint NOT NULL DEFAULT 0, -- by the dry run
	authorities   bigint NOT NULL DEFAULT 0, -- of them, certificates of authorities: those in job_authorities
	counted       boolean NOT NULL DEFAULT false, -- authorities that are not in job_authorities are left alone
	revoked       bigint NOT NULL DEFAULT 0, -- entries appended
	skipped       bigint NOT NULL DEFAULT 0, -- selected, and revoked before
	examined      bigint NOT NULL DEFAULT 0, -- indices, or list entries, passed by the cursor
	sweeps        boolean NOT NULL DEFAULT false, -- the scan is over; what was recorded behind it is looked for
	sweeps_from   timestamptz,              -- the last change of a range when it started, whatever the clock said: the sweep begins there
	cursor_epoch  integer NOT NULL DEFAULT -1, -- everything before (epoch, issuer, idx) is done
	cursor_issuer bytea NOT NULL DEFAULT '',
	cursor_idx    bigint NOT NULL DEFAULT -1,
	last_seq      bigint NOT NULL DEFAULT 0,
	failure       text NOT NULL DEFAULT '',
	created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
	started_at    timestamptz,
	ended_at      timestamptz,
	runner        bytea,                    -- the instance that works on it
	lease_until   timestamptz
);
CREATE INDEX jobs_active ON jobs (created_at) WHERE state IN (1, 2, 3);

-- The certificates of a job that names them one by one.
CREATE TABLE job_serials (
	job    bytea NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
	n      bigint NOT NULL,
	issuer bytea NOT NULL,
	epoch  integer NOT NULL,
	idx    bigint NOT NULL,
	serial bytea NOT NULL,
	PRIMARY KEY (job, n)
);

-- The certificates of authorities that a job selected when they were last counted: who starts it means these.
CREATE TABLE job_authorities (
	job    bytea NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
	issuer bytea NOT NULL,
	epoch  integer NOT NULL,
	idx    bigint NOT NULL,
	PRIMARY KEY (job, issuer, epoch, idx)
);

-- What signet_block_key, signet_job_entries and signet_job_listed append is what decide (revocation/transition.go) makes of the last entry of
-- a certificate: void ones and those revoked for keyCompromise (reason 1) stay as they are, other revoked ones get that reason only. A test
-- compares them for every state. The rule stands in each of them: one function for all would be slower.

-- signet_block_key blocks a key and revokes every certificate with it that has not expired, in one transaction. If there
-- are more than p_limit, it blocks at once and leaves the certificates to a job. A repetition finds what the first left. No hashes
-- block, lock and log nothing: so a new connection meets every week's certificates before it matters.
--
-- Planned once, for planning over the weeks of a year takes longer than all the rest. A plan made while a week was empty must
-- do when it is full: only the index of keys fits, for "IS TRUE" hides not_after from its own.
CREATE FUNCTION signet_block_key(p_hashes bytea[], p_proof text, p_comment text, p_invalidity_at timestamptz, p_epoch integer, p_limit integer,
	p_job bytea, p_selector text, p_at bigint, p_actor text, p_request text, p_source text,
	OUT already boolean, OUT revoked integer, OUT seq bigint, OUT started boolean) LANGUAGE plpgsql
	SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
	v_count   integer;
	v_now     timestamptz := signet_time(p_at);
	v_entries ledger_entry[];
	v_read    bigint;
BEGIN
	-- Exclusive: waits for every transaction that records certificates, and makes new ones wait.
	IF cardinality(p_hashes) > 0 THEN
		PERFORM pg_advisory_xact_lock(signet_key_blocks_lock());
	END IF;
	SELECT h.seq INTO v_read FROM ledger_head h; -- before anything is judged
	INSERT INTO blocked_keys (hash, material, proof, comment, actor)
		SELECT h, n > 1, p_proof, p_comment, p_actor FROM unnest(p_hashes) WITH ORDINALITY AS u (h, n) ON CONFLICT DO NOTHING;
	GET DIAGNOSTICS v_count = ROW_COUNT;
	already := v_count = 0;
	-- A later statement, so that it sees what was recorded while this one waited for the lock.
	SELECT array_agg(ROW(s.issuer, s.epoch, s.idx, s.serial, CASE WHEN s.kind IN (1, 2) THEN 2 ELSE 1 END, 1,
			CASE WHEN s.kind IN (1, 2) THEN s.revoked_at ELSE date_trunc('second', v_now) END,
			coalesce(p_invalidity_at, s.invalidity_at), NULL, p_actor, coalesce(s.seq, 0))::ledger_entry)
		INTO v_entries
		FROM (SELECT c.issuer, c.epoch, c.idx, c.serial, l.seq, l.kind, l.revoked_at, l.invalidity_at
			FROM certificates c LEFT JOIN LATERAL (SELECT max(x.seq + 0) AS seq FROM ledger x WHERE x.epoch = c.epoch AND x.issuer = c.issuer AND x.idx = c.idx) m ON true
				LEFT JOIN LATERAL (SELECT * FROM ledger x WHERE x.seq = m.seq LIMIT 1) l ON true
			WHERE c.spki_hash = ANY (p_hashes) AND c.epoch >= p_epoch AND (c.not_after > v_now) IS TRUE
			  AND (l.kind IS NULL OR l.kind IN (3, 4) OR l.kind IN (1, 2) AND l.reason <> 1)
			LIMIT p_limit + 1) s;
	revoked := coalesce(cardinality(v_entries), 0);
	started := revoked > p_limit;
	IF started THEN
		INSERT INTO jobs (id, state, selector, reason, invalidity_at, actor, comment, started_at, sweeps_from)
			VALUES (p_job, 2, p_selector, 1, p_invalidity_at, p_actor, p_comment, clock_timestamp(), signet_ranges_changed());
		revoked := 0;
		v_entries := NULL;
	END IF;
	seq := signet_ledger_append(v_entries, v_read);
	PERFORM signet_audit_append(CASE WHEN cardinality(p_hashes) > 0 THEN signet_audit_event(p_at, p_actor, 'key.block', 'key/' || encode(p_hashes[1], 'hex'), p_request, p_source,
		jsonb_build_object('proof', p_proof, 'comment', p_comment, 'revoked', revoked::text, 'last', seq::text)
			|| CASE WHEN started THEN jsonb_build_object('job', encode(p_job, 'hex')) ELSE '{}' END) END);
END $$;

-- A certificate that a job selected; serial is null if the list names none that is recorded.
CREATE TYPE job_candidate AS (
	issuer bytea,
	epoch  integer,
	idx    bigint,
	serial bytea
);

-- What a job selects by, null for whatever does not select; spared are profiles that are left alone, with what Signet issued to itself;
-- serials says that job_serials selects.
CREATE TYPE job_selector AS (
	issuers     bytea[],
	epoch_from  integer,
	epoch_to    integer,
	idx_from    bigint,
	idx_to      bigint,
	profile     text,
	account     text,
	issued_from timestamptz,
	issued_to   timestamptz,
	ends_from   timestamptz,
	ends_to     timestamptz,
	keys        bytea[],
	names       text[],
	spared      text[],
	serials     boolean
);

-- What a scan chose when its cursor stood at after_*: certificates of one week of one issuer, in order. upto is where the cursor stands after
-- them; null: nothing is left to look at.
CREATE TYPE job_choice AS (
	after_epoch  integer,
	after_issuer bytea,
	after_idx    bigint,
	epoch        integer,
	issuer       bytea,
	upto         bigint,
	examined     bigint, -- indices
	idx          bigint[],
	serials      bytea[]
);

-- signet_job_entries judges what a scan chose: what is revoked is skipped, unless the reason becomes keyCompromise. The ledger of that
-- stretch is read once and joined; looking up each certificate takes five times as long.
CREATE FUNCTION signet_job_entries(p_job jobs, p_now timestamptz, p_choice job_choice) RETURNS ledger_entry[] LANGUAGE plpgsql STABLE
	SET enable_seqscan = off SET enable_nestloop = off SET enable_hashjoin = on SET enable_mergejoin = on AS $$
BEGIN
	RETURN ARRAY(SELECT ROW(p_choice.issuer, p_choice.epoch, c.idx, c.serial, CASE WHEN l.kind IN (1, 2) THEN 2 ELSE 1 END, p_job.reason,
				CASE WHEN l.kind IN (1, 2) THEN l.revoked_at ELSE date_trunc('second', p_now) END,
				coalesce(p_job.invalidity_at, l.invalidity_at), p_job.id, p_job.actor, coalesce(l.seq, 0))::ledger_entry
		FROM unnest(p_choice.idx, p_choice.serials) AS c (idx, serial)
		LEFT JOIN (SELECT DISTINCT ON (x.idx) x.idx, x.seq, x.kind, x.reason, x.revoked_at, x.invalidity_at FROM ledger x
			WHERE x.epoch = p_choice.epoch AND x.issuer = p_choice.issuer AND x.idx BETWEEN p_choice.idx[1] AND p_choice.idx[cardinality(p_choice.idx)]
			ORDER BY x.idx, x.seq DESC) l ON l.idx = c.idx
		WHERE l.kind IS NULL OR l.kind IN (3, 4) OR l.kind IN (1, 2) AND p_job.reason = 1 AND l.reason <> 1
		ORDER BY c.idx);
END $$;

-- signet_job_listed is signet_job_entries for certificates of any weeks, in any order.
CREATE FUNCTION signet_job_listed(p_job jobs, p_now timestamptz, p_chosen job_candidate[]) RETURNS ledger_entry[] LANGUAGE plpgsql STABLE
	SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
	RETURN ARRAY(SELECT ROW(c.issuer, c.epoch, c.idx, c.serial, CASE WHEN l.kind IN (1, 2) THEN 2 ELSE 1 END, p_job.reason,
				CASE WHEN l.kind IN (1, 2) THEN l.revoked_at ELSE date_trunc('second', p_now) END,
				coalesce(p_job.invalidity_at, l.invalidity_at), p_job.id, p_job.actor, coalesce(l.seq, 0))::ledger_entry
		FROM unnest(p_chosen) WITH ORDINALITY AS c (issuer, epoch, idx, serial, n)
		LEFT JOIN LATERAL (SELECT max(x.seq + 0) AS seq FROM ledger x WHERE x.epoch = c.epoch AND x.issuer = c.issuer AND x.idx = c.idx) m ON true
		LEFT JOIN LATERAL (SELECT * FROM ledger x WHERE x.seq = m.seq LIMIT 1) l ON true
		WHERE c.serial IS NOT NULL AND (l.kind IS NULL OR l.kind IN (3, 4) OR l.kind IN (1, 2) AND p_job.reason = 1 AND l.reason <> 1)
		ORDER BY c.n);
END $$;

-- signet_job_stretch returns the next indices that a job looks at, [o_from, o_to) of one week of one issuer; null at the end.
-- A scan goes through everything that was reserved. What is recorded behind it meanwhile lies in ranges that were open after
-- the job started: those the sweep goes through.
CREATE FUNCTION signet_job_stretch(p_job jobs, p_window bigint, p_by job_selector,
	OUT o_epoch integer, OUT o_issuer bytea, OUT o_from bigint, OUT o_to bigint) LANGUAGE plpgsql STABLE
	SET enable_seqscan = off AS $$
BEGIN
	SELECT g.epoch, g.issuer, g.from_idx, least(g.to_idx, g.from_idx + p_window) INTO o_epoch, o_issuer, o_from, o_to
		FROM (SELECT r.epoch, r.issuer, least(r.to_idx, p_by.idx_to) AS to_idx, greatest(r.from_idx, p_by.idx_from,
				CASE WHEN r.epoch = p_job.cursor_epoch AND r.issuer = p_job.cursor_issuer THEN p_job.cursor_idx + 1 END) AS from_idx
			FROM (SELECT e.epoch, e.issuer, 0::bigint AS from_idx, e.next_idx AS to_idx FROM epochs e WHERE NOT p_job.sweeps
				UNION ALL SELECT x.epoch, x.issuer, x.from_idx, x.to_idx FROM ranges x WHERE p_job.sweeps AND x.state = 1
				UNION ALL SELECT x.epoch, x.issuer, x.from_idx, x.to_idx FROM ranges x
					WHERE p_job.sweeps AND x.state = 2 AND x.changed_at >= p_job.sweeps_from - interval '1 minute') r
			WHERE (r.epoch, r.issuer) >= (p_job.cursor_epoch, p_job.cursor_issuer) AND (p_by.issuers IS NULL OR r.issuer = ANY (p_by.issuers))
			  AND r.epoch >= p_by.epoch_from AND (p_by.epoch_to IS NULL OR r.epoch < p_by.epoch_to)) g
		WHERE g.from_idx < g.to_idx ORDER BY g.epoch, g.issuer, g.from_idx LIMIT 1;
END $$;

-- signet_job_choose chooses what a scan looks at next: at most p_limit certificates out of at most p_window indices.
CREATE FUNCTION signet_job_choose(p_job jobs, p_limit integer, p_window bigint, p_now timestamptz, p_by job_selector) RETURNS job_choice LANGUAGE plpgsql STABLE
	SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
	v_c    job_choice;
	v_from bigint;
	v_to   bigint;
BEGIN
	v_c.after_epoch := p_job.cursor_epoch; v_c.after_issuer := p_job.cursor_issuer; v_c.after_idx := p_job.cursor_idx;
	SELECT o_epoch, o_issuer, o_from, o_to INTO v_c.epoch, v_c.issuer, v_from, v_to FROM signet_job_stretch(p_job, p_window, p_by);
	IF v_to IS NULL THEN
		RETURN v_c;
	END IF;
	SELECT array_agg(s.idx), array_agg(s.serial) INTO v_c.idx, v_c.serials FROM (SELECT c.idx, c.serial FROM certificates c
		WHERE c.epoch = v_c.epoch AND c.issuer = v_c.issuer AND c.idx >= v_from AND c.idx < v_to AND c.not_after > p_now
		  AND (p_by.profile IS NULL OR c.profile = p_by.profile) AND (p_by.account IS NULL OR c.account = p_by.account)
		  AND (p_by.issued_from IS NULL OR c.issued_at >= p_by.issued_from) AND (p_by.issued_to IS NULL OR c.issued_at < p_by.issued_to)
		  AND (p_by.ends_from IS NULL OR c.not_after >= p_by.ends_from) AND (p_by.ends_to IS NULL OR c.not_after < p_by.ends_to)
		  AND (p_by.names IS NULL OR EXISTS (SELECT 1 FROM certificate_names n
			WHERE n.reversed = ANY (p_by.names) AND n.epoch = v_c.epoch AND n.issuer = v_c.issuer AND n.idx = c.idx))
		  AND (p_by.spared IS NULL OR c.account <> 'system' AND c.profile <> ALL (p_by.spared))
		  AND (NOT (c.authority AND p_job.counted) OR EXISTS (SELECT 1 FROM job_authorities a WHERE a.job = p_job.id AND a.issuer = v_c.issuer AND a.epoch = v_c.epoch AND a.idx = c.idx))
		ORDER BY c.idx LIMIT p_limit) s;
	v_c.upto := CASE WHEN cardinality(v_c.idx) = p_limit THEN v_c.idx[p_limit] ELSE v_to - 1 END;
	v_c.examined := v_c.upto + 1 - v_from;
	RETURN v_c;
END $$;

-- signet_job_ahead chooses what the scan of a running job will look at when its cursor stands there; null p_idx: where it stands now. It locks
-- nothing. upto is null if the scan is over, or will be.
CREATE FUNCTION signet_job_ahead(p_job bytea, p_limit integer, p_window bigint, p_at bigint, p_by job_selector, p_epoch integer, p_issuer bytea, p_idx bigint)
	RETURNS job_choice LANGUAGE plpgsql STABLE AS $$
DECLARE
	v_job jobs;
BEGIN
	SELECT * INTO v_job FROM jobs WHERE id = p_job AND state = 2 AND NOT sweeps;
	IF NOT FOUND THEN
		RETURN NULL;
	END IF;
	IF p_idx IS NOT NULL THEN
		v_job.cursor_epoch := p_epoch; v_job.cursor_issuer := p_issuer; v_job.cursor_idx := p_idx;
	END IF;
	RETURN signet_job_choose(v_job, p_limit, p_window, signet_time(p_at), p_by);
END $$;

-- signet_job_chunk does the next piece of a running job: what was chosen ahead for where its scan stands, or else at most p_limit certificates
-- out of at most p_window indices. What was recorded after a choice lies in a range that the sweep goes through; what was revoked after
-- it is judged here. Authorities that nobody was told of are left alone. state is that of the job afterwards; busy, that another instance works
-- on it; taken, that p_ahead was done; held, for how long the ledger was locked. Everything but the insertion itself is done before the ledger
-- is locked.
CREATE FUNCTION signet_job_chunk(p_job bytea, p_runner bytea, p_lease interval, p_limit integer, p_window bigint, p_at bigint, p_by job_selector, p_ahead job_choice,
	OUT state smallint, OUT busy boolean, OUT taken boolean, OUT revoked integer, OUT skipped integer, OUT seq bigint, OUT held interval)
	LANGUAGE plpgsql
	SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
	v_job     jobs;
	v_now     timestamptz := signet_time(p_at);
	v_read    bigint;
	v_locked  timestamptz;
	v_choice  job_choice;
	v_chosen  job_candidate[];
	v_count   integer; -- of what was chosen
	v_last    job_candidate;
	v_entries ledger_entry[];
	v_serials text;    -- of the entries, hashed
	v_ended   boolean; -- this pass
BEGIN
	SELECT * INTO v_job FROM jobs WHERE id = p_job FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no job %', encode(p_job, 'hex') USING ERRCODE = 'SG404';
	END IF;
	state := v_job.state; busy := false; taken := false; revoked := 0; skipped := 0; seq := v_job.last_seq; held := interval '0';
	IF v_job.state <> 2 THEN
		RETURN;
	END IF;
	IF v_job.runner <> p_runner AND v_job.lease_until > clock_timestamp() AND NOT signet_silent(v_job.runner) THEN
		busy := true;
		RETURN;
	END IF;
	SELECT h.seq INTO v_read FROM ledger_head h; -- before anything is judged

	-- Choose, judge, and move the cursor.
	IF p_by.serials THEN
		v_chosen := ARRAY(SELECT ROW(c.issuer, c.epoch, c.idx, c.serial)::job_candidate
			FROM (SELECT * FROM job_serials WHERE job = p_job AND n > v_job.cursor_idx ORDER BY n LIMIT p_limit) s
			LEFT JOIN certificates c ON c.issuer = s.issuer AND c.epoch = s.epoch AND c.idx = s.idx AND c.serial = s.serial AND c.not_after > v_now
				AND (NOT (c.authority AND v_job.counted) OR EXISTS (SELECT 1 FROM job_authorities a WHERE a.job = p_job AND a.issuer = c.issuer AND a.epoch = c.epoch AND a.idx = c.idx))
			ORDER BY s.n);
		v_entries := signet_job_listed(v_job, v_now, v_chosen);
		v_job.cursor_idx := v_job.cursor_idx + cardinality(v_chosen);
		v_job.examined := v_job.examined + cardinality(v_chosen);
		v_ended := cardinality(v_chosen) < p_limit;
	ELSIF p_by.keys IS NOT NULL THEN
		v_chosen := ARRAY(SELECT ROW(c.issuer, c.epoch, c.idx, c.serial)::job_candidate FROM certificates c
			WHERE c.spki_hash = ANY (p_by.keys) AND c.epoch >= p_by.epoch_from AND c.not_after > v_now
			  AND (c.epoch, c.issuer, c.idx) > (v_job.cursor_epoch, v_job.cursor_issuer, v_job.cursor_idx)
			  AND (NOT (c.authority AND v_job.counted) OR EXISTS (SELECT 1 FROM job_authorities a WHERE a.job = p_job AND a.issuer = c.issuer AND a.epoch = c.epoch AND a.idx = c.idx))
			ORDER BY c.epoch, c.issuer, c.idx LIMIT p_limit);
		v_entries := signet_job_listed(v_job, v_now, v_chosen);
		v_ended := cardinality(v_chosen) < p_limit;
		IF cardinality(v_chosen) > 0 THEN
			v_last := v_chosen[cardinality(v_chosen)];
			v_job.cursor_epoch := v_last.epoch; v_job.cursor_issuer := v_last.issuer; v_job.cursor_idx := v_last.idx;
		END IF;
		IF NOT v_job.sweeps THEN
			v_job.examined := v_job.examined + cardinality(v_chosen);
		END IF;
	ELSE
		taken := NOT v_job.sweeps AND (p_ahead.after_epoch, p_ahead.after_issuer, p_ahead.after_idx) IS NOT DISTINCT FROM (v_job.cursor_epoch, v_job.cursor_issuer, v_job.cursor_idx);
		v_choice := CASE WHEN taken THEN p_ahead ELSE signet_job_choose(v_job, p_limit, p_window, v_now, p_by) END;
		v_ended := v_choice.upto IS NULL;
		IF NOT v_ended THEN
			v_job.cursor_epoch := v_choice.epoch; v_job.cursor_issuer := v_choice.issuer; v_job.cursor_idx := v_choice.upto;
			IF cardinality(v_choice.idx) > 0 THEN
				v_entries := signet_job_entries(v_job, v_now, v_choice);
			END IF;
			IF NOT v_job.sweeps THEN
				v_job.examined := v_job.examined + v_choice.examined;
			END IF;
		END IF;
	END IF;
	v_count := coalesce(cardinality(v_chosen), cardinality(v_choice.idx), 0);
	revoked := coalesce(cardinality(v_entries), 0);
	IF NOT v_job.sweeps THEN -- the sweep finds the work of the scan again
		skipped := v_count - revoked;
	END IF;
	IF v_ended AND (v_job.sweeps OR p_by.serials) THEN
		state := 4;
	ELSIF v_ended THEN
		v_job.sweeps := true; v_job.cursor_epoch := -1; v_job.cursor_issuer := ''; v_job.cursor_idx := -1;
	END IF;

	UPDATE jobs SET state = signet_job_chunk.state, revoked = v_job.revoked + signet_job_chunk.revoked, skipped = v_job.skipped + signet_job_chunk.skipped,
			examined = v_job.examined, sweeps = v_job.sweeps, cursor_epoch = v_job.cursor_epoch, cursor_issuer = v_job.cursor_issuer, cursor_idx = v_job.cursor_idx,
			runner = p_runner, lease_until = clock_timestamp() + p_lease, ended_at = CASE WHEN signet_job_chunk.state = 4 THEN clock_timestamp() END
		WHERE id = p_job;
	IF revoked = 0 AND state = 2 THEN
		RETURN;
	END IF;
	v_serials := encode(sha256((SELECT string_agg(e.serial, '') FROM unnest(v_entries) AS e)), 'hex'); -- in their order
	IF revoked > 0 THEN
		PERFORM FROM ledger_head FOR UPDATE; -- waiting for it holds up nobody
		v_locked := clock_timestamp();
		seq := signet_ledger_append(v_entries, v_read);
		UPDATE jobs SET last_seq = signet_job_chunk.seq WHERE id = p_job;
	END IF;
	PERFORM signet_audit_append(signet_audit_event(p_at, v_job.actor, CASE WHEN state = 4 THEN 'job.finish' ELSE 'job.chunk' END,
		'job/' || encode(p_job, 'hex'), '', '', jsonb_build_object('revoked', revoked::text, 'skipped', skipped::text, 'last', seq::text,
			'serials_sha256', coalesce(v_serials, ''))));
	held := coalesce(clock_timestamp() - v_locked, held);
END $$;

-- signet_move_job moves a job from one of some states to another, and says whether it did.
CREATE FUNCTION signet_move_job(p_job bytea, p_from smallint[], p_to smallint, p_failure text, p_audit audit_batch) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	UPDATE jobs SET state = p_to, failure = p_failure, lease_until = NULL,
			started_at = CASE WHEN p_to = 2 THEN coalesce(started_at, clock_timestamp()) ELSE started_at END,
			sweeps_from = CASE WHEN p_to = 2 THEN coalesce(sweeps_from, signet_ranges_changed()) ELSE sweeps_from END,
			ended_at = CASE WHEN p_to IN (4, 5, 6) THEN clock_timestamp() END
		WHERE id = p_job AND state = ANY (p_from);
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	PERFORM signet_audit_append(p_audit);
	RETURN true;
END $$;

-- signet_start_job lets a planned job run if it has so many certificates of authorities, and returns the job as it then stands.
CREATE FUNCTION signet_start_job(p_job bytea, p_authorities bigint, p_audit audit_batch) RETURNS SETOF jobs LANGUAGE plpgsql ROWS 1 AS $$
BEGIN
	IF (SELECT authorities = p_authorities FROM jobs WHERE id = p_job FOR UPDATE) THEN
		PERFORM signet_move_job(p_job, '{1}', 2::smallint, '', p_audit);
	END IF;
	RETURN QUERY SELECT * FROM jobs WHERE id = p_job;
END $$;
