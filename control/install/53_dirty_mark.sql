-- dirty_mark: which differences of a comparison are rows that the new side refused and that will be tried again (51_dirty.sql). It is asked
-- under the comparison's own snapshot: a moment later either side may have given the row another key. A snapshot that shows a refused write
-- shows its failure, too, as both are of one transaction.

-- The pairs that a query makes of a list of keys, which stands in it as a literal. Where an expression fails on one of them, the list is
-- halved until it is alone: of that one nothing is known, and the comparison tells it as kind "error".
CREATE FUNCTION tandem.dirty_pairs(owner name, before text, list jsonb, after text) RETURNS TABLE (number integer, name jsonb)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    n integer := jsonb_array_length(list);
    half integer;
BEGIN
    IF coalesce(n, 0) = 0 THEN
        RETURN;
    END IF;
    BEGIN
        RETURN QUERY SELECT q.number, q.name FROM tandem.query_as(owner, before || quote_literal(list::text) || after) AS q (number integer, name jsonb);
        RETURN;
    EXCEPTION WHEN data_exception THEN
        IF n = 1 THEN
            RETURN;
        END IF;
    END;
    FOR half IN 0..1 LOOP
        RETURN QUERY SELECT p.* FROM tandem.dirty_pairs(owner, before,
            (SELECT jsonb_agg(e.value) FROM jsonb_array_elements(list) WITH ORDINALITY AS e (value, position) WHERE (e.position > n / 2) = (half = 1)), after) AS p;
    END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.dirty_pairs IS 'Asks as the owner of a run which dirty keys of a list are called how; leaves out those on which an expression fails';

-- The rows of legacy whose keys are dirty are looked up by these, and the rows of new by the keys of the differences: neither table is read through.
CREATE FUNCTION tandem.mark_dirty(run tandem.run, m tandem.mapping, differences jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    legacy regclass := tandem.relation_of(m.legacy_schema, m.legacy_table);
    new regclass := tandem.relation_of(m.new_schema, m.new_table);
    keys jsonb[];
    known jsonb; -- keys as c1, c2, ..., so that no name can clash
    told jsonb;
    l record;
    n record;
BEGIN
    IF differences = '[]' OR run.stage NOT IN ('dualwrite', 'shadow') THEN
        RETURN differences;
    END IF;
    keys := ARRAY(SELECT d.key FROM tandem.dirty_key AS d WHERE d.mapping_id = m.id
                   UNION SELECT x.key FROM tandem.mirror_failure AS f CROSS JOIN LATERAL (VALUES (f.legacy_key), (f.old_key)) AS x (key)
                          WHERE f.mapping_id = m.id AND NOT f.taken AND x.key IS NOT NULL);
    IF keys = '{}' THEN
        RETURN differences;
    END IF;
    SELECT jsonb_agg(jsonb_build_object('i', k.i) || (SELECT jsonb_object_agg('c' || x.position, k.key -> x.name::text) FROM unnest(m.legacy_key) WITH ORDINALITY AS x (name, position)))
      INTO known FROM unnest(keys) WITH ORDINALITY AS k (key, i);
    SELECT jsonb_agg(jsonb_build_object('o', d -> 'key') || (SELECT jsonb_object_agg('c' || x.position, d -> 'key' -> x.name::text) FROM unnest(m.new_key) WITH ORDINALITY AS x (name, position)))
      INTO told FROM jsonb_array_elements(differences) AS d WHERE d ->> 'kind' IN ('extra', 'changed');
    SELECT string_agg(format('c%s %s', x.position, x.type), ', ') AS columns,
           string_agg(format('k.c%s AS %I', x.position, x.name), ', ') AS alone,
           string_agg(format('x.%I %s k.c%s', x.name, x.operator, x.position), ' AND ') AS found,
           string_agg(format('f.c%1$s %2$s k.c%1$s', x.position, x.operator), ' AND ') AS same,
           string_agg(format(E'CAST((%s\n) AS %s) AS c%s', c.expression, x.type, x.position), ', ') AS reversed
      INTO l
      FROM (SELECT k.name, k.position, format_type(a.atttypid, -1) AS type, (tandem.equality(a.atttypid, a.atttypid)).operator
              FROM unnest(m.legacy_key) WITH ORDINALITY AS k (name, position) JOIN pg_attribute AS a ON a.attrelid = legacy AND a.attname = k.name) AS x
      JOIN tandem.mirror_columns(m.id, 'reverse') AS c ON c.name = x.name;
    SELECT string_agg(format('c%s %s', c.key_position, c.type), ', ') AS columns,
           string_agg(format('x.%I %s d.c%s', c.name, c.operator, c.key_position), ' AND ') AS found,
           string_agg(format(E'%L, (%s\n)', c.name, c.expression), ', ') AS as_legacy,
           string_agg(format(E'%L, CAST((%s\n) AS %s)', c.name, c.expression, c.type), ', ') AS as_new,
           bool_and((tandem.expression_info(legacy, c.expression)).columns <@ m.legacy_key) AS derived
      INTO n FROM tandem.mirror_columns(m.id, 'forward') AS c WHERE c.key_position IS NOT NULL;
    RETURN (
        WITH p AS (
            -- What a row of legacy is called: by its own value or by the one that new would have.
            SELECT q.number, q.name FROM tandem.dirty_pairs(run.owner, 'SELECT k.i, v.name FROM jsonb_to_recordset(', known,
                format(') AS k (i integer, %s) CROSS JOIN LATERAL (SELECT jsonb_build_object(%s) AS l, jsonb_build_object(%s) AS n FROM (SELECT %s) AS %I) AS f CROSS JOIN LATERAL (VALUES (f.l), (f.n)) AS v (name)',
                       l.columns, n.as_legacy, n.as_new, CASE WHEN n.derived THEN l.alone ELSE format('x.* FROM %s AS x WHERE %s', legacy, l.found) END, m.legacy_table)) AS q
             UNION
            -- Where that does not tell which key a row of new has, whose row it is, by the reverse expressions.
            SELECT q.number, q.name FROM tandem.dirty_pairs(run.owner,
                format('SELECT k.i, f.o FROM jsonb_to_recordset(%L) AS k (i integer, %s) JOIN (SELECT d.o, r.* FROM jsonb_to_recordset(', known, l.columns), told,
                format(') AS d (o jsonb, %s) CROSS JOIN LATERAL (SELECT %s FROM (SELECT x.* FROM %s AS x WHERE %s) AS %I) AS r) AS f ON %s',
                       n.columns, l.reversed, new, n.found, m.new_table, l.same)) AS q WHERE NOT n.derived
        )
        SELECT jsonb_agg(CASE WHEN o.dirty IS NULL THEN d.value ELSE d.value || jsonb_build_object('dirty', o.dirty) END ORDER BY d.position)
          FROM jsonb_array_elements(differences) WITH ORDINALITY AS d (value, position)
          LEFT JOIN (SELECT p.name, jsonb_agg(DISTINCT keys[p.number]) AS dirty FROM p GROUP BY p.name) AS o
            ON o.name = d.value -> 'key' AND d.value ->> 'kind' IN ('missing', 'extra', 'changed'));
END
$$;
COMMENT ON FUNCTION tandem.mark_dirty IS 'Says of each difference that a comparison found of which dirty keys it is a row';

-- Rows refused by their mapping's expression are no matter of the new side: they are told as kind "error", which is never marked, and count at once.
CREATE FUNCTION tandem.is_pending(mapping_id integer, dirty jsonb) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT dirty IS NOT NULL AND EXISTS (
           SELECT FROM jsonb_array_elements(dirty) AS k JOIN tandem.dirty_key AS d ON d.mapping_id = $1 AND d.key = k JOIN tandem.mapping AS m ON m.id = d.mapping_id
            WHERE d.attempts < tandem.option(m.run_id, 'dirty_attempts')::integer)
$$;
COMMENT ON FUNCTION tandem.is_pending IS 'Is a difference that of a write which the new side refused and which will be tried again?';

CREATE FUNCTION tandem.pending_of(mapping_id integer, comparison_id bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT count(*) FROM tandem.difference AS e WHERE e.comparison_id = pending_of.comparison_id AND tandem.is_pending(pending_of.mapping_id, e.dirty));
END
$$;
COMMENT ON FUNCTION tandem.pending_of IS 'How many differences of a comparison are rows that the new side refused and that will be tried again';

-- As run_comparison() counts: of domains that are switched on.
CREATE FUNCTION tandem.pending_differences(run tandem.run) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF run.stage NOT IN ('dualwrite', 'shadow') THEN
        RETURN 0;
    END IF;
    PERFORM tandem.take_failures(run.id);
    RETURN (SELECT coalesce(sum(tandem.pending_of(m.id, last.id)), 0)
              FROM tandem.mapping AS m JOIN tandem.run_domain AS d ON d.run_id = m.run_id AND d.name = m.domain
             CROSS JOIN LATERAL (SELECT max(c.id) AS id FROM tandem.comparison AS c WHERE c.mapping_id = m.id) AS last
             WHERE m.run_id = run.id AND d.enabled);
END
$$;
COMMENT ON FUNCTION tandem.pending_differences IS 'How many differences of the last comparisons of a run are rows that the new side refused and that will be tried again';

-- A row that repair() has mended may have been written again since it was found: so its key is not forgotten, but tried, which does nothing to a
-- row that is equal.
CREATE FUNCTION tandem.retry_mended(run tandem.run) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM tandem.take_failures(run.id);
    UPDATE tandem.dirty_key AS k SET next_at = clock_timestamp()
      FROM tandem.mapping AS m
     CROSS JOIN LATERAL (SELECT max(c.id) AS id FROM tandem.comparison AS c WHERE c.mapping_id = m.id) AS last
      JOIN tandem.difference AS e ON e.comparison_id = last.id AND e.status <> 'open'
     CROSS JOIN LATERAL jsonb_array_elements(e.dirty) AS d (key)
     WHERE m.run_id = run.id AND k.mapping_id = m.id AND k.key = d.key;
    IF FOUND THEN
        PERFORM tandem.dirty_round(run, at_once => true);
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.retry_mended IS 'Tries the dirty keys of rows that repair() has just mended: they are clean then';
