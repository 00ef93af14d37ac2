-- audit_seal: what is decided is sealed into a hash chain, a slice at a time, and audit_verify() names the first row that is not what was
-- sealed.
--
-- A round notes how far seq has come (S) and which transaction id comes next (X). Whoever took a number up to S had an id below X by then,
-- so once every id below X is decided, the rows up to S are those that one can see, for ever. Long and prepared transactions delay that,
-- and nothing else (audit_status() shows by how much).
--
-- A row is worth the first 16 bytes of SHA-256 over its columns (src/pg/audit_digest.cpp); a seal lists them, and its head is
--   sha256(head of the seal before || after_seq || to_seq || sealed_at || rows)
-- with numbers and times as their send functions have them. All of it is the same after dump and restore, in any encoding.

CREATE TABLE tandem.audit_seal (
    to_seq    bigint PRIMARY KEY,
    after_seq bigint NOT NULL,
    sealed_at timestamptz NOT NULL,
    row_count integer NOT NULL,
    rows      bytea NOT NULL,
    head      bytea NOT NULL
);
ALTER TABLE tandem.audit_seal ALTER rows SET STORAGE EXTERNAL; -- digests do not compress
COMMENT ON TABLE tandem.audit_seal IS 'Seals: each vouches for the events with after_seq < seq <= to_seq, and for all seals before it';
COMMENT ON COLUMN tandem.audit_seal.rows IS '20 bytes for each event: seq - after_seq (4 bytes), digest (16 bytes)';
CREATE TRIGGER refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON tandem.audit_seal FOR EACH STATEMENT EXECUTE FUNCTION tandem.refuse_change();
ALTER TABLE tandem.audit_seal ENABLE ALWAYS TRIGGER refuse_statement;

CREATE TABLE tandem.audit_dropped (
    event_seq  bigint PRIMARY KEY,
    partition  text NOT NULL,
    seqs       int8multirange NOT NULL,
    until_seq  bigint NOT NULL,
    head       bytea NOT NULL
);
COMMENT ON TABLE tandem.audit_dropped IS 'Months that tandem.event_retention has dropped: which numbers are missing since, and where the chain begins now. The event of this number says the same';
CREATE TRIGGER refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON tandem.audit_dropped FOR EACH STATEMENT EXECUTE FUNCTION tandem.refuse_change();
ALTER TABLE tandem.audit_dropped ENABLE ALWAYS TRIGGER refuse_statement;

-- Not carried by pg_dump: transaction ids mean nothing elsewhere.
CREATE TABLE tandem.audit_progress (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    seq         bigint NOT NULL,        -- S
    xid         xid8 NOT NULL,          -- X
    noted_at    timestamptz NOT NULL,
    sealed_seq  bigint NOT NULL,        -- of the last seal that was made here
    sealed_head bytea NOT NULL,
    logged_at   timestamptz NOT NULL DEFAULT '-infinity',
    upkeep_at   timestamptz NOT NULL DEFAULT '-infinity',
    broken      text
) WITH (fillfactor = 50);
COMMENT ON TABLE tandem.audit_progress IS 'How far sealing has come in this database, and what it waits for';

CREATE FUNCTION tandem.audit_bound(OUT seq bigint, OUT xid xid8)
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tandem_audit_bound';
COMMENT ON FUNCTION tandem.audit_bound IS 'The last number that was taken, and then the next transaction id';

-- No advisory lock: anybody could hold that one, and so keep events from being sealed.
CREATE FUNCTION tandem.audit_lock() RETURNS boolean
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tandem_audit_lock';
COMMENT ON FUNCTION tandem.audit_lock IS 'Takes the lock of sealing until the transaction ends; false: another session has it';

CREATE FUNCTION tandem.audit_digests(after_seq bigint, upto_seq bigint, OUT to_seq bigint, OUT row_count integer, OUT rows bytea)
LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'tandem_audit_digests';
COMMENT ON FUNCTION tandem.audit_digests IS 'Digests of the visible events of these numbers, as many as a few milliseconds allow; to_seq: how far it came';

CREATE FUNCTION tandem.audit_prune(until_seq bigint) RETURNS bigint
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'tandem_audit_prune';
COMMENT ON FUNCTION tandem.audit_prune IS 'Removes the seals of events that retention has dropped; for audit_retention() only';

CREATE FUNCTION tandem.audit_restoring() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhparent = 'tandem.event'::regclass
                      AND NOT EXISTS (SELECT FROM pg_index AS x WHERE x.indrelid = i.inhrelid))
$$;
COMMENT ON FUNCTION tandem.audit_restoring IS 'Is a dump being restored here? Partitions get their indexes last. Until then no event is written and nothing sealed';

-- SECURITY DEFINER: levels may not read the seals.
CREATE FUNCTION tandem.audit_status(
    OUT sealed_seq bigint, OUT head text, OUT sealed_at timestamptz, OUT last_seq bigint, OUT lag interval, OUT broken text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.to_seq, encode(s.head, 'hex'), s.sealed_at, pg_sequence_last_value('tandem.event_seq'),
           coalesce(clock_timestamp() - (SELECT e.at FROM tandem.event AS e WHERE e.seq > coalesce(s.to_seq, 0) ORDER BY e.seq LIMIT 1), interval '0'),
           (SELECT p.broken FROM tandem.audit_progress AS p)
      FROM (SELECT) AS one LEFT JOIN LATERAL (SELECT x.* FROM tandem.audit_seal AS x ORDER BY x.to_seq DESC LIMIT 1) AS s ON true
$$;
COMMENT ON FUNCTION tandem.audit_status IS 'The end of the chain, to be kept elsewhere (sealed_seq, head), and how old the oldest event is that is not sealed yet (lag)';

-- The settings: the index on seq is the way, also before anything was analysed; and what is "off" counts as dear, which would start the JIT compiler.
CREATE FUNCTION tandem.audit_seal_round() RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
AS $$
DECLARE
    p tandem.audit_progress;
    before tandem.audit_progress;
    last record;
    slice record;
    bound record;
    now_at timestamptz := clock_timestamp();
    more boolean := false;
BEGIN
    IF pg_is_in_recovery() OR NOT tandem.audit_lock() THEN
        RETURN false;
    END IF;
    SELECT x.* INTO p FROM tandem.audit_progress AS x;
    IF p.broken IS NOT NULL THEN
        RETURN false;
    END IF;
    bound := tandem.audit_bound();
    IF bound.seq IS NULL OR (p.seq IS NOT NULL AND p.seq <= p.sealed_seq AND bound.seq <= p.seq AND now_at < p.upkeep_at + interval '1 hour') THEN
        RETURN false;
    END IF;
    IF tandem.audit_restoring() THEN
        RETURN false;
    END IF;
    SELECT s.to_seq, s.head INTO last FROM tandem.audit_seal AS s ORDER BY s.to_seq DESC LIMIT 1;
    IF NOT FOUND THEN
        SELECT coalesce(max(d.until_seq), 0) AS to_seq, coalesce((array_agg(d.head ORDER BY d.until_seq DESC))[1], decode(repeat('00', 32), 'hex')) AS head
          INTO last FROM tandem.audit_dropped AS d;
    END IF;
    IF p.one IS NULL THEN
        INSERT INTO tandem.audit_progress (seq, xid, noted_at, sealed_seq, sealed_head)
        VALUES (bound.seq, bound.xid, now_at, last.to_seq, last.head) RETURNING * INTO p;
    ELSIF last.to_seq <> p.sealed_seq OR last.head <> p.sealed_head THEN
        UPDATE tandem.audit_progress SET broken = format('the last seal was made up to event %s, but the last one there ends at %s', p.sealed_seq, last.to_seq);
        RAISE WARNING 'the seals of the audit record were altered'
              USING DETAIL = format('The last seal was made up to event %s; the last one there ends at %s.', p.sealed_seq, last.to_seq),
                    HINT = 'SELECT * FROM tandem.audit_verify(). Nothing is sealed until a superuser runs: DELETE FROM tandem.audit_progress.';
        RETURN false;
    END IF;

    before := p;

    -- Whether all is decided, and which rows there are, must be of the same snapshot.
    SELECT d.* INTO slice FROM tandem.audit_digests(last.to_seq, p.seq) AS d WHERE pg_snapshot_xmin(pg_current_snapshot()) >= p.xid;
    IF slice.to_seq IS NULL THEN
        RETURN false; -- not decided
    END IF;
    IF slice.row_count > 0 OR slice.to_seq < p.seq THEN -- an empty one: over a gap that is wider than the offsets of one seal
        p.sealed_seq := slice.to_seq;
        p.sealed_head := sha256(last.head || int8send(last.to_seq) || int8send(slice.to_seq) || timestamptz_send(now_at) || slice.rows);
        INSERT INTO tandem.audit_seal VALUES (slice.to_seq, last.to_seq, now_at, slice.row_count, slice.rows, p.sealed_head);
    END IF;
    more := slice.to_seq < p.seq;
    IF NOT more AND (now_at > p.noted_at + interval '1 second' OR bound.seq >= p.seq + 1000) THEN
        p.seq := bound.seq;
        p.xid := bound.xid;
        p.noted_at := now_at;
    END IF;
    IF p.logged_at < now_at - interval '1 day' AND p.sealed_seq > 0 AND NOT more THEN
        RAISE LOG 'pg_tandem: audit record of database "%" sealed up to event %, head %', current_database(), p.sealed_seq, encode(p.sealed_head, 'hex');
        p.logged_at := now_at;
    END IF;
    IF p.upkeep_at < now_at - interval '1 hour' AND NOT more THEN
        PERFORM tandem.audit_upkeep(p.sealed_seq);
        p.upkeep_at := now_at;
    END IF;
    IF p IS DISTINCT FROM before THEN
        UPDATE tandem.audit_progress
           SET seq = p.seq, xid = p.xid, noted_at = p.noted_at, sealed_seq = p.sealed_seq, sealed_head = p.sealed_head, logged_at = p.logged_at, upkeep_at = p.upkeep_at;
    END IF;
    RETURN more;
END
$$;
COMMENT ON FUNCTION tandem.audit_seal_round IS 'Seals a slice of the decided events; true: there is more to do now. Called by the worker and by tick()';

CREATE FUNCTION tandem.audit_upkeep(sealed_seq bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
AS $$
DECLARE
    month timestamp := date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC' + interval '3 days');
BEGIN
    BEGIN
        -- Three days ahead, so that the first event of a month waits for nobody; but never the first partition of all.
        IF EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhparent = 'tandem.event'::regclass) THEN
            PERFORM tandem.make_event_partition(('event_' || to_char(month, 'YYYY_MM'))::name, month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
        END IF;
        PERFORM tandem.audit_retention(sealed_seq);
    EXCEPTION WHEN lock_not_available THEN
        NULL; -- in an hour
    END;
END
$$;
COMMENT ON FUNCTION tandem.audit_upkeep IS 'Makes the next month''s partition ahead of time, and drops those that are past tandem.event_retention';

-- What was dropped is itself an event, so it is sealed.
CREATE FUNCTION tandem.audit_retention(sealed_seq bigint DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
DECLARE
    keep text := current_setting('tandem.event_retention', true);
    m record;
    span int8range;
    gone int8multirange;
    anchor record;
    dropped integer := 0;
BEGIN
    IF coalesce(keep, '') IN ('', 'forever') THEN
        RETURN 0;
    END IF;
    sealed_seq := coalesce(sealed_seq, (SELECT max(s.to_seq) FROM tandem.audit_seal AS s));
    FOR m IN
        SELECT c.oid::regclass AS relation, c.relname::text AS name
          FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'tandem.event'::regclass AND c.relname ~ '^event_\d{4}_\d\d$'
           AND (to_timestamp(substr(c.relname, 7), 'YYYY_MM')::timestamp + interval '1 month' + keep::interval) AT TIME ZONE 'UTC' < clock_timestamp()
         ORDER BY c.relname
    LOOP
        EXECUTE format('SELECT CASE WHEN min(seq) IS NULL THEN ''empty'' ELSE int8range(min(seq), max(seq), ''[]'') END FROM %s', m.relation) INTO span;
        CONTINUE WHEN upper(span) - 1 > coalesce(sealed_seq, 0); -- not sealed yet
        -- All numbers from the first to the last one, but for those of other months in between.
        SELECT coalesce(int8multirange(span), '{}') - coalesce(range_agg(int8range(e.seq, e.seq, '[]')), '{}') INTO gone
          FROM tandem.event AS e WHERE e.seq >= lower(span) AND e.seq < upper(span) AND e.tableoid <> m.relation;
        EXECUTE format('DROP TABLE %s', m.relation);
        dropped := dropped + 1;
        CONTINUE WHEN isempty(gone);

        SELECT s.to_seq, s.head INTO anchor FROM tandem.audit_seal AS s
         WHERE s.to_seq < coalesce((SELECT min(e.seq) FROM tandem.event AS e), sealed_seq) AND s.to_seq < sealed_seq ORDER BY s.to_seq DESC LIMIT 1;
        IF NOT FOUND THEN
            SELECT coalesce(max(d.until_seq), 0) AS to_seq, coalesce((array_agg(d.head ORDER BY d.until_seq DESC))[1], decode(repeat('00', 32), 'hex')) AS head
              INTO anchor FROM tandem.audit_dropped AS d;
        END IF;
        INSERT INTO tandem.audit_dropped
        SELECT tandem.append_event('retention', format('older than %s', keep),
                   jsonb_build_object('partition', m.name, 'seqs', gone, 'until_seq', anchor.to_seq, 'head', encode(anchor.head, 'hex'))),
               m.name, gone, anchor.to_seq, anchor.head;
        PERFORM tandem.audit_prune(anchor.to_seq);
    END LOOP;
    RETURN dropped;
END
$$;
COMMENT ON FUNCTION tandem.audit_retention IS 'Drops the months that are older than tandem.event_retention and sealed; returns how many';

-- SECURITY DEFINER, as audit_status(): it reads what levels may not, and tells numbers only.
CREATE FUNCTION tandem.audit_verify(
    from_seq bigint DEFAULT NULL, to_seq bigint DEFAULT NULL,
    OUT ok boolean, OUT first_bad bigint, OUT head text, OUT rows bigint, OUT dropped bigint, OUT reason text)
LANGUAGE c STABLE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'tandem_audit_verify'
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off;
COMMENT ON FUNCTION tandem.audit_verify IS 'Compares the events with their seals: first_bad is the first number for which they do not agree. head: of the chain at to_seq, to be compared with one that was kept elsewhere';
