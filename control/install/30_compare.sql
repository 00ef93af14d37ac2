-- compare: diff() and compare(). Everything runs with the caller's rights and row security. The functions are STABLE, so all their queries
-- see one snapshot. The engine (src/pg/compare.cpp) finds the rows that may differ, and the join of 27_join.sql judges them.

CREATE TYPE tandem.comparison_result AS (
    equal boolean, legacy_rows bigint, new_rows bigint, missing bigint, extra bigint, changed bigint, duplicates bigint,
    method text, elapsed interval, differences jsonb, errors bigint);
COMMENT ON TYPE tandem.comparison_result IS 'Verdict and exact counts of a comparison, with the first differences as an array';

CREATE TYPE tandem.comparison_answer AS (kind text, key jsonb, columns text[], legacy jsonb, new jsonb, result tandem.comparison_result);
COMMENT ON TYPE tandem.comparison_answer IS 'What the judge of a comparison answers: a difference, or the result';

CREATE FUNCTION tandem.execute_comparison(
    legacy oid, new oid, legacy_label text, new_label text, legacy_from text, new_from text, legacy_where text, new_where text,
    legacy_values text[], new_values text[], legacy_rows text[], new_rows text[], legacy_operands oid[], new_operands oid[],
    tolerances text[], key_columns integer[], key_names text, judge text, null_keys text, otherwise text, careful_null_keys text, careful text, counted text, sample text)
RETURNS SETOF record
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'tandem_execute_comparison';
COMMENT ON FUNCTION tandem.execute_comparison IS
    'One pass over both sides through a sketch; the rows that may differ are given to the query judge, as tandem_legacy and tandem_new (c1, c2, ...), with $1 and $2 the rows of each side and $3 the method. Where a join is the better way, null_keys and otherwise are asked of all rows; where an expression fails on rows of legacy, the last two are, with these rows as tandem_failed. counted: the answer with the counts as $4 to $7, where only these are wanted. sample: how much of legacy differs, as a guess. Under the snapshot of the calling query and with the caller''s rights';

CREATE FUNCTION tandem.tolerance_text(rule jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN rule ? 'tolerance' THEN 'absolute ' || (rule ->> 'tolerance')
                WHEN rule ? 'relative_tolerance' THEN 'relative ' || (rule ->> 'relative_tolerance')
                WHEN rule ? 'time_tolerance' THEN 'time ' || (rule ->> 'time_tolerance') END
$$;
COMMENT ON FUNCTION tandem.tolerance_text IS 'The tolerance of a rule, by which the engine finds candidates';

-- The question is a SELECT of comparison_answer; in it stand %1$s for the SELECT of all differences, %2$s and %3$s for the number of
-- rows of each side, %4$s for the method. The settings decide how values without an equality read as text, and how all read as JSON: the
-- answer must not depend on the session.
CREATE FUNCTION tandem.compare_sources(
    c tandem.compared_column[], legacy tandem.source, new tandem.source, legacy_where text, new_where text, question text)
RETURNS SETOF tandem.comparison_answer
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex'
AS $$
DECLARE
    s record;
    legacy_rows text;
    new_rows text;
    objects boolean := question <> tandem.counts_question(0);
BEGIN
    SELECT array_agg(x.legacy_scalar ORDER BY x.position) AS legacy_values, array_agg(x.new_scalar ORDER BY x.position) AS new_values,
           array_agg(x.legacy_expression ORDER BY x.position) AS legacy_rows, array_agg(quote_ident(x.name) ORDER BY x.position) AS new_rows,
           array_agg(x.legacy_operand ORDER BY x.position) AS legacy_operands, array_agg(x.new_operand ORDER BY x.position) AS new_operands,
           array_agg(tandem.tolerance_text(x.rule) ORDER BY x.position) AS tolerances,
           coalesce(array_agg(x.position - 1 ORDER BY x.key_position) FILTER (WHERE x.key_position IS NOT NULL), '{}') AS key_columns,
           coalesce(array_agg(x.name ORDER BY x.key_position) FILTER (WHERE x.key_position IS NOT NULL), '{}')::text AS key_names
      INTO s FROM unnest(c) AS x;
    legacy_rows := tandem.rows_sql(legacy.from_item, s.legacy_rows, legacy_where);
    new_rows := tandem.rows_sql(new.from_item, s.new_rows, new_where);
    RETURN QUERY
    SELECT a.*
      FROM tandem.execute_comparison(
               legacy.relation, new.relation, legacy.label, new.label, legacy.from_item, new.from_item, legacy_where, new_where,
               s.legacy_values, s.new_values, s.legacy_rows, s.new_rows, s.legacy_operands, s.new_operands,
               s.tolerances, s.key_columns, s.key_names,
               format(question, tandem.differences_sql(c, 'SELECT * FROM tandem_legacy', 'SELECT * FROM tandem_new', objects), '$1', '$2', '$3'),
               tandem.null_keys_sql(c, legacy_rows, new_rows),
               format(question, tandem.differences_sql(c, legacy_rows, new_rows, objects), format('(SELECT count(*) FROM (%s) AS l)', legacy_rows),
                      format('(SELECT count(*) FROM (%s) AS n)', new_rows), quote_literal('join')),
               tandem.null_keys_sql(c, tandem.known_keys_sql(c), new_rows),
               format(question, tandem.failed_sql(c, new_rows), '((SELECT count(*) FROM tandem_legacy) + (SELECT count(*) FROM tandem_failed))',
                      format('(SELECT count(*) FROM (%s) AS n)', new_rows), quote_literal('join')),
               CASE WHEN NOT objects THEN tandem.counted_sql() END,
               CASE WHEN legacy.relation IS NOT NULL AND legacy_where IS NULL AND new_where IS NULL THEN tandem.sample_sql(c, legacy, new) END)
           AS a (kind text, key jsonb, columns text[], legacy jsonb, new jsonb, result tandem.comparison_result);
END
$$;
COMMENT ON FUNCTION tandem.compare_sources IS 'Compares two sides by resolved columns and answers the question';

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

CREATE FUNCTION tandem.rows_question(max_differences bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ SELECT 'SELECT d.*, NULL::tandem.comparison_result FROM (%1$s) AS d' || tandem.limit_sql(max_differences) $$;
COMMENT ON FUNCTION tandem.rows_question IS 'The question for the first differences';

CREATE FUNCTION tandem.counts_question(max_differences bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT $sql$
        WITH d AS MATERIALIZED (%1$s)
        SELECT NULL::text, NULL::jsonb, NULL::text[], NULL::jsonb, NULL::jsonb,
               ROW(count(*) = 0, %2$s, %3$s,
                   count(*) FILTER (WHERE kind = 'missing'), count(*) FILTER (WHERE kind = 'extra'),
                   count(*) FILTER (WHERE kind = 'changed'), count(*) FILTER (WHERE kind = 'duplicate'), %4$s, NULL::interval,
                   coalesce((SELECT jsonb_agg(to_jsonb(f)) FROM (SELECT * FROM d $sql$ || tandem.limit_sql(max_differences)
           || $sql$ ) AS f), '[]'),
                   count(*) FILTER (WHERE kind = 'error'))::tandem.comparison_result
          FROM d $sql$
$$;
COMMENT ON FUNCTION tandem.counts_question IS 'The question for verdict and counts, with the first differences';

CREATE FUNCTION tandem.counted_sql() RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'SELECT NULL::text, NULL::jsonb, NULL::text[], NULL::jsonb, NULL::jsonb, '
           'ROW($4 + $5 + $6 + $7 = 0, $1, $2, $4, $5, $6, $7, $3, NULL::interval, ''[]''::jsonb, 0::bigint)::tandem.comparison_result'
$$;
COMMENT ON FUNCTION tandem.counted_sql IS 'The answer to counts_question(0) of counts that are known';

CREATE FUNCTION tandem.compare_relations(
    legacy regclass, new regclass, key name[], columns jsonb, rules jsonb, legacy_where text, new_where text, question text)
RETURNS SETOF tandem.comparison_answer
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex'
AS $$
DECLARE
    c tandem.compared_column[] := ARRAY(SELECT x FROM tandem.comparison_columns(legacy, new, key, columns, rules) AS x ORDER BY x.position);
BEGIN
    PERFORM tandem.check_condition(legacy, legacy_where), tandem.check_condition(new, new_where);
    RETURN QUERY SELECT * FROM tandem.compare_sources(c, tandem.relation_source(legacy), tandem.relation_source(new), legacy_where, new_where, question);
END
$$;
COMMENT ON FUNCTION tandem.compare_relations IS 'Compares two relations and answers the question';

CREATE FUNCTION tandem.compare_rows(
    legacy regclass, new regclass, key name[], columns jsonb, rules jsonb, legacy_where text, new_where text, max_differences bigint)
RETURNS SETOF tandem.row_difference
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.kind, a.key, a.columns, a.legacy, a.new
      FROM tandem.compare_relations($1, $2, $3, $4, $5, $6, $7, tandem.rows_question($8)) AS a
$$;
COMMENT ON FUNCTION tandem.compare_rows IS 'diff() as rows of row_difference';

CREATE FUNCTION tandem.diff(
    legacy regclass, new regclass, key name[] DEFAULT NULL, columns jsonb DEFAULT NULL, rules jsonb DEFAULT NULL,
    legacy_where text DEFAULT NULL, new_where text DEFAULT NULL, max_differences bigint DEFAULT NULL)
RETURNS TABLE (kind text, key jsonb, columns text[], legacy jsonb, new jsonb)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT d.kind, d.key, d.columns, d.legacy, d.new FROM tandem.compare_rows($1, $2, $3, $4, $5, $6, $7, $8) AS d $$;
COMMENT ON FUNCTION tandem.diff IS
    'The rows that differ between two relations: kind (missing, extra, changed, duplicate, error), key, differing columns, values of both sides. No row: they are equal. Runs with the caller''s rights';

CREATE FUNCTION tandem.compare_counting(
    legacy regclass, new regclass, key name[], columns jsonb, rules jsonb, legacy_where text, new_where text, max_differences bigint)
RETURNS tandem.comparison_result
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    started timestamptz := clock_timestamp();
    result tandem.comparison_result;
BEGIN
    SELECT (a.result).* INTO result
      FROM tandem.compare_relations(legacy, new, key, columns, rules, legacy_where, new_where, tandem.counts_question(max_differences)) AS a;
    result.elapsed := clock_timestamp() - started;
    RETURN result;
END
$$;
COMMENT ON FUNCTION tandem.compare_counting IS 'compare(), with the first max_differences differences';

CREATE FUNCTION tandem.compare(
    legacy regclass, new regclass, key name[] DEFAULT NULL, columns jsonb DEFAULT NULL, rules jsonb DEFAULT NULL,
    legacy_where text DEFAULT NULL, new_where text DEFAULT NULL, max_differences bigint DEFAULT NULL)
RETURNS TABLE (equal boolean, legacy_rows bigint, new_rows bigint, missing bigint, extra bigint, changed bigint,
               method text, elapsed interval, duplicates bigint, errors bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    -- no differences are wanted; least() lets a negative number through to be refused
    SELECT c.equal, c.legacy_rows, c.new_rows, c.missing, c.extra, c.changed, c.method, c.elapsed, c.duplicates, c.errors
      FROM tandem.compare_counting($1, $2, $3, $4, $5, $6, $7, least($8, 0)) AS c
$$;
COMMENT ON FUNCTION tandem.compare IS
    'Are two relations equal? Verdict and exact counts; duplicates counts keys that stand more than once, errors rows on which an expression fails. max_differences is accepted for symmetry with diff() and never changes the answer';

CREATE FUNCTION tandem.comparison_progress(
    OUT pid integer, OUT datid oid, OUT legacy regclass, OUT new regclass, OUT phase text, OUT rows_total bigint, OUT rows_done bigint,
    OUT blocks_total bigint, OUT blocks_done bigint, OUT processes bigint, OUT candidates bigint, OUT phase_started_at timestamptz)
RETURNS SETOF record
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'tandem_comparison_progress';
COMMENT ON FUNCTION tandem.comparison_progress IS 'The comparisons that run now; of other roles'' sessions only pid and datid, without pg_read_all_stats';

CREATE VIEW tandem.progress_comparison AS
SELECT p.pid, p.datid, d.datname, p.legacy, p.new, p.phase, p.rows_total, p.rows_done,
       p.blocks_total * current_setting('block_size')::bigint AS bytes_total, p.blocks_done * current_setting('block_size')::bigint AS bytes_done,
       p.processes, p.candidates, p.phase_started_at,
       CASE WHEN p.blocks_done > 0 AND p.blocks_total >= p.blocks_done
            THEN (clock_timestamp() - p.phase_started_at) * ((p.blocks_total - p.blocks_done)::double precision / p.blocks_done) END AS eta
  FROM tandem.comparison_progress() AS p LEFT JOIN pg_database AS d ON d.oid = p.datid;
COMMENT ON VIEW tandem.progress_comparison IS
    'Comparisons that run now, like pg_stat_progress_*: phase, rows and bytes of the phase, processes at work, candidates found, time that the phase still takes';
