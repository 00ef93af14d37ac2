-- diff_query: query against query, for data that is not row beside row: columns are matched by their names, everything else is as in
-- diff(). The queries are the caller's: they find names by the caller's search_path, as CREATE VIEW would, and see the rows that the
-- caller may see.

CREATE FUNCTION tandem.compare_queries(legacy_sql text, new_sql text, key name[], rules jsonb, search_path text, question text)
RETURNS SETOF tandem.comparison_answer
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex'
AS $$
DECLARE
    legacy tandem.source := tandem.query_source(legacy_sql, 'legacy_sql', search_path);
    new tandem.source := tandem.query_source(new_sql, 'new_sql', search_path);
    c tandem.compared_column[] := ARRAY(SELECT x FROM tandem.source_comparison(legacy, new, key, NULL, rules) AS x ORDER BY x.position);
BEGIN
    RETURN QUERY SELECT * FROM tandem.compare_sources(c, legacy, new, NULL, NULL, question);
END
$$;
COMMENT ON FUNCTION tandem.compare_queries IS 'Compares two queries and answers the question';

-- The default of search_path is evaluated where the function is called, before its own settings apply.
CREATE FUNCTION tandem.diff_query(
    legacy_sql text, new_sql text, key name[] DEFAULT NULL, rules jsonb DEFAULT NULL, search_path text DEFAULT current_setting('search_path'))
RETURNS TABLE (kind text, key jsonb, columns text[], legacy jsonb, new jsonb)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.kind, a.key, a.columns, a.legacy, a.new FROM tandem.compare_queries($1, $2, $3, $4, $5, tandem.rows_question(NULL)) AS a
$$;
COMMENT ON FUNCTION tandem.diff_query IS
    'The rows that differ between two queries, whose columns are matched by name; as diff(), and without a key as multisets. Runs with the caller''s rights and finds names by the caller''s search_path';

CREATE FUNCTION tandem.compare_query_counting(legacy_sql text, new_sql text, key name[], rules jsonb, search_path text)
RETURNS tandem.comparison_result
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    started timestamptz := clock_timestamp();
    result tandem.comparison_result;
BEGIN
    SELECT (a.result).* INTO result FROM tandem.compare_queries(legacy_sql, new_sql, key, rules, search_path, tandem.counts_question(0)) AS a;
    result.elapsed := clock_timestamp() - started;
    RETURN result;
END
$$;
COMMENT ON FUNCTION tandem.compare_query_counting IS 'compare_query() as a comparison_result, without differences';

CREATE FUNCTION tandem.compare_query(
    legacy_sql text, new_sql text, key name[] DEFAULT NULL, rules jsonb DEFAULT NULL, search_path text DEFAULT current_setting('search_path'))
RETURNS TABLE (equal boolean, legacy_rows bigint, new_rows bigint, missing bigint, extra bigint, changed bigint,
               method text, elapsed interval, duplicates bigint, errors bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.equal, c.legacy_rows, c.new_rows, c.missing, c.extra, c.changed, c.method, c.elapsed, c.duplicates, c.errors
      FROM tandem.compare_query_counting($1, $2, $3, $4, $5) AS c
$$;
COMMENT ON FUNCTION tandem.compare_query IS 'Do two queries give the same rows? Verdict and exact counts, as compare()';
