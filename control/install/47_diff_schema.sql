-- diff_schema: the structure of two schemas side by side, each difference with what it means, and with the rows that it would harm.

-- Relations side by side: by the mappings of runs, else by name.
CREATE FUNCTION tandem.match_schemas(legacy_schema name, new_schema name) RETURNS tandem.schema_match
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m tandem.schema_match;
    side record;
BEGIN
    FOR side IN SELECT x.* FROM (VALUES ('legacy', match_schemas.legacy_schema), ('new', match_schemas.new_schema)) AS x (what, name) LOOP
        IF side.name IS NULL THEN
            RAISE EXCEPTION 'a comparison of schemas needs two schemas' USING ERRCODE = 'null_value_not_allowed', HINT = 'SELECT * FROM tandem.diff_schema(''legacy'', ''new'')';
        END IF;
        IF NOT EXISTS (SELECT FROM pg_namespace AS n WHERE n.nspname = side.name) THEN
            RAISE EXCEPTION 'schema "%" does not exist', side.name USING ERRCODE = 'invalid_schema_name',
                  DETAIL = format('It was given as the %s schema of the comparison.', side.what),
                  HINT = format('Schemas of this database: %s.', (SELECT string_agg(quote_ident(n.nspname), ', ' ORDER BY n.nspname) FROM pg_namespace AS n
                                                                   WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname NOT IN ('information_schema', 'tandem')));
        END IF;
    END LOOP;
    m.legacy_schema := legacy_schema;
    m.new_schema := new_schema;
    m.legacy_id := (SELECT n.oid FROM pg_namespace AS n WHERE n.nspname = m.legacy_schema);
    m.new_id := (SELECT n.oid FROM pg_namespace AS n WHERE n.nspname = m.new_schema);

    WITH mapped AS MATERIALIZED (
        SELECT DISTINCT ON (o.legacy_table, o.new_table) l.oid AS l, n.oid AS n, l.relname AS l_name, n.relname AS n_name, o.forward, o.owner
          FROM tandem.own_mappings AS o
          JOIN pg_class AS l ON l.relnamespace = m.legacy_id AND l.relname = o.legacy_table
          JOIN pg_class AS n ON n.relnamespace = m.new_id AND n.relname = o.new_table
         WHERE o.legacy_schema = m.legacy_schema AND o.new_schema = m.new_schema
         ORDER BY o.legacy_table, o.new_table, o.run_id DESC),
    relations AS MATERIALIZED (
        SELECT c.oid, c.relname, c.relnamespace = m.legacy_id AS in_legacy, c.relnamespace = m.new_id AS in_new FROM pg_class AS c
         WHERE c.relnamespace IN (m.legacy_id, m.new_id) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT tandem.is_extension_member('pg_class'::regclass, c.oid)),
    pairs AS (
        SELECT x.l, x.n, x.l_name, x.n_name, tandem.mapping_columns(x.l, x.forward, x.owner) AS map FROM mapped AS x
         UNION ALL
        SELECT l.oid, n.oid, l.relname, n.relname, NULL
          FROM (SELECT * FROM relations AS r WHERE r.in_legacy AND NOT EXISTS (SELECT FROM mapped AS x WHERE x.l = r.oid)) AS l
          FULL JOIN (SELECT * FROM relations AS r WHERE r.in_new AND NOT EXISTS (SELECT FROM mapped AS x WHERE x.n = r.oid)) AS n ON n.relname = l.relname),
    words AS (
        SELECT p.*, (SELECT jsonb_object_agg(w.l, w.n) FROM (
                        SELECT quote_ident(e.value ->> 'bare') AS l, quote_ident(e.key) AS n FROM jsonb_each(p.map) AS e WHERE e.value ->> 'bare' <> e.key
                           AND NOT EXISTS (SELECT FROM jsonb_each(p.map) AS o WHERE o.key = e.value ->> 'bare' AND o.value ->> 'bare' = o.key)
                         UNION ALL SELECT quote_ident(p.l_name), quote_ident(p.n_name) WHERE p.l_name <> p.n_name) AS w) AS words
          FROM pairs AS p)
    SELECT coalesce(array_agg(w.l ORDER BY w.l_name, w.n_name), '{}'), coalesce(array_agg(w.n ORDER BY w.l_name, w.n_name), '{}'),
           coalesce(array_agg(w.map ORDER BY w.l_name, w.n_name), '{}'), coalesce(array_agg(w.words ORDER BY w.l_name, w.n_name), '{}'),
           (SELECT jsonb_object_agg(e.key, e.value) FROM words AS y CROSS JOIN LATERAL jsonb_each(y.words) AS e)
      INTO m.legacy, m.new, m.maps, m.words, m.all_words
      FROM words AS w;
    RETURN m;
END
$$;
COMMENT ON FUNCTION tandem.match_schemas IS 'The relations of two schemas side by side, as the mappings of runs say, else by name (3F000 for an unknown schema)';

-- {"new column": {"expression", "bare", "reads", "type", "typmod", "owner"}}; an expression that no longer compiles, as its columns are gone, maps nothing.
CREATE FUNCTION tandem.mapping_columns(legacy oid, forward jsonb, owner name) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    e record;
    info record;
    a record;
    result jsonb := '{}';
BEGIN
    FOR e IN SELECT x.key, x.value FROM jsonb_each_text(forward) AS x LOOP
        SELECT c.attname, c.atttypid, c.atttypmod INTO a FROM pg_attribute AS c
         WHERE c.attrelid = legacy AND quote_ident(c.attname) = e.value AND c.attnum > 0 AND NOT c.attisdropped;
        IF a.attname IS NOT NULL THEN -- the parser need not be asked
            result := result || jsonb_build_object(e.key, jsonb_build_object('expression', e.value, 'bare', a.attname, 'reads', jsonb_build_array(a.attname),
                                                                             'type', a.atttypid, 'typmod', a.atttypmod, 'owner', owner));
            CONTINUE;
        END IF;
        BEGIN
            info := tandem.expression_info(legacy, e.value);
            result := result || jsonb_build_object(e.key, jsonb_build_object('expression', e.value, 'bare', info.bare_column, 'reads', to_jsonb(info.columns),
                                                                             'type', info.type, 'typmod', info.typmod, 'owner', owner));
        EXCEPTION WHEN OTHERS THEN
            CONTINUE;
        END;
    END LOOP;
    RETURN result;
END
$$;
COMMENT ON FUNCTION tandem.mapping_columns IS 'What the parser says of the forward expressions of a mapping';

-- Counts the rows of all differences of one legacy table in one pass over it. Each in a pass of its own where that fails: a condition may
-- read a column that the caller may not.
CREATE FUNCTION tandem.count_harmed(source oid, conditions text[], OUT total bigint, OUT harmed bigint[], OUT examples text[])
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex'
AS $$
DECLARE
    -- An example is named by the primary key, where the caller may read it.
    example text := (SELECT string_agg(format('%L || coalesce(%I::text, ''NULL'')', quote_ident(a.attname) || ' = ', a.attname), ' || '', '' || ' ORDER BY k.position)
                       FROM unnest(tandem.primary_key(source)) WITH ORDINALITY AS k (name, position) JOIN pg_attribute AS a ON a.attrelid = source AND a.attname = k.name
                     HAVING bool_and(a.atttypid < 16384 AND has_column_privilege(source, a.attnum, 'SELECT')));
BEGIN
    EXECUTE format('SELECT count(*), ARRAY[%s]::bigint[], ARRAY[%s]::text[] FROM %s',
                   (SELECT string_agg(format('count(*) FILTER (WHERE %s)', c), ', ' ORDER BY i) FROM unnest(conditions) WITH ORDINALITY AS x (c, i)),
                   (SELECT string_agg(CASE WHEN example IS NULL THEN 'NULL' ELSE format('min(%s) FILTER (WHERE %s)', example, c) END, ', ' ORDER BY i) FROM unnest(conditions) WITH ORDINALITY AS x (c, i)),
                   source::regclass) INTO total, harmed, examples;
END
$$;
COMMENT ON FUNCTION tandem.count_harmed IS 'Counts the rows of a table for which each condition holds, with an example of each, in one pass';

CREATE FUNCTION tandem.run_count(query text, OUT harmed bigint, OUT total bigint, OUT example text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex'
AS $$ BEGIN EXECUTE query INTO harmed, total, example; END $$;
COMMENT ON FUNCTION tandem.run_count IS 'Runs a statement that counts harmed rows';

-- All that differs, the worst first. What a partition or a child has of its parent is said once, of the parent.
CREATE FUNCTION tandem.schema_differences(m tandem.schema_match) RETURNS SETOF tandem.schema_difference
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH d AS MATERIALIZED (
        SELECT * FROM tandem.diff_relations(m) UNION ALL SELECT * FROM tandem.diff_columns(m) UNION ALL SELECT * FROM tandem.diff_constraints(m)
        UNION ALL SELECT * FROM tandem.diff_attachments(m) UNION ALL SELECT * FROM tandem.diff_sequences(m) UNION ALL SELECT * FROM tandem.diff_types(m)
        UNION ALL SELECT * FROM tandem.diff_functions(m) UNION ALL SELECT * FROM tandem.diff_grants(m)),
    pairs AS MATERIALIZED (SELECT u.oid, u.pair FROM unnest(m.legacy || m.new, ARRAY(SELECT generate_series(1, cardinality(m.legacy))) || ARRAY(SELECT generate_series(1, cardinality(m.new)))) AS u (oid, pair)),
    inherited AS MATERIALIZED (
        SELECT DISTINCT c.pair AS child, p.pair AS parent FROM pg_inherits AS i JOIN pairs AS c ON c.oid = i.inhrelid JOIN pairs AS p ON p.oid = i.inhparent)
    SELECT d.* FROM d
     WHERE NOT (d.pair IS NOT NULL AND (d.object_type = 'column' OR d.property = 'column order') AND EXISTS (
               SELECT FROM inherited AS i JOIN d AS o ON o.pair = i.parent
                WHERE i.child = d.pair AND o.object_type = d.object_type AND o.property = d.property AND o.part IS NOT DISTINCT FROM d.part
                  AND o.legacy IS NOT DISTINCT FROM d.legacy AND o.new IS NOT DISTINCT FROM d.new))
     ORDER BY array_position('{lossy,narrowing,compatible,cosmetic}', d.severity), d.object_type COLLATE "C", d.object COLLATE "C", d.property COLLATE "C"
$$;
COMMENT ON FUNCTION tandem.schema_differences IS 'All differences of two schemas, before rows are counted';

-- The differences whose rows are counted, table by table.
CREATE FUNCTION tandem.count_differences(differences tandem.schema_difference[], OUT harmed bigint[], OUT said text[])
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    per_table record;
    result record;
    d tandem.schema_difference;
    problem text;
    i integer;
BEGIN
    harmed := array_fill(NULL::bigint, ARRAY[cardinality(differences)]);
    said := array_fill(NULL::text, ARRAY[cardinality(differences)]);
    FOR per_table IN SELECT x.source, array_agg(x.harm ORDER BY x.i) AS conditions, array_agg(x.i::integer ORDER BY x.i) AS members
                       FROM unnest(differences) WITH ORDINALITY AS x (object_type, object, property, legacy, new, severity, hint, pair, part, source, harm, query, said, uncounted, i)
                      WHERE x.source IS NOT NULL AND x.harm IS NOT NULL AND x.query IS NULL AND x.uncounted IS NULL GROUP BY x.source LOOP
        BEGIN
            result := tandem.count_harmed(per_table.source, per_table.conditions);
            FOR i IN 1 .. cardinality(per_table.members) LOOP
                harmed[per_table.members[i]] := result.harmed[i];
                said[per_table.members[i]] := tandem.harm_text(per_table.source, result.harmed[i], result.total, differences[per_table.members[i]].said, result.examples[i]);
            END LOOP;
        EXCEPTION WHEN OTHERS THEN
            FOREACH i IN ARRAY per_table.members LOOP
                BEGIN
                    d := differences[i];
                    result := tandem.count_harmed(d.source, ARRAY[d.harm]);
                    harmed[i] := result.harmed[1];
                    said[i] := tandem.harm_text(d.source, result.harmed[1], result.total, d.said, result.examples[1]);
                EXCEPTION WHEN OTHERS THEN
                    GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
                    said[i] := format('Not counted: %s.', problem);
                END;
            END LOOP;
        END;
    END LOOP;
    FOR i IN 1 .. cardinality(differences) LOOP
        d := differences[i];
        IF d.query IS NOT NULL AND d.uncounted IS NULL THEN
            BEGIN
                result := tandem.run_count(d.query);
                harmed[i] := result.harmed;
                said[i] := tandem.harm_text(d.source, result.harmed, result.total, d.said, result.example);
            EXCEPTION WHEN OTHERS THEN
                GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
                said[i] := format('Not counted: %s.', problem);
            END;
        ELSIF d.severity = 'lossy' AND coalesce(d.uncounted, '') <> '' AND (d.source IS NOT NULL OR d.query IS NOT NULL) THEN
            said[i] := format('Not counted: %s.', d.uncounted);
        ELSIF d.source IS NOT NULL AND d.harm IS NULL AND d.query IS NULL THEN
            said[i] := 'Not counted: no SQL tells which rows.';
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.count_differences IS 'For each difference how many legacy rows it harms, and that as a sentence; what cannot be counted says why';

CREATE FUNCTION tandem.harm_text(source oid, harmed bigint, total bigint, said text, example text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('%s of %s rows%s %s%s.', harmed, total, CASE WHEN row_security_active(source) THEN ' that you may see' END,
                  said, CASE WHEN harmed > 0 THEN ', e.g. ' || CASE WHEN length(example) > 200 THEN left(example, 200) || '...' ELSE example END END)
$$;
COMMENT ON FUNCTION tandem.harm_text IS '"3 of 1200 rows would be refused, e.g. id = 7."';

CREATE FUNCTION tandem.diff_schema(legacy_schema name, new_schema name, count_rows boolean DEFAULT true)
RETURNS TABLE (object_type text, object text, property text, legacy text, new text, severity text, hint text, rows_harmed bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    d tandem.schema_difference[] := ARRAY(SELECT x FROM tandem.schema_differences(tandem.match_schemas($1, $2)) AS x);
    counted record;
BEGIN
    IF count_rows AND cardinality(d) > 0 THEN
        counted := tandem.count_differences(d);
    ELSE
        SELECT NULL::bigint[] AS harmed, NULL::text[] AS said INTO counted;
    END IF;
    RETURN QUERY
    SELECT x.object_type, x.object, x.property, x.legacy, x.new, x.severity, concat_ws(' ', x.hint, counted.said[x.i]), counted.harmed[x.i]
      FROM unnest(d) WITH ORDINALITY AS x (object_type, object, property, legacy, new, severity, hint, pair, part, source, harm, query, said, uncounted, i)
     -- whether an expression gives NULL only its rows tell
     WHERE NOT (x.property = 'nullability' AND x.legacy = 'an expression' AND coalesce(counted.harmed[x.i], 0) = 0)
     ORDER BY x.i;
END
$$;
COMMENT ON FUNCTION tandem.diff_schema IS
    'What differs between the structure of two schemas, the worst first: severity lossy, narrowing, compatible or cosmetic, a hint, and how many rows of legacy a lossy difference would harm. No row: they are equal. Knows the mappings of the caller''s runs; reads rows with the caller''s rights, and none with count_rows => false';
