-- compare: exact differences between two relations, by a plain SQL join under one snapshot.
--
-- comparison_columns() resolves what is compared with what; comparison_query() makes one SELECT of it; diff(), compare() and the
-- validation of runs execute that SELECT. Slow, but obviously right: faster engines are tested against it. Everything runs with the
-- caller's rights and row security. The functions are STABLE, so all their queries see one snapshot.

CREATE TYPE tandem.row_difference AS (kind text, key jsonb, columns text[], legacy jsonb, new jsonb);
COMMENT ON TYPE tandem.row_difference IS
    'One difference: kind is missing (only in legacy), extra (only in new), changed or duplicate';

CREATE TYPE tandem.compared_column AS (
    name name, key_position integer, legacy_expression text,
    legacy_value text, new_value text, is_equal text, legacy_type regtype, new_type regtype, groupable boolean);
COMMENT ON TYPE tandem.compared_column IS
    'A column of a comparison: SQL for the normalised value of each side (rows l and n) and for their equality where neither is NULL';

-- Columns of the primary key, in order; NULL where there is none.
CREATE FUNCTION tandem.primary_key(relation regclass) RETURNS name[]
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT array_agg(a.attname ORDER BY k.position)
      FROM pg_index AS i
     CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, position)
      JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
     WHERE i.indrelid = relation AND i.indisprimary AND k.position <= i.indnkeyatts
$$;
COMMENT ON FUNCTION tandem.primary_key IS 'Columns of a relation''s primary key in order; NULL where there is none';

CREATE FUNCTION tandem.has_unique_index(relation regclass, columns name[]) RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM pg_index AS i
         WHERE i.indrelid = relation AND i.indisunique AND i.indisvalid AND i.indimmediate
           AND i.indpred IS NULL AND i.indexprs IS NULL
           AND (SELECT array_agg(a.attname::text ORDER BY a.attname::text COLLATE "C")
                  FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, position)
                  JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                 WHERE k.position <= i.indnkeyatts)
             = (SELECT array_agg(c::text ORDER BY c::text COLLATE "C") FROM unnest(columns) AS c))
$$;
COMMENT ON FUNCTION tandem.has_unique_index IS
    'Does a valid, immediate, unconditional unique index stand on exactly these columns?';

-- The columns that a row of the relation shows: not dropped, not system.
CREATE FUNCTION tandem.column_names(relation regclass) RETURNS TABLE (name name, type oid, collation_id oid, attnum smallint)
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.attname, a.atttypid, a.attcollation, a.attnum
      FROM pg_attribute AS a
     WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
     ORDER BY a.attnum
$$;
COMMENT ON FUNCTION tandem.column_names IS 'The columns of a relation in order, with type and collation';

-- A rule object of one column, checked: errors name the column and what may stand there.
CREATE FUNCTION tandem.check_rule(column_name name, rule jsonb, type oid) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    entry record;
    base oid := coalesce((SELECT CASE WHEN t.typtype = 'd' THEN t.typbasetype END FROM pg_type AS t WHERE t.oid = type), type);
    fits boolean;
BEGIN
    IF jsonb_typeof(rule) <> 'object' THEN
        RAISE EXCEPTION 'the rules of column "%" are not an object', column_name
              USING ERRCODE = 'invalid_parameter_value',
                    DETAIL = format('Found: %s', rule),
                    HINT = 'For example: {"price": {"tolerance": 0.01}, "note": {"trim": true}}';
    END IF;
    FOR entry IN SELECT r.key, r.value, jsonb_typeof(r.value) AS kind FROM jsonb_each(rule) AS r LOOP
        IF entry.key NOT IN ('ignore', 'tolerance', 'relative_tolerance', 'time_tolerance', 'trim', 'ignore_case', 'empty_is_null') THEN
            RAISE EXCEPTION 'unknown rule "%" for column "%"', entry.key, column_name
                  USING ERRCODE = 'invalid_parameter_value',
                        HINT = 'Known are: ignore, tolerance, relative_tolerance, time_tolerance, trim, ignore_case, empty_is_null.';
        END IF;
        IF entry.key IN ('tolerance', 'relative_tolerance') THEN
            fits := base IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'float4'::regtype, 'float8'::regtype, 'numeric'::regtype);
            IF entry.kind <> 'number' OR entry.value::text::numeric < 0 THEN
                RAISE EXCEPTION 'rule "%" of column "%" needs a number of 0 or more', entry.key, column_name
                      USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Found: %s', entry.value),
                            HINT = format('{"%s": {"%s": 0.01}}', column_name, entry.key);
            END IF;
        ELSIF entry.key = 'time_tolerance' THEN
            fits := base IN ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype, 'time'::regtype);
            BEGIN
                IF entry.kind <> 'string' OR (entry.value #>> '{}')::interval < interval '0' THEN
                    RAISE invalid_parameter_value;
                END IF;
            EXCEPTION WHEN data_exception THEN
                RAISE EXCEPTION 'rule "time_tolerance" of column "%" needs an interval of 0 or more', column_name
                      USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Found: %s', entry.value),
                            HINT = format('{"%s": {"time_tolerance": "1 second"}}', column_name);
            END;
        ELSE
            fits := entry.key = 'ignore'
                 OR base IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype)
                 OR (SELECT t.typcategory = 'S' FROM pg_type AS t WHERE t.oid = base);
            IF entry.kind <> 'boolean' THEN
                RAISE EXCEPTION 'rule "%" of column "%" needs true or false', entry.key, column_name
                      USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Found: %s', entry.value),
                            HINT = format('{"%s": {"%s": true}}', column_name, entry.key);
            END IF;
        END IF;
        IF NOT fits THEN
            RAISE EXCEPTION 'rule "%" does not fit column "%"', entry.key, column_name
                  USING ERRCODE = 'datatype_mismatch', DETAIL = format('The column is of type %s.', format_type(type, NULL)),
                        HINT = 'tolerance and relative_tolerance are for numbers, time_tolerance for dates and times, trim, ignore_case and empty_is_null for text.';
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.check_rule IS
    'Refuses a rule that is unknown, ill-formed or does not fit the type of its column (22023, 42804)';

-- SQL for "the values are equal, neither being NULL", with the rules of the column.
CREATE FUNCTION tandem.equality_sql(operator text, legacy_value text, new_value text, rule jsonb, type oid) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    l text := legacy_value;
    n text := new_value;
    equal text := format('(%s %s %s)', legacy_value, operator, new_value);
BEGIN
    IF rule ? 'tolerance' OR rule ? 'relative_tolerance' THEN
        -- The text of a float is its shortest exact form: 1.11 − 1.10 is 0.01, as it reads.
        l := format('(%s)::text::numeric', l);
        n := format('(%s)::text::numeric', n);
        RETURN format('(%1$s = %2$s OR (abs(%1$s) < ''Infinity'' AND abs(%2$s) < ''Infinity'' AND (%3$s)))', l, n,
                      concat_ws(' OR ',
                          format('abs(%s - %s) <= %s', l, n, rule ->> 'tolerance'),
                          format('abs(%1$s - %2$s) <= %3$s * greatest(abs(%1$s), abs(%2$s))', l, n, rule ->> 'relative_tolerance')));
    END IF;
    IF rule ? 'time_tolerance' THEN
        IF type = 'time'::regtype THEN
            RETURN format('(%1$s - %2$s BETWEEN -%3$L::interval AND %3$L::interval)', l, n, rule ->> 'time_tolerance');
        END IF;
        IF type = 'date'::regtype THEN
            l := format('(%s)::timestamp', l);
            n := format('(%s)::timestamp', n);
        END IF;
        RETURN format('(%1$s = %2$s OR (isfinite(%1$s) AND isfinite(%2$s) AND %1$s - %2$s BETWEEN -%3$L::interval AND %3$L::interval))',
                      l, n, rule ->> 'time_tolerance');
    END IF;
    RETURN equal;
END
$$;
COMMENT ON FUNCTION tandem.equality_sql IS 'SQL for the equality of two values that are not NULL, with tolerances';

-- The key by default: new's primary key, else the legacy one by its new names, as far as the columns take part.
CREATE FUNCTION tandem.default_key(legacy regclass, new regclass, columns jsonb, compared name[]) RETURNS name[]
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    candidate name[] := tandem.primary_key(new);
BEGIN
    IF candidate <@ compared THEN
        RETURN candidate;
    END IF;
    SELECT array_agg(m.name ORDER BY k.position) INTO candidate
      FROM unnest(tandem.primary_key(legacy)) WITH ORDINALITY AS k (name, position)
      LEFT JOIN LATERAL (
           SELECT c AS name
             FROM unnest(compared) AS c
            WHERE CASE WHEN columns ? c THEN (tandem.expression_info(legacy, columns ->> c)).bare_column = k.name ELSE c = k.name END
            ORDER BY c LIMIT 1) AS m ON true;
    IF array_position(candidate, NULL) IS NULL AND candidate <@ compared THEN
        RETURN candidate;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tandem.default_key IS
    'The key of a comparison that names none: the primary key of new, else that of legacy, else NULL (a multiset)';

CREATE FUNCTION tandem.comparison_columns(legacy regclass, new regclass, key name[], columns jsonb, rules jsonb)
RETURNS SETOF tandem.compared_column
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    col record;
    info record;
    result tandem.compared_column;
    rule jsonb;
    compared name[];
    the_key name[];
    operator text;
    bytewise boolean;
    side text;
    value text;
BEGIN
    IF legacy IS NULL OR new IS NULL THEN
        RAISE EXCEPTION 'a comparison needs two relations' USING ERRCODE = 'null_value_not_allowed',
              HINT = 'tandem.diff(''legacy.table'', ''new.table'')';
    END IF;
    columns := coalesce(columns, '{}');
    rules := coalesce(rules, '{}');
    IF jsonb_typeof(columns) <> 'object' OR EXISTS (SELECT FROM jsonb_each(columns) AS c WHERE jsonb_typeof(c.value) <> 'string') THEN
        RAISE EXCEPTION 'columns must be an object of SQL expressions' USING ERRCODE = 'invalid_parameter_value',
              DETAIL = format('Found: %s', columns), HINT = '{"new column": "SQL expression over the legacy row"}';
    END IF;
    IF jsonb_typeof(rules) <> 'object' THEN
        RAISE EXCEPTION 'rules must be an object' USING ERRCODE = 'invalid_parameter_value',
              DETAIL = format('Found: %s', rules), HINT = '{"column": {"tolerance": 0.01}}';
    END IF;
    FOR col IN SELECT u.name, u.what FROM (SELECT c.key AS name, 'columns' AS what FROM jsonb_each(columns) AS c
                                           UNION ALL SELECT r.key, 'rules' FROM jsonb_each(rules) AS r) AS u
                WHERE u.name NOT IN (SELECT c.name FROM tandem.column_names(new) AS c) LOOP
        RAISE EXCEPTION 'column "%" in % does not exist in %', col.name, col.what, new USING ERRCODE = 'undefined_column',
              HINT = format('Columns of %s: %s.', new, (SELECT string_agg(c.name, ', ') FROM tandem.column_names(new) AS c));
    END LOOP;

    SELECT array_agg(n.name ORDER BY n.attnum) INTO compared
      FROM tandem.column_names(new) AS n
     WHERE (columns ? n.name OR n.name IN (SELECT l.name FROM tandem.column_names(legacy) AS l))
       AND (rules #> ARRAY[n.name::text, 'ignore']) IS DISTINCT FROM 'true';
    IF compared IS NULL THEN
        RAISE EXCEPTION '% and % have no common column', legacy, new USING ERRCODE = 'undefined_column',
              DETAIL = format('Columns of %s: %s. Columns of %s: %s.',
                              legacy, (SELECT string_agg(c.name, ', ') FROM tandem.column_names(legacy) AS c),
                              new, (SELECT string_agg(c.name, ', ') FROM tandem.column_names(new) AS c)),
              HINT = 'Map them: columns => ''{"new column": "SQL expression over the legacy row"}''';
    END IF;

    IF key IS NULL THEN
        the_key := tandem.default_key(legacy, new, columns, compared);
    ELSE
        the_key := key;
        IF cardinality(key) = 0 OR array_position(key, NULL) IS NOT NULL OR NOT key <@ compared
           OR (SELECT count(DISTINCT k) FROM unnest(key) AS k) <> cardinality(key) THEN
            RAISE EXCEPTION 'the key % is not a set of compared columns', key USING ERRCODE = 'invalid_column_reference',
                  DETAIL = format('Compared are: %s.', array_to_string(compared, ', ')),
                  HINT = 'Name columns of new that exist on both sides or are mapped in columns, each once and not ignored.';
        END IF;
    END IF;

    FOR col IN SELECT n.* FROM tandem.column_names(new) AS n WHERE n.name = ANY (compared) ORDER BY n.attnum LOOP
        rule := coalesce(rules -> col.name, '{}');
        result := NULL;
        result.name := col.name;
        result.key_position := array_position(the_key, col.name);
        result.legacy_expression := coalesce(columns ->> col.name, quote_ident(col.name));
        info := tandem.expression_info(legacy, result.legacy_expression);
        IF info.volatility = 'v' THEN
            RAISE EXCEPTION 'the expression of column "%" is volatile', col.name USING ERRCODE = 'invalid_object_definition',
                  DETAIL = format('%s gives another value at every call.', result.legacy_expression),
                  HINT = 'Use immutable functions of the row only.';
        END IF;
        result.legacy_type := info.type;
        result.new_type := col.type;
        PERFORM tandem.check_rule(col.name, rule, info.type), tandem.check_rule(col.name, rule, col.type);
        IF result.key_position IS NOT NULL AND (rule ? 'tolerance' OR rule ? 'relative_tolerance' OR rule ? 'time_tolerance') THEN
            RAISE EXCEPTION 'a key column cannot have a tolerance: "%"', col.name USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Rows are matched by equal keys. Leave the tolerance out, or choose another key.';
        END IF;

        operator := tandem.equality(CASE WHEN info.type = 'json'::regtype THEN 'jsonb'::regtype::oid ELSE info.type END,
                                    CASE WHEN col.type = 'json'::regtype THEN 'jsonb'::regtype::oid ELSE col.type END);
        IF operator IS NULL THEN
            RAISE EXCEPTION 'column "%" cannot be compared: no common equality for % and %', col.name,
                            format_type(info.type, NULL), format_type(col.type, NULL)
                  USING ERRCODE = 'undefined_function',
                        DETAIL = format('%s of %s is of type %s, %s of %s is of type %s, and no = between them means the same in every session.',
                                        result.legacy_expression, legacy, format_type(info.type, NULL), col.name, new, format_type(col.type, NULL)),
                        HINT = format('Map it by an expression of the new type: columns => ''{"%s": "..."}''', col.name);
        END IF;
        bytewise := info.collation_id <> col.collation_id AND info.collation_id <> 0 AND col.collation_id <> 0;

        FOREACH side IN ARRAY ARRAY['l', 'n'] LOOP
            value := side || '.' || quote_ident(col.name);
            value := CASE WHEN operator = '' THEN value || '::text'
                          WHEN (CASE side WHEN 'l' THEN info.type ELSE col.type END) = 'json'::regtype THEN value || '::jsonb'
                          ELSE value END;
            IF (rule -> 'trim') = 'true' THEN value := format('btrim(%s::text, '' '')', value); END IF;
            IF (rule -> 'ignore_case') = 'true' THEN value := format('lower(%s::text)', value); END IF;
            IF (rule -> 'empty_is_null') = 'true' THEN value := format('nullif(%s::text, '''')', value); END IF;
            IF bytewise THEN value := value || ' COLLATE "C"'; END IF;
            IF side = 'l' THEN result.legacy_value := value; ELSE result.new_value := value; END IF;
        END LOOP;
        IF operator = '' OR (rule -> 'trim') = 'true' OR (rule -> 'ignore_case') = 'true' OR (rule -> 'empty_is_null') = 'true' THEN
            operator := 'OPERATOR(pg_catalog.=)';
        END IF;
        result.groupable := NOT (rule ? 'tolerance' OR rule ? 'relative_tolerance' OR rule ? 'time_tolerance');
        result.is_equal := tandem.equality_sql(operator, result.legacy_value, result.new_value, rule,
            coalesce((SELECT CASE WHEN t.typtype = 'd' THEN t.typbasetype END FROM pg_type AS t WHERE t.oid = col.type), col.type));
        RETURN NEXT result;
    END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.comparison_columns IS
    'Resolves what a comparison compares: columns, key, expressions, rules, operators, collations; refuses what cannot be compared exactly';

-- One SELECT of row_difference. Looks at the data only for NULLs in the key.
CREATE FUNCTION tandem.comparison_query(
    legacy regclass, new regclass, key name[], columns jsonb, rules jsonb, legacy_where text, new_where text)
RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c tandem.compared_column[];
    keyed boolean;
    l_rows text;
    n_rows text;
    unique_keys boolean;
    null_keys boolean;
    side record;
    keys record;
BEGIN
    SELECT array_agg(x ORDER BY x.key_position NULLS LAST) INTO c
      FROM tandem.comparison_columns(legacy, new, key, columns, rules) AS x;
    keyed := c[1].key_position IS NOT NULL;
    SELECT format('SELECT %s FROM %s%s', string_agg(format(E'(%s\n) AS %I', x.legacy_expression, x.name), ', '), legacy,
                  CASE WHEN legacy_where IS NOT NULL THEN format(E' WHERE (%s\n)', legacy_where) END),
           format('SELECT %s FROM %s%s', string_agg(quote_ident(x.name), ', '), new,
                  CASE WHEN new_where IS NOT NULL THEN format(E' WHERE (%s\n)', new_where) END)
      INTO l_rows, n_rows FROM unnest(c) AS x;

    IF NOT keyed THEN
        IF EXISTS (SELECT FROM unnest(c) AS x WHERE NOT x.groupable) THEN
            RAISE EXCEPTION 'a tolerance needs a key' USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('%s and %s have no common primary key: whole rows are matched by equality.', legacy, new),
                  HINT = 'Name the key: key => ''{column}''';
        END IF;
        RETURN (SELECT format($sql$
            WITH l AS (%1$s), n AS (%2$s),
                 u AS (SELECT %3$s, 1 AS lc, 0 AS nc, to_jsonb(l) AS row FROM l UNION ALL SELECT %4$s, 0, 1, to_jsonb(n) FROM n),
                 g AS (SELECT sum(lc) AS lc, sum(nc) AS nc,
                              (array_agg(row) FILTER (WHERE lc = 1))[1] AS legacy, (array_agg(row) FILTER (WHERE nc = 1))[1] AS new
                         FROM u GROUP BY %5$s HAVING sum(lc) <> sum(nc))
            SELECT CASE WHEN lc > nc THEN 'missing' ELSE 'extra' END AS kind, NULL::jsonb AS key, NULL::text[] AS columns,
                   CASE WHEN lc > nc THEN legacy END AS legacy, CASE WHEN nc > lc THEN new END AS new
              FROM g CROSS JOIN LATERAL generate_series(1, abs(lc - nc)) $sql$,
            l_rows, n_rows,
            string_agg(format('%s AS v%s', x.legacy_value, x.position), ', ' ORDER BY x.position),
            string_agg(format('%s AS v%s', x.new_value, x.position), ', ' ORDER BY x.position),
            string_agg(format('v%s', x.position), ', ' ORDER BY x.position))
          FROM (SELECT x.*, row_number() OVER () AS position FROM unnest(c) AS x) AS x);
    END IF;

    SELECT string_agg(x.legacy_value, ', ') AS legacy, string_agg(x.new_value, ', ') AS new,
           string_agg(x.is_equal, ' AND ') AS same,
           string_agg(x.legacy_value || ' IS NULL', ' OR ') AS legacy_null, string_agg(x.new_value || ' IS NULL', ' OR ') AS new_null,
           array_agg(x.name) AS names, array_agg(quote_ident(x.name)) AS quoted, array_agg(x.legacy_expression) AS expressions
      INTO keys FROM unnest(c) AS x WHERE x.key_position IS NOT NULL;

    FOR side IN SELECT legacy AS relation, format('SELECT EXISTS (SELECT FROM (%s) AS l WHERE %s)', l_rows, keys.legacy_null) AS query
                UNION ALL SELECT new, format('SELECT EXISTS (SELECT FROM (%s) AS n WHERE %s)', n_rows, keys.new_null) LOOP
        EXECUTE side.query INTO null_keys;
        IF null_keys THEN
            RAISE EXCEPTION 'the key % is NULL in some rows of %', keys.names, side.relation
                  USING ERRCODE = 'null_value_not_allowed',
                        DETAIL = 'Rows are matched by their key, and NULL equals nothing.',
                        HINT = 'Choose another key, map it to an expression without NULL, or leave those rows out by legacy_where and new_where.';
        END IF;
    END LOOP;

    -- Where a unique index stands behind the key, no key can stand twice and the plain join is enough.
    unique_keys := tandem.has_unique_index(new, keys.names)
        AND (SELECT bool_and(i.bare_column IS NOT NULL) AND tandem.has_unique_index(legacy, array_agg(i.bare_column))
               FROM unnest(keys.expressions) AS e CROSS JOIN LATERAL tandem.expression_info(legacy, e) AS i)
        AND NOT EXISTS (SELECT FROM unnest(c) AS x WHERE x.key_position IS NOT NULL AND (rules -> x.name) IS NOT NULL)
        -- an index of the parent does not reach inheritance children
        AND NOT EXISTS (SELECT FROM pg_inherits AS h JOIN pg_class AS p ON p.oid = h.inhparent
                         WHERE h.inhparent IN (legacy, new) AND p.relkind = 'r');
    RETURN (SELECT format($sql$
        WITH l AS NOT MATERIALIZED (%1$s), n AS NOT MATERIALIZED (%2$s),
             d AS (SELECT l.%3$I AS lc, n.%3$I AS nc,
                          to_jsonb(l) - %3$L AS legacy, to_jsonb(n) - %3$L AS new,
                          CASE WHEN l.%3$I = 1 AND n.%3$I = 1 THEN array_remove(ARRAY[%4$s], NULL) END AS columns,
                          row_number() OVER (ORDER BY %5$s) AS position
                     FROM l FULL JOIN n ON %6$s
                    WHERE l.%3$I IS DISTINCT FROM 1 OR n.%3$I IS DISTINCT FROM 1 OR %7$s)
        SELECT CASE WHEN lc > 1 OR nc > 1 THEN 'duplicate' WHEN nc IS NULL THEN 'missing' WHEN lc IS NULL THEN 'extra' ELSE 'changed' END AS kind,
               tandem.only_keys(coalesce(new, legacy), %8$L) AS key,
               columns,
               CASE WHEN lc > 1 OR nc > 1 THEN jsonb_build_object('count', coalesce(lc, 0))
                    WHEN lc IS NULL THEN NULL WHEN nc IS NULL THEN legacy ELSE tandem.only_keys(legacy, columns) END AS legacy,
               CASE WHEN lc > 1 OR nc > 1 THEN jsonb_build_object('count', coalesce(nc, 0))
                    WHEN nc IS NULL THEN NULL WHEN lc IS NULL THEN new ELSE tandem.only_keys(new, columns) END AS new
          FROM d ORDER BY position $sql$,
        tandem.with_copies(l_rows, 'l', keys.legacy, unique_keys), tandem.with_copies(n_rows, 'n', keys.new, unique_keys),
        'tandem copies',
        coalesce(string_agg(format('CASE WHEN %s THEN %L END', tandem.differs_sql(x), x.name::text), ', ') FILTER (WHERE x.key_position IS NULL), 'NULL::text'),
        (SELECT string_agg(format('coalesce(l.%1$I::text, n.%1$I::text) COLLATE "C"', k), ', ') FROM unnest(keys.names) AS k),
        keys.same,
        coalesce(string_agg(tandem.differs_sql(x), ' OR ') FILTER (WHERE x.key_position IS NULL), 'false'),
        keys.names::text[])
      FROM unnest(c) AS x);
END
$$;
COMMENT ON FUNCTION tandem.comparison_query IS
    'The SELECT of row_difference that compares two relations; refuses a key that is NULL somewhere (22004)';

CREATE FUNCTION tandem.differs_sql(c tandem.compared_column) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- IS NOT DISTINCT FROM NULL, as IS NULL is true of a composite whose fields are all NULL
    SELECT format('CASE WHEN %1$s IS NOT DISTINCT FROM NULL OR %2$s IS NOT DISTINCT FROM NULL '
                  'THEN (%1$s IS NOT DISTINCT FROM NULL) <> (%2$s IS NOT DISTINCT FROM NULL) ELSE %3$s IS NOT TRUE END',
                  c.legacy_value, c.new_value, c.is_equal)
$$;
COMMENT ON FUNCTION tandem.differs_sql IS 'SQL that is true where the two values of a column differ; NULL equals NULL';

-- One row a key with the number of its copies; where keys are known to be unique, each row counts one.
CREATE FUNCTION tandem.with_copies(rows text, alias text, key text, unique_keys boolean) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN unique_keys THEN format('SELECT %2$s.*, 1::bigint AS "tandem copies" FROM (%1$s) AS %2$s', rows, alias)
                ELSE format('SELECT DISTINCT ON (%3$s) %2$s.*, count(*) OVER (PARTITION BY %3$s) AS "tandem copies" FROM (%1$s) AS %2$s',
                            rows, alias, key) END
$$;
COMMENT ON FUNCTION tandem.with_copies IS 'SQL for one row a key, with the number of rows that have it';

CREATE FUNCTION tandem.only_keys(object jsonb, keys text[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ SELECT jsonb_object_agg(k, object -> k) FROM unnest(keys) AS k $$;
COMMENT ON FUNCTION tandem.only_keys IS 'The members of an object that have these keys';

CREATE FUNCTION tandem.compare_rows(
    legacy regclass, new regclass, key name[], columns jsonb, rules jsonb, legacy_where text, new_where text, max_differences bigint)
RETURNS SETOF tandem.row_difference
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET extra_float_digits = 1
AS $$
BEGIN
    IF max_differences < 0 THEN
        RAISE EXCEPTION 'max_differences must be 0 or more' USING ERRCODE = 'invalid_parameter_value', HINT = 'NULL returns all.';
    END IF;
    RETURN QUERY EXECUTE tandem.comparison_query(legacy, new, key, columns, rules, legacy_where, new_where)
                      || coalesce(' LIMIT ' || max_differences, '');
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
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET extra_float_digits = 1
AS $$
DECLARE
    started timestamptz := clock_timestamp();
    result tandem.comparison_result;
BEGIN
    EXECUTE format($sql$
        WITH d AS MATERIALIZED (%s)
        SELECT count(*) = 0, (SELECT count(*) FROM %s %s), (SELECT count(*) FROM %s %s),
               count(*) FILTER (WHERE kind = 'missing'), count(*) FILTER (WHERE kind = 'extra'),
               count(*) FILTER (WHERE kind = 'changed'), count(*) FILTER (WHERE kind = 'duplicate'), 'join', NULL::interval,
               coalesce((SELECT jsonb_agg(to_jsonb(f)) FROM (SELECT * FROM d LIMIT %s) AS f), '[]')
          FROM d $sql$,
        tandem.comparison_query(legacy, new, key, columns, rules, legacy_where, new_where),
        legacy, E'WHERE (' || legacy_where || E'\n)', new, E'WHERE (' || new_where || E'\n)', max_differences) INTO result;
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
    SELECT c.equal, c.legacy_rows, c.new_rows, c.missing, c.extra, c.changed, c.method, c.elapsed, c.duplicates
      FROM tandem.compare_counting($1, $2, $3, $4, $5, $6, $7, 0) AS c
$$;
COMMENT ON FUNCTION tandem.compare IS
    'Are two relations equal? Verdict and exact counts; duplicates counts keys that stand more than once. max_differences is accepted for symmetry with diff() and never changes the answer';
