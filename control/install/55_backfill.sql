-- backfill: copies what was there before the mirror, in batches by key, each in one transaction with its checkpoint. Here: how far it is;
-- 55_backfill_batch.sql copies, 56_throttle.sql holds it back.
--
-- A batch locks its legacy rows FOR SHARE and inserts what is absent: a concurrent writer either waits for the batch, and its mirror then
-- finds the row, or the batch waits for the writer and copies what it wrote. A crash loses the running batch and nothing else.
-- Where a batch ends is decided before its rows are locked: a row whose key changes while the batch waits for it must not move the end.
--
-- Parents go first. Before that, the new side's foreign keys refuse what the mirror writes into the children; their backfill brings it
-- later, if it is committed by then. So it begins when the transactions that were open as the last parent was copied have ended.

CREATE TABLE tandem.backfill (
    mapping_id     integer PRIMARY KEY REFERENCES tandem.mapping ON DELETE CASCADE,
    key            name[],
    checkpoint     text[],
    rows_seen      bigint NOT NULL DEFAULT 0,
    rows_copied    bigint NOT NULL DEFAULT 0,
    batches        bigint NOT NULL DEFAULT 0,
    rows_estimated bigint NOT NULL DEFAULT 0,
    estimated_from text,
    batch_size     integer,
    found          boolean NOT NULL DEFAULT false,
    quiet_from     timestamptz NOT NULL DEFAULT '-infinity',
    speed          double precision,
    throttled_by   text,
    waits_for      xid8,
    started_at     timestamptz,
    batch_at       timestamptz,
    read_at        timestamptz,
    retry_at       timestamptz,
    retries        integer NOT NULL DEFAULT 0,
    finished_at    timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE tandem.backfill IS 'How far the backfill of each mapping is';
COMMENT ON COLUMN tandem.backfill.key IS 'Columns of the legacy key in the order of its index, by which the batches go';
COMMENT ON COLUMN tandem.backfill.checkpoint IS 'Legacy key of the last row that was looked at, as text; the next batch starts behind it';
COMMENT ON COLUMN tandem.backfill.estimated_from IS 'Where rows_estimated comes from: a count, or a sample of the table''s pages';
COMMENT ON COLUMN tandem.backfill.batch_size IS 'Rows of the next batch: what the option batch_time allows';
COMMENT ON COLUMN tandem.backfill.found IS 'Had the new side rows of the last batch already? Then the next one looks for them first';
COMMENT ON COLUMN tandem.backfill.quiet_from IS 'From when on the table may be locked for a batch instead of its rows, as nobody has written into it for some seconds';
COMMENT ON COLUMN tandem.backfill.speed IS 'Rows a second, of about the last ten seconds';
COMMENT ON COLUMN tandem.backfill.throttled_by IS 'Why no batch is made now';
COMMENT ON COLUMN tandem.backfill.waits_for IS 'Transactions before this one must have ended before the first batch';
COMMENT ON COLUMN tandem.backfill.read_at IS 'When the last row was looked at; finished_at follows when no row is set apart any more';
COMMENT ON COLUMN tandem.backfill.retry_at IS 'When the rows that are set apart are tried again. Without read_at: too many are, and no further batch is made';

-- Made anew with each round: a batch takes some milliseconds, and asking the catalogs what it is to do takes as many.
CREATE TABLE tandem.backfill_statement (
    mapping_id   integer PRIMARY KEY REFERENCES tandem.backfill ON DELETE CASCADE,
    source       text NOT NULL,
    target       text NOT NULL,
    key_names    text NOT NULL,
    key_down     text NOT NULL,
    key_texts    text NOT NULL,
    key_literal  text NOT NULL,
    insert_head  text NOT NULL,
    conflict     text NOT NULL,
    looking_head text NOT NULL,
    looking_tail text NOT NULL,
    deferred     text,
    prepared_at  timestamptz NOT NULL
);
COMMENT ON TABLE tandem.backfill_statement IS 'Parts of the SQL by which a mapping is copied';
COMMENT ON COLUMN tandem.backfill_statement.key_literal IS 'A format() string that makes a row of literals out of a checkpoint';
COMMENT ON COLUMN tandem.backfill_statement.deferred IS 'Constraints of the new table that are checked at the commit, as SET CONSTRAINTS takes them';

CREATE TABLE tandem.backfill_rejection (
    mapping_id integer NOT NULL REFERENCES tandem.backfill ON DELETE CASCADE,
    key        text[] NOT NULL,
    sqlstate   text NOT NULL,
    message    text NOT NULL,
    detail     text,
    attempts   integer NOT NULL DEFAULT 1,
    first_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (mapping_id, key)
);
COMMENT ON TABLE tandem.backfill_rejection IS 'Rows that the new side refused when the backfill came to copy them: set apart, and tried again';
COMMENT ON COLUMN tandem.backfill_rejection.key IS 'The legacy key as text, its columns as in backfill.key';

INSERT INTO tandem.option_default VALUES
    ('batch_time', 'interval', '100 ms', 'How long a backfill batch should take: its size follows, up to batch_size; 0 for always batch_size'),
    ('max_rejected', 'integer', '1000', 'Rows of a table that the backfill sets apart, as the new side refuses them, before it stops there');

-- Per table, as pg_stat_progress_copy has it per statement.
CREATE VIEW tandem.backfill_progress AS
SELECT r.name AS run, m.legacy_schema || '.' || m.legacy_table AS legacy, m.new_schema || '.' || m.new_table AS new,
       CASE WHEN b.finished_at IS NOT NULL THEN 'finished' WHEN b.started_at IS NOT NULL THEN 'copying'
            WHEN b.waits_for IS NOT NULL THEN 'waiting for open transactions' ELSE 'waiting' END AS state,
       b.rows_seen, b.rows_copied, b.rows_estimated, b.batches,
       CASE WHEN b.finished_at IS NOT NULL THEN 100.0
            WHEN b.rows_seen <= 1.05 * b.rows_estimated + 1000 THEN least(99.9, round(100.0 * b.rows_seen / greatest(b.rows_estimated, b.rows_seen, 1), 1)) END AS percent,
       round((CASE WHEN b.finished_at IS NULL THEN b.speed ELSE b.rows_seen / nullif(extract(epoch FROM b.batch_at - b.started_at), 0) END)::numeric) AS rows_per_second,
       CASE WHEN b.finished_at IS NULL AND b.read_at IS NULL AND b.throttled_by IS NULL AND r.phase = 'progressing' AND b.rows_seen <= 1.05 * b.rows_estimated + 1000
            THEN make_interval(secs => greatest(b.rows_estimated - b.rows_seen, 0) / nullif(b.speed, 0)) END AS eta,
       b.started_at, b.finished_at,
       CASE WHEN b.finished_at IS NOT NULL THEN 'finished'
            WHEN r.stage <> 'dualwrite' OR r.phase <> 'progressing' THEN 'stopped: the run is ' || r.phase
            WHEN b.read_at IS NOT NULL THEN 'waiting for rows that the new side refuses'
            WHEN b.retry_at IS NOT NULL THEN 'stopped: the new side refuses too many rows'
            WHEN b.throttled_by IS NOT NULL THEN 'throttled'
            WHEN b.started_at IS NOT NULL THEN 'copying rows'
            WHEN b.waits_for IS NOT NULL THEN 'waiting for open transactions' ELSE 'waiting for its turn' END AS phase,
       j.rows AS rows_rejected, b.throttled_by, b.batch_size, b.estimated_from, s.bytes AS bytes_total,
       CASE WHEN b.read_at IS NOT NULL THEN s.bytes ELSE (s.bytes * least(1, b.rows_seen / greatest(b.rows_estimated, b.rows_seen, 1)::numeric))::bigint END AS bytes_done,
       b.batch_at, b.retry_at
  FROM tandem.backfill AS b JOIN tandem.mapping AS m ON m.id = b.mapping_id JOIN tandem.run AS r ON r.id = m.run_id
 CROSS JOIN LATERAL (SELECT count(*) AS rows FROM tandem.backfill_rejection AS x WHERE x.mapping_id = b.mapping_id) AS j
 CROSS JOIN LATERAL (SELECT sum(pg_table_size(t.relid))::bigint AS bytes FROM (SELECT x.relid::oid FROM pg_partition_tree(tandem.relation_of(m.legacy_schema, m.legacy_table)) AS x
                                    UNION SELECT tandem.relation_of(m.legacy_schema, m.legacy_table)::oid) AS t) AS s;
COMMENT ON VIEW tandem.backfill_progress IS
    'Progress of the backfill per mapping: phase, rows, percent of the estimate, bytes, speed, time left, why it is held back. NULL is not known: the estimate has turned out too low, or nothing moves';

CREATE VIEW tandem.backfill_runs AS
SELECT p.run, count(*) AS tables, count(p.finished_at) AS tables_finished, sum(p.rows_seen)::bigint AS rows_seen, sum(p.rows_copied)::bigint AS rows_copied,
       sum(greatest(p.rows_estimated, p.rows_seen))::bigint AS rows_estimated, sum(p.rows_rejected)::bigint AS rows_rejected,
       CASE WHEN bool_and(p.finished_at IS NOT NULL) THEN 100.0
            WHEN bool_and(p.percent IS NOT NULL) THEN least(99.9, round(100.0 * sum(p.rows_seen) / greatest(sum(greatest(p.rows_estimated, p.rows_seen)), 1), 1)) END AS percent,
       sum(p.rows_per_second) FILTER (WHERE p.phase = 'copying rows') AS rows_per_second,
       make_interval(secs => (sum(greatest(p.rows_estimated - p.rows_seen, 0)) FILTER (WHERE p.finished_at IS NULL)
           / nullif(sum(p.rows_per_second) FILTER (WHERE p.eta IS NOT NULL), 0))::double precision) AS eta,
       string_agg(p.throttled_by, '; ') AS throttled_by, min(p.started_at) AS started_at,
       CASE WHEN bool_and(p.finished_at IS NOT NULL) THEN max(p.finished_at) END AS finished_at,
       CASE WHEN bool_and(p.finished_at IS NOT NULL) THEN NULL
            WHEN bool_and(p.finished_at IS NOT NULL OR p.phase ~ 'refuses') THEN
                format('%s row(s) that the new side refuses: SELECT * FROM tandem.backfill_rejections', sum(p.rows_rejected))
            ELSE 'the backfill: ' || coalesce('its unfinished tables are at ' || round(avg(p.percent) FILTER (WHERE p.finished_at IS NULL), 1) || ' %', 'it has found more rows than were estimated')
                 || coalesce(', held back by ' || string_agg(p.throttled_by, '; '), '')
                 || CASE WHEN sum(p.rows_rejected) > 0 THEN format('; the new side refuses %s row(s)', sum(p.rows_rejected)) ELSE '' END
       END AS waiting_for
  FROM tandem.backfill_progress AS p GROUP BY p.run;
COMMENT ON VIEW tandem.backfill_runs IS 'Progress of the backfill per run, and what it waits for; NULL in waiting_for: all is copied';

CREATE VIEW tandem.backfill_rejections AS
SELECT r.name AS run, m.legacy_schema || '.' || m.legacy_table AS legacy, m.new_schema || '.' || m.new_table AS new,
       (SELECT jsonb_object_agg(k.name, j.key[k.position]) FROM unnest(b.key) WITH ORDINALITY AS k (name, position)) AS key,
       j.sqlstate, j.message, j.detail, j.attempts, j.first_at, j.at, b.retry_at
  FROM tandem.backfill_rejection AS j JOIN tandem.backfill AS b ON b.mapping_id = j.mapping_id JOIN tandem.mapping AS m ON m.id = j.mapping_id JOIN tandem.run AS r ON r.id = m.run_id;
COMMENT ON VIEW tandem.backfill_rejections IS 'Legacy rows that the new side refuses to take from the backfill, with the error of the last try; a run stays in dualwrite until they are gone or taken';

-- Mappings in the order in which foreign keys of the new side want them: parents first. Cycles and self-references end the climb.
CREATE FUNCTION tandem.mapping_order(run_id integer) RETURNS TABLE (mapping_id integer, depth integer)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE m AS (
        SELECT x.id, tandem.relation_of(x.new_schema, x.new_table)::oid AS relation FROM tandem.mapping AS x WHERE x.run_id = mapping_order.run_id
    ), climb AS (
        SELECT m.id, m.relation, 0 AS depth FROM m
        UNION
        SELECT child.id, child.relation, climb.depth + 1
          FROM climb JOIN pg_constraint AS f ON f.confrelid = climb.relation AND f.contype = 'f' AND f.conrelid <> f.confrelid
          JOIN m AS child ON child.relation = f.conrelid
         WHERE climb.depth < (SELECT count(*) FROM m)
    )
    SELECT climb.id, max(climb.depth) FROM climb GROUP BY climb.id
$$;
COMMENT ON FUNCTION tandem.mapping_order IS 'Mappings with their distance from the tables that reference nothing: parents first';

-- Counted where that is quick, else from a thousand pages: what the planner knows depends on when somebody last ran ANALYZE.
CREATE FUNCTION tandem.estimate_rows(owner name, relation regclass, OUT rows bigint, OUT estimated_from text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    pages bigint := (SELECT coalesce(sum(pg_relation_size(t.relid)), 0) / current_setting('block_size')::integer
                       FROM (SELECT x.relid::oid FROM pg_partition_tree(relation) AS x UNION SELECT relation::oid) AS t);
BEGIN
    IF pages <= 1000 THEN
        SELECT x.n, 'count' INTO rows, estimated_from FROM tandem.query_as(owner, format('SELECT count(*) FROM %s', relation)) AS x (n bigint);
    ELSE
        SELECT (x.n * pages / 1000.0)::bigint, 'sample of 1000 of ' || pages || ' pages' INTO rows, estimated_from
          FROM tandem.query_as(owner, format('SELECT count(*) FROM %s TABLESAMPLE SYSTEM (%s)', relation, 100000.0 / pages)) AS x (n bigint);
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.estimate_rows IS 'How many rows a table has: counted where it is small, else estimated from a sample of its pages, which needs no ANALYZE';

-- A row comparison of columns in another order than the index has them would sort the table for each batch.
CREATE FUNCTION tandem.index_order(relation regclass, columns name[]) RETURNS name[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((
        SELECT array_agg(a.attname ORDER BY k.position)
          FROM pg_index AS i CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, position)
          JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
         WHERE i.indrelid = relation AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AND k.position <= i.indnkeyatts
         GROUP BY i.indexrelid, i.indisprimary
        HAVING count(*) = cardinality(columns) AND bool_and(a.attname = ANY (columns))
         ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1), columns)
$$;
COMMENT ON FUNCTION tandem.index_order IS 'The columns of a key in the order in which a unique index has them';

CREATE FUNCTION tandem.backfill_begin(run_id integer) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO tandem.backfill (mapping_id, key)
    SELECT m.id, tandem.index_order(tandem.relation_of(m.legacy_schema, m.legacy_table), m.legacy_key)
      FROM tandem.mapping AS m WHERE m.run_id = backfill_begin.run_id
$$;
COMMENT ON FUNCTION tandem.backfill_begin IS 'A backfill row for each mapping';

-- Not by start(), which holds locks that writers wait for.
CREATE FUNCTION tandem.backfill_estimate(run_id integer) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE tandem.backfill AS b SET rows_estimated = e.rows, estimated_from = e.estimated_from
      FROM tandem.mapping AS m JOIN tandem.run AS r ON r.id = m.run_id
     CROSS JOIN LATERAL tandem.estimate_rows(r.owner, tandem.relation_of(m.legacy_schema, m.legacy_table)) AS e
     WHERE m.run_id = backfill_estimate.run_id AND b.mapping_id = m.id AND b.estimated_from IS NULL
$$;
COMMENT ON FUNCTION tandem.backfill_estimate IS 'Estimates the rows of all tables of a run, before the first batch';

-- Where the new side refuses too many rows of a table, its children wait with it.
CREATE FUNCTION tandem.backfill_next(run_id integer) RETURNS SETOF tandem.mapping
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH o AS MATERIALIZED (
        SELECT b.mapping_id, b.started_at, b.read_at, b.retry_at, CASE WHEN count(*) OVER () > 1 THEN o.depth ELSE 0 END AS depth
          FROM tandem.backfill AS b JOIN tandem.mapping_order($1) AS o ON o.mapping_id = b.mapping_id)
    SELECT m.* FROM o JOIN tandem.mapping AS m ON m.id = o.mapping_id
     WHERE o.read_at IS NULL AND o.retry_at IS NULL AND o.depth <= ALL (SELECT x.depth FROM o AS x WHERE x.read_at IS NULL AND x.retry_at IS NOT NULL)
     ORDER BY o.depth, m.id LIMIT 1
$$;
COMMENT ON FUNCTION tandem.backfill_next IS 'The mapping whose backfill is next, or goes on; none: all rows were looked at';

CREATE FUNCTION tandem.backfill_due(run_id integer) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM tandem.backfill AS b JOIN tandem.mapping AS m ON m.id = b.mapping_id
                    WHERE m.run_id = $1 AND b.finished_at IS NULL AND b.retry_at <= clock_timestamp())
        OR EXISTS (SELECT FROM tandem.backfill_next($1))
$$;
COMMENT ON FUNCTION tandem.backfill_due IS 'Is there a batch to copy now, or are rows that were set apart to be tried again?';
