-- Issuers, their certificates, the counters and ranges of indices, and what was issued.
-- Rooms: ca/store.go (issuers, ranges, certificates, inventory), revocation (reads ranges and certificates).

CREATE TABLE issuers (
	id             bytea PRIMARY KEY CHECK (octet_length(id) = 10),
	label          text NOT NULL UNIQUE,
	key_uri        text NOT NULL,                  -- '' when the key is not at this site (off-line, imported)
	subject        bytea NOT NULL UNIQUE,          -- DER Name: one name, one key
	spki           bytea NOT NULL UNIQUE,          -- DER SubjectPublicKeyInfo
	spki_hash      bytea NOT NULL UNIQUE CHECK (octet_length(spki_hash) = 32),
	visibility     smallint NOT NULL CHECK (visibility BETWEEN 0 AND 1), -- 0 private, 1 public
	state          smallint NOT NULL CHECK (state BETWEEN 0 AND 3), -- 0 pending, 1 active, 2 disabled for issuance, 3 retired
	signed_outside boolean NOT NULL DEFAULT false, -- the `foreign` mark: it ever signed outside the serial scheme
	base_url       text NOT NULL,                  -- goes into CDP and AIA of what it issues, without a trailing slash
	csr            bytea,                          -- while a parent elsewhere has not signed yet
	succeeds       bytea REFERENCES issuers (id),  -- while that one issues, this one is used only where it is named
	retain         bigint NOT NULL DEFAULT 0,      -- seconds that certificates are answered for after their end; only grows
	retain_since   timestamptz,                    -- what had expired before is not
	created_at     timestamptz NOT NULL
);

CREATE TABLE issuer_certificates (
	fingerprint bytea PRIMARY KEY CHECK (octet_length(fingerprint) = 32), -- SHA-256 of der
	issuer      bytea NOT NULL REFERENCES issuers (id),
	der         bytea NOT NULL,
	chain       bytea NOT NULL,   -- DER certificates above it, one after the other, nearest first, root last
	not_after   timestamptz NOT NULL,
	chosen      boolean NOT NULL, -- the one that chains and AIA show; one per issuer
	added_at    timestamptz NOT NULL
);
CREATE UNIQUE INDEX issuer_certificates_chosen ON issuer_certificates (issuer) WHERE chosen;

-- Keys of issuers that were given up before they had a certificate: none is made with them again.
CREATE TABLE deleted_issuers (
	spki_hash bytea PRIMARY KEY CHECK (octet_length(spki_hash) = 32)
);

-- signet_issuer_create inserts an issuer that is new in label, name and key. A foreign one brings its certificate, so its key may be that of one that was deleted.
CREATE FUNCTION signet_issuer_create(p_id bytea, p_label text, p_key_uri text, p_subject bytea, p_spki bytea, p_spki_hash bytea, p_visibility smallint,
	p_state smallint, p_foreign boolean, p_base_url text, p_csr bytea, p_succeeds bytea, p_created_at timestamptz, p_audit audit_batch) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF NOT p_foreign AND EXISTS (SELECT FROM deleted_issuers WHERE spki_hash = p_spki_hash) THEN
		RAISE EXCEPTION 'the key is that of an issuer that was deleted' USING ERRCODE = 'SG409', COLUMN = 'key';
	END IF;
	INSERT INTO issuers (id, label, key_uri, subject, spki, spki_hash, visibility, state, signed_outside, base_url, csr, succeeds, created_at)
		VALUES (p_id, p_label, p_key_uri, p_subject, p_spki, p_spki_hash, p_visibility, p_state, p_foreign, p_base_url, p_csr, p_succeeds, p_created_at)
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
	p_added_at timestamptz, p_audit audit_batch) RETURNS void LANGUAGE plpgsql AS $$
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
	IF FOUND THEN
		PERFORM signet_approvals_wake();
	END IF;
	PERFORM signet_audit_append(p_audit);
END $$;

-- signet_issuer_state moves an issuer between active (1), disabled (2) and retired (3). Retired is the end.
CREATE FUNCTION signet_issuer_state(p_issuer bytea, p_state smallint, p_audit audit_batch) RETURNS void LANGUAGE plpgsql AS $$
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
	IF p_state = 1 THEN
		PERFORM signet_approvals_wake();
	END IF;
	PERFORM signet_audit_append(p_audit);
END $$;

-- signet_issuer_delete forgets an issuer that never had a certificate and reserved nothing.
CREATE FUNCTION signet_issuer_delete(p_issuer bytea, p_audit audit_batch) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	v_issuer issuers;
BEGIN
	SELECT * INTO v_issuer FROM issuers WHERE id = p_issuer FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no issuer of this id' USING ERRCODE = 'SG404', COLUMN = 'issuer';
	ELSIF v_issuer.state <> 0 OR v_issuer.signed_outside THEN
		RAISE EXCEPTION 'only an issuer that waits for its first certificate can be deleted' USING ERRCODE = 'SG412', COLUMN = 'issuer';
	ELSIF EXISTS (SELECT FROM certificates WHERE spki_hash = v_issuer.spki_hash) OR EXISTS (SELECT FROM epochs WHERE issuer = p_issuer) THEN
		RAISE EXCEPTION 'its key was certified here: say again what was said when it was made, and retire it' USING ERRCODE = 'SG412', COLUMN = 'issuer';
	ELSIF EXISTS (SELECT FROM issuers WHERE succeeds = p_issuer) THEN
		RAISE EXCEPTION 'issuer % succeeds it', (SELECT label FROM issuers WHERE succeeds = p_issuer ORDER BY created_at LIMIT 1) USING ERRCODE = 'SG412', COLUMN = 'issuer';
	END IF;
	INSERT INTO deleted_issuers (spki_hash) VALUES (v_issuer.spki_hash) ON CONFLICT DO NOTHING;
	DELETE FROM issuers WHERE id = p_issuer;
	PERFORM signet_audit_append(p_audit);
END $$;

-- signet_issuer_update changes where products are served (null: it stays), for ranges reserved from now on, and, if p_succession, whom the
-- issuer succeeds. The lock is on all of them: two changes at once would not see the circle that they make.
CREATE FUNCTION signet_issuer_update(p_issuer bytea, p_base_url text, p_succession boolean, p_succeeds bytea, p_audit audit_batch) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM FROM issuers ORDER BY id FOR NO KEY UPDATE;
	UPDATE issuers SET base_url = coalesce(p_base_url, base_url), succeeds = CASE WHEN p_succession THEN p_succeeds ELSE succeeds END WHERE id = p_issuer;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no issuer of this id' USING ERRCODE = 'SG404', COLUMN = 'issuer';
	END IF;
	IF p_issuer IN (WITH RECURSIVE before(id) AS (SELECT succeeds FROM issuers WHERE id = p_issuer UNION SELECT i.succeeds FROM issuers i JOIN before USING (id)) SELECT id FROM before) THEN
		RAISE EXCEPTION 'the issuer would succeed itself' USING ERRCODE = 'SG400', COLUMN = 'succeeds';
	END IF;
	PERFORM signet_audit_append(p_audit);
END $$;

-- signet_issuer_retain raises the retention of an issuer as pki.Retention.Raise does; it never shortens it.
CREATE FUNCTION signet_issuer_retain(p_issuer bytea, p_retain bigint, p_audit audit_batch) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	UPDATE issuers SET retain = p_retain, retain_since = greatest(retain_since, clock_timestamp() - retain * interval '1 second') WHERE id = p_issuer AND retain < p_retain;
	IF FOUND THEN
		PERFORM signet_audit_append(p_audit);
	ELSIF NOT EXISTS (SELECT FROM issuers WHERE id = p_issuer) THEN
		RAISE EXCEPTION 'there is no issuer of this id' USING ERRCODE = 'SG404', COLUMN = 'issuer';
	END IF;
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
	base_url    text NOT NULL,        -- names the shard in CDPs of this range
	lease_until timestamptz NOT NULL, -- by the database's clock; counts while open
	range_key   bytea CHECK (octet_length(range_key) = 32),
	changed_at  timestamptz NOT NULL, -- of the last change of state, by the database's clock
	CHECK (from_idx < to_idx),
	CHECK ((state = 2) = (range_key IS NOT NULL))
);
CREATE UNIQUE INDEX ranges_place ON ranges (issuer, epoch, from_idx);
CREATE INDEX ranges_open ON ranges (id) WHERE state = 1; -- a renewed lease touches no index
CREATE INDEX ranges_changed ON ranges (changed_at);

-- One partition per epoch, made with the first reservation of the epoch; no default partition. No foreign keys, which would cost each
-- certificate a look-up: whoever records holds a lock on the row of its range.
CREATE TABLE certificates (
	issuer     bytea NOT NULL,
	epoch      integer NOT NULL,
	idx        bigint NOT NULL,
	serial     bytea NOT NULL,
	range_id   bigint NOT NULL,
	profile    text NOT NULL,
	account    text NOT NULL,
	subject    text NOT NULL,                  -- RFC 4514, for people
	spki_hash  bytea NOT NULL,
	not_before timestamptz NOT NULL,
	not_after  timestamptz NOT NULL,
	issued_at  timestamptz NOT NULL,
	der        bytea NOT NULL,
	authority  boolean NOT NULL DEFAULT false, -- of an authority: whatever is below it ends with it
	PRIMARY KEY (issuer, epoch, idx)
) PARTITION BY LIST (epoch);
ALTER TABLE certificates ALTER COLUMN der SET STORAGE EXTERNAL; -- random octets do not compress
CREATE INDEX certificates_issued ON certificates (issued_at);
CREATE INDEX certificates_expiry ON certificates (not_after);
CREATE INDEX certificates_key ON certificates (spki_hash);
CREATE INDEX certificates_profile ON certificates (profile, issued_at);
CREATE INDEX certificates_account ON certificates (account, issued_at);
CREATE INDEX certificates_authorities ON certificates (issuer, epoch, idx) WHERE authority;

-- Names as ca.ReversedName has them, lower case and from the end, so that one index serves the exact name and the suffix.
CREATE TABLE certificate_names (
	epoch    integer NOT NULL,
	reversed text COLLATE "C" NOT NULL,
	kind     smallint NOT NULL, -- pki.IdentifierType; 0 is the common name
	issuer   bytea NOT NULL,
	idx      bigint NOT NULL,
	PRIMARY KEY (reversed, kind, issuer, epoch, idx)
) PARTITION BY LIST (epoch);

-- Client request ids, kept for 24 hours: a repeat returns the first certificate.
-- A row stands for a certificate, or for a request that was filed for approval, and then goes with that.
CREATE TABLE issue_requests (
	account    text NOT NULL,
	request_id text NOT NULL,
	digest     bytea NOT NULL, -- of what was asked, so that an id used for something else is seen
	issuer     bytea,
	epoch      integer,
	idx        bigint,
	approval   bytea,
	expires_at timestamptz NOT NULL,
	PRIMARY KEY (account, request_id),
	CHECK ((approval IS NULL) = (issuer IS NOT NULL AND epoch IS NOT NULL AND idx IS NOT NULL))
);
CREATE INDEX issue_requests_expiry ON issue_requests (expires_at);
CREATE INDEX issue_requests_approval ON issue_requests (approval) WHERE approval IS NOT NULL;

-- Requests that need an approval. Room: ca/approval/store.go.
--   1 pending, 2 approved, 3 issued, 4 denied, 5 refused; expired is 1 or 2 after expires_at
CREATE TABLE approvals (
	id            bytea PRIMARY KEY CHECK (octet_length(id) = 16), -- sorts by time
	state         smallint NOT NULL CHECK (state BETWEEN 1 AND 5),
	profile       text NOT NULL,
	account       text NOT NULL,
	asked         text NOT NULL,            -- JSON of what was asked and by whom; never changes
	filed_at      timestamptz NOT NULL,
	expires_at    timestamptz NOT NULL,
	claimed_until timestamptz,              -- some instance issues it until then, or it is not tried again before
	delay         text NOT NULL DEFAULT '', -- why the last try, if there was one, did not issue it
	pause         interval NOT NULL DEFAULT '0', -- after which that is tried again
	decided_at    timestamptz,
	decided_by    text NOT NULL DEFAULT '',
	comment       text NOT NULL DEFAULT '',
	issuer        bytea,
	epoch         integer,
	idx           bigint,
	serial        bytea,
	CHECK ((state = 3) = (issuer IS NOT NULL AND epoch IS NOT NULL AND idx IS NOT NULL AND serial IS NOT NULL))
);
CREATE INDEX approvals_open ON approvals (state, id) WHERE state IN (1, 2);

-- signet_approval_file keeps a new request, within bounds that are counted under a lock ("file" in ASCII).
CREATE FUNCTION signet_approval_file(p_id bytea, p_profile text, p_account text, p_asked text, p_expires interval, p_request text, p_digest bytea,
	p_per_account integer, p_total integer, p_audit audit_batch) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	v_own integer;
	v_all integer;
BEGIN
	PERFORM pg_advisory_xact_lock(x'66696c65'::bigint);
	-- A later statement: it sees what was filed while this one waited.
	SELECT count(*) FILTER (WHERE account = p_account), count(*) INTO v_own, v_all FROM approvals WHERE state = 1 AND expires_at > clock_timestamp();
	IF v_own >= p_per_account THEN
		RAISE EXCEPTION '% requests of account % wait for an approval already', v_own, p_account USING ERRCODE = 'SG429', HINT = 'have some of them decided first';
	ELSIF v_all >= p_total THEN
		RAISE EXCEPTION '% requests wait for an approval already', v_all USING ERRCODE = 'SG429', HINT = 'have some of them decided first';
	END IF;
	INSERT INTO approvals (id, state, profile, account, asked, filed_at, expires_at)
		VALUES (p_id, 1, p_profile, p_account, p_asked, clock_timestamp(), clock_timestamp() + p_expires);
	IF p_request <> '' THEN
		INSERT INTO issue_requests AS q (account, request_id, digest, approval, expires_at) VALUES (p_account, p_request, p_digest, p_id, 'infinity')
			ON CONFLICT (account, request_id) DO UPDATE SET digest = excluded.digest, issuer = NULL, epoch = NULL, idx = NULL,
				approval = excluded.approval, expires_at = excluded.expires_at WHERE q.expires_at <= clock_timestamp();
		IF NOT FOUND THEN
			RAISE EXCEPTION 'the request id was used within 24 hours' USING ERRCODE = 'SG409', COLUMN = 'request_id', HINT = 'use a new id for a new request';
		END IF;
	END IF;
	PERFORM signet_audit_append(p_audit);
END $$;

-- signet_approvals_wake has approved requests that wait for something tried at once: an issuer became active, which is
-- perhaps what they wait for. It passes over those that are being recorded, which may wait for the caller's lock.
CREATE FUNCTION signet_approvals_wake() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	UPDATE approvals SET claimed_until = clock_timestamp(), pause = '0'
		WHERE id IN (SELECT id FROM approvals WHERE state = 2 AND delay <> '' FOR UPDATE SKIP LOCKED);
END $$;

-- signet_approval_decide moves a request from one state to another. p_expires and p_claim are NULL but for an approval.
CREATE FUNCTION signet_approval_decide(p_id bytea, p_from smallint, p_to smallint, p_by text, p_comment text, p_expires interval, p_claim interval,
	p_audit audit_batch) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	v_now timestamptz; -- one time for all of it, read once the row is ours
BEGIN
	PERFORM FROM approvals WHERE id = p_id FOR UPDATE;
	v_now := clock_timestamp();
	UPDATE approvals SET state = p_to, decided_at = v_now, decided_by = p_by, comment = p_comment,
		expires_at = coalesce(v_now + p_expires, expires_at), claimed_until = v_now + p_claim
		WHERE id = p_id AND state = p_from AND expires_at > v_now;
	IF FOUND THEN
		PERFORM signet_audit_append(p_audit);
	ELSIF EXISTS (SELECT FROM approvals WHERE id = p_id) THEN
		RAISE EXCEPTION 'the request was decided, or has expired' USING ERRCODE = 'SG412', COLUMN = 'request';
	ELSE
		RAISE EXCEPTION 'there is no such request' USING ERRCODE = 'SG404', COLUMN = 'request';
	END IF;
END $$;

-- signet_epoch_partition makes the partitions of an epoch if there are none: a table apart, then ATTACH, which unlike
-- CREATE TABLE ... PARTITION OF does not wait for whoever inserts. The advisory lock is "epoch" in ASCII.
CREATE FUNCTION signet_epoch_partition(p_epoch integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	v_parent text;
BEGIN
	IF signet_epoch_known(p_epoch) THEN
		RETURN;
	END IF;
	PERFORM pg_advisory_xact_lock(x'65706f6368'::bigint);
	IF signet_epoch_known(p_epoch) THEN
		RETURN;
	END IF;
	FOREACH v_parent IN ARRAY ARRAY['certificates', 'certificate_names'] LOOP
		EXECUTE format('CREATE TABLE %1$I (LIKE %2$I INCLUDING ALL)', v_parent || '_' || p_epoch, v_parent);
		EXECUTE format('ALTER TABLE %2$I ATTACH PARTITION %1$I FOR VALUES IN (%3$s)', v_parent || '_' || p_epoch, v_parent, p_epoch);
	END LOOP;
END $$;

-- signet_epoch_known reads the catalogue in the snapshot of a statement of its own; to_regclass would answer from a cache
-- that waiting for an advisory lock does not refresh.
CREATE FUNCTION signet_epoch_known(p_epoch integer) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	RETURN EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'certificate_names'::regclass AND c.relname = 'certificate_names_' || p_epoch);
END $$;

-- signet_range_time is when ranges change: now, and always later than what is visible of other changes. Readers ask for what
-- changed after the last change they saw, so it must not go back when the clock is set back.
CREATE FUNCTION signet_range_time() RETURNS timestamptz LANGUAGE plpgsql VOLATILE AS $$
BEGIN
	RETURN greatest(clock_timestamp(), signet_ranges_changed() + interval '1 microsecond');
END $$;

-- signet_ranges_changed is when a range changed last.
CREATE FUNCTION signet_ranges_changed() RETURNS timestamptz LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
BEGIN
	RETURN coalesce((SELECT max(changed_at) FROM ranges), '-infinity');
END $$;

-- signet_range_reserve takes free indices first, then the next ones of the epoch, within one block of 2^14. A block is one
-- shard, whose list names one base URL: when that of the issuer has changed, a new block begins and what is left of the
-- old one is lost, so that nobody holds a certificate whose URL its list does not name yet.
CREATE FUNCTION signet_range_reserve(p_issuer bytea, p_epoch integer, p_count bigint, p_nonce bytea, p_owner bytea, p_lease interval)
	RETURNS TABLE (o_id bigint, o_from bigint, o_to bigint, o_base_url text) LANGUAGE plpgsql AS $$
DECLARE
	v_next bigint;
	v_free record;
	v_end  bigint;
	v_at   timestamptz;
BEGIN
	PERFORM signet_epoch_partition(p_epoch);
	INSERT INTO epochs (issuer, epoch, next_idx) SELECT p_issuer, p_epoch, r.count * 262144 FROM restores r ON CONFLICT DO NOTHING;
	IF FOUND THEN -- after a restore, whatever a lost copy of these books issued in this week is lost: store.LostIndices
		INSERT INTO ranges (issuer, epoch, from_idx, to_idx, state, key_from, nonce, owner, base_url, lease_until, changed_at)
			SELECT p_issuer, p_epoch, 0, r.count * 262144, 4, 0, p_nonce, p_owner, '', clock_timestamp(), signet_range_time() FROM restores r WHERE r.count > 0;
	END IF;
	SELECT next_idx INTO STRICT v_next FROM epochs WHERE issuer = p_issuer AND epoch = p_epoch FOR UPDATE;
	-- Later statements, so that they see what was changed, given back or taken while this one waited.
	SELECT base_url INTO o_base_url FROM issuers WHERE id = p_issuer;
	SELECT id, from_idx, to_idx INTO v_free FROM ranges WHERE issuer = p_issuer AND epoch = p_epoch AND state = 3 AND base_url = o_base_url ORDER BY from_idx LIMIT 1 FOR UPDATE;
	v_at := signet_range_time(); -- after the row is ours, and before it is deleted: it may be the one that changed last
	IF v_free.id IS NOT NULL THEN
		o_from := v_free.from_idx;
		o_to := least(v_free.to_idx, o_from + p_count);
		IF o_to = v_free.to_idx THEN
			DELETE FROM ranges WHERE id = v_free.id;
		ELSE
			UPDATE ranges SET from_idx = o_to, changed_at = v_at WHERE id = v_free.id;
		END IF;
	ELSE
		v_end := (v_next / 16384 + 1) * 16384;
		IF o_base_url <> (SELECT base_url FROM ranges WHERE issuer = p_issuer AND epoch = p_epoch AND from_idx >= v_end - 16384 AND state <> 4
				ORDER BY from_idx DESC LIMIT 1) THEN
			INSERT INTO ranges (issuer, epoch, from_idx, to_idx, state, key_from, nonce, owner, base_url, lease_until, changed_at)
				VALUES (p_issuer, p_epoch, v_next, v_end, 4, v_next, p_nonce, p_owner, '', clock_timestamp(), v_at);
			v_next := v_end;
			v_end := v_end + 16384;
		END IF;
		o_from := v_next;
		o_to := least(o_from + p_count, v_end);
		IF o_to > 1099511627776 THEN
			RAISE EXCEPTION 'all indices of epoch % are used', p_epoch USING ERRCODE = 'SG429';
		END IF;
		UPDATE epochs SET next_idx = o_to WHERE issuer = p_issuer AND epoch = p_epoch;
	END IF;
	INSERT INTO ranges (issuer, epoch, from_idx, to_idx, state, key_from, nonce, owner, base_url, lease_until, changed_at)
		VALUES (p_issuer, p_epoch, o_from, o_to, 1, o_from, p_nonce, p_owner, o_base_url, clock_timestamp() + p_lease, v_at)
		RETURNING id INTO o_id;
	PERFORM pg_notify('signet_ranges', ''); -- the universe reads ranges and ledger
	RETURN NEXT;
END $$;

-- signet_range_close ends a range: what p_unsigned_from .. p_unsigned_to hold was never signed and becomes free, what is
-- recorded stays, and the rest becomes void, in the ledger and in this transaction. p_serials[i] is the serial of index
-- from_idx + i - 1. It returns how many became void; a range that is closed already is left alone.
CREATE FUNCTION signet_range_close(p_id bigint, p_closer bytea, p_key bytea, p_serials bytea[], p_unsigned_from bigint[], p_unsigned_to bigint[],
	p_actor text, p_audit audit_batch) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
	v_range  ranges;
	v_now    timestamptz;
	v_at     timestamptz;
	v_void   ledger_entry[] := '{}';
	v_cursor bigint;
	v_run    record;
BEGIN
	SELECT * INTO v_range FROM ranges WHERE id = p_id FOR UPDATE;
	IF NOT FOUND OR v_range.state <> 1 THEN
		RETURN 0;
	END IF;
	IF v_range.owner <> p_closer AND (v_range.lease_until > clock_timestamp() OR cardinality(p_unsigned_from) > 0) THEN
		RAISE EXCEPTION 'the range is still in use by its owner' USING ERRCODE = 'SG412', COLUMN = 'range';
	END IF;
	v_now := clock_timestamp();
	v_at := signet_range_time(); -- before a row is deleted, which may be the one that changed last
	-- A later statement, so that it sees what was recorded while this one waited for the lock.
	IF EXISTS (SELECT FROM certificates c, unnest(p_unsigned_from, p_unsigned_to) AS u (f, t)
			WHERE c.issuer = v_range.issuer AND c.epoch = v_range.epoch AND c.idx >= u.f AND c.idx < u.t) THEN
		RAISE EXCEPTION 'an index that is said to be unsigned is recorded';
	END IF;
	-- Usually all are recorded, and to count is a tenth of the work of asking for each.
	IF cardinality(p_unsigned_from) > 0 OR v_range.to_idx - v_range.from_idx >
			(SELECT count(*) FROM certificates c WHERE c.issuer = v_range.issuer AND c.epoch = v_range.epoch AND c.idx >= v_range.from_idx AND c.idx < v_range.to_idx) THEN
		v_void := ARRAY(
			SELECT ROW(v_range.issuer, v_range.epoch, i, p_serials[i - v_range.from_idx + 1], 5, 0, v_now, NULL, NULL, p_actor, 0)::ledger_entry
			FROM generate_series(v_range.from_idx, v_range.to_idx - 1) AS i
			WHERE NOT EXISTS (SELECT FROM unnest(p_unsigned_from, p_unsigned_to) AS u (f, t) WHERE i >= u.f AND i < u.t)
			  AND NOT EXISTS (SELECT FROM certificates c WHERE c.issuer = v_range.issuer AND c.epoch = v_range.epoch AND c.idx = i)
			  AND NOT EXISTS (SELECT FROM ledger l WHERE l.issuer = v_range.issuer AND l.epoch = v_range.epoch AND l.idx = i)
			ORDER BY i);
	END IF;
	IF cardinality(p_unsigned_from) = 0 THEN
		UPDATE ranges SET state = 2, range_key = p_key, changed_at = v_at WHERE id = p_id;
	ELSE
		DELETE FROM ranges WHERE id = p_id;
		v_cursor := v_range.from_idx;
		FOR v_run IN SELECT u.f, u.t FROM unnest(p_unsigned_from || v_range.to_idx, p_unsigned_to || v_range.to_idx) AS u (f, t) ORDER BY u.f LOOP
			IF v_run.f > v_cursor THEN
				INSERT INTO ranges (issuer, epoch, from_idx, to_idx, state, key_from, nonce, owner, base_url, lease_until, range_key, changed_at)
					VALUES (v_range.issuer, v_range.epoch, v_cursor, v_run.f, 2, v_range.key_from, v_range.nonce, v_range.owner, v_range.base_url, v_range.lease_until, p_key, v_at);
			END IF;
			IF v_run.t > v_run.f THEN
				INSERT INTO ranges (issuer, epoch, from_idx, to_idx, state, key_from, nonce, owner, base_url, lease_until, changed_at)
					VALUES (v_range.issuer, v_range.epoch, v_run.f, v_run.t, 3, v_range.key_from, v_range.nonce, v_range.owner, v_range.base_url, v_range.lease_until, v_at);
			END IF;
			v_cursor := v_run.t;
		END LOOP;
	END IF;
	IF cardinality(v_void) > 0 THEN
		PERFORM signet_ledger_append(v_void);
		PERFORM signet_audit_append(p_audit);
	END IF;
	PERFORM pg_notify('signet_ranges', ''); -- the universe reads ranges and ledger
	RETURN cardinality(v_void);
END $$;

-- signet_ledger_names says that an entry after p_after names one of the serials. There are few entries after what anybody has
-- read, and a serial is 20 octets of which 12 are random: the issuer need not be compared.
CREATE FUNCTION signet_ledger_names(p_after bigint, p_serials bytea[]) RETURNS boolean LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
BEGIN
	RETURN EXISTS (SELECT FROM ledger WHERE seq > p_after AND serial = ANY (p_serials));
END $$;

-- What signet_record writes: a certificate with what is asked about it first, and a name. NULL: no request id, no approval.
CREATE TYPE issued AS (
	issuer     bytea,
	epoch      integer,
	idx        bigint,
	serial     bytea,
	range_id   bigint,
	profile    text,
	account    text,
	subject    text,
	spki_hash  bytea,
	not_before timestamptz,
	not_after  timestamptz,
	issued_at  timestamptz,
	der        bytea,
	material   bytea,
	request    text,
	digest     bytea,
	approval   bytea,
	authority  boolean
);
CREATE TYPE issued_name AS (
	reversed text,
	kind     smallint,
	issuer   bytea,
	epoch    integer,
	idx      bigint
);

-- signet_record records what was signed, all of it or none: if some entries cannot be recorded it writes nothing and
-- returns their numbers and outcomes (2 key blocked, 3 request id used, 4 range lost, 5 approval used, 6 news of an issuer, 7 issuer gone). Locks in order:
-- range rows in order of id, key blocks, approvals in order of id, issuers in order of id, audit head. p_requests and p_approvals say whether some entry
-- has a request id, or needed an approval; no entry has a name twice. p_hashes are what keys are blocked by, those in p_footing
-- too; p_certified are the hashes of the keys of issuers that are certified, and that nobody deletes from then on; p_used are the ranges of
-- the entries in order of id, with issuer, epoch, and the lowest and highest index. p_footing are the serials of the issuers' certificates
-- and of those above, and the hashes of the issuers' keys, as they were judged when the ledger ended at p_judged; NULL if no entry asks for that.
--
-- It runs for every batch, and for a small batch the start of a statement costs more than its rows: statements are few,
-- planned once (the lengths of the arrays say nothing about which plan is best), and what is wrong with which entry is
-- asked only if something is. Entries are rows: unnest of one array starts faster than of one for each column.
CREATE FUNCTION signet_record(p_owner bytea, p_entries issued[], p_names issued_name[], p_hashes bytea[], p_certified bytea[], p_requests boolean, p_approvals boolean,
	p_used bigint[], p_used_by bytea[], p_used_epoch integer[], p_used_from bigint[], p_used_to bigint[], p_judged bigint, p_footing bytea[], p_audit audit_batch)
	RETURNS TABLE (o_entry bigint, o_outcome integer) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
DECLARE
	v_lost     boolean := false;
	v_news     boolean;
	v_done     text;
	v_requests integer;
	v_inserted integer;
BEGIN
	-- A row that is locked is judged as it is once the lock is held, whatever the statement waited for. Usually there is one.
	FOR i IN 1 .. cardinality(p_used) LOOP
		PERFORM FROM ranges WHERE id = p_used[i] AND state = 1 AND owner = p_owner AND issuer = p_used_by[i] AND epoch = p_used_epoch[i]
			AND from_idx <= p_used_from[i] AND to_idx > p_used_to[i] FOR SHARE;
		v_lost := v_lost OR NOT FOUND;
	END LOOP;
	-- As signet_blocked_keys does; an assignment starts no query. The later statement sees what was blocked while this
	-- one waited.
	v_done := pg_advisory_xact_lock_shared(signet_key_blocks_lock())::text;
	IF p_approvals THEN
		PERFORM FROM approvals WHERE id = ANY (ARRAY(SELECT e.approval FROM unnest(p_entries) AS e)) ORDER BY id FOR UPDATE;
	END IF;
	IF cardinality(p_certified) > 0 THEN
		PERFORM FROM issuers WHERE spki_hash = ANY (p_certified) ORDER BY id FOR KEY SHARE;
	END IF;
	IF v_lost OR p_requests OR p_approvals OR cardinality(p_certified) > 0 OR EXISTS (SELECT FROM blocked_keys WHERE hash = ANY (p_hashes))
		OR p_judged < (SELECT max(seq) FROM ledger) AND signet_ledger_names(p_judged, p_footing) THEN
		v_news := signet_ledger_names(p_judged, p_footing) OR EXISTS (SELECT FROM blocked_keys WHERE hash = ANY (p_footing));
		RETURN QUERY SELECT x.n, x.outcome FROM (
			SELECT e.ordinality AS n, CASE
				WHEN NOT EXISTS (SELECT FROM ranges r WHERE r.id = e.range_id AND r.state = 1 AND r.owner = p_owner
					AND r.issuer = e.issuer AND r.epoch = e.epoch AND e.idx >= r.from_idx AND e.idx < r.to_idx) THEN 4
				WHEN EXISTS (SELECT FROM blocked_keys b WHERE b.hash IN (e.spki_hash, e.material)) THEN 2
				WHEN e.spki_hash = ANY (p_certified) AND NOT EXISTS (SELECT FROM issuers i WHERE i.spki_hash = e.spki_hash) THEN 7
				WHEN v_news THEN 6
				WHEN e.request IS NOT NULL AND EXISTS (SELECT FROM issue_requests q
					WHERE q.account = e.account AND q.request_id = e.request AND q.expires_at > clock_timestamp()) THEN 3
				WHEN e.approval IS NOT NULL AND NOT EXISTS (SELECT FROM approvals a
					WHERE a.id = e.approval AND a.state = 2 AND a.expires_at > clock_timestamp()) THEN 5
				END AS outcome
			FROM unnest(p_entries) WITH ORDINALITY AS e) AS x
			WHERE x.outcome IS NOT NULL;
		IF FOUND THEN
			RETURN;
		END IF;
	END IF;
	IF p_requests THEN
		SELECT count(e.request) INTO v_requests FROM unnest(p_entries) AS e;
		-- In one order, so that two batches with the same ids wait for each other and do not lock up.
		INSERT INTO issue_requests AS q (account, request_id, digest, issuer, epoch, idx, expires_at)
			SELECT e.account, e.request, e.digest, e.issuer, e.epoch, e.idx, clock_timestamp() + interval '24 hours'
			FROM unnest(p_entries) AS e WHERE e.request IS NOT NULL ORDER BY e.account, e.request
			ON CONFLICT (account, request_id) DO UPDATE SET digest = excluded.digest, issuer = excluded.issuer, epoch = excluded.epoch,
				idx = excluded.idx, approval = NULL, expires_at = excluded.expires_at WHERE q.expires_at <= clock_timestamp();
		GET DIAGNOSTICS v_inserted = ROW_COUNT;
		IF v_inserted <> v_requests THEN
			RAISE EXCEPTION 'another transaction used one of the request ids meanwhile' USING ERRCODE = 'SG912';
		END IF;
	END IF;
	INSERT INTO certificates (issuer, epoch, idx, serial, range_id, profile, account, subject, spki_hash, not_before, not_after, issued_at, der, authority)
		SELECT e.issuer, e.epoch, e.idx, e.serial, e.range_id, e.profile, e.account, e.subject, e.spki_hash, e.not_before, e.not_after, e.issued_at, e.der, e.authority
		FROM unnest(p_entries) AS e;
	INSERT INTO certificate_names (reversed, kind, issuer, epoch, idx) SELECT n.reversed, n.kind, n.issuer, n.epoch, n.idx FROM unnest(p_names) AS n;
	IF p_approvals THEN
		UPDATE approvals a SET state = 3, issuer = e.issuer, epoch = e.epoch, idx = e.idx, serial = e.serial
			FROM unnest(p_entries) AS e WHERE a.id = e.approval AND a.state = 2;
		GET DIAGNOSTICS v_inserted = ROW_COUNT;
		IF v_inserted <> (SELECT count(e.approval) FROM unnest(p_entries) AS e) THEN
			RAISE EXCEPTION 'two certificates for one approval';
		END IF;
	END IF;
	v_done := signet_audit_append(p_audit)::text;
END $$;

-- One row: how often every instance was asked to read its profile files; and what each said when it last did. Rows of instances
-- that are gone go after a day.
CREATE TABLE profile_rollout (
	one        boolean PRIMARY KEY DEFAULT true CHECK (one),
	generation bigint NOT NULL
);
INSERT INTO profile_rollout (generation) VALUES (0);
CREATE TABLE profile_reports (
	instance   bytea PRIMARY KEY CHECK (octet_length(instance) = 16),
	name       text NOT NULL,
	generation bigint NOT NULL, -- of the row above, when it read its files
	digest     bytea NOT NULL CHECK (octet_length(digest) = 32),
	count      integer NOT NULL,
	failure    text NOT NULL,   -- why its files were refused; '' if they are in effect
	at         timestamptz NOT NULL
);

-- signet_profile_report is rollout's Store.ReportProfiles.
CREATE FUNCTION signet_profile_report(p_ask boolean, p_instance bytea, p_name text, p_generation bigint, p_digest bytea, p_count integer, p_failure text,
	p_audit audit_batch) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	IF p_ask THEN
		UPDATE profile_rollout SET generation = generation + 1 WHERE one RETURNING generation INTO STRICT p_generation;
	END IF;
	DELETE FROM profile_reports r WHERE r.at < clock_timestamp() - interval '1 day' AND NOT EXISTS (SELECT FROM heartbeats h WHERE h.instance = r.instance);
	INSERT INTO profile_reports (instance, name, generation, digest, count, failure, at)
		VALUES (p_instance, p_name, p_generation, p_digest, p_count, p_failure, clock_timestamp())
		ON CONFLICT (instance) DO UPDATE SET name = excluded.name, generation = excluded.generation, digest = excluded.digest, count = excluded.count,
			failure = excluded.failure, at = excluded.at;
	PERFORM signet_audit_append(p_audit);
	RETURN p_generation;
END $$;
