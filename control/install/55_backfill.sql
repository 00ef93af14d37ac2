-- backfill: copies what was there before the mirror, in batches by key, each in one transaction with its checkpoint.
--
-- A batch locks its legacy rows FOR SHARE and inserts what is absent: a concurrent writer either waits for the batch, and its mirror then
-- finds the row, or the batch waits for the writer and copies what it wrote. A crash loses the running batch and nothing else.
-- Where a batch ends is decided before its rows are locked: a row whose key changes while the batch waits for it must not move the end.
--
-- Parents go first. Before that, the new side's foreign keys refuse what the mirror writes into the children; their backfill brings it
-- later, if it is committed by then. So it begins when the transactions that were open as the last parent was copied have ended.

CREATE TABLE tandem.backfill (
    mapping_id     integer PRIMARY KEY REFERENCES tandem.mapping ON DELETE CASCADE,
    checkpoint     text[],
    rows_seen      bigint NOT NULL DEFAULT 0,
    rows_copied    bigint NOT NULL DEFAULT 0,
    batches        bigint NOT NULL DEFAULT 0,
    rows_estimated bigint NOT NULL DEFAULT 0,
    waits_for      xid8,
    started_at     timestamptz,
    batch_at       timestamptz,
    finished_at    timestamptz
);
COMMENT ON TABLE tandem.backfill IS 'How far the backfill of each mapping is';
COMMENT ON COLUMN tandem.backfill.waits_for IS 'Transactions before this one must have ended before the first batch';
COMMENT ON COLUMN tandem.backfill.checkpoint IS 'Legacy key of the last row copied, as text; the next batch starts behind it';

CREATE VIEW tandem.backfill_progress AS
SELECT r.name AS run, m.legacy_schema || '.' || m.legacy_table AS legacy, m.new_schema || '.' || m.new_table AS new,
       CASE WHEN b.finished_at IS NOT NULL THEN 'finished' WHEN b.started_at IS NOT NULL THEN 'copying'
            WHEN b.waits_for IS NOT NULL THEN 'waiting for open transactions' ELSE 'waiting' END AS state,
       b.rows_seen, b.rows_copied, b.rows_estimated, b.batches,
       CASE WHEN b.finished_at IS NOT NULL THEN 100.0
            ELSE least(99.9, round(100.0 * b.rows_seen / greatest(b.rows_estimated, b.rows_seen, 1), 1)) END AS percent,
       round((b.rows_seen / nullif(extract(epoch FROM b.batch_at - b.started_at), 0))::numeric) AS rows_per_second,
       CASE WHEN b.finished_at IS NULL THEN
            (b.batch_at - b.started_at) * (greatest(b.rows_estimated - b.rows_seen, 0)::float8 / nullif(b.rows_seen, 0)) END AS eta,
       b.started_at, b.finished_at
  FROM tandem.backfill AS b JOIN tandem.mapping AS m ON m.id = b.mapping_id JOIN tandem.run AS r ON r.id = m.run_id;
COMMENT ON VIEW tandem.backfill_progress IS 'Progress of the backfill per mapping: rows, percent of the estimate, speed, time left';

CREATE FUNCTION tandem.copy_as(role name, query text, mapping_id integer) RETURNS SETOF record
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'tandem_copy_as';
COMMENT ON FUNCTION tandem.copy_as IS
    'query_as() that writes: rows that it inserts into the new side of the mapping do not come back through the reverse mirror';

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

CREATE FUNCTION tandem.backfill_begin(run_id integer) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO tandem.backfill (mapping_id, rows_estimated)
    SELECT m.id, (SELECT greatest(sum(c.reltuples), 0)::bigint FROM pg_class AS c
                   WHERE c.oid IN (SELECT t.relid FROM pg_partition_tree(tandem.relation_of(m.legacy_schema, m.legacy_table)) AS t
                                   UNION SELECT tandem.relation_of(m.legacy_schema, m.legacy_table)) AND c.relkind = 'r')
      FROM tandem.mapping AS m WHERE m.run_id = backfill_begin.run_id
$$;
COMMENT ON FUNCTION tandem.backfill_begin IS 'A backfill row for each mapping, with the planner''s estimate of its rows';

CREATE FUNCTION tandem.backfill_next(run_id integer) RETURNS SETOF tandem.mapping
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT m.*
      FROM tandem.mapping AS m JOIN tandem.mapping_order($1) AS o ON o.mapping_id = m.id JOIN tandem.backfill AS b ON b.mapping_id = m.id
     WHERE b.finished_at IS NULL ORDER BY o.depth, m.id LIMIT 1
$$;
COMMENT ON FUNCTION tandem.backfill_next IS 'The mapping whose backfill is next, or goes on; none: all is copied';

-- The next batch of the run; the rows that it saw, NULL when there is nothing left to copy, -1 when it waits for open transactions.
CREATE FUNCTION tandem.backfill_batch(run_id integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run;
    m tandem.mapping;
    b tandem.backfill;
    source regclass;
    target regclass;
    k record;
    c record;
    page record;
    behind text;
    copied bigint;
BEGIN
    SELECT * INTO r FROM tandem.run AS x WHERE x.id = run_id;
    SELECT x.* INTO m FROM tandem.backfill_next(r.id) AS x;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT * INTO b FROM tandem.backfill AS x WHERE x.mapping_id = m.id FOR UPDATE;
    IF b.started_at IS NULL AND (SELECT o.depth > 0 FROM tandem.mapping_order(r.id) AS o WHERE o.mapping_id = m.id) THEN
        IF b.waits_for IS NULL OR b.waits_for > pg_snapshot_xmax(pg_current_snapshot()) THEN -- of another server, where it was dumped
            UPDATE tandem.backfill AS x SET waits_for = pg_snapshot_xmax(pg_current_snapshot()) WHERE x.mapping_id = m.id RETURNING x.* INTO b;
        END IF;
        -- xip, as xmin counts this transaction too
        IF EXISTS (SELECT FROM pg_snapshot_xip(pg_current_snapshot()) AS x WHERE x < b.waits_for) THEN
            RETURN -1;
        END IF;
    END IF;
    source := tandem.relation_of(m.legacy_schema, m.legacy_table);
    target := tandem.relation_of(m.new_schema, m.new_table);
    SELECT string_agg(quote_ident(x.name), ', ' ORDER BY x.position) AS names,
           string_agg(quote_ident(x.name) || ' DESC', ', ' ORDER BY x.position) AS descending,
           string_agg(quote_ident(x.name) || '::text', ', ' ORDER BY x.position) AS texts,
           string_agg(format('CAST(%%%s$L AS %s)', x.position, x.type), ', ' ORDER BY x.position) AS literal
      INTO k
      FROM (SELECT x.name, x.position, replace(format_type(a.atttypid, -1), '%', '%%') AS type
              FROM unnest(m.legacy_key) WITH ORDINALITY AS x (name, position)
              JOIN pg_attribute AS a ON a.attrelid = source AND a.attname = x.name) AS x;
    behind := CASE WHEN b.checkpoint IS NOT NULL THEN format('(%s) > (%s)', k.names, format(k.literal, VARIADIC b.checkpoint)) ELSE 'true' END;
    SELECT * INTO page FROM tandem.query_as(r.owner, format(
        'WITH page AS (SELECT %1$s FROM %2$s WHERE %3$s ORDER BY %1$s LIMIT %4$s) '
        'SELECT (SELECT count(*) FROM page), (SELECT ARRAY[%5$s] FROM page ORDER BY %6$s LIMIT 1)',
        k.names, source, behind, tandem.option(r.id, 'batch_size')::integer, k.texts, k.descending)) AS x (seen bigint, last text[]);
    IF page.seen = 0 THEN
        PERFORM tandem.execute_as(r.owner, format('ANALYZE %s', target));
        UPDATE tandem.backfill AS x SET finished_at = clock_timestamp(), started_at = coalesce(x.started_at, transaction_timestamp()) WHERE x.mapping_id = m.id;
        RETURN 0;
    END IF;
    SELECT string_agg(quote_ident(x.name), ', ') FILTER (WHERE x.writable) AS names,
           string_agg(format(E'(%s\n)', x.expression), ', ') FILTER (WHERE x.writable) AS expressions,
           string_agg(quote_ident(x.name), ', ') FILTER (WHERE x.key_position IS NOT NULL) AS keys
      INTO c FROM tandem.mirror_columns(m.id, 'forward') AS x;

    SELECT x.copied INTO copied FROM tandem.copy_as(r.owner, format($sql$
        WITH batch AS MATERIALIZED (SELECT * FROM %1$s WHERE %2$s AND (%3$s) <= (%4$s) FOR SHARE),
             copied AS (INSERT INTO %5$s (%6$s) OVERRIDING SYSTEM VALUE SELECT %7$s FROM batch AS %8$I ON CONFLICT (%9$s) DO NOTHING RETURNING 1)
        SELECT count(*) FROM copied $sql$,
        source, behind, k.names, format(k.literal, VARIADIC page.last), target, c.names, c.expressions, m.legacy_table, c.keys), m.id)
        AS x (copied bigint);

    UPDATE tandem.backfill AS x
       SET checkpoint = page.last, rows_seen = x.rows_seen + page.seen, rows_copied = x.rows_copied + copied,
           batches = x.batches + 1, started_at = coalesce(x.started_at, transaction_timestamp()), batch_at = clock_timestamp()
     WHERE x.mapping_id = m.id;
    -- Plans that were made while the table was empty, the mirror's and those of foreign keys, scan all of it: statistics replace them.
    IF b.batches = 0 THEN
        PERFORM tandem.execute_as(r.owner, format('ANALYZE %s', target));
    END IF;
    RETURN page.seen;
END
$$;
COMMENT ON FUNCTION tandem.backfill_batch IS 'Copies the next batch of a run and moves its checkpoint; returns the rows seen, -1 while it waits for open transactions, NULL when all is copied';
