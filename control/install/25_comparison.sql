-- comparison: what is compared with what. comparison_columns() resolves it, column by column: legacy expression, rule, the SQL for both
-- values and for their equality; and refuses what cannot be compared exactly. It reads catalogs, never a row.

CREATE TYPE tandem.compared_column AS (
    name name, position integer, key_position integer, legacy_expression text, legacy_type regtype, new_type regtype,
    legacy_value text, new_value text, is_equal text, has_tolerance boolean, legacy_scalar text, new_scalar text, legacy_operand oid, new_operand oid, rule jsonb);
COMMENT ON TYPE tandem.compared_column IS
    'A column of a comparison: c<position> of the rows l and n, SQL for the value of each side and for their equality where neither is NULL; the scalars are the same values as SQL over the relation itself';

-- SQL for the value of a column as it is compared: of the type that the equality takes, with the rules for text, under one collation.
CREATE FUNCTION tandem.value_sql(value text, type oid, operand oid, rule jsonb, common_collation text) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    trim_it boolean := rule @> '{"trim": true}';
    lower_it boolean := rule @> '{"ignore_case": true}';
    null_it boolean := rule @> '{"empty_is_null": true}';
BEGIN
    IF trim_it OR lower_it OR null_it THEN
        value := value || '::text';
        IF common_collation IS NOT NULL THEN value := format('(%s COLLATE %s)', value, common_collation); END IF;
        IF trim_it THEN value := format('btrim(%s, '' '')', value); END IF;
        IF lower_it THEN value := format('lower(%s)', value); END IF;
        IF null_it THEN value := format('nullif(%s, '''')', value); END IF;
        type := 'text'::regtype;
    END IF;
    IF type <> operand THEN
        IF (SELECT t.typtype = 'c' FROM pg_type AS t WHERE t.oid = operand) AND tandem.base_type(type) <> operand THEN
            value := value || '::text'; -- two composite types of the same columns: there is no other cast between them
        END IF;
        -- format_type with -1 and not NULL: NULL would write bpchar as character, which is character(1)
        value := format('%s::%s', value, format_type(operand, -1));
    END IF;
    RETURN value || CASE WHEN common_collation IS NULL THEN '' WHEN rule ? 'collation' THEN ' COLLATE ' || common_collation ELSE ' COLLATE "C"' END;
END
$$;
COMMENT ON FUNCTION tandem.value_sql IS 'SQL for the value of a column as it is compared, after trim, ignore_case and empty_is_null, and under its collation';

-- As PostgreSQL compares intervals: a month is 30 days, a day 24 hours.
CREATE FUNCTION tandem.interval_seconds(value interval) RETURNS numeric
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN isfinite(value)
                THEN (extract(year FROM value) * 12 + extract(month FROM value)) * 2592000 + extract(day FROM value) * 86400
                     + extract(hour FROM value) * 3600 + extract(minute FROM value) * 60 + extract(second FROM value)
                WHEN value > '0' THEN 'Infinity' ELSE '-Infinity' END
$$;
COMMENT ON FUNCTION tandem.interval_seconds IS 'The length of an interval, as intervals are compared; exact, and however long';

CREATE FUNCTION tandem.seconds_sql(value text, type oid) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ SELECT format(CASE WHEN type = 'interval'::regtype THEN 'tandem.interval_seconds(%s)' ELSE 'extract(epoch FROM %s)' END, value) $$;
COMMENT ON FUNCTION tandem.seconds_sql IS 'SQL for a date, time or interval as a number of seconds';

-- SQL for "these two values are equal, neither being NULL". A tolerance adds to what is equal anyway: NaN and infinity equal themselves,
-- and are near to nothing else.
CREATE FUNCTION tandem.equality_sql(number integer, equality text, legacy_value text, new_value text, operand oid, rule jsonb) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    l text;
    n text;
    near text;
BEGIN
    IF rule ?| '{tolerance,relative_tolerance}' THEN
        -- The text of a float is its shortest exact form: 1.11 - 1.10 is 0.01, as it reads.
        l := format('l.c%s::text::numeric', number);
        n := format('n.c%s::text::numeric', number);
        IF rule ? 'tolerance' THEN
            near := format('abs(%s - %s) <= %s', l, n, rule ->> 'tolerance');
        END IF;
        IF rule ? 'relative_tolerance' THEN
            near := concat_ws(' OR ', near, format('abs(%1$s - %2$s) <= %3$s * greatest(abs(%1$s), abs(%2$s))', l, n, rule ->> 'relative_tolerance'));
        END IF;
        near := format('CASE WHEN abs(%s) < ''Infinity'' AND abs(%s) < ''Infinity'' THEN %s ELSE false END', l, n, near);
    ELSIF rule ? 'time_tolerance' THEN
        -- In seconds, as numeric: what lies between two timestamps may be longer than an interval, and a date may be none.
        near := format('abs(%s - %s) <= %L::numeric', tandem.seconds_sql(legacy_value, operand), tandem.seconds_sql(new_value, operand),
                       tandem.interval_seconds((rule ->> 'time_tolerance')::interval));
        IF operand <> 'time'::regtype THEN
            near := format('CASE WHEN isfinite(%s) AND isfinite(%s) THEN %s ELSE false END', legacy_value, new_value, near);
        END IF;
    END IF;
    RETURN concat_ws(' OR ', format('%s %s %s', legacy_value, equality, new_value), near);
END
$$;
COMMENT ON FUNCTION tandem.equality_sql IS 'SQL for the equality of two values that are not NULL, with tolerances';

-- The arguments of a comparison, before anything is made of them.
CREATE FUNCTION tandem.check_comparison(new tandem.source, columns jsonb, rules jsonb) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    unknown record;
BEGIN
    IF jsonb_typeof(columns) <> 'object' OR EXISTS (SELECT FROM jsonb_each(columns) AS c WHERE jsonb_typeof(c.value) <> 'string') THEN
        RAISE EXCEPTION 'columns must be an object of SQL expressions' USING ERRCODE = 'invalid_parameter_value',
              DETAIL = format('Found: %s', columns), HINT = '{"new column": "SQL expression over the legacy row"}';
    END IF;
    IF jsonb_typeof(rules) <> 'object' THEN
        RAISE EXCEPTION 'rules must be an object' USING ERRCODE = 'invalid_parameter_value',
              DETAIL = format('Found: %s', rules), HINT = '{"column": {"tolerance": 0.01}}';
    END IF;
    FOR unknown IN SELECT u.name, u.argument
                     FROM (SELECT c AS name, 'columns' AS argument FROM jsonb_object_keys(columns) AS c
                           UNION ALL SELECT r, 'rules' FROM jsonb_object_keys(rules) AS r) AS u
                    WHERE u.name NOT IN (SELECT c.name FROM tandem.source_columns(new) AS c) LOOP
        RAISE EXCEPTION 'column "%" in % does not exist in %', unknown.name, unknown.argument, new.label USING ERRCODE = 'undefined_column',
              HINT = format('Columns of %s: %s.', new.label, tandem.name_list(new));
    END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.check_comparison IS 'Refuses arguments of a comparison that are ill-formed or name columns that do not exist';

-- Columns of new that take part: mapped or of a name that legacy has, and not ignored.
CREATE FUNCTION tandem.compared_names(legacy tandem.source, new tandem.source, columns jsonb, rules jsonb) RETURNS name[]
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found name[];
    ignored name[];
    idle name;
BEGIN
    SELECT array_agg(n.name ORDER BY n.attnum) FILTER (WHERE (rules -> n.name) @> '{"ignore": true}' IS NOT TRUE),
           array_agg(n.name) FILTER (WHERE (rules -> n.name) @> '{"ignore": true}')
      INTO found, ignored
      FROM tandem.source_columns(new) AS n
     WHERE columns ? n.name OR n.name IN (SELECT l.name FROM tandem.source_columns(legacy) AS l);
    IF found IS NULL THEN
        RAISE EXCEPTION '% and % have no common column', legacy.label, new.label USING ERRCODE = 'undefined_column',
              DETAIL = format('Columns of %s: %s. Columns of %s: %s. Ignored: %s.', legacy.label, tandem.name_list(legacy), new.label,
                              tandem.name_list(new), coalesce(array_to_string(ignored, ', '), 'none')),
              HINT = 'Map them: ' || tandem.mapping_hint(legacy, 'new column', 'SQL expression over the legacy row');
    END IF;
    -- A rule that would never be looked at is a mistake in the name or in the mapping.
    SELECT r.key INTO idle FROM jsonb_each(rules) AS r WHERE r.key <> ALL (found) AND NOT r.value @> '{"ignore": true}' AND r.value - 'severity' <> '{}' LIMIT 1;
    IF idle IS NOT NULL THEN
        RAISE EXCEPTION 'column "%" in rules is not compared', idle USING ERRCODE = 'undefined_column',
              DETAIL = legacy.label || ' has no column of that name' || CASE WHEN legacy.relation IS NULL THEN '.' ELSE ', and columns does not map it.' END,
              HINT = 'Map it: ' || tandem.mapping_hint(legacy, idle, 'SQL expression over the legacy row');
    END IF;
    RETURN found;
END
$$;
COMMENT ON FUNCTION tandem.compared_names IS 'The columns of new that a comparison compares, in their order';

-- The key by default: new's primary key, else the legacy one by its new names, as far as the columns take part. A query has none.
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
            ORDER BY c <> k.name, c LIMIT 1) AS m ON true;
    IF array_position(candidate, NULL) IS NULL AND candidate <@ compared THEN
        RETURN candidate;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tandem.default_key IS
    'The key of a comparison that names none: the primary key of new, else that of legacy, else NULL (a multiset)';

CREATE FUNCTION tandem.check_key(new tandem.source, key name[], compared name[]) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    unknown name := (SELECT k FROM unnest(key) AS k WHERE k NOT IN (SELECT c.name FROM tandem.source_columns(new) AS c) LIMIT 1);
BEGIN
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION 'column "%" in key does not exist in %', unknown, new.label USING ERRCODE = 'undefined_column',
              DETAIL = format('Compared are: %s.', array_to_string(compared, ', ')), HINT = 'The key names columns of new.';
    END IF;
    IF cardinality(key) = 0 OR array_position(key, NULL) IS NOT NULL OR NOT key <@ compared
       OR (SELECT count(DISTINCT k) FROM unnest(key) AS k) <> cardinality(key) THEN
        RAISE EXCEPTION 'the key % is not a set of compared columns', key USING ERRCODE = 'invalid_column_reference',
              DETAIL = format('Compared are: %s.', array_to_string(compared, ', ')),
              HINT = CASE WHEN new.relation IS NULL THEN 'Name columns that both queries have, each once and not ignored.'
                     ELSE 'Name columns of new that exist on both sides or are mapped in columns, each once and not ignored.' END;
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.check_key IS 'Refuses a key that is not a set of compared columns (42703, 42P10)';

-- PostgreSQL would say it too, of the table and without a way out. STRICT: of a query PostgreSQL says it.
CREATE FUNCTION tandem.check_readable(relation regclass, columns name[], compared name) RETURNS void
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    hidden name := (SELECT c FROM unnest(columns) AS c WHERE NOT has_column_privilege(relation, c::text, 'SELECT') LIMIT 1);
BEGIN
    IF hidden IS NOT NULL THEN
        RAISE EXCEPTION 'permission denied for column "%" of %', hidden, relation USING ERRCODE = 'insufficient_privilege',
              DETAIL = format('Role "%s" may not read it.', current_user),
              HINT = format('GRANT SELECT ON %s TO %I, or leave the column out: rules => ''{"%s": {"ignore": true}}''', relation, current_user, compared);
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.check_readable IS 'Refuses columns that the caller may not read (42501)';

-- The collation under which both sides are compared: NULL for each its own, which is the same or does not matter; else its name, by which
-- case is ignored before the values are compared bytewise. An expression over two collations has none of its own.
CREATE FUNCTION tandem.common_collation(column_name name, legacy_collation oid, new_collation oid, operand oid, hint text) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (SELECT t.typcollation = 0 FROM pg_type AS t WHERE t.oid = operand) OR legacy_collation = new_collation AND new_collation <> 0 THEN
        RETURN NULL;
    END IF;
    IF EXISTS (SELECT FROM pg_collation AS c WHERE c.oid IN (legacy_collation, new_collation) AND NOT c.collisdeterministic) THEN
        RAISE EXCEPTION 'column "%" cannot be compared: the collations differ and one is nondeterministic', column_name
              USING ERRCODE = 'indeterminate_collation',
                    DETAIL = format('Under one of %s and %s values may be equal that are not under the other.',
                                    coalesce(nullif(legacy_collation, 0)::regcollation::text, 'none'),
                                    coalesce(nullif(new_collation, 0)::regcollation::text, 'none')),
                    HINT = format('Say which one: %s with the collation of new, or by the rule {"%s": {"collation": "..."}}.', hint, column_name);
    END IF;
    RETURN coalesce(tandem.collation_sql(CASE WHEN new_collation <> 0 THEN new_collation ELSE legacy_collation END), 'pg_catalog."default"');
END
$$;
COMMENT ON FUNCTION tandem.common_collation IS
    'NULL where both sides have the same collation; else that of new, and the values are compared bytewise; refuses a nondeterministic one (42P22)';

-- Relations and queries alike: columns are matched by name, and legacy expressions may stand for those of a relation.
CREATE FUNCTION tandem.source_comparison(legacy tandem.source, new tandem.source, key name[], columns jsonb, rules jsonb)
RETURNS SETOF tandem.compared_column
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    compared name[];
    the_key name[];
    col record;
    info record;
    rule jsonb;
    equality record;
    collation_name text;
    c tandem.compared_column;
BEGIN
    columns := coalesce(columns, '{}');
    rules := coalesce(rules, '{}');
    PERFORM tandem.check_comparison(new, columns, rules);
    rules := tandem.resolve_rules(rules);
    PERFORM tandem.check_rule(n.name, rules -> n.name, n.type) FROM tandem.source_columns(new) AS n WHERE rules ? n.name;
    compared := tandem.compared_names(legacy, new, columns, rules);
    IF key IS NOT NULL THEN
        PERFORM tandem.check_key(new, key, compared);
    END IF;
    the_key := coalesce(key, tandem.default_key(legacy.relation, new.relation, columns, compared));

    FOR col IN SELECT n.*, row_number() OVER (ORDER BY n.attnum) AS position, l.type AS legacy_type, l.collation_id AS legacy_collation
                 FROM tandem.source_columns(new) AS n LEFT JOIN tandem.source_columns(legacy) AS l ON l.name = n.name
                WHERE n.name = ANY (compared) ORDER BY n.attnum LOOP
        c := NULL;
        c.name := col.name;
        c.position := col.position;
        c.key_position := array_position(the_key, col.name);
        c.legacy_expression := coalesce(columns ->> col.name, quote_ident(col.name));
        rule := coalesce(rules -> col.name, '{}') - 'severity'; -- of a difference, not of equality
        IF columns ? col.name THEN
            info := tandem.expression_info(legacy.relation, c.legacy_expression);
        ELSE
            SELECT col.legacy_type AS type, col.legacy_collation AS collation_id, 'i'::"char" AS volatility, ARRAY[col.name] AS columns INTO info;
        END IF;
        IF info.volatility = 'v' THEN
            RAISE EXCEPTION 'the expression of column "%" is volatile', col.name USING ERRCODE = 'invalid_object_definition',
                  DETAIL = format('%s gives another value at every call.', c.legacy_expression),
                  HINT = 'Use immutable functions of the row only.';
        END IF;
        PERFORM tandem.check_readable(legacy.relation, info.columns, col.name), tandem.check_readable(new.relation, ARRAY[col.name], col.name);
        PERFORM tandem.check_rule(col.name, rule, info.type);
        c.legacy_type := info.type;
        c.new_type := col.type;
        c.has_tolerance := rule ?| '{tolerance,relative_tolerance,time_tolerance}';
        IF c.has_tolerance AND the_key IS NULL THEN
            RAISE EXCEPTION 'a tolerance needs a key: "%"', col.name USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = CASE WHEN new.relation IS NULL THEN 'Queries have no primary key: whole rows are matched by equality.'
                           ELSE format('%s and %s have no common primary key: whole rows are matched by equality.', legacy.label, new.label) END,
                  HINT = 'Name the key: key => ''{column}''';
        ELSIF c.has_tolerance AND c.key_position IS NOT NULL THEN
            RAISE EXCEPTION 'a key column cannot have a tolerance: "%"', col.name USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Rows are matched by equal keys. Leave the tolerance out, or choose another key.';
        END IF;

        equality := tandem.equality(info.type, col.type);
        IF equality.operator IS NULL THEN
            RAISE EXCEPTION 'column "%" cannot be compared: no common equality for % and %', col.name,
                            format_type(info.type, NULL), format_type(col.type, NULL)
                  USING ERRCODE = 'undefined_function',
                        DETAIL = format('%s of %s is of type %s, %s of %s is of type %s, and no = between them means the same in every session.',
                                        c.legacy_expression, legacy.label, format_type(info.type, NULL), col.name, new.label, format_type(col.type, NULL)),
                        HINT = 'Map it by an expression of the new type: ' || tandem.mapping_hint(legacy, col.name, '...');
        END IF;
        collation_name := CASE WHEN rule ? 'collation' THEN tandem.collation_sql(tandem.find_collation(rule ->> 'collation')) ELSE tandem.common_collation(col.name, info.collation_id, col.collation_id, equality.legacy_operand,
                              tandem.mapping_hint(legacy, col.name, '... COLLATE ...')) END;
        c.legacy_value := tandem.value_sql('l.c' || c.position, info.type, equality.legacy_operand, rule, collation_name);
        c.new_value := tandem.value_sql('n.c' || c.position, col.type, equality.new_operand, rule, collation_name);
        c.legacy_scalar := tandem.value_sql(format(E'(%s\n)', c.legacy_expression), info.type, equality.legacy_operand, rule, collation_name);
        c.new_scalar := tandem.value_sql(quote_ident(col.name), col.type, equality.new_operand, rule, collation_name);
        c.legacy_operand := equality.legacy_operand;
        c.new_operand := equality.new_operand;
        c.rule := rule;
        c.is_equal := tandem.equality_sql(c.position, equality.operator, c.legacy_value, c.new_value, equality.new_operand, rule);
        RETURN NEXT c;
    END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.source_comparison IS
    'Resolves what a comparison compares: columns, key, expressions, rules, operators, collations; refuses what cannot be compared exactly';

CREATE FUNCTION tandem.comparison_columns(legacy regclass, new regclass, key name[], columns jsonb, rules jsonb)
RETURNS SETOF tandem.compared_column
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF legacy IS NULL OR new IS NULL THEN
        RAISE EXCEPTION 'a comparison needs two relations' USING ERRCODE = 'null_value_not_allowed',
              HINT = 'tandem.diff(''legacy.table'', ''new.table'')';
    END IF;
    PERFORM tandem.check_relation(legacy), tandem.check_relation(new);
    RETURN QUERY SELECT * FROM tandem.source_comparison(tandem.relation_source(legacy), tandem.relation_source(new), key, columns, rules);
END
$$;
COMMENT ON FUNCTION tandem.comparison_columns IS 'What a comparison of two relations compares, column by column';

