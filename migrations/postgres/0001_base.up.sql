-- The audit log and the books of running instances. Everything else refers to this file's functions.

-- signet_append_only refuses to change what was written: status and audit are histories.
CREATE FUNCTION signet_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'table % is append-only', TG_TABLE_NAME USING ERRCODE = 'SG412';
END $$;

-- One row: the end of the audit chain. Its row lock orders the batches; it is the last lock that any transaction takes.
CREATE TABLE audit_head (
	one  boolean PRIMARY KEY DEFAULT true CHECK (one),
	seq  bigint NOT NULL,
	head bytea  NOT NULL
) WITH (fillfactor = 10);
INSERT INTO audit_head (seq, head) VALUES (0, decode(repeat('00', 32), 'hex'));

-- One row for each transaction that was audited: the events (first .. last) and the chain after them. The tables of the log
-- have no CHECK: PostgreSQL parses it again for every statement, and only one function, which checks, writes to them.
CREATE TABLE audit_batches (
	last  bigint PRIMARY KEY,
	first bigint NOT NULL,
	head  bytea  NOT NULL
);

CREATE TABLE audit_events (
	seq     bigint PRIMARY KEY,
	at      timestamptz NOT NULL,
	actor   text NOT NULL,
	action  text NOT NULL,
	target  text NOT NULL,
	outcome text NOT NULL,
	request text NOT NULL,
	source  text NOT NULL,
	detail  text NOT NULL -- canonical JSON: an object of strings, keys sorted
);
CREATE INDEX audit_events_target ON audit_events (target, seq);
CREATE INDEX audit_events_at ON audit_events USING brin (at) WITH (autosummarize = on); -- rows are nearly in this order

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events FOR EACH STATEMENT EXECUTE FUNCTION signet_append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_batches FOR EACH STATEMENT EXECUTE FUNCTION signet_append_only();

CREATE TYPE audit_event AS (
	at      timestamptz,
	actor   text,
	action  text,
	target  text,
	outcome text,
	request text,
	source  text,
	detail  text
);

-- audit_batch is the argument of signet_audit_append: audit.BatchHash, and the events in order. In Go it is auditBatch.
CREATE TYPE audit_batch AS (
	hash   bytea,
	events audit_event[]
);

-- signet_audit_append writes one batch as the last act of the calling transaction. NULL, or no events, writes nothing. It is
-- one statement, since every batch of certificates waits for it; no row of a later part is written before the head is locked.
CREATE FUNCTION signet_audit_append(p_audit audit_batch) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	v_count integer := coalesce(cardinality(p_audit.events), 0);
BEGIN
	IF v_count = 0 THEN
		RETURN;
	END IF;
	WITH h AS (UPDATE audit_head SET seq = seq + v_count, head = sha256(head || p_audit.hash) WHERE one RETURNING seq, head),
		b AS (INSERT INTO audit_batches (last, first, head) SELECT h.seq, h.seq - v_count + 1, h.head FROM h)
	INSERT INTO audit_events (seq, at, actor, action, target, outcome, request, source, detail)
		SELECT h.seq - v_count + e.ordinality, e.at, e.actor, e.action, e.target, CASE WHEN e.outcome IN ('ok', 'refused', 'failed') THEN e.outcome END,
			e.request, e.source, e.detail
		FROM h, unnest(p_audit.events) WITH ORDINALITY AS e;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'the audit log has no head';
	END IF;
END $$;

-- signet_time turns Unix microseconds into a time, exactly: the product is an integer below 2^53. STABLE, as the operator
-- inside is: PostgreSQL puts the body in the place of the call only if the function promises no more than the body.
CREATE FUNCTION signet_time(p_micros bigint) RETURNS timestamptz LANGUAGE sql STABLE STRICT AS $$
	SELECT timestamptz 'epoch' + p_micros * interval '1 microsecond'
$$;

-- What each product of each running instance has reached. Rows are overwritten in place and age out by `at`.
CREATE TABLE heartbeats (
	instance bytea NOT NULL CHECK (octet_length(instance) = 16),
	product  text NOT NULL,
	seq      bigint NOT NULL,
	at       timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (instance, product)
) WITH (fillfactor = 50);

-- signet_silent says that an instance reported every second and has stopped, without saying so: it was killed, or is cut
-- off. What it holds may be taken over at once, by whoever does not depend on its being dead.
CREATE FUNCTION signet_silent(p_instance bytea) RETURNS boolean LANGUAGE sql AS $$
	SELECT coalesce(max(at) < clock_timestamp() - interval '3 seconds', false) FROM heartbeats WHERE instance = p_instance
$$;

-- One row: how often these books were moved past what a lost copy of them may have handed out. What begins afterwards,
-- a week of serials or a series of CRL numbers, begins above what the lost copy can have reached.
CREATE TABLE restores (
	one   boolean PRIMARY KEY DEFAULT true CHECK (one),
	count bigint NOT NULL
);
INSERT INTO restores (count) VALUES (0);

-- signet_json writes a string as encoding/json does, which escapes more than PostgreSQL. STABLE as signet_time is, for the same reason.
CREATE FUNCTION signet_json(p_text text) RETURNS text LANGUAGE sql STABLE STRICT AS $$
	SELECT replace(replace(replace(replace(replace(to_json(p_text)::text, '<', '\u003c'), '>', '\u003e'), '&', '\u0026'),
		U&'\2028', '\u2028'), U&'\2029', '\u2029')
$$;

-- signet_audit_event makes the argument of signet_audit_append for one successful event whose detail is known only
-- inside the transaction: what auditParam does in Go. p_detail is an object of strings.
CREATE FUNCTION signet_audit_event(p_at bigint, p_actor text, p_action text, p_target text, p_request text, p_source text, p_detail jsonb)
	RETURNS audit_batch LANGUAGE plpgsql STABLE AS $$
DECLARE
	v_detail text;
	v_leaf   bytea;
BEGIN
	SELECT '{' || coalesce(string_agg(signet_json(d.key) || ':' || signet_json(d.value), ',' ORDER BY d.key COLLATE "C"), '') || '}'
		INTO v_detail FROM jsonb_each_text(p_detail) d;
	v_leaf := sha256(convert_to('signet audit event 1{"at":' || p_at || ',"actor":' || signet_json(p_actor) || ',"action":' || signet_json(p_action)
		|| ',"target":' || signet_json(p_target) || ',"outcome":"ok","request":' || signet_json(p_request) || ',"source":' || signet_json(p_source)
		|| ',"detail":' || v_detail || '}', 'UTF8'));
	RETURN ROW(sha256('signet audit batch 1'::bytea || int8send(1) || v_leaf),
		ARRAY[ROW(signet_time(p_at), p_actor, p_action, p_target, 'ok', p_request, p_source, v_detail)::audit_event])::audit_batch;
END $$;
