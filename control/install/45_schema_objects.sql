-- schema_objects: what hangs on relations (triggers, policies, rules, statistics, grants) and what stands beside them (types, functions).

CREATE FUNCTION tandem.is_extension_member(class oid, object oid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = class AND d.objid = object AND d.deptype = 'e') $$;
COMMENT ON FUNCTION tandem.is_extension_member IS 'Does an extension own this object? Then it is no part of a schema that is compared';

-- Triggers, policies, rules and statistics: matched by their names.
CREATE FUNCTION tandem.schema_attachments(schema name, relations oid[])
RETURNS TABLE (pair integer, relation_name name, object_type text, name name, definition text, state text, comment text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH t AS MATERIALIZED (SELECT u.pair::integer, c.oid, c.relname FROM unnest(relations) WITH ORDINALITY AS u (relation, pair) JOIN pg_class AS c ON c.oid = u.relation)
    -- the mirror's and all other triggers of pg_tandem are not the application's; those of a partition are its parent's
    SELECT t.pair, t.relname, 'trigger', g.tgname, tandem.schema_text(schema, 'trigger', g.oid),
           CASE g.tgenabled WHEN 'O' THEN 'enabled' WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'enabled on replicas' ELSE 'enabled always' END,
           obj_description(g.oid, 'pg_trigger')
      FROM t JOIN pg_trigger AS g ON g.tgrelid = t.oid JOIN pg_proc AS p ON p.oid = g.tgfoid
     WHERE NOT g.tgisinternal AND g.tgparentid = 0 AND p.pronamespace <> 'tandem'::regnamespace
     UNION ALL
    SELECT t.pair, t.relname, 'policy', y.polname,
           concat('AS ', CASE WHEN y.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                  ' FOR ', CASE y.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                  ' TO ', (SELECT string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', ' ORDER BY CASE r WHEN 0 THEN '' ELSE pg_get_userbyid(r)::text END COLLATE "C") FROM unnest(y.polroles) AS r),
                  ' USING ' || tandem.schema_expression(schema, y.polqual, t.oid), ' WITH CHECK ' || tandem.schema_expression(schema, y.polwithcheck, t.oid)),
           NULL, obj_description(y.oid, 'pg_policy')
      FROM t JOIN pg_policy AS y ON y.polrelid = t.oid
     UNION ALL
    SELECT t.pair, t.relname, 'rule', r.rulename, tandem.schema_text(schema, 'rule', r.oid),
           CASE r.ev_enabled WHEN 'O' THEN 'enabled' WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'enabled on replicas' ELSE 'enabled always' END, obj_description(r.oid, 'pg_rewrite')
      FROM t JOIN pg_rewrite AS r ON r.ev_class = t.oid WHERE r.rulename <> '_RETURN'
     UNION ALL
    SELECT t.pair, t.relname, 'statistics', s.stxname, tandem.schema_text(schema, 'statistics', s.oid), NULL, obj_description(s.oid, 'pg_statistic_ext')
      FROM t JOIN pg_statistic_ext AS s ON s.stxrelid = t.oid
$$;
COMMENT ON FUNCTION tandem.schema_attachments IS 'What diff_schema() compares of triggers, policies, rules and extended statistics';

CREATE FUNCTION tandem.diff_attachments(m tandem.schema_match) RETURNS SETOF tandem.schema_difference
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH l AS MATERIALIZED (SELECT a.* FROM tandem.schema_attachments(m.legacy_schema, m.legacy) AS a WHERE m.new[a.pair] IS NOT NULL),
    n AS MATERIALIZED (SELECT a.* FROM tandem.schema_attachments(m.new_schema, m.new) AS a WHERE m.legacy[a.pair] IS NOT NULL),
    p AS MATERIALIZED (
        SELECT l, n, coalesce(l.pair, n.pair) AS pair, coalesce(l.object_type, n.object_type) AS object_type, coalesce(l.name, n.name) AS name,
               tandem.object_label(l.relation_name, n.relation_name, l.name, n.name) AS object
          FROM l FULL JOIN n ON n.pair = l.pair AND n.object_type = l.object_type AND n.name = l.name)
    SELECT p.object_type, p.object, x.property, x.l, x.n, x.severity, x.hint, p.pair, p.name::text, NULL::oid, NULL::text, NULL::text, NULL::text, NULL::text
      FROM p
     CROSS JOIN LATERAL (VALUES
         ('existence', CASE WHEN (p.n).name IS NULL THEN (p.l).definition END, CASE WHEN (p.l).name IS NULL THEN (p.n).definition END,
          CASE p.object_type WHEN 'statistics' THEN 'cosmetic' ELSE 'narrowing' END,
          CASE WHEN p.object_type = 'statistics' THEN 'Only the planner''s estimates differ.'
               WHEN p.object_type = 'policy' THEN 'Other rows are seen and written on the new side.'
               WHEN (p.n).name IS NULL THEN format('What the %s does is not done on the new side.', p.object_type)
               ELSE format('The new side does more than legacy: the %s also fires for rows that the mirror writes.', p.object_type) END),
         ('definition', CASE WHEN (p.l).name = (p.n).name THEN (p.l).definition END, CASE WHEN (p.l).name = (p.n).name THEN (p.n).definition END,
          CASE p.object_type WHEN 'statistics' THEN 'cosmetic' ELSE 'narrowing' END, format('The %s does something else on the new side.', p.object_type)),
         ('state', CASE WHEN (p.l).name = (p.n).name THEN (p.l).state END, CASE WHEN (p.l).name = (p.n).name THEN (p.n).state END, 'narrowing', 'ALTER TABLE ... ENABLE or DISABLE sets it.'),
         ('comment', CASE WHEN (p.l).name = (p.n).name THEN (p.l).comment END, CASE WHEN (p.l).name = (p.n).name THEN (p.n).comment END, 'cosmetic', 'COMMENT ON')
          ) AS x (property, l, n, severity, hint)
     WHERE x.l IS DISTINCT FROM x.n
       AND NOT tandem.same_text(m, x.l, x.n, CASE WHEN x.property = 'definition' THEN coalesce(m.all_words || m.words[p.pair], m.words[p.pair], m.all_words) END, x.property = 'definition')
       -- what the mapping takes from elsewhere may be split or merged: a table stands in several pairs then
       AND NOT (x.property = 'existence' AND (EXISTS (SELECT FROM p AS o WHERE (o.l).name IS NOT NULL AND (o.n).name IS NOT NULL AND o.object_type = p.object_type AND o.name = p.name
                                                         AND (m.legacy[o.pair] = m.legacy[p.pair] OR m.new[o.pair] = m.new[p.pair]))
                                              OR EXISTS (SELECT FROM p AS o WHERE o.pair < p.pair AND o.object_type = p.object_type AND o.name = p.name
                                                         AND ((p.n).name IS NULL AND m.legacy[o.pair] = m.legacy[p.pair] OR (p.l).name IS NULL AND m.new[o.pair] = m.new[p.pair]))))
$$;
COMMENT ON FUNCTION tandem.diff_attachments IS 'diff_schema(): triggers, policies, rules and extended statistics';

-- Where values of a type stand, as one statement over all tables; %s is the value.
CREATE FUNCTION tandem.count_values(type oid, harm text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce('SELECT sum(x.h)::bigint, sum(x.n)::bigint, min(x.e) FROM (' || string_agg(
               format('SELECT count(*) FILTER (WHERE %1$s) AS h, count(*) AS n, CASE WHEN bool_or(%1$s) THEN %2$L END AS e FROM %3$s', w.harm, 'in ' || c.oid::regclass || '.' || quote_ident(a.attname), c.oid::regclass),
               ' UNION ALL ' ORDER BY c.oid, a.attnum) || ') AS x', 'SELECT 0::bigint, 0::bigint, NULL::text')
      FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
      JOIN pg_type AS t ON t.oid = count_values.type
     CROSS JOIN LATERAL (SELECT CASE WHEN a.atttypid = t.typarray
                                     THEN format('EXISTS (SELECT FROM unnest(%I) AS e (tandem_element) WHERE %s)', a.attname, tandem.replace_words(count_values.harm, '{"tandem_value": "tandem_element"}'))
                                     ELSE tandem.replace_words(count_values.harm, jsonb_build_object('tandem_value', quote_ident(a.attname))) END AS harm) AS w
     WHERE a.atttypid IN (t.oid, nullif(t.typarray, 0)) AND a.attnum > 0 AND NOT a.attisdropped AND NOT EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = c.oid)
$$;
COMMENT ON FUNCTION tandem.count_values IS 'SQL that counts the values of a type for which a condition over tandem_value holds, in all columns of it and of its array type';

CREATE FUNCTION tandem.schema_types(schema name, schema_id oid)
RETURNS TABLE (oid oid, name name, object_type text, labels text[], base oid, base_typmod integer, base_text text, not_null boolean, default_text text, constraints text[], attributes text[], comment text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.oid, t.typname, CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' ELSE 'type' END,
           CASE WHEN t.typtype = 'e' THEN coalesce(tandem.enum_labels(t.oid), '{}') END,
           t.typbasetype, t.typtypmod,
           CASE t.typtype WHEN 'd' THEN tandem.schema_text(schema, 'type', t.typbasetype, t.typtypmod)
                          WHEN 'r' THEN 'RANGE (SUBTYPE = ' || (SELECT tandem.schema_text(schema, 'type', r.rngsubtype, NULL) FROM pg_range AS r WHERE r.rngtypid = t.oid) || ')'
                          WHEN 'b' THEN 'base type' WHEN 'c' THEN 'composite type' END,
           t.typnotnull, t.typdefault,
           CASE WHEN t.typtype = 'd' THEN coalesce((SELECT array_agg(d.definition ORDER BY d.definition)
                   FROM pg_constraint AS k CROSS JOIN LATERAL (SELECT tandem.without_schema(regexp_replace(tandem.schema_text(schema, 'constraint', k.oid), ' NOT VALID$', ''), schema) AS definition) AS d
                  WHERE k.contypid = t.oid AND k.contype = 'c'), '{}') END,
           CASE WHEN t.typtype = 'c' THEN coalesce((SELECT array_agg(format('%I %s', a.attname, tandem.schema_text(schema, 'type', a.atttypid, a.atttypmod)) ORDER BY a.attnum)
                   FROM pg_attribute AS a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped), '{}') END,
           obj_description(t.oid, 'pg_type')
      FROM pg_type AS t
     WHERE t.typnamespace = schema_id AND t.typisdefined AND NOT tandem.is_extension_member('pg_type'::regclass, t.oid)
       AND (t.typtype IN ('e', 'd', 'r') OR t.typtype = 'b' AND t.typcategory <> 'A' OR t.typtype = 'c' AND (SELECT c.relkind = 'c' FROM pg_class AS c WHERE c.oid = t.typrelid))
$$;
COMMENT ON FUNCTION tandem.schema_types IS 'What diff_schema() compares of enums, domains, composite and range types';

CREATE FUNCTION tandem.diff_types(m tandem.schema_match) RETURNS SETOF tandem.schema_difference
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH p AS MATERIALIZED (
        SELECT l, n, coalesce(l.object_type, n.object_type) AS object_type, quote_ident(coalesce(l.name, n.name)) AS object
          FROM tandem.schema_types(m.legacy_schema, m.legacy_id) AS l FULL JOIN tandem.schema_types(m.new_schema, m.new_id) AS n ON n.name = l.name),
    paired AS MATERIALIZED (SELECT p.*, tandem.domain_harm('tandem_value', (p.n).oid) AS refused FROM p WHERE (p.l).oid IS NOT NULL AND (p.n).oid IS NOT NULL)
    SELECT p.object_type, p.object, 'existence', (p.l).object_type, (p.n).object_type, CASE WHEN (p.l).oid IS NULL THEN 'compatible' ELSE 'narrowing' END,
           CASE WHEN (p.l).oid IS NULL THEN format('Only the new side has this %s.', p.object_type) ELSE 'Casts to it fail on the new side; columns of it are listed by themselves.' END,
           NULL::integer, NULL, NULL::oid, NULL, NULL, NULL, NULL
      FROM p WHERE (p.l).oid IS NULL OR (p.n).oid IS NULL
     UNION ALL
    SELECT b.object_type, b.object, x.property, x.l, x.n, x.severity, x.hint, NULL, NULL, NULL, NULL,
           CASE WHEN x.severity = 'lossy' AND x.harm IS NOT NULL THEN tandem.count_values((b.l).oid, x.harm) END, 'would be refused or changed', x.uncounted
      FROM paired AS b
     CROSS JOIN LATERAL tandem.type_change('tandem_value', (b.l).base, (b.l).base_typmod, (b.n).base, (b.n).base_typmod) AS v
     CROSS JOIN LATERAL (SELECT ARRAY(SELECT e FROM unnest((b.l).labels) WITH ORDINALITY AS e (e, i) WHERE e <> ALL ((b.n).labels) ORDER BY i) AS labels) AS gone
     CROSS JOIN LATERAL (SELECT string_agg(a.e, ', ' ORDER BY a.i) AS l, string_agg(a.e, ', ' ORDER BY z.i) AS n, array_agg(a.e ORDER BY a.i) <> array_agg(a.e ORDER BY z.i) AS differs
                           FROM unnest((b.l).labels) WITH ORDINALITY AS a (e, i) JOIN unnest((b.n).labels) WITH ORDINALITY AS z (e, i) ON z.e = a.e) AS o
     CROSS JOIN LATERAL (VALUES
         ('kind', (b.l).object_type, (b.n).object_type, 'narrowing', 'Columns of it are listed by themselves.', NULL, NULL),
         ('labels', CASE WHEN (b.n).labels IS NOT NULL AND NOT ((b.l).labels <@ (b.n).labels AND (b.l).labels @> (b.n).labels) THEN array_to_string((b.l).labels, ', ') END,
          CASE WHEN (b.l).labels IS NOT NULL AND NOT ((b.l).labels <@ (b.n).labels AND (b.l).labels @> (b.n).labels) THEN array_to_string((b.n).labels, ', ') END,
          CASE WHEN cardinality(gone.labels) > 0 THEN 'lossy' ELSE 'compatible' END,
          CASE WHEN cardinality(gone.labels) > 0 THEN format('The new side has no %s: ALTER TYPE ... ADD VALUE.', (SELECT string_agg(quote_literal(e), ', ') FROM unnest(gone.labels) AS e)) ELSE 'Only the new side has the other labels.' END,
          format('tandem_value::text = ANY (%L::text[])', gone.labels), tandem.foreign_cast(ARRAY[(b.l).oid])),
         ('order of labels', CASE WHEN o.differs THEN o.l END, CASE WHEN o.differs THEN o.n END, 'narrowing', 'ORDER BY and comparisons with < give another answer.', NULL, NULL),
         ('base type', (b.l).base_text, (b.n).base_text, CASE WHEN (b.l).object_type = 'domain' THEN coalesce(v.severity, 'narrowing') ELSE 'narrowing' END,
          CASE coalesce(v.severity, '') WHEN 'compatible' THEN 'Every value fits' WHEN 'narrowing' THEN 'Every value fits, but' WHEN 'lossy' THEN 'Not every value fits:' ELSE 'It is another type' END || coalesce(' ' || v.reason, '') || '.',
          v.harm, tandem.foreign_cast(ARRAY[(b.l).base, (b.n).base])),
         ('nullability', CASE WHEN (b.l).not_null THEN 'NOT NULL' ELSE 'NULL' END, CASE WHEN (b.n).not_null THEN 'NOT NULL' ELSE 'NULL' END, CASE WHEN (b.n).not_null THEN 'lossy' ELSE 'compatible' END,
          CASE WHEN (b.n).not_null THEN 'The new side refuses NULL.' ELSE 'The new side accepts NULL, which legacy refuses.' END, 'tandem_value IS NULL', NULL),
         ('default', (b.l).default_text, (b.n).default_text, CASE WHEN (b.l).default_text IS NULL THEN 'compatible' ELSE 'narrowing' END, 'An INSERT without a value gets another one.', NULL, NULL),
         ('constraints', nullif(array_to_string((b.l).constraints, ' AND '), ''), nullif(array_to_string((b.n).constraints, ' AND '), ''), CASE WHEN (b.n).constraints <@ (b.l).constraints THEN 'compatible' ELSE 'lossy' END,
          CASE WHEN (b.n).constraints <@ (b.l).constraints THEN 'The new side accepts values that legacy refuses.' ELSE 'The new side refuses values that legacy accepts.' END, (b.refused).harm, (b.refused).uncounted),
         ('attributes', array_to_string((b.l).attributes, ', '), array_to_string((b.n).attributes, ', '), CASE WHEN (b.l).attributes <@ (b.n).attributes THEN 'compatible' ELSE 'lossy' END,
          CASE WHEN (b.l).attributes <@ (b.n).attributes THEN 'Only the new side has the other attributes, or has them in another order.' ELSE 'Attributes are gone or of another type.' END, NULL, NULL),
         ('comment', (b.l).comment, (b.n).comment, 'cosmetic', 'COMMENT ON', NULL, NULL)) AS x (property, l, n, severity, hint, harm, uncounted)
     WHERE x.l IS DISTINCT FROM x.n AND NOT tandem.same_text(m, x.l, x.n, NULL)
       AND (x.property IN ('kind', 'comment') OR (b.l).object_type = (b.n).object_type)
$$;
COMMENT ON FUNCTION tandem.diff_types IS 'diff_schema(): enums, domains, composite and range types';

CREATE FUNCTION tandem.schema_functions(schema name, schema_id oid)
RETURNS TABLE (oid oid, name name, arguments text, object_type text, all_arguments text, result text, language name, body text, behaviour text, security text, settings text, comment text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.oid, p.proname, tandem.schema_text(schema, 'arguments', p.oid),
           CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END,
           tandem.schema_text(schema, 'all arguments', p.oid), tandem.schema_text(schema, 'result', p.oid), l.lanname,
           CASE WHEN p.prokind <> 'a' THEN coalesce(tandem.schema_text(schema, 'body', p.oid), concat_ws(', ', p.probin, p.prosrc)) END,
           concat_ws(' ', CASE p.provolatile WHEN 'i' THEN 'IMMUTABLE' WHEN 's' THEN 'STABLE' ELSE 'VOLATILE' END, CASE WHEN p.proisstrict THEN 'STRICT' END,
                     CASE p.proparallel WHEN 's' THEN 'PARALLEL SAFE' WHEN 'r' THEN 'PARALLEL RESTRICTED' ELSE 'PARALLEL UNSAFE' END, CASE WHEN p.proleakproof THEN 'LEAKPROOF' END),
           CASE WHEN p.prosecdef THEN 'DEFINER' ELSE 'INVOKER' END,
           (SELECT string_agg(c, ', ' ORDER BY c) FROM unnest(p.proconfig) AS c), obj_description(p.oid, 'pg_proc')
      FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
     WHERE p.pronamespace = schema_id AND NOT tandem.is_extension_member('pg_proc'::regclass, p.oid)
       -- a range type brings its constructors along
       AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i')
$$;
COMMENT ON FUNCTION tandem.schema_functions IS 'What diff_schema() compares of functions, procedures and aggregates';

CREATE FUNCTION tandem.diff_functions(m tandem.schema_match) RETURNS SETOF tandem.schema_difference
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH p AS MATERIALIZED (
        SELECT l, n, coalesce(l.object_type, n.object_type) AS object_type, format('%I(%s)', coalesce(l.name, n.name), coalesce(l.arguments, n.arguments)) AS object
          FROM (SELECT f.*, tandem.definition_key(f.arguments, m.legacy_schema, m.all_words, false) AS key FROM tandem.schema_functions(m.legacy_schema, m.legacy_id) AS f) AS l
          FULL JOIN (SELECT f.*, tandem.definition_key(f.arguments, m.new_schema, NULL, false) AS key FROM tandem.schema_functions(m.new_schema, m.new_id) AS f) AS n
            ON n.name = l.name AND n.key = l.key)
    SELECT p.object_type, p.object, x.property, x.l, x.n, x.severity, x.hint, NULL::integer, NULL, NULL::oid, NULL, NULL, NULL, NULL
      FROM p
     CROSS JOIN LATERAL (VALUES
         ('existence', CASE WHEN (p.n).oid IS NULL THEN (p.l).object_type END, CASE WHEN (p.l).oid IS NULL THEN (p.n).object_type END, CASE WHEN (p.l).oid IS NULL THEN 'compatible' ELSE 'narrowing' END,
          CASE WHEN (p.l).oid IS NULL THEN format('Only the new side has this %s.', p.object_type) ELSE 'Calls of it fail on the new side.' END)) AS x (property, l, n, severity, hint)
     WHERE (p.l).oid IS NULL OR (p.n).oid IS NULL
     UNION ALL
    SELECT p.object_type, p.object, x.property, x.l, x.n, x.severity, x.hint, NULL, NULL, NULL, NULL, NULL, NULL, NULL
      FROM p
     CROSS JOIN LATERAL (VALUES
         ('kind', (p.l).object_type, (p.n).object_type, 'narrowing', 'It is called in another way.'),
         ('result', (p.l).result, (p.n).result, 'narrowing', 'It returns another type.'),
         ('arguments', (p.l).all_arguments, (p.n).all_arguments, 'narrowing', 'Names or defaults of its arguments differ.'),
         ('language', (p.l).language, (p.n).language, 'cosmetic', 'It is written in another language.'),
         ('body', (p.l).body, (p.n).body, 'narrowing', 'It may do something else: compare the bodies.'),
         ('behaviour', (p.l).behaviour, (p.n).behaviour, 'narrowing', 'What the planner may assume of it differs, or what it does with NULL.'),
         ('security', (p.l).security, (p.n).security, 'narrowing', 'It runs with the rights of somebody else.'),
         -- a search_path names the schema itself
         ('settings', tandem.replace_words((p.l).settings, jsonb_build_object(quote_ident(m.legacy_schema), quote_ident(m.new_schema))), (p.n).settings, 'narrowing', 'It runs with other settings.'),
         ('comment', (p.l).comment, (p.n).comment, 'cosmetic', 'COMMENT ON')) AS x (property, l, n, severity, hint)
     WHERE (p.l).oid IS NOT NULL AND (p.n).oid IS NOT NULL AND x.l IS DISTINCT FROM x.n AND NOT tandem.same_text(m, x.l, x.n, m.all_words)
$$;
COMMENT ON FUNCTION tandem.diff_functions IS 'diff_schema(): functions, procedures and aggregates';

-- What each role but the owner may do, its own grants and those of PUBLIC together; "*" stands for WITH GRANT OPTION.
CREATE FUNCTION tandem.schema_grants(schema name, schema_id oid, relations oid[])
RETURNS TABLE (kind text, pair integer, object name, part text, label text, owner oid, grantee oid, privileges text[])
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH objects AS (
        SELECT 'schema' AS kind, 0 AS pair, ''::name AS object, '' AS part, quote_ident(n.nspname) AS label, n.nspowner AS owner, coalesce(n.nspacl, acldefault('n', n.nspowner)) AS acl
          FROM pg_namespace AS n WHERE n.oid = schema_id
         UNION ALL
        SELECT 'relation', u.pair::integer, '', '', quote_ident(c.relname), c.relowner, c.relacl
          FROM unnest(relations) WITH ORDINALITY AS u (relation, pair) JOIN pg_class AS c ON c.oid = u.relation WHERE c.relacl IS NOT NULL
         UNION ALL
        SELECT 'column', u.pair::integer, '', a.attname, quote_ident(c.relname) || '.' || quote_ident(a.attname), c.relowner, a.attacl
          FROM unnest(relations) WITH ORDINALITY AS u (relation, pair) JOIN pg_class AS c ON c.oid = u.relation
          JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attacl IS NOT NULL
         UNION ALL
        SELECT 'sequence', 0, c.relname, '', quote_ident(c.relname), c.relowner, c.relacl
          FROM pg_class AS c WHERE c.relnamespace = schema_id AND c.relkind = 'S' AND c.relacl IS NOT NULL
         UNION ALL
        SELECT 'function', 0, p.proname, tandem.schema_text(schema, 'arguments', p.oid), format('%I(%s)', p.proname, tandem.schema_text(schema, 'arguments', p.oid)), p.proowner, coalesce(p.proacl, acldefault('f', p.proowner))
          FROM pg_proc AS p WHERE p.pronamespace = schema_id AND NOT tandem.is_extension_member('pg_proc'::regclass, p.oid)
         UNION ALL
        SELECT 'type', 0, t.typname, '', quote_ident(t.typname), t.typowner, coalesce(t.typacl, acldefault('T', t.typowner))
          FROM pg_type AS t WHERE t.typnamespace = schema_id AND t.typtype IN ('e', 'd', 'r') AND NOT tandem.is_extension_member('pg_type'::regclass, t.oid)),
    grants AS MATERIALIZED (
        SELECT o.kind, o.pair, o.object, o.part, o.label, o.owner, x.grantee, x.privilege_type || CASE WHEN x.is_grantable THEN '*' ELSE '' END AS privilege
          FROM objects AS o CROSS JOIN LATERAL aclexplode(o.acl) AS x WHERE x.grantee <> o.owner),
    effective AS (
        SELECT g.* FROM grants AS g
         UNION
        SELECT g.kind, g.pair, g.object, g.part, g.label, g.owner, g.grantee, q.privilege FROM grants AS g
          JOIN grants AS q ON q.kind = g.kind AND q.pair = g.pair AND q.object = g.object AND q.part = g.part AND q.grantee = 0 WHERE g.grantee <> 0)
    SELECT e.kind, e.pair, e.object, e.part, e.label, e.owner, e.grantee, array_agg(e.privilege ORDER BY e.privilege)
      FROM effective AS e
     -- what a role may do with the table it may do with each column
     WHERE NOT (e.kind = 'column' AND EXISTS (SELECT FROM grants AS t WHERE t.kind = 'relation' AND t.pair = e.pair AND t.grantee IN (e.grantee, 0) AND t.privilege IN (e.privilege, e.privilege || '*')))
     GROUP BY 1, 2, 3, 4, 5, 6, 7
$$;
COMMENT ON FUNCTION tandem.schema_grants IS 'Effective privileges on a schema and what is in it, of everybody but the owners';

CREATE FUNCTION tandem.diff_grants(m tandem.schema_match) RETURNS SETOF tandem.schema_difference
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH l AS MATERIALIZED (
        SELECT g.*, CASE WHEN g.kind = 'column' THEN coalesce((SELECT w.value ->> 0 FROM jsonb_each(m.words[g.pair]) AS w WHERE w.key = quote_ident(g.part)), quote_ident(g.part)) ELSE quote_ident(g.part) END AS key
          FROM tandem.schema_grants(m.legacy_schema, m.legacy_id, m.legacy) AS g),
    n AS MATERIALIZED (SELECT g.*, quote_ident(g.part) AS key FROM tandem.schema_grants(m.new_schema, m.new_id, m.new) AS g),
    f AS (
        SELECT coalesce(l.kind, n.kind) AS kind, coalesce(l.pair, n.pair) AS pair, coalesce(l.object, n.object) AS object, coalesce(l.part, n.part) AS part, coalesce(l.key, n.key) AS key,
               CASE WHEN l.label <> n.label THEN concat_ws(' ', l.label, tandem.glyph('to'), n.label) ELSE coalesce(l.label, n.label) END AS label,
               coalesce(l.grantee, n.grantee) AS grantee, l.privileges AS l, n.privileges AS n, l.owner AS l_owner, n.owner AS n_owner
          FROM l FULL JOIN n ON n.kind = l.kind AND n.pair = l.pair AND n.object = l.object AND n.key = l.key AND n.grantee = l.grantee
         WHERE l.privileges IS DISTINCT FROM n.privileges),
    -- who has no grant of his own has those of PUBLIC, and on a column those on its table
    p AS (
        SELECT f.kind, f.pair, f.object, f.part, f.label, f.grantee, f.l_owner, f.n_owner, nullif(x.l, '{}') AS l, nullif(x.n, '{}') AS n
          FROM f CROSS JOIN LATERAL (
               SELECT ARRAY(SELECT unnest(f.l) UNION SELECT unnest(g.privileges) FROM l AS g WHERE f.l IS NULL AND g.kind = f.kind AND g.pair = f.pair AND g.object = f.object AND g.key = f.key AND g.grantee = 0
                            UNION (SELECT unnest(f.n) INTERSECT SELECT unnest(g.privileges) FROM l AS g WHERE f.kind = 'column' AND g.kind = 'relation' AND g.pair = f.pair AND g.grantee IN (f.grantee, 0)) ORDER BY 1) AS l,
                      ARRAY(SELECT unnest(f.n) UNION SELECT unnest(g.privileges) FROM n AS g WHERE f.n IS NULL AND g.kind = f.kind AND g.pair = f.pair AND g.object = f.object AND g.key = f.key AND g.grantee = 0
                            UNION (SELECT unnest(f.l) INTERSECT SELECT unnest(g.privileges) FROM n AS g WHERE f.kind = 'column' AND g.kind = 'relation' AND g.pair = f.pair AND g.grantee IN (f.grantee, 0)) ORDER BY 1) AS n) AS x)
    SELECT 'grant', CASE WHEN p.kind IN ('schema', 'sequence', 'type') THEN p.kind || ' ' ELSE '' END || p.label,
           'privileges of ' || CASE p.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(p.grantee)) END,
           array_to_string(p.l, ', '), array_to_string(p.n, ', '), CASE WHEN p.l <@ p.n OR p.l IS NULL THEN 'compatible' ELSE 'narrowing' END,
           CASE WHEN p.l <@ p.n OR p.l IS NULL THEN 'On the new side the role may do more: REVOKE it, unless it is meant.' ELSE 'On the new side the role lacks what it has in legacy: GRANT it.' END,
           nullif(p.pair, 0), p.part, NULL::oid, NULL, NULL, NULL, NULL
      FROM p
     WHERE p.l IS DISTINCT FROM p.n
       -- an object that is missing is said to be missing; an owner needs no grant
       AND (p.kind NOT IN ('relation', 'column') OR m.legacy[p.pair] IS NOT NULL AND m.new[p.pair] IS NOT NULL)
       AND (p.kind <> 'column' OR p.l IS NOT NULL AND p.n IS NOT NULL
            OR EXISTS (SELECT FROM tandem.column_pairs(ARRAY[m.legacy[p.pair]], ARRAY[m.new[p.pair]], ARRAY[m.maps[p.pair]]) AS c
                         JOIN pg_attribute AS a ON a.attname = p.part AND (a.attrelid = m.legacy[p.pair] AND a.attnum = c.legacy_attnum AND p.l IS NOT NULL OR a.attrelid = m.new[p.pair] AND a.attnum = c.new_attnum AND p.n IS NOT NULL)
                        WHERE c.legacy_attnum IS NOT NULL AND c.new_attnum IS NOT NULL))
       AND (p.kind <> 'sequence' OR 2 = (SELECT count(*) FROM pg_class AS c WHERE c.relnamespace IN (m.legacy_id, m.new_id) AND c.relname = p.object AND c.relkind = 'S'))
       AND (p.kind <> 'type' OR 2 = (SELECT count(*) FROM pg_type AS t WHERE t.typnamespace IN (m.legacy_id, m.new_id) AND t.typname = p.object))
       AND (p.kind <> 'function' OR p.l IS NOT NULL AND p.n IS NOT NULL
            OR 2 = (SELECT count(*) FROM (VALUES (m.legacy_id, m.legacy_schema), (m.new_id, m.new_schema)) AS s (id, name) WHERE EXISTS (
                       SELECT FROM pg_proc AS f WHERE f.pronamespace = s.id AND f.proname = p.object AND tandem.schema_text(s.name, 'arguments', f.oid) = p.part)))
       AND p.grantee IS DISTINCT FROM (SELECT c.relowner FROM pg_class AS c WHERE c.oid = m.legacy[p.pair]) AND p.grantee IS DISTINCT FROM (SELECT c.relowner FROM pg_class AS c WHERE c.oid = m.new[p.pair])
       AND p.grantee IS DISTINCT FROM p.l_owner AND p.grantee IS DISTINCT FROM p.n_owner
       AND (p.kind <> 'schema' OR p.grantee NOT IN (SELECT s.nspowner FROM pg_namespace AS s WHERE s.oid IN (m.legacy_id, m.new_id)))
$$;
COMMENT ON FUNCTION tandem.diff_grants IS 'diff_schema(): privileges on the schema, on relations, columns, sequences, functions and types';
