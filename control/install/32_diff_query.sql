-- diff_query: query against query, for data that is not row beside row: columns are matched by their names, everything else is as in
-- diff(). The queries are the caller's: they find names by the caller's search_path, as CREATE VIEW would, and see the rows that the
-- caller may see.

-- Looks at the data only for NULLs in the key.
CREATE FUNCTION tandem.query_comparison_sql(
    legacy_sql text, new_sql text, key name[], rules jsonb, search_path text,
    OUT legacy_rows text, OUT new_rows text, OUT differences text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    legacy tandem.source := tandem.query_source(legacy_sql, 'legacy_sql', search_path);
    new tandem.source := tandem.query_source(new_sql, 'new_sql', search_path);
    c tandem.compared_column[];
    side record;
BEGIN
    SELECT array_agg(x ORDER BY x.position) INTO c FROM tandem.source_comparison(legacy, new, key, NULL, rules) AS x;
    SELECT format('SELECT %s FROM %s', string_agg(format('%I AS c%s', x.name, x.position), ', ' ORDER BY x.position), legacy.from_item),
           format('SELECT %s FROM %s', string_agg(format('%I AS c%s', x.name, x.position), ', ' ORDER BY x.position), new.from_item)
      INTO legacy_rows, new_rows FROM unnest(c) AS x;
    IF key IS NULL THEN
        differences := tandem.multiset_sql(c, legacy_rows, new_rows);
        RETURN;
    END IF;
    FOR side IN SELECT s.label, s.rows, s.name, array_agg(CASE s.name WHEN 'l' THEN x.legacy_value ELSE x.new_value END) AS key_values
                  FROM (VALUES ('legacy_sql', legacy_rows, 'l'), ('new_sql', new_rows, 'n')) AS s (label, rows, name)
                 CROSS JOIN unnest(c) AS x WHERE x.key_position IS NOT NULL GROUP BY s.label, s.rows, s.name LOOP
        IF tandem.any_null_key(side.rows, side.name, side.key_values) THEN
            RAISE EXCEPTION 'the key % is NULL in some rows of %', key, side.label USING ERRCODE = 'null_value_not_allowed',
                  DETAIL = 'Rows are matched by their key, and NULL equals nothing.',
                  HINT = 'Choose another key, or leave those rows out in the query: WHERE ... IS NOT NULL.';
        END IF;
    END LOOP;
    differences := tandem.keyed_sql(c, legacy_rows, new_rows);
END
$$;
COMMENT ON FUNCTION tandem.query_comparison_sql IS
    'The SELECTs that compare two queries: the rows of each side, and their differences as row_difference';

-- The settings are those of compare_rows().
CREATE FUNCTION tandem.compare_query_rows(legacy_sql text, new_sql text, key name[], rules jsonb, search_path text)
RETURNS SETOF tandem.row_difference
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex'
AS $$
BEGIN
    RETURN QUERY EXECUTE (tandem.query_comparison_sql(legacy_sql, new_sql, key, rules, search_path)).differences;
END
$$;
COMMENT ON FUNCTION tandem.compare_query_rows IS 'diff_query(), with arguments that stand by their names in PL/pgSQL';

-- The default of search_path is evaluated where the function is called, before its own settings apply.
CREATE FUNCTION tandem.diff_query(
    legacy_sql text, new_sql text, key name[] DEFAULT NULL, rules jsonb DEFAULT NULL, search_path text DEFAULT current_setting('search_path'))
RETURNS TABLE (kind text, key jsonb, columns text[], legacy jsonb, new jsonb)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT d.kind, d.key, d.columns, d.legacy, d.new FROM tandem.compare_query_rows($1, $2, $3, $4, $5) AS d $$;
COMMENT ON FUNCTION tandem.diff_query IS
    'The rows that differ between two queries, whose columns are matched by name; as diff(), and without a key as multisets. Runs with the caller''s rights and finds names by the caller''s search_path';

CREATE FUNCTION tandem.compare_query_counting(legacy_sql text, new_sql text, key name[], rules jsonb, search_path text)
RETURNS tandem.comparison_result
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex'
AS $$
DECLARE
    started timestamptz := clock_timestamp();
    sql record := tandem.query_comparison_sql(legacy_sql, new_sql, key, rules, search_path);
    result tandem.comparison_result;
BEGIN
    EXECUTE format($sql$
        SELECT count(*) = 0, (SELECT count(*) FROM (%s) AS l), (SELECT count(*) FROM (%s) AS n),
               count(*) FILTER (WHERE kind = 'missing'), count(*) FILTER (WHERE kind = 'extra'),
               count(*) FILTER (WHERE kind = 'changed'), count(*) FILTER (WHERE kind = 'duplicate'), 'join', NULL::interval, '[]'::jsonb
          FROM (%s) AS d $sql$,
        sql.legacy_rows, sql.new_rows, sql.differences) INTO result;
    result.elapsed := clock_timestamp() - started;
    RETURN result;
END
$$;
COMMENT ON FUNCTION tandem.compare_query_counting IS 'compare_query() as a comparison_result, without differences';

CREATE FUNCTION tandem.compare_query(
    legacy_sql text, new_sql text, key name[] DEFAULT NULL, rules jsonb DEFAULT NULL, search_path text DEFAULT current_setting('search_path'))
RETURNS TABLE (equal boolean, legacy_rows bigint, new_rows bigint, missing bigint, extra bigint, changed bigint,
               method text, elapsed interval, duplicates bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.equal, c.legacy_rows, c.new_rows, c.missing, c.extra, c.changed, c.method, c.elapsed, c.duplicates
      FROM tandem.compare_query_counting($1, $2, $3, $4, $5) AS c
$$;
COMMENT ON FUNCTION tandem.compare_query IS 'Do two queries give the same rows? Verdict and exact counts, as compare()';
