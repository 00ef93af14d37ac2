-- backfill, the batches: what one of them copies, how large the next is, and what becomes of rows that the new side refuses.

CREATE FUNCTION tandem.copy_as(role name, query text, mapping_id integer) RETURNS SETOF record
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'tandem_copy_as';
COMMENT ON FUNCTION tandem.copy_as IS
    'query_as() that writes: rows that it inserts into the new side of the mapping do not come back through the reverse mirror';

-- A fault of the row, or of the new side with it: another row may fare better. Conflicts with other sessions, what the server lacks, and what an
-- administrator must mend (class 42: rights, tables that are gone) are not.
CREATE FUNCTION tandem.is_row_fault(sqlstate text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ SELECT left(sqlstate, 2) NOT IN ('08', '25', '28', '3D', '3F', '40', '42', '53', '57', '58', 'XX') AND sqlstate <> '55P03' $$;
COMMENT ON FUNCTION tandem.is_row_fault IS 'Can an error of this SQLSTATE be that of a single row?';

-- The SQL of a keyset: names of the key's columns, the same as texts, and a format() string that makes a row of literals out of a checkpoint.
-- Base types: a domain may have another collation than its column.
CREATE FUNCTION tandem.keyset_sql(relation regclass, key name[], OUT names text, OUT descending text, OUT texts text, OUT literal text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(quote_ident(x.name), ', ' ORDER BY x.position), string_agg(quote_ident(x.name) || ' DESC', ', ' ORDER BY x.position),
           string_agg(quote_ident(x.name) || '::text', ', ' ORDER BY x.position),
           string_agg(format('CAST(%%%s$L AS %s)', x.position, replace(format_type(tandem.base_type(a.atttypid), -1), '%', '%%')), ', ' ORDER BY x.position)
      FROM unnest(key) WITH ORDINALITY AS x (name, position) JOIN pg_attribute AS a ON a.attrelid = relation AND a.attname = x.name
$$;
COMMENT ON FUNCTION tandem.keyset_sql IS 'Parts of the statements that go through a table by key';

-- Ancestors: rows that others of the same table reference on the new side, and that stand behind them in the order of the key.
CREATE FUNCTION tandem.ancestors_sql(m tandem.mapping, condition text, unread text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH bare AS MATERIALIZED (
        SELECT c.name, a.attnum, (tandem.expression_info(tandem.relation_of(m.legacy_schema, m.legacy_table), c.expression)).bare_column AS legacy
          FROM tandem.mapping_column AS c JOIN pg_attribute AS a ON a.attrelid = tandem.relation_of(m.new_schema, m.new_table) AND a.attname = c.name
         WHERE c.mapping_id = m.id AND c.direction = 'forward'
    ), reference AS (
        SELECT f.oid, array_agg(child.legacy ORDER BY k.position) AS child, array_agg(parent.legacy ORDER BY k.position) AS parent
          FROM pg_constraint AS f CROSS JOIN LATERAL unnest(f.conkey, f.confkey) WITH ORDINALITY AS k (child, parent, position)
          LEFT JOIN bare AS child ON child.attnum = k.child LEFT JOIN bare AS parent ON parent.attnum = k.parent
         WHERE f.contype = 'f' AND f.conrelid = tandem.relation_of(m.new_schema, m.new_table) AND f.confrelid = f.conrelid
         GROUP BY f.oid HAVING bool_and(child.legacy IS NOT NULL AND parent.legacy IS NOT NULL)
    ), used AS (
        SELECT array_agg(DISTINCT c) AS columns FROM reference AS f CROSS JOIN LATERAL unnest(f.child || f.parent || m.legacy_key) AS c
    )
    SELECT format('(%1$s) IN (WITH RECURSIVE up AS (SELECT %2$s FROM %3$s WHERE %4$s UNION SELECT %5$s FROM up JOIN %3$s AS p ON %6$s WHERE %7$s) SELECT %1$s FROM up)',
                  (SELECT string_agg(quote_ident(k), ', ') FROM unnest(m.legacy_key) AS k),
                  (SELECT string_agg(quote_ident(c), ', ') FROM unnest(used.columns) AS c),
                  tandem.relation_of(m.legacy_schema, m.legacy_table), condition,
                  (SELECT string_agg(format('p.%I', c), ', ') FROM unnest(used.columns) AS c),
                  (SELECT string_agg('(' || (SELECT string_agg(format('p.%I = up.%I', k.parent, k.child), ' AND ') FROM unnest(f.parent, f.child) AS k (parent, child)) || ')', ' OR ')
                     FROM reference AS f), unread)
      FROM used WHERE used.columns IS NOT NULL
$$;
COMMENT ON FUNCTION tandem.ancestors_sql IS 'A condition that takes the rows of another one with all that they reference within the table; NULL where the new side has no such foreign key, or its columns are computed';

CREATE FUNCTION tandem.constraints_sql(mappings integer[], deferred boolean) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(DISTINCT format('%I.%I', m.new_schema, c.conname), ', ')
      FROM tandem.mapping AS m JOIN pg_constraint AS c ON c.conrelid = tandem.relation_of(m.new_schema, m.new_table)
     WHERE m.id = ANY (mappings) AND c.condeferrable AND (c.condeferred OR NOT deferred)
$$;
COMMENT ON FUNCTION tandem.constraints_sql IS 'Constraints of the new tables of mappings that are deferrable, or deferred already, as SET CONSTRAINTS takes them; NULL where there is none';

-- Inserts the legacy rows for which the condition holds, where the new side has no row of the key. Deferred constraints are checked here and
-- not at the commit, where nobody could tell which row was at fault.
CREATE FUNCTION tandem.copy_rows(owner name, m tandem.mapping, condition text, settled boolean DEFAULT true) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c record;
    copied bigint;
    deferred text;
BEGIN
    SELECT string_agg(quote_ident(x.name), ', ') FILTER (WHERE x.writable) AS names,
           string_agg(format(E'(%s\n)', x.expression), ', ') FILTER (WHERE x.writable) AS expressions,
           string_agg(quote_ident(x.name), ', ') FILTER (WHERE x.key_position IS NOT NULL) AS keys
      INTO c FROM tandem.mirror_columns(m.id, 'forward') AS x;
    SELECT x.copied INTO copied FROM tandem.copy_as(owner, format($sql$
        WITH batch AS MATERIALIZED (SELECT * FROM %1$s WHERE %2$s FOR SHARE),
             copied AS (INSERT INTO %3$s (%4$s) OVERRIDING SYSTEM VALUE SELECT %5$s FROM batch AS %6$I ON CONFLICT (%7$s) DO NOTHING RETURNING 1)
        SELECT count(*) FROM copied $sql$,
        tandem.relation_of(m.legacy_schema, m.legacy_table), condition, tandem.relation_of(m.new_schema, m.new_table), c.names, c.expressions, m.legacy_table, c.keys), m.id)
        AS x (copied bigint);
    deferred := CASE WHEN settled THEN tandem.constraints_sql(ARRAY[m.id], true) END;
    IF deferred IS NOT NULL THEN
        PERFORM FROM tandem.copy_as(owner, format('SET CONSTRAINTS %s IMMEDIATE', deferred), m.id) AS x (nothing text);
        PERFORM FROM tandem.copy_as(owner, format('SET CONSTRAINTS %s DEFERRED', deferred), m.id) AS x (nothing text); -- the transaction may be somebody's
    END IF;
    RETURN copied;
END
$$;
COMMENT ON FUNCTION tandem.copy_rows IS 'Copies the legacy rows that a condition names to the new side, where they are absent; returns how many were. Deferred constraints are checked unless settled is false';

-- One row. Whatever is wrong with it is its own matter.
CREATE FUNCTION tandem.copy_row(owner name, m tandem.mapping, key text[], names text, literal text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    copied bigint;
    state text;
    message text;
    detail text;
BEGIN
    BEGIN
        copied := tandem.copy_rows(owner, m, format('(%s) = (%s)', names, format(literal, VARIADIC key)));
        DELETE FROM tandem.backfill_rejection AS j WHERE j.mapping_id = m.id AND j.key = copy_row.key;
        RETURN copied;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
        IF NOT tandem.is_row_fault(state) THEN
            RAISE;
        END IF;
    END;
    INSERT INTO tandem.backfill_rejection AS j (mapping_id, key, sqlstate, message, detail) VALUES (m.id, key, state, message, nullif(detail, ''))
    ON CONFLICT ON CONSTRAINT backfill_rejection_pkey DO UPDATE
       SET sqlstate = EXCLUDED.sqlstate, message = EXCLUDED.message, detail = EXCLUDED.detail, attempts = j.attempts + 1, at = EXCLUDED.at;
    RETURN 0;
END
$$;
COMMENT ON FUNCTION tandem.copy_row IS 'Copies one legacy row, or sets it apart with its error';

-- A mapping's rows that are set apart, in order.
CREATE FUNCTION tandem.rejected_keys(mapping_id integer) RETURNS SETOF text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT j.key FROM tandem.backfill_rejection AS j WHERE j.mapping_id = $1 ORDER BY j.attempts, j.at, j.key LIMIT 1000 $$;
COMMENT ON FUNCTION tandem.rejected_keys IS 'Keys of rows that are set apart, at most a thousand of them, those first that were tried least';

-- The rows that were set apart, all together first: they may need each other, also across tables. Then one by one.
-- Pauses between the tries grow up to half a minute.
CREATE FUNCTION tandem.backfill_retry(r tandem.run) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    b record;
    k record;
    key text[];
    copied bigint;
    total bigint := 0;
    together boolean := true;
    may_defer text;
    deferred text;
    waiting integer[] := ARRAY(SELECT x.mapping_id FROM tandem.backfill AS x JOIN tandem.mapping AS m ON m.id = x.mapping_id
                                 JOIN tandem.mapping_order(r.id) AS o ON o.mapping_id = m.id
                                WHERE m.run_id = r.id AND x.finished_at IS NULL AND x.retry_at IS NOT NULL ORDER BY o.depth, m.id);
BEGIN
    may_defer := tandem.constraints_sql(waiting, false);
    deferred := tandem.constraints_sql(waiting, true);
    BEGIN
        IF may_defer IS NOT NULL THEN
            PERFORM FROM tandem.copy_as(r.owner, format('SET CONSTRAINTS %s DEFERRED', may_defer), waiting[1]) AS x (nothing text);
        END IF;
        FOR b IN SELECT m AS mapping, x.key, tandem.relation_of(m.legacy_schema, m.legacy_table) AS source
                   FROM tandem.backfill AS x JOIN tandem.mapping AS m ON m.id = x.mapping_id WHERE x.mapping_id = ANY (waiting) ORDER BY array_position(waiting, x.mapping_id) LOOP
            SELECT * INTO k FROM tandem.keyset_sql(b.source, b.key);
            copied := tandem.copy_rows(r.owner, b.mapping, format('(%s) IN (%s)', k.names,
                (SELECT string_agg('(' || format(k.literal, VARIADIC x) || ')', ', ') FROM tandem.rejected_keys((b.mapping).id) AS x)), false);
            DELETE FROM tandem.backfill_rejection AS j WHERE j.mapping_id = (b.mapping).id AND j.key IN (SELECT tandem.rejected_keys((b.mapping).id));
            UPDATE tandem.backfill AS x SET rows_copied = x.rows_copied + copied WHERE x.mapping_id = (b.mapping).id;
            total := total + copied;
        END LOOP;
        IF may_defer IS NOT NULL THEN
            PERFORM FROM tandem.copy_as(r.owner, format('SET CONSTRAINTS %s IMMEDIATE', may_defer), waiting[1]) AS x (nothing text);
        END IF;
        IF deferred IS NOT NULL THEN
            PERFORM FROM tandem.copy_as(r.owner, format('SET CONSTRAINTS %s DEFERRED', deferred), waiting[1]) AS x (nothing text);
        END IF;
    EXCEPTION WHEN OTHERS THEN
        IF NOT tandem.is_row_fault(SQLSTATE) THEN
            RAISE;
        END IF;
        together := false;
        total := 0;
    END;
    IF NOT together THEN
        FOR b IN SELECT m AS mapping, x.key, tandem.relation_of(m.legacy_schema, m.legacy_table) AS source
                   FROM tandem.backfill AS x JOIN tandem.mapping AS m ON m.id = x.mapping_id WHERE x.mapping_id = ANY (waiting) ORDER BY array_position(waiting, x.mapping_id) LOOP
            SELECT * INTO k FROM tandem.keyset_sql(b.source, b.key);
            FOR key IN SELECT x FROM tandem.rejected_keys((b.mapping).id) AS x LOOP
                copied := tandem.copy_row(r.owner, b.mapping, key, k.names, k.literal);
                UPDATE tandem.backfill AS x SET rows_copied = x.rows_copied + copied WHERE x.mapping_id = (b.mapping).id AND copied > 0;
                total := total + copied;
            END LOOP;
        END LOOP;
    END IF;
    -- Where nothing is set apart any more: finished, or, where too much was, on with the batches.
    UPDATE tandem.backfill AS x
       SET finished_at = CASE WHEN n.rows = 0 AND x.read_at IS NOT NULL THEN clock_timestamp() END,
           retries = CASE WHEN total > 0 THEN 0 ELSE x.retries + 1 END,
           retry_at = CASE WHEN n.rows > 0 AND (x.read_at IS NOT NULL OR n.rows >= tandem.option(r.id, 'max_rejected')::integer)
                           THEN clock_timestamp() + CASE WHEN total > 0 THEN interval '0' ELSE least(interval '30 seconds', interval '500 ms' * 2 ^ least(x.retries, 10)) END END
      FROM unnest(waiting) AS w CROSS JOIN LATERAL (SELECT count(*) AS rows FROM tandem.backfill_rejection AS j WHERE j.mapping_id = w) AS n
     WHERE x.mapping_id = w;
    RETURN total;
END
$$;
COMMENT ON FUNCTION tandem.backfill_retry IS 'Tries the rows that were set apart again, all together and then one by one; returns how many were copied';

-- The next batch of the run; the rows that it saw, NULL when there is nothing to be done now, -1 when it waits for other transactions.
--
-- Who waits for a row holds those that he has locked already: so no wait is long. Where one is, where another session and we would wait for
-- each other, or where the new side refuses a row, the batch is made again with a tenth of its rows, until the row stands alone.
CREATE FUNCTION tandem.backfill_batch(run_id integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s'
AS $$
DECLARE
    r tandem.run;
    m tandem.mapping;
    b tandem.backfill;
    source regclass;
    target regclass;
    k record;
    began timestamptz := clock_timestamp();
    most integer;
    size integer;
    behind text;
    condition text;
    ancestors text;
    last text[];
    key text[];
    seen bigint;
    copied bigint;
    state text;
    careful boolean := false;
    rejected bigint;
    time_wanted double precision;
    seconds double precision;
BEGIN
    SELECT * INTO r FROM tandem.run AS x WHERE x.id = run_id;
    SELECT x.* INTO m FROM tandem.backfill_next(r.id) AS x;
    IF NOT FOUND THEN
        IF NOT tandem.backfill_due(r.id) THEN
            RETURN NULL;
        END IF;
        RETURN tandem.backfill_retry(r);
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
    IF source IS NULL OR target IS NULL THEN
        RAISE EXCEPTION 'table %.% of a mapping does not exist any more', CASE WHEN source IS NULL THEN m.legacy_schema ELSE m.new_schema END,
              CASE WHEN source IS NULL THEN m.legacy_table ELSE m.new_table END USING ERRCODE = 'undefined_table',
              DETAIL = 'It was renamed, moved or dropped while the backfill copies it.', HINT = 'Give it its name back, or end the run with tandem.cancel().';
    END IF;
    IF b.estimated_from IS NULL THEN
        PERFORM tandem.backfill_estimate(r.id);
        SELECT * INTO b FROM tandem.backfill AS x WHERE x.mapping_id = m.id;
    END IF;
    SELECT * INTO k FROM tandem.keyset_sql(source, b.key);
    behind := CASE WHEN b.checkpoint IS NOT NULL THEN format('(%s) > (%s)', k.names, format(k.literal, VARIADIC b.checkpoint)) ELSE 'true' END;
    most := tandem.option(r.id, 'batch_size')::integer;
    time_wanted := extract(epoch FROM tandem.option(r.id, 'batch_time')::interval);
    -- A writer who wants a row of the batch waits for its end: few of them should, so a batch is a small part of a table that is not small.
    most := CASE WHEN time_wanted = 0 THEN most ELSE least(most, greatest(5000, b.rows_estimated / 500)) END;
    size := least(coalesce(b.batch_size, 2000), most);
    size := CASE WHEN time_wanted = 0 THEN most ELSE size END;
    LOOP
        SELECT x.last, size INTO last, seen FROM tandem.query_as(r.owner,
            format('SELECT ARRAY[%s] FROM %s WHERE %s ORDER BY %s OFFSET %s LIMIT 1', k.texts, source, behind, k.names, size - 1)) AS x (last text[]);
        IF NOT FOUND THEN -- the last ones
            SELECT x.seen, x.last INTO seen, last FROM tandem.query_as(r.owner,
                format('SELECT (SELECT count(*) FROM %2$s WHERE %3$s), (SELECT ARRAY[%1$s] FROM %2$s WHERE %3$s ORDER BY %4$s LIMIT 1)', k.texts, source, behind, k.descending)) AS x (seen bigint, last text[]);
        END IF;
        IF seen = 0 THEN
            PERFORM tandem.execute_as(r.owner, format('ANALYZE %s', target));
            rejected := (SELECT count(*) FROM tandem.backfill_rejection AS j WHERE j.mapping_id = m.id);
            UPDATE tandem.backfill AS x
               SET read_at = clock_timestamp(), started_at = coalesce(x.started_at, transaction_timestamp()), throttled_by = NULL,
                   retry_at = CASE WHEN rejected > 0 THEN clock_timestamp() END, finished_at = CASE WHEN rejected = 0 THEN clock_timestamp() END
             WHERE x.mapping_id = m.id;
            RETURN 0;
        END IF;
        condition := format('%s AND (%s) <= (%s)', behind, k.names, format(k.literal, VARIADIC last));
        BEGIN
            copied := tandem.copy_rows(r.owner, m, coalesce(ancestors, condition));
            EXIT;
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE;
            IF NOT (tandem.is_row_fault(state) OR state IN ('55P03', '40P01', '40001')) OR (size = 1 AND state IN ('40P01', '40001')) THEN
                RAISE;
            END IF;
        END;
        IF size = 1 AND state = '55P03' THEN
            UPDATE tandem.backfill AS x SET throttled_by = 'a row that another transaction has locked', batch_size = 1 WHERE x.mapping_id = m.id;
            RETURN -1;
        END IF;
        -- 23503: a foreign key; of the table to itself it may be satisfied by rows of later batches, if they come along.
        IF state = '23503' AND ancestors IS NULL THEN
            ancestors := tandem.ancestors_sql(m, condition, CASE WHEN b.checkpoint IS NOT NULL THEN format('(%s) > (%s)', (SELECT string_agg(format('p.%I', c), ', ') FROM unnest(b.key) AS c),
                                              format(k.literal, VARIADIC b.checkpoint)) ELSE 'true' END);
            CONTINUE WHEN ancestors IS NOT NULL;
        END IF;
        ancestors := NULL;
        careful := tandem.is_row_fault(state) AND size <= 100;
        EXIT WHEN careful;
        size := greatest(least(size, seen) / 10, CASE WHEN tandem.is_row_fault(state) THEN 50 ELSE 1 END);
    END LOOP;
    IF careful THEN
        copied := 0;
        FOR key IN SELECT x.key FROM tandem.query_as(r.owner, format('SELECT ARRAY[%s] FROM %s WHERE %s ORDER BY %s', k.texts, source, condition, k.names)) AS x (key text[]) LOOP
            copied := copied + tandem.copy_row(r.owner, m, key, k.names, k.literal);
        END LOOP;
        rejected := (SELECT count(*) FROM tandem.backfill_rejection AS j WHERE j.mapping_id = m.id);
    END IF;

    seconds := extract(epoch FROM clock_timestamp() - coalesce(b.batch_at, began));
    UPDATE tandem.backfill AS x
       SET checkpoint = last, rows_seen = x.rows_seen + seen, rows_copied = x.rows_copied + copied, batches = x.batches + 1,
           started_at = coalesce(x.started_at, transaction_timestamp()), batch_at = clock_timestamp(), throttled_by = NULL,
           speed = CASE WHEN x.speed IS NULL OR seconds > 60 OR seconds <= 0 THEN seen / nullif(extract(epoch FROM clock_timestamp() - began), 0)
                        ELSE x.speed + (1 - exp(- seconds / 10)) * (seen / seconds - x.speed) END,
           batch_size = CASE WHEN time_wanted > 0 AND NOT careful THEN greatest(100, least(2 * size, size * time_wanted / greatest(extract(epoch FROM clock_timestamp() - began), 0.001), 1000000))::integer
                             ELSE greatest(size, 100) END,
           retry_at = CASE WHEN rejected >= tandem.option(r.id, 'max_rejected')::integer THEN clock_timestamp() + interval '1 second' END
     WHERE x.mapping_id = m.id;
    -- Plans that were made while the table was empty, the mirror's and those of foreign keys, scan all of it: statistics replace them.
    IF b.batches = 0 THEN
        PERFORM tandem.execute_as(r.owner, format('ANALYZE %s', target));
    END IF;
    RETURN seen;
END
$$;
COMMENT ON FUNCTION tandem.backfill_batch IS 'Copies the next batch of a run and moves its checkpoint; returns the rows seen, -1 while it waits for other transactions, NULL when nothing is to be done now';
