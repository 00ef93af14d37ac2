-- continuous: a validation whose cost follows the changes. compare_changes() looks at the keys that were captured since the last
-- validation, and again at those that it found different, on both sides and with the semantics of the full join.
--
-- Why that is a proof: the last full comparison saw everything that had been committed at its snapshot. Every row that was changed by a
-- transaction which was not is among the captured keys, of this round or of one since; and a key that is different stays in the set
-- until it is not. So the differences that a round finds are all that there are, and their number is the true one.

-- The keys as rows of the values that are compared: one SELECT, k1, k2, ... in the order of the key.
CREATE FUNCTION tandem.keys_sql(
    c tandem.compared_column[], legacy regclass, new regclass, legacy_columns name[], legacy_lists text[], new_columns name[], new_lists text[],
    legacy_known jsonb, new_known jsonb)
RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH input AS (
        SELECT i.legacy, i.relation, i.columns, i.lists,
               (SELECT string_agg(format('CAST(x.a%s AS %s)%s AS %I', n.position, format_type(a.atttypid, -1),
                                         coalesce((SELECT format(' COLLATE %I.%I', s.nspname, o.collname) FROM pg_collation AS o
                                                     JOIN pg_namespace AS s ON s.oid = o.collnamespace WHERE o.oid = a.attcollation), ''), a.attname), ', ')
                  FROM unnest(i.columns) WITH ORDINALITY AS n (name, position)
                  JOIN pg_attribute AS a ON a.attrelid = i.relation AND a.attname = n.name) AS typed,
               (SELECT string_agg('a' || n, ', ' ORDER BY n) FROM generate_series(1, cardinality(i.columns)) AS n) AS names,
               (SELECT string_agg(format('%L::text[]', l.list), ', ' ORDER BY l.position) FROM unnest(i.lists) WITH ORDINALITY AS l (list, position)) AS arrays
          FROM (VALUES (true, legacy, legacy_columns, legacy_lists), (false, new, new_columns, new_lists)) AS i (legacy, relation, columns, lists)
    ), side AS (
        SELECT 'l' AS alias,
               (SELECT string_agg(format('%s AS k%s', x.legacy_value, x.key_position), ', ' ORDER BY x.key_position) FROM unnest(c) AS x WHERE x.key_position IS NOT NULL) AS key_values,
               (SELECT string_agg(format(E'(%s\n) AS c%s', x.legacy_expression, x.position), ', ') FROM unnest(c) AS x WHERE x.key_position IS NOT NULL) AS expressions,
               (SELECT string_agg(format('%I %s', x.name, format_type(x.legacy_type, -1)), ', ') FROM unnest(c) AS x WHERE x.key_position IS NOT NULL) AS known_types,
               legacy_known AS known, true AS legacy
        UNION ALL
        SELECT 'n',
               (SELECT string_agg(format('%s AS k%s', x.new_value, x.key_position), ', ' ORDER BY x.key_position) FROM unnest(c) AS x WHERE x.key_position IS NOT NULL),
               (SELECT string_agg(format('%I AS c%s', x.name, x.position), ', ') FROM unnest(c) AS x WHERE x.key_position IS NOT NULL),
               (SELECT string_agg(format('%I %s', x.name, format_type(x.new_type, -1)), ', ') FROM unnest(c) AS x WHERE x.key_position IS NOT NULL),
               new_known, false
    ), part AS (
        SELECT format('SELECT %s FROM (SELECT %s FROM (SELECT %s FROM unnest(%s) AS x (%s)) AS %I) AS %s',
                      s.key_values, s.expressions, i.typed, i.arrays, i.names, (SELECT r.relname FROM pg_class AS r WHERE r.oid = i.relation), s.alias) AS sql
          FROM input AS i JOIN side AS s USING (legacy) WHERE i.lists IS NOT NULL
        UNION ALL
        SELECT format('SELECT %s FROM (SELECT %s FROM jsonb_to_recordset(%L) AS x (%s)) AS %s', s.key_values,
                      (SELECT string_agg(format('x.%I AS c%s', x.name, x.position), ', ') FROM unnest(c) AS x WHERE x.key_position IS NOT NULL),
                      s.known, s.known_types, s.alias)
          FROM side AS s WHERE s.known <> '[]'
    )
    SELECT string_agg(part.sql, E'\nUNION ') FROM part
$$;
COMMENT ON FUNCTION tandem.keys_sql IS 'SELECT of the keys to look at: captured ones of both sides, and those that are known to differ';

-- The rows that have one of the keys, by whatever index finds them, and their differences by the full join.
CREATE FUNCTION tandem.changes_sql(c tandem.compared_column[], legacy regclass, new regclass, keys text, up_to text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    k record;
BEGIN
    SELECT string_agg('q.k' || x.key_position, ', ' ORDER BY x.key_position) AS names,
           string_agg(x.legacy_scalar, ', ' ORDER BY x.key_position) AS legacy,
           string_agg(x.new_scalar, ', ' ORDER BY x.key_position) AS new
      INTO k FROM unnest(c) AS x WHERE x.key_position IS NOT NULL;
    RETURN (SELECT format($sql$
        WITH keys AS MATERIALIZED (%s),
             legacy_rows AS MATERIALIZED (%s),
             new_rows AS MATERIALIZED (%s),
             d AS MATERIALIZED (%s)
        SELECT count(*) = 0 AS equal, (SELECT count(*) FROM legacy_rows) AS legacy_rows, (SELECT count(*) FROM new_rows) AS new_rows,
               count(*) FILTER (WHERE kind = 'missing') AS missing, count(*) FILTER (WHERE kind = 'extra') AS extra,
               count(*) FILTER (WHERE kind = 'changed') AS changed, count(*) FILTER (WHERE kind = 'duplicate') AS duplicates,
               coalesce((SELECT jsonb_agg(to_jsonb(f)) FROM (SELECT * FROM d %s) AS f), '[]') AS differences,
               coalesce((SELECT bool_or(NOT q IS NOT NULL) FROM keys AS q), false) AS null_key
          FROM d $sql$,
        keys,
        tandem.rows_sql(legacy::text, array_agg(x.legacy_expression ORDER BY x.position), format('(%s) IN (SELECT %s FROM keys AS q)', k.legacy, k.names)),
        tandem.rows_sql(new::text, array_agg(quote_ident(x.name) ORDER BY x.position), format('(%s) IN (SELECT %s FROM keys AS q)', k.new, k.names)),
        tandem.keyed_sql(c, 'SELECT * FROM legacy_rows', 'SELECT * FROM new_rows'), up_to)
      FROM unnest(c) AS x);
END
$$;
COMMENT ON FUNCTION tandem.changes_sql IS 'SELECT of the verdict, counts and differences of the rows with one of the keys that keys_sql() makes';

-- NULL: a key is NULL, and cannot be looked up; only the full comparison can tell what is there. random_page_cost: rows that have just
-- been written are in memory. enable_hashagg: keys that come in order find the next row beside the last one.
CREATE FUNCTION tandem.compare_keys(
    legacy regclass, new regclass, key name[], columns jsonb, rules jsonb, max_differences bigint,
    legacy_columns name[], legacy_lists text[], new_columns name[], new_lists text[], legacy_known jsonb, new_known jsonb)
RETURNS tandem.comparison_result
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex'
SET jit = off SET random_page_cost = 1 SET enable_hashagg = off
AS $$
DECLARE
    started timestamptz := clock_timestamp();
    c tandem.compared_column[] := (SELECT array_agg(x ORDER BY x.position) FROM tandem.comparison_columns(legacy, new, key, columns, rules) AS x);
    d record;
BEGIN
    EXECUTE tandem.changes_sql(c, legacy, new, tandem.keys_sql(c, legacy, new, legacy_columns, legacy_lists, new_columns, new_lists, legacy_known, new_known),
                               tandem.limit_sql(max_differences)) INTO d;
    IF d.null_key THEN
        RETURN NULL;
    END IF;
    RETURN (d.equal, d.legacy_rows, d.new_rows, d.missing, d.extra, d.changed, d.duplicates, 'join', clock_timestamp() - started, d.differences, 0)::tandem.comparison_result;
END
$$;
COMMENT ON FUNCTION tandem.compare_keys IS 'compare(), of the rows that have one of the given keys on either side; NULL where a key is NULL';

-- The differences of the last comparison, all of which are kept, and whatever was ever accepted: it does not count, but it must not be
-- forgotten when the acceptance ends. The type of a key is that of the side on which it was found.
CREATE FUNCTION tandem.known_keys(comparison_id bigint, OUT legacy jsonb, OUT new jsonb, OUT keys bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH d AS (SELECT x.kind, x.key, x.new FROM tandem.difference AS x WHERE x.comparison_id = known_keys.comparison_id
                UNION ALL
               SELECT a.kind, a.key, a.new FROM tandem.acceptance AS a JOIN tandem.comparison AS c ON c.mapping_id = a.mapping_id WHERE c.id = known_keys.comparison_id)
    SELECT coalesce(jsonb_agg(d.key) FILTER (WHERE s.only_legacy), '[]'), coalesce(jsonb_agg(d.key) FILTER (WHERE NOT s.only_legacy), '[]'), count(*)
      FROM d CROSS JOIN LATERAL (SELECT d.kind = 'missing' OR (d.kind = 'duplicate' AND d.new = '{"count": 0}') AS only_legacy) AS s
$$;
COMMENT ON FUNCTION tandem.known_keys IS 'The keys that a comparison found different, as arrays';

-- Compares what changed of one mapping, under the calling query's snapshot and as the run's owner. reason: why everything must be compared
-- instead, which is left to the caller; fingerprint: what the tables are like now.
CREATE FUNCTION tandem.compare_changes(
    r tandem.run, m tandem.mapping, packs tandem.mapping_packs, wanted text, OUT reason text, OUT fingerprint text, OUT result tandem.comparison_result)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s tandem.capture_state;
    last tandem.comparison;
    legacy regclass := tandem.relation_of(m.legacy_schema, m.legacy_table);
    new regclass := tandem.relation_of(m.new_schema, m.new_table);
    l record;
    n record;
    legacy_keys record;
    new_keys record;
    known record;
    gap text;
    total_rows real;
    problem text;
BEGIN
    fingerprint := tandem.capture_fingerprint(m);
    CASE tandem.option(r.id, 'capture')
        WHEN 'trigger' THEN gap := tandem.capture_gap(m.id, legacy, new);
        WHEN 'logical' THEN
            gap := tandem.slot_gap(r.id);
            -- A full comparison is nothing to build upon while transactions are open that the slot may not have seen begin.
            IF gap IS NOT NULL OR pg_snapshot_xmin(pg_current_snapshot()) < (SELECT x.sound_from FROM tandem.capture_slot AS x WHERE x.run_id = r.id) THEN
                gap := coalesce(gap, 'transactions from before the replication slot are open');
                fingerprint := NULL;
            END IF;
        ELSE NULL;
    END CASE;
    SELECT * INTO s FROM tandem.capture_state AS x WHERE x.mapping_id = m.id;
    SELECT * INTO last FROM tandem.comparison AS x WHERE x.id = s.last_comparison;
    reason := CASE
        WHEN wanted IS NOT NULL THEN wanted
        WHEN tandem.captured_overflows() THEN 'capture is interrupted: more keys wait than are kept'
        WHEN tandem.option(r.id, 'capture') = 'none' THEN 'nothing is captured'
        WHEN gap IS NOT NULL THEN 'capture is interrupted: ' || gap
        WHEN s.fingerprint IS NULL OR last.id IS NULL THEN CASE WHEN s.last_comparison IS NULL THEN 'first' ELSE 'capture was interrupted: keys were left out' END
        WHEN s.fingerprint <> fingerprint THEN 'capture was interrupted: a table, its partitions, its mirror or the option capture was altered'
        WHEN s.full_at + tandem.option(r.id, 'full_validate_every')::interval <= clock_timestamp() OR s.full_at > clock_timestamp() THEN 'scheduled' -- or the clock was set back
        WHEN last.missing + last.extra + last.changed + last.duplicates + last.errors - last.accepted > (SELECT count(*) FROM tandem.difference AS d WHERE d.comparison_id = last.id)
            THEN 'the last comparison found more differences than are kept'
        WHEN packs.bytes > 64 * 1024 * 1024 THEN 'too many changes to look at one by one' END;
    IF reason IS NOT NULL THEN
        RETURN;
    END IF;
    known := tandem.known_keys(last.id);
    IF packs.mapping_id IS NULL AND known.keys = 0 THEN
        result := (true, 0, 0, 0, 0, 0, 0, 'no change', interval '0', '[]', 0);
        RETURN;
    END IF;
    l := tandem.capture_columns(m.id, 'forward');
    n := tandem.capture_columns(m.id, 'reverse');
    IF packs.legacy_layouts <> ARRAY[l.layout] OR packs.new_layouts <> ARRAY[n.layout] THEN
        reason := 'captured keys are of columns that have changed since';
        RETURN;
    END IF;
    legacy_keys := tandem.captured_lists(packs.legacy, packs.legacy_texts, l.types);
    new_keys := tandem.captured_lists(packs.new, packs.new_texts, n.types);
    total_rows := (SELECT sum(c.reltuples) FROM pg_class AS c WHERE c.oid = new OR c.oid IN (SELECT p.relid FROM pg_partition_tree(new) AS p));
    IF legacy_keys.keys + new_keys.keys > greatest(10000, total_rows / 10) THEN
        reason := 'too many changes to look at one by one';
        RETURN;
    END IF;
    BEGIN
        result := (SELECT x.c FROM tandem.query_as(r.owner, format(
            'SELECT tandem.compare_keys(%L::regclass, %L::regclass, %L, %L, %L, %s, %L, %L, %L, %L, %L, %L)', legacy, new, m.new_key, m.forward, m.rules,
            tandem.option(r.id, 'max_stored_differences')::bigint + tandem.standing_acceptances(m.id), l.columns, legacy_keys.lists, n.columns, new_keys.lists, known.legacy, known.new))
            AS x (c tandem.comparison_result));
    EXCEPTION WHEN data_exception OR syntax_error_or_access_rule_violation THEN
        GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
    END;
    IF result IS NULL THEN
        reason := coalesce('a changed key cannot be looked up: ' || problem, 'a changed key is NULL');
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.compare_changes IS 'Compares the changed keys of a mapping, or says why everything must be compared';

-- After a comparison, within its transaction.
CREATE FUNCTION tandem.keep_capture_state(comparison tandem.comparison, fingerprint text) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO tandem.capture_state AS s (mapping_id, fingerprint, full_at, full_reason, last_comparison, taken_at)
    VALUES (comparison.mapping_id, fingerprint, comparison.started_at, comparison.reason, comparison.id, clock_timestamp())
    ON CONFLICT (mapping_id) DO UPDATE SET
       fingerprint = CASE comparison.scope WHEN 'full' THEN EXCLUDED.fingerprint ELSE s.fingerprint END,
       full_at = CASE comparison.scope WHEN 'full' THEN EXCLUDED.full_at ELSE s.full_at END,
       full_reason = CASE comparison.scope WHEN 'full' THEN EXCLUDED.full_reason ELSE s.full_reason END,
       last_comparison = EXCLUDED.last_comparison, taken_at = EXCLUDED.taken_at
$$;
COMMENT ON FUNCTION tandem.keep_capture_state IS 'What the next validation of the mapping builds upon';
