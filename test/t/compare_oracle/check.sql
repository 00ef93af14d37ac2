-- run(round, phase) plays a part of a round's script; check(round) asks its question of every method and path.
CREATE FUNCTION oracle.run(round integer, phase text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    s record;
BEGIN
    FOR s IN SELECT * FROM oracle.script AS x WHERE x.round = $1 AND x.phase = $2 ORDER BY x.number LOOP
        IF NOT s.may_fail THEN
            EXECUTE s.sql;
            CONTINUE;
        END IF;
        BEGIN
            EXECUTE s.sql;
        EXCEPTION WHEN OTHERS THEN
            UPDATE oracle.script AS x SET failed = SQLERRM WHERE (x.round, x.phase, x.number) = (s.round, s.phase, s.number);
            IF s.sql ~ 'ADD PRIMARY KEY' THEN UPDATE oracle.round AS r SET key_is_default = false WHERE r.number = $1; END IF;
        END;
    END LOOP;
END
$$;

CREATE FUNCTION oracle.arguments(r oracle.round) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT concat_ws(', ', quote_literal(r.legacy), quote_literal(r.new), CASE WHEN r.is_keyed AND NOT r.key_is_default THEN format('key => %L', r.key) END,
                     format('columns => %L', r.columns), format('rules => %L', r.rules), format('legacy_where => %L', r.legacy_where), format('new_where => %L', r.new_where))
$$;

-- An answer as sorted lines: the rows of diff(), the counts of compare(), or an error.
CREATE FUNCTION oracle.ask(verb text, arguments text, method text, path text, OUT answer text[], OUT how text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('tandem.compare_method', method, true), set_config('tandem.compare_path', path, true);
    IF verb = 'compare' THEN
        EXECUTE format('SELECT ARRAY[(to_jsonb(c) - ''method'' - ''elapsed'')::text], c.method FROM tandem.compare(%s) AS c', arguments) INTO answer, how;
    ELSE
        EXECUTE format('SELECT coalesce(array_agg(d.line ORDER BY d.line COLLATE "C"), ''{}'') FROM (SELECT to_jsonb(d)::text AS line FROM tandem.diff(%s) AS d) AS d', arguments) INTO answer;
    END IF;
EXCEPTION WHEN OTHERS THEN
    answer := ARRAY['ERROR ' || SQLSTATE || ': ' || SQLERRM];
END
$$;

-- Of rows with equal keys, and of equal rows without a key, any one may stand for all: 1.0 for 1.00. The image of each value of a column,
-- with the least image of all that equal it.
CREATE FUNCTION oracle.images(r oracle.round) RETURNS TABLE (name text, image text, least_image text) LANGUAGE plpgsql
SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex' SET search_path = pg_catalog AS $$
DECLARE
    c tandem.compared_column;
BEGIN
    FOR c IN SELECT * FROM tandem.comparison_columns(r.legacy::regclass, r.new::regclass, CASE WHEN r.is_keyed AND NOT r.key_is_default THEN r.key::name[] END, r.columns, r.rules) LOOP
        CONTINUE WHEN r.is_keyed AND c.key_position IS NULL;
        RETURN QUERY EXECUTE format($sql$
            SELECT DISTINCT %L, i.image, min(i.image COLLATE "C") OVER (PARTITION BY i.value)
              FROM (SELECT to_jsonb((%s
)) #>> '{}' AS image, %s AS value FROM %s%s UNION ALL SELECT to_jsonb(%I) #>> '{}', %s FROM %s%s) AS i$sql$,
            c.name, c.legacy_expression, c.legacy_scalar, r.legacy, coalesce(E' WHERE (' || r.legacy_where || E'\n)', ''), c.name, c.new_scalar, r.new, coalesce(E' WHERE (' || r.new_where || E'\n)', ''));
    END LOOP;
END
$$;

-- The lines with the least image in place of each that is free: keys of duplicates, values of rows without a key.
CREATE FUNCTION oracle.canonical(r oracle.round, lines text[]) RETURNS text[] LANGUAGE sql STABLE AS $$
    WITH images AS MATERIALIZED (SELECT i.* FROM oracle.images(r) AS i)
    SELECT coalesce(array_agg(c.line ORDER BY c.line COLLATE "C"), '{}')
      FROM (SELECT CASE WHEN l.row ->> 'kind' = 'duplicate' OR NOT r.is_keyed
                        THEN (l.row - CASE WHEN r.is_keyed THEN '{key}' ELSE '{legacy,new}' END::text[])::text
                             || (SELECT string_agg(format('%s=%s', e.key, coalesce(i.least_image, e.value)), ' ' ORDER BY e.key)
                                   FROM jsonb_each_text(CASE WHEN r.is_keyed THEN l.row -> 'key' ELSE coalesce(nullif(l.row -> 'legacy', 'null'), l.row -> 'new') END) AS e
                                   LEFT JOIN images AS i ON i.name = e.key AND i.image = e.value)
                        ELSE l.row::text END AS line
              FROM (SELECT line::jsonb AS row FROM unnest(lines) AS line) AS l) AS c
$$;

-- What one answer has more often than the other.
CREATE FUNCTION oracle.surplus(of text[], over text[]) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT string_agg('    ' || left(line, 600), E'\n') FROM (SELECT line FROM unnest(of) AS line EXCEPT ALL SELECT line FROM unnest(over) AS line LIMIT 5) AS s
$$;

CREATE FUNCTION oracle.count_kinds(lines text[]) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object('missing', count(*) FILTER (WHERE k = 'missing'), 'extra', count(*) FILTER (WHERE k = 'extra'), 'changed', count(*) FILTER (WHERE k = 'changed'),
                              'duplicates', count(*) FILTER (WHERE k = 'duplicate'), 'errors', count(*) FILTER (WHERE k = 'error'), 'equal', count(*) = 0)
      FROM (SELECT line::jsonb ->> 'kind' AS k FROM unnest(lines) AS line) AS l
$$;

-- One line: the round's number, ok or not ok, what it was about; then what disagrees, if anything does.
CREATE FUNCTION oracle.check(number integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    r oracle.round;
    arguments text;
    truth text[];
    counts text[];
    wrong text[] := '{}';
    way record;
    answer record;
    methods text[] := '{}';
    cut text;
BEGIN
    SELECT * INTO r FROM oracle.round AS x WHERE x.number = $1;
    arguments := oracle.arguments(r);
    PERFORM set_config(s.key, s.value, true) FROM jsonb_each_text(r.settings) AS s;
    PERFORM oracle.run(number, 'late');
    truth := (oracle.ask('diff', arguments, 'join', 'auto')).answer;
    counts := (oracle.ask('compare', arguments, 'join', 'auto')).answer;
    IF truth[1] ~ '^ERROR' THEN
        IF counts <> truth THEN wrong := wrong || format(E'compare() by the join says %s\n  and diff() %s', counts, truth); END IF;
    ELSIF NOT counts[1]::jsonb @> oracle.count_kinds(truth) THEN
        wrong := wrong || format(E'compare() by the join says %s\n  and diff() %s', counts[1], oracle.count_kinds(truth));
    END IF;

    FOR way IN SELECT m.method, p.path, row_number() OVER () AS n FROM unnest(ARRAY['auto', 'sketch', 'radix']) AS m (method) JOIN unnest(ARRAY['auto', 'raw', 'slots', 'executor']) AS p (path) ON (m.method = 'auto') = (p.path = 'auto') LOOP
        answer := oracle.ask('diff', arguments, way.method, way.path);
        IF answer.answer <> truth AND (truth[1] ~ '^ERROR' OR answer.answer[1] ~ '^ERROR' OR oracle.canonical(r, answer.answer) <> oracle.canonical(r, truth)) THEN
            wrong := wrong || concat_ws(E'\n', format('diff() by method %s, path %s', way.method, way.path),
                                        E'  only the join says\n' || oracle.surplus(truth, answer.answer), E'  only it says\n' || oracle.surplus(answer.answer, truth));
        END IF;
        IF way.method = 'auto' OR way.n % 7 = number % 7 THEN
            answer := oracle.ask('compare', arguments, way.method, way.path);
            methods := methods || answer.how;
            IF answer.answer <> counts THEN
                wrong := wrong || format(E'compare() by method %s, path %s\n  the join says %s\n  it says       %s', way.method, way.path, counts[1], answer.answer[1]);
            END IF;
        END IF;
    END LOOP;

    -- max_differences cuts the rows, never the counts
    IF r.max_differences IS NOT NULL AND truth[1] !~ '^ERROR' THEN
        arguments := concat_ws(', ', arguments, 'max_differences => ' || r.max_differences);
        FOR way IN SELECT * FROM (VALUES ('join', 'auto'), ('auto', 'auto'), ('sketch', 'slots'), ('radix', 'raw')) AS w (method, path) LOOP
            answer := oracle.ask('diff', arguments, way.method, way.path);
            cut := oracle.surplus(oracle.canonical(r, answer.answer), oracle.canonical(r, truth));
            IF cardinality(answer.answer) <> least(r.max_differences, cardinality(truth)) OR cut IS NOT NULL THEN
                wrong := wrong || concat_ws(E'\n', format('diff() by method %s, path %s with max_differences %s gives %s of %s rows', way.method, way.path, r.max_differences, cardinality(answer.answer), cardinality(truth)), cut);
            END IF;
            IF (oracle.ask('compare', arguments, way.method, way.path)).answer <> counts THEN
                wrong := wrong || format('compare() by method %s, path %s with max_differences %s says otherwise', way.method, way.path, r.max_differences);
            END IF;
        END LOOP;
    END IF;

    RETURN concat_ws(E'\t', 'round', number, CASE WHEN wrong = '{}' THEN 'ok' ELSE 'not ok' END,
                     CASE WHEN truth[1] ~ '^ERROR' THEN left(truth[1], 11) WHEN truth = '{}' THEN 'equal' ELSE 'differences' END, array_to_string(methods, ','),
                     format('%s and %s of %s rows, %s', r.legacy_kind, r.new_kind, r.size, CASE WHEN r.is_keyed THEN 'keyed' ELSE 'no key' END))
           || CASE WHEN wrong = '{}' THEN '' ELSE E'\n' || array_to_string(wrong, E'\n') || E'\n' || oracle.describe(number, arguments) END || E'\nend of round';
END
$$;

-- The script of a round, by which a person can repeat it in psql; and its rows where they are few.
CREATE FUNCTION oracle.describe(number integer, arguments text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    r oracle.round := (SELECT x FROM oracle.round AS x WHERE x.number = $1);
    image text;
BEGIN
    RETURN E'the script of the round:\n' || (SELECT string_agg(CASE s.phase WHEN 'late' THEN '/* in the transaction that compares */ ' ELSE '' END || CASE WHEN s.failed IS NULL THEN '' ELSE '-- ' END || left(s.sql, 4000) || ';', E'\n' ORDER BY array_position('{make,change,apart,late}'::text[], s.phase), s.number)
                      FROM oracle.script AS s WHERE s.round = r.number AND s.phase <> 'clean')
           || E'\nBEGIN ISOLATION LEVEL ' || r.isolation || ';' || (SELECT string_agg(format(' SET LOCAL %s = %L;', s.key, s.value), '') FROM jsonb_each_text(r.settings) AS s)
           || format(E'\nSELECT * FROM tandem.diff(%s);', arguments)
           || CASE WHEN r.size > 12 THEN '' ELSE E'\nlegacy:\n' || oracle.rows_of(r.legacy) || E'\nnew:\n' || oracle.rows_of(r.new) END;
END
$$;
CREATE FUNCTION oracle.rows_of(relation text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    image text;
BEGIN
    EXECUTE format('SELECT string_agg(left(t::text, 1000), E''\n'') FROM (SELECT * FROM %s LIMIT 60) AS t', relation) INTO image;
    RETURN coalesce(image, 'no rows');
END
$$;
