-- schema_text: definitions as text that reads the same on both sides, and the mappings that a comparison of schemas may know of.

CREATE TYPE tandem.schema_match AS (
    legacy_schema name, new_schema name, legacy_id oid, new_id oid,
    legacy oid[], new oid[], maps jsonb[], words jsonb[], all_words jsonb);
COMMENT ON TYPE tandem.schema_match IS
    'Two schemas and their relations side by side: legacy[i] beside new[i] (NULL: missing there), maps[i] the mapping of the pair, words[i] what its identifiers are called on the new side';

CREATE TYPE tandem.schema_difference AS (
    object_type text, object text, property text, legacy text, new text, severity text, hint text,
    pair integer, part text, source oid, harm text, query text, said text, uncounted text);
COMMENT ON TYPE tandem.schema_difference IS
    'A difference before its rows are counted: harm is a condition over a row of source, query a statement of its own, said what happens to such a row, uncounted why nothing is counted';

-- What stands in the schema is written without its name, all else with it: so definitions of two schemas compare as text. pg_catalog comes
-- first in the path, and no operator or function below is resolved but by exact types: nothing in the schema can take its place.
CREATE FUNCTION tandem.schema_text(schema name, what text, object oid, detail integer DEFAULT NULL) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_catalog.set_config('search_path', pg_catalog.concat('pg_catalog, ', pg_catalog.quote_ident(schema::text), ', pg_temp'), true);
    CASE what
        WHEN 'type' THEN RETURN pg_catalog.format_type(object, detail);
        WHEN 'relation' THEN RETURN object::pg_catalog.regclass::pg_catalog.text;
        WHEN 'constraint' THEN RETURN pg_catalog.pg_get_constraintdef(object);
        WHEN 'index' THEN RETURN pg_catalog.pg_get_indexdef(object);
        WHEN 'trigger' THEN RETURN pg_catalog.pg_get_triggerdef(object, true);
        WHEN 'view' THEN RETURN pg_catalog.pg_get_viewdef(object);
        WHEN 'rule' THEN RETURN pg_catalog.pg_get_ruledef(object, true);
        WHEN 'statistics' THEN RETURN pg_catalog.pg_get_statisticsobjdef(object);
        WHEN 'partition key' THEN RETURN pg_catalog.pg_get_partkeydef(object);
        WHEN 'arguments' THEN RETURN pg_catalog.pg_get_function_identity_arguments(object);
        WHEN 'all arguments' THEN RETURN pg_catalog.pg_get_function_arguments(object);
        WHEN 'result' THEN RETURN pg_catalog.pg_get_function_result(object);
        WHEN 'body' THEN RETURN pg_catalog.pg_get_function_sqlbody(object);
    END CASE;
END
$$;
COMMENT ON FUNCTION tandem.schema_text(name, text, oid, integer) IS
    'The definition of an object as it reads where its schema is in the search_path: the session''s own does not matter';

CREATE FUNCTION tandem.schema_expression(schema name, expression pg_node_tree, relation oid) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_catalog.set_config('search_path', pg_catalog.concat('pg_catalog, ', pg_catalog.quote_ident(schema::text), ', pg_temp'), true);
    RETURN pg_catalog.pg_get_expr(expression, relation);
END
$$;
COMMENT ON FUNCTION tandem.schema_expression IS 'An expression of the catalogs as it reads where its schema is in the search_path';

CREATE FUNCTION tandem.replace_words(definition text, words jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- A token: a literal, a quoted name, a plain name, else one character. PostgreSQL quotes every name that is not plain ASCII.
    SELECT CASE WHEN words IS NULL THEN definition
                ELSE (SELECT string_agg(coalesce(words ->> t.token[1], t.token[1]), '' ORDER BY t.position)
                        FROM regexp_matches(definition, $r$('(?:[^']|'')*'|"(?:[^"]|"")*"|[A-Za-z_][A-Za-z0-9_$]*|.)$r$, 'g')
                             WITH ORDINALITY AS t (token, position)) END
$$;
COMMENT ON FUNCTION tandem.replace_words IS 'A definition with its identifiers replaced, literals untouched: {"identifier as it stands": "text"}';

-- For what the search_path does not do: a name that pg_catalog hides, and a schema without USAGE, which PostgreSQL leaves out of the path.
CREATE FUNCTION tandem.without_schema(definition text, schema name) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    plain text := quote_ident(schema) || '.';
    in_literal text := replace(plain, '''', '''''');
BEGIN
    IF position(plain IN definition) = 0 AND position(in_literal IN definition) = 0 THEN
        RETURN definition;
    END IF;
    definition := regexp_replace(definition, '(?<![[:alnum:]_$.''"])' || regexp_replace(plain, '([^[:alnum:]_])', '\\\1', 'g'), '', 'g');
    RETURN regexp_replace(definition, '''' || regexp_replace(in_literal, '([^[:alnum:]_])', '\\\1', 'g') || '((?:[^'']|'''')*''::reg)', '''\1', 'g');
END
$$;
COMMENT ON FUNCTION tandem.without_schema IS 'A definition without the qualification by this schema; of literals only regclass and its like';

-- loosely: of a column whose type differs the casts in its expressions differ too, and that is not one more difference.
CREATE FUNCTION tandem.same_text(m tandem.schema_match, legacy text, new text, words jsonb, loosely boolean DEFAULT false) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    casts CONSTANT text := '::("[^"]*"|[a-z_][a-z_0-9]*)(\.("[^"]*"|[a-z_][a-z_0-9]*))?( varying| precision| with(out)? time zone)?(\([0-9, ]*\))?(\[\])*|[() ]';
BEGIN
    IF legacy IS NULL OR new IS NULL THEN
        RETURN legacy IS NOT DISTINCT FROM new;
    END IF;
    IF legacy = new AND words IS NULL THEN
        RETURN true;
    END IF;
    legacy := tandem.replace_words(legacy, words);
    IF legacy = new THEN
        RETURN true;
    END IF;
    -- either side alone, too: an alias may be called like the schema
    IF legacy = tandem.without_schema(new, m.new_schema) OR tandem.without_schema(legacy, m.legacy_schema) = new THEN
        RETURN true;
    END IF;
    legacy := tandem.without_schema(legacy, m.legacy_schema);
    new := tandem.without_schema(new, m.new_schema);
    RETURN legacy = new OR (loosely AND regexp_replace(legacy, casts, '', 'g') = regexp_replace(new, casts, '', 'g'));
END
$$;
COMMENT ON FUNCTION tandem.same_text IS 'Do two definitions say the same, once the names of their schemas and the renames of the mapping are taken off?';

-- A view over a renamed column says "full_name AS name" where the other says "name". What its columns are called is compared by itself.
CREATE FUNCTION tandem.without_aliases(definition text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ SELECT regexp_replace(definition, $r$('(?:[^']|'')*')|\s+AS\s+(?:"(?:[^"]|"")*"|[a-z_][a-z_0-9$]*)(?=,|\n|;|$)$r$, '\1', 'g') $$;
COMMENT ON FUNCTION tandem.without_aliases IS 'The definition of a view without the names that it gives to its columns';

-- What a comparison of schemas may know of the mappings: those of runs that the caller owns, or may see in tandem.mappings anyway. A view
-- and no SECURITY DEFINER function, as it reads only, and as a view asks for the rights of who reads it.
CREATE VIEW tandem.own_mappings WITH (security_barrier) AS
SELECT m.id, r.id AS run_id, r.name AS run, r.owner, m.legacy_schema, m.legacy_table, m.new_schema, m.new_table,
       (SELECT jsonb_object_agg(c.name, c.expression) FROM tandem.mapping_column AS c
         WHERE c.mapping_id = m.id AND c.direction = 'forward') AS forward
  FROM tandem.mapping AS m JOIN tandem.run AS r ON r.id = m.run_id
 WHERE r.phase <> 'cancelled'
   AND (pg_catalog.has_table_privilege('tandem.mappings', 'SELECT')
        OR EXISTS (SELECT FROM pg_catalog.pg_roles AS o WHERE o.rolname = r.owner AND pg_catalog.pg_has_role(o.oid, 'MEMBER')));
COMMENT ON VIEW tandem.own_mappings IS 'Mappings of the runs that the reader owns or may see: diff_schema() takes renamed and computed columns from it';

-- Counting rows evaluates expressions of the schemas with the caller's rights. Whoever calls diff_schema() wants to read catalogs, not
-- to run what others wrote: only code of his own or of a superuser is evaluated.
CREATE FUNCTION tandem.trusted_owner(owner oid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT EXISTS (SELECT FROM pg_roles AS r WHERE r.oid = owner AND (r.rolsuper OR r.rolname = current_user)) $$;
COMMENT ON FUNCTION tandem.trusted_owner IS 'Is code of this role evaluated in the caller''s name? A superuser''s and one''s own';

CREATE FUNCTION tandem.foreign_code(class oid, object oid) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    code record;
BEGIN
    FOR code IN SELECT d.refclassid, d.refobjid,
                       CASE d.refclassid
                            WHEN 'pg_proc'::regclass THEN (SELECT p.proowner FROM pg_proc AS p WHERE p.oid = d.refobjid)
                            WHEN 'pg_operator'::regclass THEN (SELECT p.proowner FROM pg_operator AS x JOIN pg_proc AS p ON p.oid = x.oprcode WHERE x.oid = d.refobjid)
                            WHEN 'pg_type'::regclass THEN (SELECT t.typowner FROM pg_type AS t WHERE t.oid = d.refobjid AND t.typtype <> 'e') END AS owner
                  FROM pg_depend AS d WHERE d.classid = class AND d.objid = object AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass)
                 ORDER BY d.refclassid DESC, d.refobjid LOOP
        IF code.owner IS NOT NULL AND NOT tandem.trusted_owner(code.owner) THEN
            RETURN format('it uses %s of role %I', pg_describe_object(code.refclassid, code.refobjid, 0), pg_get_userbyid(code.owner));
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tandem.foreign_code IS 'Why an expression of the catalogs is not evaluated: the first thing in it that belongs to somebody else than the caller and a superuser';

-- The owner of a type writes its casts, and the checks of a domain, which may stand deep in it.
CREATE FUNCTION tandem.foreign_cast(types oid[]) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    reached oid[] := ARRAY(
        WITH RECURSIVE t AS (
            SELECT u.oid FROM unnest(types) AS u (oid) WHERE u.oid >= 16384
             UNION
            SELECT x.below FROM t JOIN pg_type AS y ON y.oid = t.oid
             CROSS JOIN LATERAL (SELECT y.typbasetype AS below UNION ALL SELECT y.typelem
                                  UNION ALL SELECT a.atttypid FROM pg_attribute AS a WHERE a.attrelid = y.typrelid AND a.attnum > 0 AND NOT a.attisdropped
                                  UNION ALL SELECT r.rngsubtype FROM pg_range AS r WHERE r.rngtypid = y.oid) AS x
             WHERE x.below >= 16384)
        SELECT t.oid FROM t);
    code record;
BEGIN
    IF reached = '{}' THEN
        RETURN NULL;
    END IF;
    FOR code IN SELECT p.oid, p.proowner FROM pg_cast AS c JOIN pg_proc AS p ON p.oid = c.castfunc
                 WHERE c.castsource = ANY (reached) OR c.casttarget = ANY (reached) ORDER BY p.oid LOOP
        IF NOT tandem.trusted_owner(code.proowner) THEN
            RETURN format('it uses %s of role %I', pg_describe_object('pg_proc'::regclass, code.oid, 0), pg_get_userbyid(code.proowner));
        END IF;
    END LOOP;
    FOR code IN SELECT k.oid FROM pg_constraint AS k WHERE k.contypid = ANY (reached) ORDER BY k.oid LOOP
        IF tandem.foreign_code('pg_constraint'::regclass, code.oid) IS NOT NULL THEN
            RETURN tandem.foreign_code('pg_constraint'::regclass, code.oid);
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tandem.foreign_cast IS 'Why values of these types are not cast: a cast or a check of theirs belongs to somebody else than the caller and a superuser';
