-- audit: the append-only record of what happened to runs and tasks, and of what people did. Writers only insert; the worker seals what is
-- decided into a hash chain (08_audit_seal.sql).
--
-- One partition a month (UTC), made when the first event of the month is written, never by CREATE EXTENSION: a restore brings its own.
-- Indexes and TRUNCATE triggers stand on the partitions, not on this table: what stands here is made anew on every partition that a
-- restore attaches, and pg_dump's own CREATE INDEX would then find the name taken. Row triggers are different: pg_dump leaves their copies out.

CREATE SEQUENCE tandem.event_seq;
COMMENT ON SEQUENCE tandem.event_seq IS 'Numbers of events, in the order in which they were appended, of committed and aborted transactions alike';

-- No defaults: a row comes from append_event(), which takes a transaction id before it takes seq, as sealing needs it.
CREATE TABLE tandem.event (
    seq      bigint NOT NULL,
    at       timestamptz NOT NULL,
    lsn      pg_lsn,
    kind     text NOT NULL,
    actor    text NOT NULL,
    role     text NOT NULL,
    client   text,
    reason   text,
    run      text,
    stage    text,
    phase    text,
    weight   integer,
    epoch    bigint,
    task_id  uuid,
    state    text,
    version  bigint,
    evidence jsonb
) PARTITION BY RANGE (at);
COMMENT ON TABLE tandem.event IS 'Append-only record: every verb, every transition and every change of a task, with who, why, the state after it, and evidence';
COMMENT ON COLUMN tandem.event.seq IS 'Order in which events were begun; numbers of transactions that failed are missing';
COMMENT ON COLUMN tandem.event.lsn IS 'Where the write-ahead log was when the event was written';
COMMENT ON COLUMN tandem.event.actor IS 'The user that logged in (session_user)';
COMMENT ON COLUMN tandem.event.role IS 'The role in whose name it acted (SET ROLE)';
COMMENT ON COLUMN tandem.event.client IS 'application_name';

CREATE FUNCTION tandem.append_event(
    kind text, reason text DEFAULT NULL, evidence jsonb DEFAULT NULL,
    run text DEFAULT NULL, stage text DEFAULT NULL, phase text DEFAULT NULL, weight integer DEFAULT NULL, epoch bigint DEFAULT NULL,
    at timestamptz DEFAULT NULL, task_id uuid DEFAULT NULL, state text DEFAULT NULL, version bigint DEFAULT NULL)
RETURNS bigint
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'tandem_append_event';
COMMENT ON FUNCTION tandem.append_event IS 'Appends an event in the name of the session; returns its seq. For our own functions';

CREATE FUNCTION tandem.refuse_change() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'tandem_refuse_change';
COMMENT ON FUNCTION tandem.refuse_change IS 'Trigger: refuses UPDATE, DELETE and TRUNCATE of the audit record, whoever asks';

-- ALWAYS: session_replication_role does not get around it. The row trigger is copied to every partition.
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON tandem.event FOR EACH ROW EXECUTE FUNCTION tandem.refuse_change();
CREATE TRIGGER refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON tandem.event FOR EACH STATEMENT EXECUTE FUNCTION tandem.refuse_change();
ALTER TABLE tandem.event ENABLE ALWAYS TRIGGER refuse_change, ENABLE ALWAYS TRIGGER refuse_statement;

-- Two indexes are written to by an event of a task: the one on seq, which sealing and audit_verify() follow, and for the history of a task a
-- BRIN with Bloom filters, which costs the writer a tenth of what a B-tree does; autovacuum summarises it (docs/audit.md has the figures).
--
-- Called by append_event() as the owner of tandem.event, in the transaction that needs the month; whoever needs it too waits for that one.
CREATE FUNCTION tandem.make_event_partition(name name, from_at timestamptz, to_at timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET client_min_messages = warning
AS $$
BEGIN
    LOCK TABLE tandem.event IN SHARE UPDATE EXCLUSIVE MODE;
    IF to_regclass(format('tandem.%I', name)) IS NOT NULL THEN -- meanwhile somebody else made it
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE tandem.%1$I (LIKE tandem.event);'
                   'CREATE INDEX %2$I ON tandem.%1$I (seq);'
                   'CREATE INDEX %3$I ON tandem.%1$I (run, seq) WHERE run IS NOT NULL;'
                   'CREATE INDEX %4$I ON tandem.%1$I USING brin (task_id uuid_bloom_ops (n_distinct_per_range = 1000)) WITH (pages_per_range = 16, autosummarize = on);'
                   'ALTER TABLE tandem.%1$I SET (autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000);'
                   'CREATE TRIGGER refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON tandem.%1$I FOR EACH STATEMENT EXECUTE FUNCTION tandem.refuse_change();'
                   'ALTER TABLE tandem.%1$I ENABLE ALWAYS TRIGGER refuse_statement;'
                   'ALTER TABLE tandem.event ATTACH PARTITION tandem.%1$I FOR VALUES FROM (%5$L) TO (%6$L)',
                   name, name || '_seq', name || '_run', name || '_task', from_at, to_at);
END
$$;
COMMENT ON FUNCTION tandem.make_event_partition IS 'Makes the partition of one month, with its indexes and triggers, unless it is there';
