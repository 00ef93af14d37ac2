-- rule: what may be forgiven in a column, and named policies: rules of one column under a name, {"price": {"policy": "money"}}.
--
-- A policy never changes: what a mapping was made with is what it is compared with. Who wants other rules makes another policy.

CREATE TABLE tandem.policy (
    name       text PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 63),
    rules      jsonb NOT NULL,
    owner      name NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE tandem.policy IS 'Named policies: rules of one column that are used by their name';

CREATE VIEW tandem.policies AS SELECT p.name AS policy, p.rules, p.owner, p.created_at FROM tandem.policy AS p;
COMMENT ON VIEW tandem.policies IS 'Named policies with their rules; create_policy() makes one, drop_policy() drops one';

-- In pg_catalog names stand as they are written ("C"), elsewhere as in SQL, with their schema.
CREATE FUNCTION tandem.find_collation(name text) RETURNS oid
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT c.oid FROM pg_collation AS c
                      WHERE c.collname = $1 AND c.collnamespace = 'pg_catalog'::regnamespace
                        AND c.collencoding IN (-1, (SELECT d.encoding FROM pg_database AS d WHERE d.datname = current_database()))
                      ORDER BY c.collencoding DESC LIMIT 1),
                    CASE WHEN strpos($1, '.') > 0 THEN to_regcollation($1)::oid END)
$$;
COMMENT ON FUNCTION tandem.find_collation IS 'The collation of this name, of pg_catalog or with its schema; NULL where there is none';

CREATE FUNCTION tandem.collation_sql(collation_id oid) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('%I.%I', s.nspname, c.collname) FROM pg_collation AS c JOIN pg_namespace AS s ON s.oid = c.collnamespace WHERE c.oid = collation_id
$$;
COMMENT ON FUNCTION tandem.collation_sql IS 'A collation as it is written behind COLLATE';

-- The rules of a column or of a policy, as far as they can be checked without a type. owner says whose they are.
CREATE FUNCTION tandem.check_rule_form(owner text, rule jsonb) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    entry record;
    well_formed boolean;
BEGIN
    IF jsonb_typeof(rule) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'the rules of % are not an object', owner
              USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Found: %s', coalesce(rule::text, 'NULL')),
                    HINT = 'For example: {"price": {"tolerance": 0.01}, "note": {"trim": true}}';
    END IF;
    FOR entry IN
        SELECT r.key, r.value, jsonb_typeof(r.value) AS json_type, r.value #>> '{}' AS text, k.wanted, k.example
          FROM jsonb_each(rule) AS r
          LEFT JOIN (VALUES ('ignore',             'true or false',                 'true'),
                            ('trim',               'true or false',                 'true'),
                            ('ignore_case',        'true or false',                 'true'),
                            ('empty_is_null',      'true or false',                 'true'),
                            ('tolerance',          'a number of 0 or more',         '0.01'),
                            ('relative_tolerance', 'a number of 0 or more',         '1e-6'),
                            ('time_tolerance',     'an interval of 0 or more',      '"1 second"'),
                            ('collation',          'the name of a collation',       '"C"'),
                            ('severity',           'critical, high, medium or low', '"critical"')
                    ) AS k (rule, wanted, example) ON k.rule = r.key
    LOOP
        IF entry.wanted IS NULL THEN
            RAISE EXCEPTION 'unknown rule "%" for %', entry.key, owner
                  USING ERRCODE = 'invalid_parameter_value',
                        HINT = 'Known are: ignore, tolerance, relative_tolerance, time_tolerance, trim, ignore_case, empty_is_null, collation, severity'
                               || CASE WHEN owner LIKE 'policy %' THEN '.' ELSE ', policy.' END;
        END IF;

        IF entry.json_type = 'boolean' THEN
            well_formed := entry.wanted = 'true or false';
        ELSIF entry.json_type = 'number' THEN
            well_formed := entry.wanted = 'a number of 0 or more' AND entry.value >= '0';
        ELSIF entry.json_type = 'string' AND entry.key = 'time_tolerance' THEN
            BEGIN
                well_formed := entry.text::interval >= '0';
            EXCEPTION WHEN data_exception THEN
                well_formed := false;
            END;
        ELSIF entry.json_type = 'string' AND entry.key = 'severity' THEN
            well_formed := entry.text IN ('critical', 'high', 'medium', 'low');
        ELSE
            well_formed := entry.json_type = 'string' AND entry.key = 'collation';
        END IF;
        IF NOT well_formed THEN
            RAISE EXCEPTION 'rule "%" of % needs %', entry.key, owner, entry.wanted
                  USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Found: %s', entry.value),
                        HINT = format(CASE WHEN owner LIKE 'policy %' THEN '{"%s": %s}' ELSE '{%3$s: {"%1$s": %2$s}}' END,
                                      entry.key, entry.example, regexp_replace(owner, '^\w+ ', ''));
        END IF;
        IF entry.key = 'collation' AND tandem.find_collation(entry.text) IS NULL THEN
            RAISE EXCEPTION 'collation "%" in the rules of % does not exist', entry.text, owner USING ERRCODE = 'undefined_object',
                  HINT = 'SELECT collname FROM pg_collation lists them; one that is not in pg_catalog is named with its schema.';
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.check_rule_form IS 'Refuses a rule that is unknown, ill-formed, or names a collation that is not there (22023, 42704)';

-- A rule object of one column, checked: errors name the column and what may stand there.
CREATE FUNCTION tandem.check_rule(column_name name, rule jsonb, type oid) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    base oid := tandem.base_type(type);
    kind_of_type text := CASE
        WHEN base IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'float4'::regtype, 'float8'::regtype, 'numeric'::regtype) THEN 'numbers'
        WHEN base IN ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype, 'time'::regtype, 'interval'::regtype) THEN 'dates and times'
        WHEN (SELECT t.typcategory = 'S' FROM pg_type AS t WHERE t.oid = base) THEN 'text' END;
    unfit record;
BEGIN
    PERFORM tandem.check_rule_form(format('column "%s"', column_name), rule);
    SELECT k.rule, k.is_for INTO unfit
      FROM jsonb_object_keys(rule) AS r
      JOIN (VALUES ('trim', 'text'), ('ignore_case', 'text'), ('empty_is_null', 'text'), ('collation', 'text'),
                   ('tolerance', 'numbers'), ('relative_tolerance', 'numbers'), ('time_tolerance', 'dates and times')) AS k (rule, is_for) ON k.rule = r
     WHERE k.is_for IS DISTINCT FROM kind_of_type LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'rule "%" does not fit column "%"', unfit.rule, column_name
              USING ERRCODE = 'datatype_mismatch',
                    DETAIL = format('It is for %s; the column is of type %s.', unfit.is_for, format_type(type, NULL)),
                    HINT = 'tolerance and relative_tolerance are for numbers, time_tolerance for dates and times, trim, ignore_case, empty_is_null and collation for text.';
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.check_rule IS
    'Refuses a rule that is unknown, ill-formed or does not fit the type of its column (22023, 42804)';

-- Policies that are named in rules are replaced by what they say; what else is said of the column goes before it.
CREATE FUNCTION tandem.resolve_rules(rules jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    used record;
BEGIN
    FOR used IN SELECT r.key AS column_name, r.value AS rule, r.value -> 'policy' AS named, p.rules
                  FROM jsonb_each(rules) AS r LEFT JOIN tandem.policies AS p ON to_jsonb(p.policy) = r.value -> 'policy'
                 WHERE jsonb_typeof(r.value) = 'object' AND r.value ? 'policy' LOOP
        IF jsonb_typeof(used.named) <> 'string' THEN
            RAISE EXCEPTION 'rule "policy" of column "%" needs the name of a policy', used.column_name USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('Found: %s', used.named), HINT = format('{"%s": {"policy": "money"}}', used.column_name);
        END IF;
        IF used.rules IS NULL THEN
            RAISE EXCEPTION 'policy "%" does not exist', used.named #>> '{}' USING ERRCODE = 'undefined_object',
                  DETAIL = format('Column "%s" is to be compared by it.', used.column_name),
                  HINT = coalesce('Known are: ' || (SELECT string_agg(p.policy, ', ' ORDER BY p.policy) FROM tandem.policies AS p) || '.',
                                  'There is none: an operator makes one by tandem.create_policy(''money'', ''{"tolerance": 0.01}'').');
        END IF;
        rules := jsonb_set(rules, ARRAY[used.column_name], used.rules || (used.rule - 'policy'));
    END LOOP;
    RETURN rules;
END
$$;
COMMENT ON FUNCTION tandem.resolve_rules IS 'Rules with the policies that they name written out; 42704 for a policy that is not there';

-- Of a changed row the columns that differ count, of a missing, extra or duplicate one all of them.
CREATE FUNCTION tandem.severity_of(rules jsonb, columns text[]) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT ('{low,medium,high,critical}'::text[])[
               coalesce(max(array_position('{low,medium,high,critical}', coalesce(rules -> c ->> 'severity', 'high'))), 3)]
      FROM unnest(columns) AS c
$$;
COMMENT ON FUNCTION tandem.severity_of IS 'The highest severity of these columns: what resolved rules say, else high';
