-- What the publishers of CRLs know of each other. Room: crl/crlserver/store.go. Bookkeeping, like heartbeats: what is
-- audited is the ledger that the lists follow from.

-- One row per sequence of CRL numbers: a shard, or the complete list of an issuer and its deltas (epoch and block -1).
-- The number of the last lease is the fencing token: nothing is published with a smaller one.
CREATE TABLE publication_series (
	issuer      bytea NOT NULL CHECK (octet_length(issuer) = 10),
	epoch       integer NOT NULL,
	block       bigint NOT NULL,
	number      bigint NOT NULL,
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
	der          bytea,            -- null where every instance rebuilds it
	published_at timestamptz NOT NULL,
	PRIMARY KEY (issuer, epoch, block, kind),
	FOREIGN KEY (issuer, epoch, block) REFERENCES publication_series
);
ALTER TABLE publications ALTER COLUMN der SET STORAGE EXTERNAL; -- random octets do not compress
CREATE INDEX publications_at ON publications (published_at);

-- signet_publication_begin takes lease and number, at least the given one, in one statement; null if another owner has the lease
-- and is alive, as far as one can tell. An owner that only seemed dead loses to the fence.
CREATE FUNCTION signet_publication_begin(p_issuer bytea, p_epoch integer, p_block bigint, p_owner bytea, p_at_least bigint, p_lease bigint) RETURNS bigint LANGUAGE sql AS $$
	INSERT INTO publication_series AS s (issuer, epoch, block, number, owner, lease_until)
		SELECT p_issuer, p_epoch, p_block, greatest(r.count * 4294967296 + 1, p_at_least), p_owner, clock_timestamp() + p_lease * interval '1 microsecond' FROM restores r
	ON CONFLICT (issuer, epoch, block) DO UPDATE SET number = greatest(s.number + 1, p_at_least), owner = p_owner, lease_until = excluded.lease_until
		WHERE s.owner = p_owner OR s.lease_until <= clock_timestamp() OR signet_silent(s.owner)
	RETURNING number
$$;

-- signet_publication_finish checks the fence and ends the lease. SG911: somebody took a larger number.
CREATE FUNCTION signet_publication_finish(p_issuer bytea, p_epoch integer, p_block bigint, p_owner bytea, p_number bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	UPDATE publication_series SET lease_until = clock_timestamp()
		WHERE issuer = p_issuer AND epoch = p_epoch AND block = p_block AND owner = p_owner AND number = p_number;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'number % of series %/%-% was overtaken', p_number, encode(p_issuer, 'hex'), p_epoch, p_block USING ERRCODE = 'SG911';
	END IF;
END $$;

-- signet_publication_put stores one list, in the transaction of signet_publication_finish. SG911: it is not newer.
CREATE FUNCTION signet_publication_put(p_issuer bytea, p_epoch integer, p_block bigint, p_kind smallint, p_number bigint, p_seq bigint, p_from_epoch integer,
	p_this_update timestamptz, p_next_update timestamptz, p_base bigint, p_base_seq bigint, p_base_update timestamptz, p_urls text[], p_freshest text[], p_algorithm bytea,
	p_signature bytea, p_sum bytea, p_size bigint, p_entries bigint, p_final boolean, p_der bytea) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO publications AS p (issuer, epoch, block, kind, number, seq, from_epoch, this_update, next_update, base, base_seq, base_update, urls, freshest,
			algorithm, signature, sum, size, entries, final, der, published_at)
		VALUES (p_issuer, p_epoch, p_block, p_kind, p_number, p_seq, p_from_epoch, p_this_update, p_next_update, p_base, p_base_seq, p_base_update, p_urls, p_freshest,
			p_algorithm, p_signature, p_sum, p_size, p_entries, p_final, p_der, clock_timestamp())
	ON CONFLICT (issuer, epoch, block, kind) DO UPDATE SET number = excluded.number, seq = excluded.seq, from_epoch = excluded.from_epoch,
			this_update = excluded.this_update, next_update = excluded.next_update, base = excluded.base, base_seq = excluded.base_seq,
			base_update = excluded.base_update, urls = excluded.urls, freshest = excluded.freshest, algorithm = excluded.algorithm, signature = excluded.signature, sum = excluded.sum,
			size = excluded.size, entries = excluded.entries, final = excluded.final, der = excluded.der, published_at = excluded.published_at
		WHERE p.number < excluded.number AND p.seq <= excluded.seq;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'what is published of series %/%-% is newer', encode(p_issuer, 'hex'), p_epoch, p_block USING ERRCODE = 'SG911';
	END IF;
	PERFORM pg_notify('signet_publication', ''); -- a hint without data
END $$;

-- signet_publication_import stores a list that was made elsewhere, under the number it carries. SG911: it is not newer.
CREATE FUNCTION signet_publication_import(p_issuer bytea, p_kind smallint, p_number bigint, p_seq bigint, p_from_epoch integer, p_this_update timestamptz,
	p_next_update timestamptz, p_urls text[], p_algorithm bytea, p_sum bytea, p_size bigint, p_entries bigint, p_der bytea, p_audit audit_batch) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO publication_series AS s (issuer, epoch, block, number, owner, lease_until)
		VALUES (p_issuer, -1, -1, p_number, decode(repeat('00', 16), 'hex'), clock_timestamp())
	ON CONFLICT (issuer, epoch, block) DO UPDATE SET number = excluded.number, lease_until = excluded.lease_until WHERE s.number < excluded.number;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'number % of issuer % is not larger than the last', p_number, encode(p_issuer, 'hex') USING ERRCODE = 'SG911';
	END IF;
	PERFORM signet_publication_put(p_issuer, -1, -1, p_kind, p_number, p_seq, p_from_epoch, p_this_update, p_next_update, 0, 0, p_this_update, p_urls, '{}',
		p_algorithm, '', p_sum, p_size, p_entries, false, p_der);
	PERFORM signet_audit_append(p_audit);
END $$;
