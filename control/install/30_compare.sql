-- compare: diff() and compare(). Everything runs with the caller's rights and row security. The functions are STABLE, so all their queries
-- see one snapshot.

CREATE FUNCTION tandem.limit_sql(max_differences bigint) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF max_differences < 0 THEN
        RAISE EXCEPTION 'max_differences must be 0 or more' USING ERRCODE = 'invalid_parameter_value',
              DETAIL = format('Found: %s', max_differences), HINT = 'NULL returns all.';
    END IF;
    RETURN coalesce(' LIMIT ' || max_differences, '');
END
$$;
COMMENT ON FUNCTION tandem.limit_sql IS 'LIMIT for max_differences; refuses a negative number (22023)';

-- The settings decide how values without an equality read as text, and how all read as JSON: the answer must not depend on the session.
CREATE FUNCTION tandem.compare_rows(
    legacy regclass, new regclass, key name[], columns jsonb, rules jsonb, legacy_where text, new_where text, max_differences bigint)
RETURNS SETOF tandem.row_difference
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex'
AS $$
DECLARE
    up_to text := tandem.limit_sql(max_differences);
    sql record := tandem.comparison_sql(legacy, new, key, columns, rules, legacy_where, new_where);
BEGIN
    RETURN QUERY EXECUTE sql.differences || up_to;
END
$$;
COMMENT ON FUNCTION tandem.compare_rows IS 'diff(), with arguments that stand by their names in PL/pgSQL';

CREATE FUNCTION tandem.diff(
    legacy regclass, new regclass, key name[] DEFAULT NULL, columns jsonb DEFAULT NULL, rules jsonb DEFAULT NULL,
    legacy_where text DEFAULT NULL, new_where text DEFAULT NULL, max_differences bigint DEFAULT NULL)
RETURNS TABLE (kind text, key jsonb, columns text[], legacy jsonb, new jsonb)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT d.kind, d.key, d.columns, d.legacy, d.new FROM tandem.compare_rows($1, $2, $3, $4, $5, $6, $7, $8) AS d $$;
COMMENT ON FUNCTION tandem.diff IS
    'The rows that differ between two relations: kind (missing, extra, changed, duplicate), key, differing columns, values of both sides. No row: they are equal. Runs with the caller''s rights';

CREATE TYPE tandem.comparison_result AS (
    equal boolean, legacy_rows bigint, new_rows bigint, missing bigint, extra bigint, changed bigint, duplicates bigint,
    method text, elapsed interval, differences jsonb);
COMMENT ON TYPE tandem.comparison_result IS 'Verdict and exact counts of a comparison, with the first differences as an array';

CREATE FUNCTION tandem.compare_counting(
    legacy regclass, new regclass, key name[], columns jsonb, rules jsonb, legacy_where text, new_where text, max_differences bigint)
RETURNS tandem.comparison_result
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex'
AS $$
DECLARE
    started timestamptz := clock_timestamp();
    up_to text := tandem.limit_sql(max_differences);
    sql record := tandem.comparison_sql(legacy, new, key, columns, rules, legacy_where, new_where);
    result tandem.comparison_result;
BEGIN
    EXECUTE format($sql$
        WITH d AS MATERIALIZED (%s)
        SELECT count(*) = 0, (SELECT count(*) FROM (%s) AS l), (SELECT count(*) FROM (%s) AS n),
               count(*) FILTER (WHERE kind = 'missing'), count(*) FILTER (WHERE kind = 'extra'),
               count(*) FILTER (WHERE kind = 'changed'), count(*) FILTER (WHERE kind = 'duplicate'), 'join', NULL::interval,
               coalesce((SELECT jsonb_agg(to_jsonb(f)) FROM (SELECT * FROM d %s) AS f), '[]')
          FROM d $sql$,
        sql.differences, sql.legacy_rows, sql.new_rows, up_to) INTO result;
    result.elapsed := clock_timestamp() - started;
    RETURN result;
END
$$;
COMMENT ON FUNCTION tandem.compare_counting IS 'compare(), with the first max_differences differences';

CREATE FUNCTION tandem.compare(
    legacy regclass, new regclass, key name[] DEFAULT NULL, columns jsonb DEFAULT NULL, rules jsonb DEFAULT NULL,
    legacy_where text DEFAULT NULL, new_where text DEFAULT NULL, max_differences bigint DEFAULT NULL)
RETURNS TABLE (equal boolean, legacy_rows bigint, new_rows bigint, missing bigint, extra bigint, changed bigint,
               method text, elapsed interval, duplicates bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    -- no differences are wanted; least() lets a negative number through to be refused
    SELECT c.equal, c.legacy_rows, c.new_rows, c.missing, c.extra, c.changed, c.method, c.elapsed, c.duplicates
      FROM tandem.compare_counting($1, $2, $3, $4, $5, $6, $7, least($8, 0)) AS c
$$;
COMMENT ON FUNCTION tandem.compare IS
    'Are two relations equal? Verdict and exact counts; duplicates counts keys that stand more than once. max_differences is accepted for symmetry with diff() and never changes the answer';
