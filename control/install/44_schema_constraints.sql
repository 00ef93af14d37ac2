-- schema_constraints: constraints and indexes, side by side. They are matched by what they say; a name is cosmetic.

CREATE TYPE tandem.schema_constraint AS (
    pair integer, relation_name name, oid oid, name name, family text, kind text, definition text, key text, columns text,
    timing text, state text, on_update text, on_delete text, options text, comment text);
COMMENT ON TYPE tandem.schema_constraint IS
    'A constraint or index as diff_schema() compares it: family (primary key, unique, index, check, foreign key, exclusion) and key are what it says, in names of the new side';

-- What is compared: without the schema's name, in names of the new side, and where types differ without casts.
CREATE FUNCTION tandem.definition_key(definition text, schema name, words jsonb, loosely boolean) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN loosely THEN regexp_replace(d.t, '::("[^"]*"|[a-z_][a-z_0-9]*)(\.("[^"]*"|[a-z_][a-z_0-9]*))?( varying| precision| with(out)? time zone)?(\([0-9, ]*\))?(\[\])*|[() ]', '', 'g') ELSE d.t END
      FROM (SELECT tandem.replace_words(tandem.without_schema(definition, schema), words) AS t) AS d
$$;
COMMENT ON FUNCTION tandem.definition_key IS 'A definition as it is matched with one of the other side';

CREATE FUNCTION tandem.schema_constraints(schema name, relations oid[], words jsonb[], retyped integer[])
RETURNS SETOF tandem.schema_constraint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    -- Indexes, with those behind primary keys and unique constraints; those of partitions are their parent's.
    SELECT u.pair::integer, t.relname, i.indexrelid, c.relname,
           CASE WHEN i.indisprimary THEN 'primary key' WHEN i.indisunique THEN 'unique' ELSE 'index' END,
           CASE WHEN k.oid IS NULL THEN 'index' ELSE 'constraint' END,
           CASE WHEN k.oid IS NULL THEN concat(CASE WHEN i.indisunique THEN 'UNIQUE ' END, d.definition) ELSE regexp_replace(tandem.schema_text(schema, 'constraint', k.oid), '( DEFERRABLE)?( INITIALLY DEFERRED)?$', '') END,
           tandem.definition_key(d.definition, schema, words[u.pair], u.pair = ANY (retyped)), NULL,
           CASE WHEN k.condeferred THEN 'DEFERRABLE INITIALLY DEFERRED' WHEN k.condeferrable THEN 'DEFERRABLE' ELSE 'NOT DEFERRABLE' END,
           CASE WHEN i.indisvalid THEN 'VALID' ELSE 'INVALID' END, NULL, NULL,
           (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(c.reloptions) AS o),
           (SELECT x.description FROM pg_description AS x WHERE x.objsubid = 0 AND
                   (x.classoid = 'pg_constraint'::regclass AND x.objoid = k.oid OR k.oid IS NULL AND x.classoid = 'pg_class'::regclass AND x.objoid = c.oid))
      FROM unnest(relations) WITH ORDINALITY AS u (relation, pair)
      JOIN pg_class AS t ON t.oid = u.relation
      JOIN pg_namespace AS s ON s.oid = t.relnamespace
      JOIN pg_index AS i ON i.indrelid = t.oid
      JOIN pg_class AS c ON c.oid = i.indexrelid AND NOT c.relispartition
      LEFT JOIN pg_constraint AS k ON k.conrelid = t.oid AND k.conindid = c.oid AND k.contype IN ('p', 'u', 'x')
     CROSS JOIN LATERAL (
           SELECT substr(x.d, length(format('CREATE %sINDEX %I ON %s%I.%I USING ', CASE WHEN i.indisunique THEN 'UNIQUE ' END, c.relname,
                                            CASE WHEN c.relkind = 'I' THEN 'ONLY ' END, s.nspname, t.relname)) + 1) AS definition
             FROM (SELECT CASE WHEN c.reloptions IS NULL THEN g.d ELSE regexp_replace(g.d, $r$ WITH \((?:[^()']|'(?:[^']|'')*')*\)$r$, '') END AS d
                     FROM (SELECT tandem.schema_text(schema, 'index', c.oid) AS d) AS g) AS x) AS d
     WHERE k.contype IS DISTINCT FROM 'x'
     UNION ALL
    SELECT u.pair::integer, t.relname, k.oid, k.conname, CASE k.contype WHEN 'c' THEN 'check' WHEN 'f' THEN 'foreign key' ELSE 'exclusion' END, 'constraint', d.core,
           CASE WHEN k.contype = 'f' THEN format('%s -> %s (%s) %s', tandem.replace_words(f.columns, words[u.pair]), coalesce(r.pair::text, f.target), tandem.replace_words(f.target_columns, words[r.pair]),
                                                 concat(k.confmatchtype, CASE WHEN d.core LIKE '%, PERIOD %' THEN ' PERIOD' END))
                ELSE tandem.definition_key(d.core, schema, words[u.pair], u.pair = ANY (retyped)) END,
           tandem.replace_words(f.columns, words[u.pair]),
           CASE WHEN k.condeferred THEN 'DEFERRABLE INITIALLY DEFERRED' WHEN k.condeferrable THEN 'DEFERRABLE' ELSE 'NOT DEFERRABLE' END,
           CASE WHEN d.full LIKE '% NOT ENFORCED' OR d.full LIKE '% NOT ENFORCED NOT VALID' THEN 'NOT ENFORCED' WHEN k.convalidated THEN 'VALID' ELSE 'NOT VALID' END,
           f.on_update, f.on_delete, NULL,
           (SELECT x.description FROM pg_description AS x WHERE x.classoid = 'pg_constraint'::regclass AND x.objoid = k.oid)
      FROM unnest(relations) WITH ORDINALITY AS u (relation, pair)
      JOIN pg_class AS t ON t.oid = u.relation
      JOIN pg_constraint AS k ON k.conrelid = t.oid AND k.contype IN ('c', 'f', 'x') AND k.conparentid = 0 AND (k.conislocal OR k.coninhcount = 0)
     CROSS JOIN LATERAL (SELECT g.d AS full, regexp_replace(g.d, '( DEFERRABLE)?( INITIALLY DEFERRED)?( NOT ENFORCED)?( NOT VALID)?$', '') AS core
                           FROM (SELECT tandem.schema_text(schema, 'constraint', k.oid) AS d) AS g) AS d
      LEFT JOIN LATERAL (
           SELECT (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY x.position) FROM unnest(k.conkey) WITH ORDINALITY AS x (attnum, position)
                     JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = x.attnum) AS columns,
                  (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY x.position) FROM unnest(k.confkey) WITH ORDINALITY AS x (attnum, position)
                     JOIN pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = x.attnum) AS target_columns,
                  tandem.schema_text(schema, 'relation', k.confrelid) AS target,
                  action.name[1] AS on_update,
                  concat(action.name[2], (SELECT ' (' || string_agg(quote_ident(a.attname), ', ' ORDER BY a.attname) || ')' FROM pg_attribute AS a
                                           WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.confdelsetcols))) AS on_delete
             FROM (SELECT array_agg(CASE y.code WHEN 'a' THEN 'NO ACTION' WHEN 'r' THEN 'RESTRICT' WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' ELSE 'SET DEFAULT' END ORDER BY y.position) AS name
                     FROM (VALUES (1, k.confupdtype), (2, k.confdeltype)) AS y (position, code)) AS action) AS f ON k.contype = 'f'
      -- what it refers to goes by the pair that it stands in; a table that is split stands in several, and so does the key
      LEFT JOIN unnest(relations) WITH ORDINALITY AS r (relation, pair) ON r.relation = k.confrelid
$$;
COMMENT ON FUNCTION tandem.schema_constraints IS 'What diff_schema() compares of constraints and indexes, one row for each that the relation itself has';

-- Does a unique index of legacy keep the rows apart already? Not where a type or collation differs: two values may become one.
CREATE FUNCTION tandem.is_unique_already(m tandem.schema_match, pair integer, new_index oid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH n AS (SELECT i.* FROM pg_index AS i WHERE i.indexrelid = new_index),
    columns AS (
        SELECT c.legacy_attnum, l.attnotnull
          FROM n CROSS JOIN LATERAL tandem.column_pairs(ARRAY[m.legacy[pair]], ARRAY[m.new[pair]], ARRAY[m.maps[pair]]) AS c
          JOIN pg_attribute AS l ON l.attrelid = m.legacy[pair] AND l.attnum = c.legacy_attnum
          JOIN pg_attribute AS a ON a.attrelid = n.indrelid AND a.attnum = c.new_attnum
         WHERE c.new_attnum = ANY ((n.indkey::smallint[])[0:n.indnkeyatts - 1])
           AND l.attcollation = a.attcollation
           AND (l.atttypid = a.atttypid OR (tandem.type_change('v', l.atttypid, l.atttypmod, a.atttypid, a.atttypmod)).severity = 'compatible'))
    SELECT EXISTS (
        SELECT FROM pg_index AS i CROSS JOIN n
         WHERE i.indrelid = m.legacy[pair] AND i.indisunique AND NOT i.indisexclusion AND NOT n.indisexclusion AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
           AND NOT EXISTS (SELECT FROM unnest((i.indkey::smallint[])[0:i.indnkeyatts - 1]) AS k (attnum)
                            WHERE NOT EXISTS (SELECT FROM columns AS c WHERE c.legacy_attnum = k.attnum
                                                 AND (c.attnotnull OR i.indnullsnotdistinct OR NOT n.indnullsnotdistinct))))
$$;
COMMENT ON FUNCTION tandem.is_unique_already IS 'Does a unique index of legacy guarantee what a unique index of new asks for?';

-- Rows that conflict with one before them. Each pair is compared, but for what an equality among the operators keeps apart: so only where the
-- table is small enough for that.
CREATE FUNCTION tandem.exclusion_harm(family text, object oid, legacy oid, from_rows text, OUT query text, OUT uncounted text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    x record;
BEGIN
    SELECT k.conindid AS index, string_agg(format('(%s)%s AS k%s', e.key, e.collation_text, e.n), ', ' ORDER BY e.n) AS keys, string_agg(format('a.k%s %s b.k%1$s', e.n, e.operator), ' AND ' ORDER BY e.n) AS conflict,
           string_agg(format('%L || coalesce(a.k%s::text, ''NULL'')', e.key || ' = ', e.n), ' || '', '' || ' ORDER BY e.n) AS example, bool_and(e.example_may) AS example_may,
           bool_or(e.is_equality) AS has_equality, max(pg_get_expr(i.indpred, i.indrelid)) AS condition INTO x
      FROM pg_constraint AS k JOIN pg_index AS i ON i.indexrelid = k.conindid
     CROSS JOIN LATERAL (
           SELECT u.n, pg_get_indexdef(k.conindid, u.n::integer, false) AS key, format('OPERATOR(%I.%s)', s.nspname, o.oprname) AS operator, o.oprcanhash AS is_equality,
                  coalesce((SELECT ' COLLATE ' || c.oid::regcollation::text FROM pg_collation AS c WHERE c.oid = i.indcollation[u.n - 1]), '') AS collation_text,
                  -- the table's column, as the index may store something else; of an expression it is not known
                  EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = i.indrelid AND a.attnum = i.indkey[u.n - 1] AND a.atttypid < 16384) AS example_may
             FROM unnest(k.conexclop) WITH ORDINALITY AS u (operator, n) JOIN pg_operator AS o ON o.oid = u.operator JOIN pg_namespace AS s ON s.oid = o.oprnamespace) AS e
     WHERE CASE family WHEN 'exclusion' THEN k.oid = object ELSE k.conindid = object AND k.contype IN ('p', 'u') END
     GROUP BY k.conindid;
    uncounted := coalesce(tandem.foreign_code('pg_class'::regclass, x.index),
                          CASE WHEN pg_table_size(legacy) > CASE WHEN x.has_equality THEN 16 * 1024 * 1024 ELSE 512 * 1024 END THEN 'every pair of rows would have to be compared, and they are too many' END);
    query := format('WITH tandem_rows AS MATERIALIZED (SELECT row_number() OVER () AS n, %s%s WHERE %s) SELECT count(*), (SELECT count(*) FROM %s), %s FROM tandem_rows AS a'
                    ' WHERE EXISTS (SELECT FROM tandem_rows AS b WHERE b.n < a.n AND %s)',
                    x.keys, from_rows, coalesce(x.condition, 'true'), legacy::regclass, CASE WHEN x.example_may THEN format('min(%s)', x.example) ELSE 'NULL::text' END, x.conflict);
END
$$;
COMMENT ON FUNCTION tandem.exclusion_harm IS 'SQL that counts the legacy rows which an exclusion constraint of new, or a key WITHOUT OVERLAPS, refuses';

-- How to count the rows that a constraint of new refuses.
CREATE FUNCTION tandem.constraint_harm(m tandem.schema_match, pair integer, family text, object oid, OUT harm text, OUT query text, OUT uncounted text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    as_new record;
    x record;
    target text;
    target_pair integer;
BEGIN
    IF object IS NULL THEN
        RETURN;
    END IF;
    as_new := tandem.legacy_as_new(m.legacy[pair], m.new[pair], m.maps[pair]);
    uncounted := as_new.uncounted;
    IF family = 'check' THEN
        SELECT format('(SELECT (%s) IS FALSE%s)', pg_get_expr(k.conbin, k.conrelid), as_new.from_row) INTO harm FROM pg_constraint AS k WHERE k.oid = object;
        uncounted := coalesce(uncounted, tandem.foreign_code('pg_constraint'::regclass, object));
    ELSIF family = 'exclusion' OR EXISTS (SELECT FROM pg_index AS i WHERE i.indexrelid = object AND i.indisexclusion) THEN
        x := tandem.exclusion_harm(family, object, m.legacy[pair], as_new.from_rows);
        query := x.query;
        uncounted := coalesce(uncounted, x.uncounted);
    ELSIF family = 'foreign key' AND pg_get_constraintdef(object) LIKE '%, PERIOD %' THEN -- came with PostgreSQL 18
        uncounted := coalesce(uncounted, 'every pair of rows would have to be compared');
    ELSIF family IN ('primary key', 'unique') THEN
        SELECT string_agg(k.key || k.collation_text, ', ' ORDER BY k.position) AS keys,
               string_agg(format('(%s) IS NOT NULL', k.key), ' AND ') FILTER (WHERE NOT i.indnullsnotdistinct) AS not_null,
               string_agg(format('%L || coalesce((%s)::text, ''NULL'')', k.key || ' = ', k.key), ' || '', '' || ' ORDER BY k.position) AS example,
               bool_and(k.example_may) AS example_may,
               max(pg_get_expr(i.indpred, i.indrelid)) AS condition INTO x
          FROM pg_index AS i
         CROSS JOIN LATERAL (
               SELECT g.position, pg_get_indexdef(i.indexrelid, g.position, false) AS key,
                      coalesce((SELECT ' COLLATE ' || o.oid::regcollation::text FROM pg_collation AS o WHERE o.oid = i.indcollation[g.position - 1] AND NOT o.collisdeterministic), '') AS collation_text,
                      EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = i.indexrelid AND a.attnum = g.position AND a.atttypid < 16384) AS example_may
                 FROM generate_series(1, i.indnkeyatts) AS g (position)) AS k
         WHERE i.indexrelid = object;
        query := format('SELECT coalesce(sum(d.n - 1), 0)::bigint, (SELECT count(*) FROM %s), min(d.example) FROM (SELECT count(*) AS n, %s AS example%s WHERE %s GROUP BY %s HAVING count(*) > 1) AS d',
                        m.legacy[pair]::regclass, CASE WHEN x.example_may THEN format('min(%s)', x.example) ELSE 'NULL::text' END, as_new.from_rows,
                        concat_ws(' AND ', 'true', x.not_null, '(' || x.condition || ')'), x.keys);
        uncounted := coalesce(uncounted, tandem.foreign_code('pg_class'::regclass, object));
    ELSIF family = 'foreign key' THEN
        SELECT k.confrelid, k.confmatchtype,
               string_agg(format('r.%I = n.%I', f.attname, a.attname), ' AND ') AS pairs,
               string_agg(format('n.%I IS NOT NULL', a.attname), ' AND ') AS not_null,
               string_agg(format('n.%I IS NOT NULL', a.attname), ' OR ') AS some_not_null,
               string_agg(format('%L || coalesce(n.%I::text, ''NULL'')', quote_ident(a.attname) || ' = ', a.attname), ' || '', '' || ' ORDER BY p.position) AS example,
               bool_and(a.atttypid < 16384) AS example_may INTO x
          FROM pg_constraint AS k CROSS JOIN LATERAL unnest(k.conkey, k.confkey) WITH ORDINALITY AS p (attnum, target_attnum, position)
          JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = p.attnum
          JOIN pg_attribute AS f ON f.attrelid = k.confrelid AND f.attnum = p.target_attnum
         WHERE k.oid = object GROUP BY k.confrelid, k.confmatchtype;
        -- What it refers to is, on the day, what legacy has there.
        target_pair := (SELECT min(t.pair) FROM unnest(m.legacy, m.new) WITH ORDINALITY AS t (l, n, pair) WHERE t.n = x.confrelid AND t.l IS NOT NULL);
        IF target_pair IS NULL THEN
            target := format(' FROM %s', x.confrelid::regclass);
        ELSE
            SELECT t.from_rows, coalesce(constraint_harm.uncounted, t.uncounted) INTO target, uncounted
              FROM tandem.legacy_as_new(m.legacy[target_pair], x.confrelid, m.maps[target_pair]) AS t;
        END IF;
        query := format('SELECT count(*), (SELECT count(*) FROM %s), %s FROM (SELECT *%s) AS n WHERE ((%s) AND NOT EXISTS (SELECT FROM (SELECT *%s) AS r WHERE %s))%s',
                        m.legacy[pair]::regclass, CASE WHEN x.example_may THEN format('min(%s)', x.example) ELSE 'NULL::text' END, as_new.from_rows, x.not_null, target, x.pairs,
                        CASE WHEN x.confmatchtype = 'f' THEN format(' OR ((%s) AND NOT (%s))', x.some_not_null, x.not_null) END);
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.constraint_harm IS 'SQL that counts the legacy rows which a constraint or unique index of new refuses; NULL for no object';

CREATE FUNCTION tandem.diff_constraints(m tandem.schema_match) RETURNS SETOF tandem.schema_difference
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- Where the type of a column differs, the casts in what is said of it differ too.
    retyped integer[] := ARRAY(
        SELECT DISTINCT c.pair FROM tandem.column_pairs(m.legacy, m.new, m.maps) AS c
          JOIN pg_attribute AS n ON n.attrelid = m.new[c.pair] AND n.attnum = c.new_attnum
         WHERE c.type <> n.atttypid OR c.typmod <> n.atttypmod);
    both_sides integer[] := ARRAY(SELECT u.pair FROM unnest(m.legacy, m.new) WITH ORDINALITY AS u (l, n, pair) WHERE u.l IS NOT NULL AND u.n IS NOT NULL);
BEGIN
    RETURN QUERY
    WITH l AS MATERIALIZED (
        SELECT c.* FROM tandem.schema_constraints(m.legacy_schema, m.legacy, m.words, retyped) AS c WHERE c.pair = ANY (both_sides)),
    n AS MATERIALIZED (
        SELECT c.* FROM tandem.schema_constraints(m.new_schema, m.new, NULL, retyped) AS c WHERE c.pair = ANY (both_sides)),
    -- 1. the same in every word, 2. in all but the name, 3. by name, 4. the primary keys, and foreign keys of the same columns
    exact AS MATERIALIZED (
        SELECT l.pair, l.oid AS l_oid, n.oid AS n_oid, l.key AS l_key, n.key AS n_key FROM l JOIN n ON n.pair = l.pair AND n.family = l.family AND n.key = l.key AND n.name = l.name),
    l1 AS MATERIALIZED (SELECT l.*, row_number() OVER (PARTITION BY l.pair, l.family, l.key ORDER BY l.name) AS rank FROM l
                         WHERE NOT EXISTS (SELECT FROM exact AS e WHERE e.pair = l.pair AND e.l_oid = l.oid)),
    n1 AS MATERIALIZED (SELECT n.*, row_number() OVER (PARTITION BY n.pair, n.family, n.key ORDER BY n.name) AS rank FROM n
                         WHERE NOT EXISTS (SELECT FROM exact AS e WHERE e.pair = n.pair AND e.n_oid = n.oid)),
    alike AS MATERIALIZED (
        SELECT l1.pair, l1.oid AS l_oid, n1.oid AS n_oid, l1.key AS l_key, n1.key AS n_key FROM l1 JOIN n1 ON n1.pair = l1.pair AND n1.family = l1.family AND n1.key = l1.key AND n1.rank = l1.rank),
    l2 AS MATERIALIZED (SELECT DISTINCT ON (l1.pair, l1.oid) l1.* FROM l1 WHERE NOT EXISTS (SELECT FROM alike AS e WHERE e.pair = l1.pair AND e.l_oid = l1.oid)),
    n2 AS MATERIALIZED (SELECT DISTINCT ON (n1.pair, n1.oid) n1.* FROM n1 WHERE NOT EXISTS (SELECT FROM alike AS e WHERE e.pair = n1.pair AND e.n_oid = n1.oid)),
    -- a constraint and an index may have one name; a check and a key of one name are two things
    named AS MATERIALIZED (
        SELECT l2.pair, l2.oid AS l_oid, n2.oid AS n_oid, l2.key AS l_key, n2.key AS n_key FROM l2 JOIN n2 ON n2.pair = l2.pair AND n2.name = l2.name
           AND (n2.family = l2.family OR (n2.family IN ('unique', 'index', 'primary key') AND l2.family IN ('unique', 'index', 'primary key')))),
    l3 AS MATERIALIZED (SELECT l2.*, row_number() OVER (PARTITION BY l2.pair, l2.family, l2.columns ORDER BY l2.name) AS rank3 FROM l2
                         WHERE l2.family IN ('primary key', 'foreign key') AND NOT EXISTS (SELECT FROM named AS e WHERE e.pair = l2.pair AND e.l_oid = l2.oid)),
    n3 AS MATERIALIZED (SELECT n2.*, row_number() OVER (PARTITION BY n2.pair, n2.family, n2.columns ORDER BY n2.name) AS rank3 FROM n2
                         WHERE n2.family IN ('primary key', 'foreign key') AND NOT EXISTS (SELECT FROM named AS e WHERE e.pair = n2.pair AND e.n_oid = n2.oid)),
    matched AS MATERIALIZED (
        SELECT * FROM exact UNION ALL SELECT * FROM alike UNION ALL SELECT * FROM named UNION ALL
        SELECT l3.pair, l3.oid, n3.oid, l3.key, n3.key FROM l3 JOIN n3 ON n3.pair = l3.pair AND n3.family = l3.family AND n3.columns IS NOT DISTINCT FROM l3.columns AND n3.rank3 = l3.rank3),
    p AS MATERIALIZED (
        SELECT l, n, x.pair, tandem.object_label(l.relation_name, n.relation_name, l.name, CASE WHEN l.name = n.name OR m.words[x.pair] IS NOT NULL THEN n.name ELSE l.name END) AS object
          FROM matched AS x JOIN l ON l.pair = x.pair AND l.oid = x.l_oid AND l.key = x.l_key JOIN n ON n.pair = x.pair AND n.oid = x.n_oid AND n.key = x.n_key),
    -- a table that is split or merged stands in several pairs: in which of them does not matter
    only_l AS MATERIALIZED (SELECT DISTINCT ON (l.oid) l.* FROM l WHERE l.oid NOT IN (SELECT x.l_oid FROM matched AS x) ORDER BY l.oid, l.pair),
    only_n AS MATERIALIZED (SELECT DISTINCT ON (n.oid) n.* FROM n WHERE n.oid NOT IN (SELECT x.n_oid FROM matched AS x) ORDER BY n.oid, n.pair)
    -- only in legacy
    SELECT s.kind, tandem.object_label(s.relation_name, s.relation_name, s.name, s.name), 'existence', s.definition, NULL::text,
           CASE WHEN s.family IN ('check', 'foreign key', 'exclusion') THEN 'compatible' ELSE 'narrowing' END,
           CASE s.family WHEN 'primary key' THEN 'The new side accepts duplicates, and has no key for ON CONFLICT, for replication and for a mapping.'
                         WHEN 'unique' THEN 'The new side accepts duplicates, and ON CONFLICT of these columns fails there.'
                         WHEN 'index' THEN 'What legacy finds by this index the new side finds by reading the table.'
                         ELSE 'The new side accepts rows that legacy refuses: they could not come back.' END,
           s.pair, s.name::text, NULL::oid, NULL::text, NULL::text, NULL::text, NULL::text
      FROM only_l AS s
     UNION ALL
    -- only in new
    SELECT s.kind, tandem.object_label(s.relation_name, s.relation_name, s.name, s.name), 'existence', NULL, s.definition,
           CASE WHEN harmful.it THEN 'lossy' ELSE 'compatible' END,
           CASE WHEN s.state = 'NOT ENFORCED' THEN 'Nothing enforces it.' WHEN harmful.it THEN 'The new side refuses rows that legacy accepts: mend them first, or leave the constraint out.'
                WHEN s.family = 'index' THEN 'Only the new side has this index.' ELSE 'A unique index of legacy guarantees it already.' END,
           s.pair, s.name, CASE WHEN harmful.it THEN m.legacy[s.pair] END, h.harm, h.query, 'would be refused', h.uncounted
      FROM only_n AS s
     CROSS JOIN LATERAL (SELECT s.family <> 'index' AND s.state <> 'NOT ENFORCED' AND NOT (s.family IN ('primary key', 'unique') AND tandem.is_unique_already(m, s.pair, s.oid)) AS it) AS harmful
      CROSS JOIN LATERAL tandem.constraint_harm(m, s.pair, s.family, CASE WHEN harmful.it THEN s.oid END) AS h
     UNION ALL
    -- different
    SELECT (p.l).kind, p.object, x.property, x.l, x.n, x.severity, x.hint, p.pair, (p.l).name,
           CASE WHEN x.severity = 'lossy' THEN m.legacy[p.pair] END, h.harm, h.query, 'would be refused', h.uncounted
      FROM p
     CROSS JOIN LATERAL (SELECT CASE WHEN (p.n).family IN ('primary key', 'unique') THEN NOT tandem.is_unique_already(m, p.pair, (p.n).oid) ELSE (p.n).family <> 'index' END AS it
                          WHERE (p.l).key <> (p.n).key OR (p.l).family <> (p.n).family UNION ALL SELECT false WHERE (p.l).key = (p.n).key AND (p.l).family = (p.n).family) AS harmful
     CROSS JOIN LATERAL (VALUES
         ('definition', CASE WHEN (p.l).key <> (p.n).key OR (p.l).family <> (p.n).family THEN (p.l).definition END, CASE WHEN (p.l).key <> (p.n).key OR (p.l).family <> (p.n).family THEN (p.n).definition END,
          CASE WHEN harmful.it THEN 'lossy' ELSE 'narrowing' END,
          CASE WHEN harmful.it THEN 'The new side can refuse rows that legacy accepts.' WHEN (p.l).family IN ('primary key', 'unique') THEN 'The new side keeps other rows apart.' ELSE 'It serves other queries.' END),
         ('kind', CASE WHEN (p.l).family = (p.n).family AND (p.l).kind <> (p.n).kind THEN 'UNIQUE ' || (p.l).kind END, CASE WHEN (p.l).family = (p.n).family AND (p.l).kind <> (p.n).kind THEN 'UNIQUE ' || (p.n).kind END,
          'cosmetic', 'Both keep the same rows apart; only a constraint can be named in ON CONFLICT ON CONSTRAINT.'),
         ('name', (p.l).name::text, CASE WHEN m.words[p.pair] IS NULL THEN (p.n).name::text ELSE (p.l).name::text END, 'cosmetic', 'Only error messages and ON CONFLICT ON CONSTRAINT show it.'),
         ('deferrable', (p.l).timing, (p.n).timing, CASE WHEN (p.n).timing = 'NOT DEFERRABLE' OR (p.l).timing = 'NOT DEFERRABLE' AND (p.l).family IN ('primary key', 'unique') OR (p.n).timing = 'DEFERRABLE' THEN 'narrowing' ELSE 'compatible' END,
          CASE WHEN (p.n).timing = 'NOT DEFERRABLE' THEN 'A transaction that breaks it for a moment fails on the new side.' WHEN (p.l).family IN ('primary key', 'unique') THEN 'A deferrable key serves neither ON CONFLICT nor foreign keys nor a mapping.'
               ELSE 'The new side checks it at another time.' END),
         ('state', (p.l).state, (p.n).state, CASE WHEN (p.n).state = 'VALID' AND (p.l).family IN ('check', 'foreign key') THEN 'lossy' WHEN (p.n).state = 'INVALID' THEN 'narrowing' WHEN (p.l).state = 'NOT ENFORCED' THEN 'lossy' ELSE 'compatible' END,
          CASE (p.n).state WHEN 'INVALID' THEN 'No query uses the index: REINDEX INDEX CONCURRENTLY.' WHEN 'VALID' THEN 'Rows that break it may stand in legacy.' WHEN 'NOT VALID' THEN 'Rows that stood in the table may break it; new ones are checked.' ELSE 'Nothing enforces it on the new side.' END),
         ('on update', (p.l).on_update, (p.n).on_update, 'narrowing', 'An UPDATE of the row referred to does something else.'),
         ('on delete', (p.l).on_delete, (p.n).on_delete, 'narrowing', 'A DELETE of the row referred to does something else.'),
         ('options', (p.l).options, (p.n).options, 'cosmetic', 'Storage parameters.'),
         ('comment', (p.l).comment, (p.n).comment, 'cosmetic', 'COMMENT ON')) AS x (property, l, n, severity, hint)
      CROSS JOIN LATERAL tandem.constraint_harm(m, p.pair, (p.n).family, CASE WHEN x.severity = 'lossy' THEN (p.n).oid END) AS h
     WHERE x.l IS DISTINCT FROM x.n OR x.property = 'definition' AND ((p.l).key <> (p.n).key OR (p.l).family <> (p.n).family);
END
$$;
COMMENT ON FUNCTION tandem.diff_constraints IS 'diff_schema(): primary keys, unique, check, foreign key and exclusion constraints, and indexes';
