-- backfill, the batches: what one of them copies, how large the next is, and what becomes of rows that the new side refuses.

CREATE FUNCTION tandem.copy_as(role name, query text, mapping_id integer) RETURNS SETOF record
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'tandem_copy_as';
COMMENT ON FUNCTION tandem.copy_as IS
    'query_as() that writes: rows that it inserts into the new side of the mapping do not come back through the reverse mirror';

CREATE FUNCTION tandem.copy_insert(role name, statement text, mapping_id integer) RETURNS bigint
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'tandem_copy_insert';
COMMENT ON FUNCTION tandem.copy_insert IS
    'One INSERT into the new side of the mapping, planned to go by index, for which the reverse mirror is not called; returns the rows inserted';

-- A fault of the row, or of the new side with it: another row may fare better. Conflicts with other sessions, what the server lacks, and what an
-- administrator must mend (class 42: rights, tables that are gone) are not.
CREATE FUNCTION tandem.is_row_fault(sqlstate text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ SELECT left(sqlstate, 2) NOT IN ('08', '25', '28', '3D', '3F', '40', '42', '53', '57', '58', 'XX') AND sqlstate <> '55P03' $$;
COMMENT ON FUNCTION tandem.is_row_fault IS 'Can an error of this SQLSTATE be that of a single row?';

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

-- Base types in the key's literals: a domain may have another collation than its column.
CREATE FUNCTION tandem.backfill_sql(m tandem.mapping, key name[]) RETURNS tandem.backfill_statement
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH relation AS MATERIALIZED (
        SELECT tandem.relation_of(m.legacy_schema, m.legacy_table) AS source, tandem.relation_of(m.new_schema, m.new_table) AS target
    ), k AS (
        SELECT string_agg(quote_ident(x.name), ', ' ORDER BY x.position) AS names, string_agg(quote_ident(x.name) || ' DESC', ', ' ORDER BY x.position) AS down,
               string_agg(quote_ident(x.name) || '::text', ', ' ORDER BY x.position) AS texts,
               string_agg(format('CAST(%%%s$L AS %s)', x.position, replace(format_type(tandem.base_type(a.atttypid), -1), '%', '%%')), ', ' ORDER BY x.position) AS literal
          FROM relation CROSS JOIN LATERAL unnest(key) WITH ORDINALITY AS x (name, position) JOIN pg_attribute AS a ON a.attrelid = relation.source AND a.attname = x.name
    ), c AS (
        SELECT string_agg(quote_ident(x.name), ', ') FILTER (WHERE x.writable) AS names,
               string_agg(format(E'(%s\n)', x.expression), ', ') FILTER (WHERE x.writable) AS expressions,
               string_agg(quote_ident(x.name), ', ') FILTER (WHERE x.key_position IS NOT NULL) AS keys,
               string_agg(format('s.%I', x.name), ', ') FILTER (WHERE x.writable) AS given,
               string_agg(format(E'CAST((%s\n) AS %s) AS %I', x.expression, x.type, x.name), ', ') AS computed,
               string_agg(format('t.%1$I %2$s s.%1$I', x.name, x.operator), ' AND ') FILTER (WHERE x.key_position IS NOT NULL) AS same_key
          FROM tandem.mirror_columns(m.id, 'forward') AS x
    )
    SELECT m.id, r.source::text, r.target::text, k.names, k.down, k.texts, k.literal,
           format('INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM %s AS %I WHERE ', r.target, c.names, c.expressions, r.source, m.legacy_table),
           format(' ON CONFLICT (%s) DO NOTHING', c.keys),
           format('INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM (SELECT * FROM %s WHERE ', r.target, c.names, c.given, r.source),
           format(') AS %I CROSS JOIN LATERAL (SELECT %s) AS s WHERE NOT EXISTS (SELECT FROM %s AS t WHERE %s)', m.legacy_table, c.computed, r.target, c.same_key),
           tandem.constraints_sql(ARRAY[m.id], true), clock_timestamp()
      FROM relation AS r, k, c
$$;
COMMENT ON FUNCTION tandem.backfill_sql IS 'Parts of the SQL by which a mapping is copied, in the order of a key';

-- Inserts the legacy rows for which the condition holds, where the new side has no row of the key. ON CONFLICT is what does that whatever
-- happens, at twice the price of the rest; so it is the last of three ways (each of the others ends in 23505 where it does not do):
--   plain    no such row is there
--   looking  those that are there are left out: a writer may bring another before it is this one's turn
--   sure     ON CONFLICT DO NOTHING
-- Rows need no lock where the caller has locked the table. Deferred constraints are checked here and not at the commit, where nobody could tell
-- which row was at fault.
CREATE FUNCTION tandem.copy_rows(owner name, s tandem.backfill_statement, condition text, way text DEFAULT 'sure', locked boolean DEFAULT false, settled boolean DEFAULT true)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lock text := CASE WHEN locked THEN '' ELSE ' FOR SHARE' END;
    copied bigint;
BEGIN
    copied := tandem.copy_insert(owner, CASE way WHEN 'plain' THEN s.insert_head || condition || lock
                                                 WHEN 'looking' THEN s.looking_head || condition || lock || s.looking_tail
                                                 ELSE s.insert_head || condition || lock || s.conflict END, s.mapping_id);
    IF settled AND s.deferred IS NOT NULL THEN
        PERFORM FROM tandem.copy_as(owner, format('SET CONSTRAINTS %s IMMEDIATE', s.deferred), s.mapping_id) AS x (nothing text);
        PERFORM FROM tandem.copy_as(owner, format('SET CONSTRAINTS %s DEFERRED', s.deferred), s.mapping_id) AS x (nothing text); -- the transaction may be somebody's
    END IF;
    RETURN copied;
END
$$;
COMMENT ON FUNCTION tandem.copy_rows IS 'Copies the legacy rows that a condition names to the new side, where they are absent; returns how many were. Deferred constraints are checked unless settled is false';

-- For the length of a batch, where nobody else has written into the table for some seconds: that spares the locks of the rows, each of which writes
-- to the table's pages and to the log. Who comes meanwhile waits for the batch's end. Never waits itself.
CREATE FUNCTION tandem.lock_source(owner name, source text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM tandem.execute_as(owner, format('LOCK TABLE %s IN SHARE MODE NOWAIT', source));
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END
$$;
COMMENT ON FUNCTION tandem.lock_source IS 'Keeps writers out of a legacy table until the transaction ends, if there is none';

-- One row. Whatever is wrong with it is its own matter.
CREATE FUNCTION tandem.copy_row(owner name, s tandem.backfill_statement, key text[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    copied bigint;
    state text;
    message text;
    detail text;
BEGIN
    BEGIN
        copied := tandem.copy_rows(owner, s, format('(%s) = (%s)', s.key_names, format(s.key_literal, VARIADIC key)));
        DELETE FROM tandem.backfill_rejection AS j WHERE j.mapping_id = s.mapping_id AND j.key = copy_row.key;
        RETURN copied;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
        IF NOT tandem.is_row_fault(state) THEN
            RAISE;
        END IF;
    END;
    INSERT INTO tandem.backfill_rejection AS j (mapping_id, key, sqlstate, message, detail) VALUES (s.mapping_id, key, state, message, nullif(detail, ''))
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

-- cancel() takes the mirrors off with both tables locked. Holding the new one we come before it, or see that it has been: then nobody keeps in step
-- any more what we would copy, and it would stand in the way of the next run.
CREATE FUNCTION tandem.backfill_targets(r tandem.run, targets text[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF cardinality(targets) > 0 THEN
        PERFORM tandem.execute_as(r.owner, format('LOCK TABLE %s IN ROW EXCLUSIVE MODE', array_to_string(targets, ', ')));
    END IF;
    RETURN EXISTS (SELECT FROM tandem.run AS x WHERE x.id = r.id AND x.stage = 'dualwrite' AND x.phase <> 'cancelled');
END
$$;
COMMENT ON FUNCTION tandem.backfill_targets IS 'Locks new tables for a batch; false where the run is not to be copied any more. 55P03 where somebody holds one for longer than lock_timeout';

-- The rows that were set apart, all together first: they may need each other, also across tables. Then one by one.
-- Pauses between the tries grow up to half a minute.
CREATE FUNCTION tandem.backfill_retry(r tandem.run) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s tandem.backfill_statement;
    key text[];
    copied bigint;
    total bigint := 0;
    together boolean := true;
    waiting integer[] := ARRAY(SELECT x.mapping_id FROM tandem.backfill AS x JOIN tandem.mapping AS m ON m.id = x.mapping_id
                                 JOIN tandem.mapping_order(r.id) AS o ON o.mapping_id = m.id
                                WHERE m.run_id = r.id AND x.finished_at IS NULL AND x.retry_at IS NOT NULL ORDER BY o.depth, m.id);
    may_defer text := tandem.constraints_sql(waiting, false);
    deferred text := tandem.constraints_sql(waiting, true);
BEGIN
    IF NOT tandem.backfill_targets(r, ARRAY(SELECT DISTINCT tandem.relation_of(m.new_schema, m.new_table)::text FROM tandem.mapping AS m
                                                 WHERE m.id = ANY (waiting) AND tandem.relation_of(m.new_schema, m.new_table) IS NOT NULL)) THEN
        RETURN NULL;
    END IF;
    BEGIN
        IF may_defer IS NOT NULL THEN
            PERFORM FROM tandem.copy_as(r.owner, format('SET CONSTRAINTS %s DEFERRED', may_defer), waiting[1]) AS x (nothing text);
        END IF;
        FOR s IN SELECT (tandem.backfill_sql(m, x.key)).* FROM tandem.backfill AS x JOIN tandem.mapping AS m ON m.id = x.mapping_id
                  WHERE x.mapping_id = ANY (waiting) ORDER BY array_position(waiting, x.mapping_id) LOOP
            copied := tandem.copy_rows(r.owner, s, format('(%s) IN (%s)', s.key_names,
                (SELECT string_agg('(' || format(s.key_literal, VARIADIC x) || ')', ', ') FROM tandem.rejected_keys(s.mapping_id) AS x)), settled => false);
            DELETE FROM tandem.backfill_rejection AS j WHERE j.mapping_id = s.mapping_id AND j.key IN (SELECT tandem.rejected_keys(s.mapping_id));
            UPDATE tandem.backfill AS x SET rows_copied = x.rows_copied + copied WHERE x.mapping_id = s.mapping_id;
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
        FOR s IN SELECT (tandem.backfill_sql(m, x.key)).* FROM tandem.backfill AS x JOIN tandem.mapping AS m ON m.id = x.mapping_id
                  WHERE x.mapping_id = ANY (waiting) ORDER BY array_position(waiting, x.mapping_id) LOOP
            FOR key IN SELECT x FROM tandem.rejected_keys(s.mapping_id) AS x LOOP
                copied := tandem.copy_row(r.owner, s, key);
                UPDATE tandem.backfill AS x SET rows_copied = x.rows_copied + copied WHERE x.mapping_id = s.mapping_id AND copied > 0;
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
COMMENT ON FUNCTION tandem.backfill_retry IS 'Tries the rows that were set apart again, all together and then one by one; returns how many were copied, NULL where the run was cancelled';

-- What a batch needs to know of a mapping, once for many batches; -1 while it must wait, 0 while it may begin.
CREATE FUNCTION tandem.backfill_prepare(r tandem.run, m tandem.mapping) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    b tandem.backfill;
BEGIN
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
    IF tandem.relation_of(m.legacy_schema, m.legacy_table) IS NULL OR tandem.relation_of(m.new_schema, m.new_table) IS NULL THEN
        RAISE EXCEPTION 'a table of mapping %.% % %.% does not exist any more', m.legacy_schema, m.legacy_table, tandem.glyph('to'), m.new_schema, m.new_table USING ERRCODE = 'undefined_table',
              DETAIL = 'It was renamed, moved or dropped while the backfill copies it.', HINT = 'Give it its name back, or end the run with tandem.cancel().';
    END IF;
    IF b.estimated_from IS NULL THEN
        PERFORM tandem.backfill_estimate(r.id);
    END IF;
    DELETE FROM tandem.backfill_statement AS x WHERE x.mapping_id = m.id;
    INSERT INTO tandem.backfill_statement SELECT (tandem.backfill_sql(m, b.key)).*;
    UPDATE tandem.backfill AS x SET quiet_from = clock_timestamp() + interval '3 seconds'
     WHERE x.mapping_id = m.id AND (tandem.option(r.id, 'capture') <> 'trigger' OR EXISTS (SELECT FROM tandem.captured AS c WHERE c.mapping_id = m.id));
    RETURN 0;
END
$$;
COMMENT ON FUNCTION tandem.backfill_prepare IS 'Makes the SQL of a mapping''s batches, estimates its rows, and looks whether anybody writes into its tables';

-- The next batch of the run; the rows that it saw, NULL when there is nothing to be done now, -1 when it waits for other transactions. again:
-- the last round prepared it, and the table is the same.
--
-- Who waits for a row holds those that he has locked already: so no wait is long. Where one is, where another session and we would wait for
-- each other, or where the new side refuses a row, the batch is made again with a tenth of its rows, until the row stands alone.
CREATE FUNCTION tandem.backfill_batch(run_id integer, again boolean DEFAULT false) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s'
AS $$
DECLARE
    r tandem.run;
    m tandem.mapping;
    b tandem.backfill;
    s tandem.backfill_statement;
    began timestamptz := clock_timestamp();
    locked boolean := false;
    most integer;
    size integer;
    behind text;
    condition text;
    ancestors text;
    last text[];
    key text[];
    seen bigint;
    copied bigint;
    way text;
    state text;
    careful boolean := false;
    rejected bigint;
    time_wanted double precision;
    took double precision;
    since double precision;
BEGIN
    SELECT * INTO r FROM tandem.run AS x WHERE x.id = run_id;
    IF again THEN
        SELECT x.* INTO m FROM tandem.backfill AS y JOIN tandem.mapping AS x ON x.id = y.mapping_id JOIN tandem.backfill_statement AS z ON z.mapping_id = x.id
         WHERE x.run_id = r.id AND y.started_at IS NOT NULL AND y.read_at IS NULL AND y.retry_at IS NULL AND z.prepared_at BETWEEN began - interval '5 seconds' AND began
         ORDER BY z.prepared_at DESC LIMIT 1;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
    ELSE
        SELECT x.* INTO m FROM tandem.backfill_next(r.id) AS x;
        IF NOT FOUND THEN
            IF NOT tandem.backfill_due(r.id) THEN
                RETURN NULL;
            END IF;
            BEGIN
                RETURN tandem.backfill_retry(r);
            EXCEPTION WHEN lock_not_available THEN
                RETURN -1;
            END;
        ELSIF tandem.backfill_prepare(r, m) < 0 THEN
            RETURN -1;
        END IF;
    END IF;
    SELECT * INTO s FROM tandem.backfill_statement AS x WHERE x.mapping_id = m.id;
    SELECT * INTO b FROM tandem.backfill AS x WHERE x.mapping_id = m.id FOR UPDATE;
    BEGIN
        IF NOT tandem.backfill_targets(r, ARRAY[s.target]) THEN
            RETURN NULL;
        END IF;
    EXCEPTION WHEN lock_not_available THEN
        RETURN -1;
    END;
    SELECT coalesce(max(x.value) FILTER (WHERE x.name = 'batch_size'), max(d.value) FILTER (WHERE d.name = 'batch_size'))::integer,
           extract(epoch FROM coalesce(max(x.value) FILTER (WHERE x.name = 'batch_time'), max(d.value) FILTER (WHERE d.name = 'batch_time'))::interval)
      INTO most, time_wanted
      FROM tandem.option_default AS d LEFT JOIN tandem.run_option AS x ON x.run_id = r.id AND x.name = d.name WHERE d.name IN ('batch_size', 'batch_time');

    behind := CASE WHEN b.checkpoint IS NOT NULL THEN format('(%s) > (%s)', s.key_names, format(s.key_literal, VARIADIC b.checkpoint)) ELSE 'true' END;
    -- An older snapshot would not see what was committed before we had the lock: there rows must be locked, and tell it.
    IF b.quiet_from < began AND current_setting('transaction_isolation') = 'read committed' THEN
        locked := tandem.lock_source(r.owner, s.source);
        b.quiet_from := CASE WHEN locked THEN b.quiet_from ELSE began + interval '3 seconds' END;
    END IF;
    -- A writer who wants a row of the batch waits for its end: few of them should, so a batch is a small part of a table that is not small.
    most := CASE WHEN time_wanted = 0 OR locked THEN most ELSE least(most, greatest(5000, b.rows_estimated / 500)) END;
    size := CASE WHEN time_wanted = 0 THEN most ELSE least(coalesce(b.batch_size, 2000), most) END;
    way := CASE WHEN b.found THEN 'looking' ELSE 'plain' END;
    LOOP
        SELECT x.last, size INTO last, seen FROM tandem.query_as(r.owner,
            format('SELECT ARRAY[%s] FROM %s WHERE %s ORDER BY %s OFFSET %s LIMIT 1', s.key_texts, s.source, behind, s.key_names, size - 1)) AS x (last text[]);
        IF NOT FOUND THEN -- the last ones
            SELECT x.seen, x.last INTO seen, last FROM tandem.query_as(r.owner,
                format('SELECT (SELECT count(*) FROM %2$s WHERE %3$s), (SELECT ARRAY[%1$s] FROM %2$s WHERE %3$s ORDER BY %4$s LIMIT 1)', s.key_texts, s.source, behind, s.key_down)) AS x (seen bigint, last text[]);
        END IF;
        IF seen = 0 THEN
            PERFORM tandem.execute_as(r.owner, format('ANALYZE %s', s.target));
            rejected := (SELECT count(*) FROM tandem.backfill_rejection AS j WHERE j.mapping_id = m.id);
            UPDATE tandem.backfill AS x
               SET read_at = clock_timestamp(), started_at = coalesce(x.started_at, transaction_timestamp()), throttled_by = NULL,
                   retry_at = CASE WHEN rejected > 0 THEN clock_timestamp() END, finished_at = CASE WHEN rejected = 0 THEN clock_timestamp() END
             WHERE x.mapping_id = m.id;
            RETURN 0;
        END IF;
        condition := format('%s AND (%s) <= (%s)', behind, s.key_names, format(s.key_literal, VARIADIC last));
        BEGIN
            copied := tandem.copy_rows(r.owner, s, coalesce(ancestors, condition), way, locked);
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
        IF state = '23505' AND way <> 'sure' THEN
            way := CASE way WHEN 'plain' THEN 'looking' ELSE 'sure' END;
            CONTINUE;
        END IF;
        -- 23503: a foreign key; of the table to itself it may be satisfied by rows of later batches, if they come along.
        IF state = '23503' AND ancestors IS NULL THEN
            ancestors := tandem.ancestors_sql(m, condition, CASE WHEN b.checkpoint IS NOT NULL THEN format('(%s) > (%s)', (SELECT string_agg(format('p.%I', c), ', ') FROM unnest(b.key) AS c),
                                              format(s.key_literal, VARIADIC b.checkpoint)) ELSE 'true' END);
            way := 'sure';
            CONTINUE WHEN ancestors IS NOT NULL;
        END IF;
        ancestors := NULL;
        careful := tandem.is_row_fault(state) AND size <= 100;
        EXIT WHEN careful;
        size := greatest(least(size, seen) / 10, CASE WHEN tandem.is_row_fault(state) THEN 50 ELSE 1 END);
    END LOOP;
    IF careful THEN
        copied := 0;
        FOR key IN SELECT x.key FROM tandem.query_as(r.owner, format('SELECT ARRAY[%s] FROM %s WHERE %s ORDER BY %s', s.key_texts, s.source, condition, s.key_names)) AS x (key text[]) LOOP
            copied := copied + tandem.copy_row(r.owner, s, key);
        END LOOP;
        rejected := (SELECT count(*) FROM tandem.backfill_rejection AS j WHERE j.mapping_id = m.id);
    END IF;

    took := greatest(extract(epoch FROM clock_timestamp() - began), 0.001);
    since := extract(epoch FROM clock_timestamp() - coalesce(b.batch_at, began));
    UPDATE tandem.backfill AS x
       SET checkpoint = last, rows_seen = x.rows_seen + seen, rows_copied = x.rows_copied + copied, batches = x.batches + 1,
           started_at = coalesce(x.started_at, transaction_timestamp()), batch_at = clock_timestamp(), throttled_by = NULL, found = copied < seen, quiet_from = b.quiet_from,
           speed = CASE WHEN x.speed IS NULL OR since NOT BETWEEN 0.0001 AND 60 THEN seen / took ELSE x.speed + (1 - exp(- since / 10)) * (seen / since - x.speed) END,
           batch_size = CASE WHEN time_wanted > 0 AND NOT careful THEN greatest(100, least(2 * size, size * time_wanted / took, 1000000))::integer ELSE greatest(size, 100) END,
           retry_at = CASE WHEN rejected >= tandem.option(r.id, 'max_rejected')::integer THEN clock_timestamp() + interval '1 second' END
     WHERE x.mapping_id = m.id;
    -- Plans that were made while the table was empty, the mirror's and those of foreign keys, scan all of it: statistics replace them.
    IF b.batches = 0 THEN
        PERFORM tandem.execute_as(r.owner, format('ANALYZE %s', s.target));
    END IF;
    RETURN seen;
END
$$;
COMMENT ON FUNCTION tandem.backfill_batch IS 'Copies the next batch of a run and moves its checkpoint; returns the rows seen, -1 while it waits for other transactions, NULL when nothing is to be done now';
