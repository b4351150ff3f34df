-- What the publishers of CRLs know of each other. Room: crl/crlserver/store.go. Bookkeeping, like heartbeats: what is
-- audited is the ledger that the lists follow from.

-- One row per sequence of CRL numbers: a shard, or the complete list of an issuer and its deltas (epoch and block -1).
-- The number of the last lease is the fencing token: nothing is published with a smaller one.
CREATE TABLE publication_series (
	issuer      bytea NOT NULL CHECK (octet_length(issuer) = 10),
	epoch       integer NOT NULL,
	block       bigint NOT NULL,
	number      bigint NOT NULL,
	published   bigint NOT NULL DEFAULT 0, -- how many were finished with: durable, as a number that was only taken is not
	owner       bytea NOT NULL CHECK (octet_length(owner) = 16),
	lease_until timestamptz NOT NULL,
	PRIMARY KEY (issuer, epoch, block)
) WITH (fillfactor = 50);

-- The last publication of each list. kind: 1 shard, 2 complete, 3 delta (crlserver.Kind).
CREATE TABLE publications (
	issuer       bytea NOT NULL,
	epoch        integer NOT NULL,
	block        bigint NOT NULL,
	kind         smallint NOT NULL CHECK (kind BETWEEN 1 AND 3),
	number       bigint NOT NULL,
	seq          bigint NOT NULL,  -- the ledger up to here
	from_epoch   integer NOT NULL, -- first week on it
	this_update  timestamptz NOT NULL,
	next_update  timestamptz NOT NULL,
	base         bigint NOT NULL,
	base_seq     bigint NOT NULL,
	base_update  timestamptz NOT NULL,
	urls         text[] NOT NULL,
	freshest     text[] NOT NULL,
	algorithm    bytea NOT NULL,
	signature    bytea NOT NULL,
	sum          bytea NOT NULL CHECK (octet_length(sum) = 32),
	size         bigint NOT NULL,
	entries      bigint NOT NULL,
	final        boolean NOT NULL,
	expired      bytea NOT NULL DEFAULT '' CHECK (octet_length(expired) % 20 = 0), -- serials that an imported list need not have
	der          bytea,            -- null where every instance rebuilds it
	published_at timestamptz NOT NULL,
	published_in bigint NOT NULL,  -- published_at in units of 16 seconds
	PRIMARY KEY (issuer, epoch, block, kind),
	FOREIGN KEY (issuer, epoch, block) REFERENCES publication_series
) WITH (fillfactor = 50);
ALTER TABLE publications ALTER COLUMN der SET STORAGE EXTERNAL; -- random octets do not compress
-- A list may be published many times a second. While no column of an index changes, PostgreSQL writes the new row beside the old one and clears that
-- away as it goes; with published_at itself in an index, each publication had to find its way through all rows since the last vacuum.
CREATE INDEX publications_in ON publications (published_in);
CREATE FUNCTION signet_published_in(p_at timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT floor(extract(epoch FROM p_at) / 16)::bigint $$;

-- signet_publication_begin takes lease and number; null if a list of the series is published with a larger number than p_seen, or if
-- another owner has the lease and is alive, as far as one can tell. An owner that only seemed dead loses to the fence. The number
-- need not be durable by itself: it is once something is published with it, and means nothing before.
CREATE FUNCTION signet_publication_begin(p_issuer bytea, p_epoch integer, p_block bigint, p_owner bytea, p_seen bigint, p_lease bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	v_number bigint;
BEGIN
	-- Most who come late learn it here, without a lock and without a write.
	IF EXISTS (SELECT FROM publications p WHERE p.issuer = p_issuer AND p.epoch = p_epoch AND p.block = p_block AND p.number > p_seen)
		OR EXISTS (SELECT FROM publication_series s WHERE s.issuer = p_issuer AND s.epoch = p_epoch AND s.block = p_block
			AND s.owner <> p_owner AND s.lease_until > clock_timestamp() AND NOT signet_silent(s.owner)) THEN
		RETURN NULL;
	END IF;
	PERFORM set_config('synchronous_commit', 'off', true);
	INSERT INTO publication_series AS s (issuer, epoch, block, number, owner, lease_until)
		SELECT p_issuer, p_epoch, p_block, r.count * 4294967296 + 1, p_owner, clock_timestamp() + p_lease * interval '1 microsecond' FROM restores r
	ON CONFLICT (issuer, epoch, block) DO UPDATE SET number = greatest(s.number + 1, excluded.number), owner = p_owner, lease_until = excluded.lease_until
		WHERE s.owner = p_owner OR s.lease_until <= clock_timestamp() OR signet_silent(s.owner)
	RETURNING number INTO v_number;
	-- A later statement, so that it sees what was published while this one waited for the row.
	IF v_number IS NOT NULL AND EXISTS (SELECT FROM publications p WHERE p.issuer = p_issuer AND p.epoch = p_epoch AND p.block = p_block AND p.number > p_seen) THEN
		UPDATE publication_series s SET lease_until = clock_timestamp() WHERE s.issuer = p_issuer AND s.epoch = p_epoch AND s.block = p_block;
		RETURN NULL;
	END IF;
	RETURN v_number;
END $$;

-- signet_publication_finish checks the fence, ends the lease and counts. SG911: somebody took a larger number.
CREATE FUNCTION signet_publication_finish(p_issuer bytea, p_epoch integer, p_block bigint, p_owner bytea, p_number bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	UPDATE publication_series SET lease_until = clock_timestamp(), published = published + 1
		WHERE issuer = p_issuer AND epoch = p_epoch AND block = p_block AND owner = p_owner AND number = p_number;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'number % of series %/%-% was overtaken', p_number, encode(p_issuer, 'hex'), p_epoch, p_block USING ERRCODE = 'SG911';
	END IF;
END $$;

-- signet_publication_put stores one list, in the transaction of signet_publication_finish. SG911: it is not newer.
CREATE FUNCTION signet_publication_put(p_issuer bytea, p_epoch integer, p_block bigint, p_kind smallint, p_number bigint, p_seq bigint, p_from_epoch integer,
	p_this_update timestamptz, p_next_update timestamptz, p_base bigint, p_base_seq bigint, p_base_update timestamptz, p_urls text[], p_freshest text[], p_algorithm bytea,
	p_signature bytea, p_sum bytea, p_size bigint, p_entries bigint, p_final boolean, p_der bytea) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	v_now timestamptz := clock_timestamp();
BEGIN
	INSERT INTO publications AS p (issuer, epoch, block, kind, number, seq, from_epoch, this_update, next_update, base, base_seq, base_update, urls, freshest,
			algorithm, signature, sum, size, entries, final, der, published_at, published_in)
		VALUES (p_issuer, p_epoch, p_block, p_kind, p_number, p_seq, p_from_epoch, p_this_update, p_next_update, p_base, p_base_seq, p_base_update, p_urls, p_freshest,
			p_algorithm, p_signature, p_sum, p_size, p_entries, p_final, p_der, v_now, signet_published_in(v_now))
	ON CONFLICT (issuer, epoch, block, kind) DO UPDATE SET number = excluded.number, seq = excluded.seq, from_epoch = excluded.from_epoch,
			this_update = excluded.this_update, next_update = excluded.next_update, base = excluded.base, base_seq = excluded.base_seq,
			base_update = excluded.base_update, urls = excluded.urls, freshest = excluded.freshest, algorithm = excluded.algorithm, signature = excluded.signature, sum = excluded.sum,
			size = excluded.size, entries = excluded.entries, final = excluded.final, der = excluded.der, published_at = excluded.published_at, published_in = excluded.published_in
		WHERE p.number < excluded.number AND p.seq <= excluded.seq;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'what is published of series %/%-% is newer', encode(p_issuer, 'hex'), p_epoch, p_block USING ERRCODE = 'SG911';
	END IF;
	PERFORM pg_notify('signet_publication', ''); -- a hint without data
END $$;

-- signet_publication_import stores a list that was made elsewhere, under the number it carries. SG911: it is not newer.
CREATE FUNCTION signet_publication_import(p_issuer bytea, p_kind smallint, p_number bigint, p_seq bigint, p_from_epoch integer, p_this_update timestamptz,
	p_next_update timestamptz, p_urls text[], p_algorithm bytea, p_sum bytea, p_size bigint, p_entries bigint, p_expired bytea, p_der bytea, p_audit audit_batch) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO publication_series AS s (issuer, epoch, block, number, published, owner, lease_until)
		VALUES (p_issuer, -1, -1, p_number, 1, decode(repeat('00', 16), 'hex'), clock_timestamp())
	ON CONFLICT (issuer, epoch, block) DO UPDATE SET number = excluded.number, published = s.published + 1, lease_until = excluded.lease_until WHERE s.number < excluded.number;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'number % of issuer % is not larger than the last', p_number, encode(p_issuer, 'hex') USING ERRCODE = 'SG911';
	END IF;
	PERFORM signet_publication_put(p_issuer, -1, -1, p_kind, p_number, p_seq, p_from_epoch, p_this_update, p_next_update, 0, 0, p_this_update, p_urls, '{}',
		p_algorithm, '', p_sum, p_size, p_entries, false, p_der);
	UPDATE publications SET expired = p_expired WHERE issuer = p_issuer AND epoch = -1 AND block = -1 AND kind = p_kind;
	PERFORM signet_audit_append(p_audit);
END $$;
