-- schema_tables: relations and their columns, side by side.

-- ("a.b", "a.c") -> a.b -> a.c; where both are called the same, once.
CREATE FUNCTION tandem.object_label(legacy_relation name, new_relation name, legacy_part name DEFAULT NULL, new_part name DEFAULT NULL) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN x.l IS NULL OR x.n IS NULL OR x.l = x.n THEN coalesce(x.l, x.n) ELSE concat_ws(' ', x.l, tandem.glyph('to'), x.n) END
      FROM (VALUES (quote_ident(coalesce(legacy_relation, new_relation)) || coalesce('.' || quote_ident(coalesce(legacy_part, new_part)), ''),
                    quote_ident(coalesce(new_relation, legacy_relation)) || coalesce('.' || quote_ident(coalesce(new_part, legacy_part)), ''))) AS x (l, n)
$$;
COMMENT ON FUNCTION tandem.object_label IS 'An object as diff_schema() names it: by its name, by both where the mapping renames it';

-- Columns side by side. A mapped column stands beside the column or expression that fills it; what another mapping of the same table fills
-- or reads is not missing here.
CREATE FUNCTION tandem.column_pairs(legacy oid[], new oid[], maps jsonb[])
RETURNS TABLE (pair integer, legacy_attnum smallint, new_attnum smallint, value text, type oid, typmod integer, reads jsonb)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH p AS MATERIALIZED (
        SELECT u.pair::integer, u.l, u.n, u.map FROM unnest(legacy, new, maps) WITH ORDINALITY AS u (l, n, map, pair)),
    l AS MATERIALIZED (
        SELECT p.pair, p.l AS relation, p.map IS NOT NULL AS mapped, a.attname, a.attnum, a.atttypid, a.atttypmod FROM p JOIN pg_attribute AS a ON a.attrelid = p.l
         WHERE p.n IS NOT NULL AND a.attnum > 0 AND NOT a.attisdropped),
    n AS MATERIALIZED (
        SELECT p.pair, p.n AS relation, p.map IS NOT NULL AS mapped, a.attname, a.attnum FROM p JOIN pg_attribute AS a ON a.attrelid = p.n
         WHERE p.l IS NOT NULL AND a.attnum > 0 AND NOT a.attisdropped),
    m AS MATERIALIZED (
        SELECT p.pair, p.l, p.n, e.key AS new_name, e.value AS v, e.value ->> 'bare' AS bare FROM p CROSS JOIN LATERAL jsonb_each(p.map) AS e)
    SELECT coalesce(l.pair, n.pair), l.attnum, n.attnum, quote_ident(l.attname), l.atttypid, l.atttypmod, NULL::jsonb
      FROM (SELECT * FROM l WHERE NOT l.mapped) AS l FULL JOIN (SELECT * FROM n WHERE NOT n.mapped) AS n ON n.pair = l.pair AND n.attname = l.attname
     UNION ALL
    SELECT n.pair, l.attnum, n.attnum, coalesce(quote_ident(l.attname), m.v ->> 'expression'),
           coalesce(l.atttypid, (m.v ->> 'type')::oid), coalesce(l.atttypmod, (m.v ->> 'typmod')::integer), m.v -> 'reads'
      FROM n LEFT JOIN m ON m.pair = n.pair AND m.new_name = n.attname LEFT JOIN l ON l.pair = n.pair AND l.attname = m.bare
     WHERE n.mapped AND (m.pair IS NOT NULL OR NOT EXISTS (SELECT FROM m AS other WHERE other.n = n.relation AND other.new_name = n.attname))
     UNION ALL
    SELECT l.pair, l.attnum, NULL, quote_ident(l.attname), l.atttypid, l.atttypmod, NULL
      FROM l
     WHERE l.mapped AND NOT EXISTS (SELECT FROM m AS other WHERE other.l = l.relation AND other.v -> 'reads' ? l.attname)
       AND l.pair = (SELECT min(p.pair) FROM p WHERE p.l = l.relation)
$$;
COMMENT ON FUNCTION tandem.column_pairs IS
    'Columns side by side, by name or by mapping: value is SQL over the legacy row for what goes into the new column, reads the legacy columns of a mapped expression';

-- A mapping's expression is its owner's code, unless no name in it is qualified: then it can only mean what is in pg_catalog.
CREATE FUNCTION tandem.foreign_mapping(map jsonb) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('the mapping of column %I is code of role %I', e.key, e.value ->> 'owner')
      FROM jsonb_each(map) AS e
     WHERE e.value ->> 'bare' IS NULL
       AND regexp_replace(e.value ->> 'expression', $r$'(?:[^']|'')*'$r$, '', 'g') ~ $r$[^0-9[:space:](,*/+=<>|-]\s*\.|[eEuU]&?'|\$|\.\s*"$r$
       AND NOT tandem.trusted_owner((SELECT r.oid FROM pg_roles AS r WHERE r.rolname = e.value ->> 'owner'))
     ORDER BY e.key LIMIT 1
$$;
COMMENT ON FUNCTION tandem.foreign_mapping IS 'Why the expressions of a mapping are not evaluated in the caller''s name; NULL where they may be';

-- What new would get of legacy, as SQL for FROM: from_row over one legacy row, from_rows for all of them, both under the name of the new table,
-- so that expressions of the new side can be asked of them. A value that does not fit is NULL: it is counted where its type is.
CREATE FUNCTION tandem.legacy_as_new(legacy oid, new oid, map jsonb, OUT from_row text, OUT from_rows text, OUT uncounted text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c record;
    change tandem.type_verdict;
    parts text[] := '{}';
    v text;
BEGIN
    FOR c IN SELECT p.value, p.type, p.typmod, a.attname, a.atttypid, a.atttypmod, b.base, b.base_typmod
               FROM tandem.column_pairs(ARRAY[legacy], ARRAY[new], ARRAY[map]) AS p
               JOIN pg_attribute AS a ON a.attrelid = new AND a.attnum = p.new_attnum
              CROSS JOIN LATERAL tandem.below_domain(a.atttypid, a.atttypmod) AS b
              ORDER BY a.attnum LOOP
        v := format('(%s)', c.value);
        IF c.value IS NULL THEN
            v := 'NULL::' || format_type(c.base, c.base_typmod);
        ELSIF c.type <> c.atttypid OR c.typmod <> c.atttypmod THEN
            change := tandem.type_change(v, c.type, c.typmod, c.base, c.base_typmod);
            uncounted := coalesce(uncounted, tandem.foreign_cast(ARRAY[c.type, c.atttypid]));
            IF c.type >= 16384 OR c.base >= 16384 THEN -- one enum has no cast to another
                v := v || '::text';
            END IF;
            v := format(CASE WHEN change.severity = 'lossy' AND change.harm IS NULL THEN 'NULL::%2$s' WHEN change.severity = 'lossy' THEN 'CASE WHEN %3$s THEN NULL ELSE %1$s::%2$s END' ELSE '%1$s::%2$s' END,
                        v, format_type(c.base, c.base_typmod), change.harm);
        END IF;
        parts := parts || format('%s AS %I', v, c.attname);
    END LOOP;
    uncounted := coalesce(uncounted, tandem.foreign_mapping(map));
    SELECT format(' FROM (SELECT %s) AS %I', array_to_string(parts, ', '), r.relname),
           format(' FROM (SELECT tandem_row.* FROM %s CROSS JOIN LATERAL (SELECT %s) AS tandem_row) AS %I', legacy::regclass, array_to_string(parts, ', '), r.relname)
      INTO from_row, from_rows FROM pg_class AS r WHERE r.oid = new;
END
$$;
COMMENT ON FUNCTION tandem.legacy_as_new IS 'SQL for the rows that new would get of legacy';

CREATE FUNCTION tandem.schema_relations(schema name, relations oid[])
RETURNS TABLE (pair integer, oid oid, name name, object_type text, persistence text, row_security text, forced text, partition_key text,
               parent text, bound text, parents text, identity text, options text, definition text, owner text, comment text, kind "char")
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT u.pair::integer, c.oid, c.relname,
           CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' ELSE 'table' END,
           CASE c.relpersistence WHEN 'u' THEN 'UNLOGGED' WHEN 'p' THEN 'LOGGED' ELSE 'TEMPORARY' END,
           CASE WHEN c.relrowsecurity THEN 'enabled' ELSE 'disabled' END,
           CASE WHEN c.relforcerowsecurity THEN 'forced' ELSE 'not forced' END,
           CASE WHEN c.relkind = 'p' THEN tandem.schema_text(schema, 'partition key', c.oid) END,
           CASE WHEN c.relispartition THEN i.parents END,
           CASE WHEN c.relispartition THEN tandem.schema_expression(schema, c.relpartbound, c.oid) END,
           CASE WHEN NOT c.relispartition THEN i.parents END,
           CASE WHEN c.relkind NOT IN ('r', 'p') THEN 'none' ELSE CASE c.relreplident WHEN 'd' THEN 'DEFAULT' WHEN 'n' THEN 'NOTHING' WHEN 'f' THEN 'FULL'
                ELSE 'INDEX ' || coalesce((SELECT quote_ident(x.relname) FROM pg_index AS k JOIN pg_class AS x ON x.oid = k.indexrelid
                                            WHERE k.indrelid = c.oid AND k.indisreplident), '') END END,
           (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(c.reloptions) AS o),
           CASE WHEN c.relkind IN ('v', 'm') THEN tandem.schema_text(schema, 'view', c.oid)
                WHEN c.relkind = 'f' THEN (SELECT format('SERVER %I', s.srvname) || coalesce(format(' OPTIONS (%s)', (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(f.ftoptions) AS o)), '')
                                             FROM pg_foreign_table AS f JOIN pg_foreign_server AS s ON s.oid = f.ftserver WHERE f.ftrelid = c.oid) END,
           pg_get_userbyid(c.relowner),
           (SELECT d.description FROM pg_description AS d WHERE d.classoid = 'pg_class'::regclass AND d.objoid = c.oid AND d.objsubid = 0),
           c.relkind
      FROM unnest(relations) WITH ORDINALITY AS u (relation, pair)
      JOIN pg_class AS c ON c.oid = u.relation
      LEFT JOIN LATERAL (SELECT string_agg(tandem.schema_text(schema, 'relation', h.inhparent), ', ' ORDER BY h.inhseqno) AS parents
                           FROM pg_inherits AS h WHERE h.inhrelid = c.oid) AS i ON true
$$;
COMMENT ON FUNCTION tandem.schema_relations IS 'What diff_schema() compares of relations, one row for each';

-- Rows that no partition of a table takes. The constraint of a default partition is what the others leave.
CREATE FUNCTION tandem.partition_harm(legacy oid, new oid, map jsonb, OUT harm text, OUT uncounted text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    accepted text;
    as_new record;
BEGIN
    IF legacy IS NULL OR new IS NULL THEN
        RETURN;
    END IF;
    SELECT string_agg(format('(%s)', pg_get_partition_constraintdef(t.relid)), ' OR ') INTO accepted FROM pg_partition_tree(new) AS t WHERE t.isleaf AND t.relid <> new;
    IF accepted IS NULL THEN
        harm := 'true';
        RETURN;
    END IF;
    as_new := tandem.legacy_as_new(legacy, new, map);
    harm := format('(SELECT (%s) IS NOT TRUE%s)', accepted, as_new.from_row);
    uncounted := coalesce(as_new.uncounted, (SELECT min(tandem.foreign_code('pg_class'::regclass, t.relid)) FROM pg_partition_tree(new) AS t WHERE NOT t.isleaf));
END
$$;
COMMENT ON FUNCTION tandem.partition_harm IS 'The condition under which a legacy row finds no partition on the new side';

CREATE FUNCTION tandem.diff_relations(m tandem.schema_match) RETURNS SETOF tandem.schema_difference
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH l AS MATERIALIZED (SELECT r.* FROM tandem.schema_relations(m.legacy_schema, m.legacy) AS r),
    n AS MATERIALIZED (SELECT r.* FROM tandem.schema_relations(m.new_schema, m.new) AS r),
    p AS MATERIALIZED (
        SELECT l, n, coalesce(l.pair, n.pair) AS pair, coalesce(l.object_type, n.object_type) AS object_type,
               tandem.object_label(l.name, n.name) AS object
          FROM l FULL JOIN n ON n.pair = l.pair),
    -- the table that a partition belongs to, on the other side
    parents AS (
        SELECT p.pair, q.pair AS parent, (q.l).oid AS legacy, (q.n).oid AS new, (q.l).partition_key AS legacy_key, (q.n).partition_key AS new_key
          FROM p JOIN pg_inherits AS i ON i.inhrelid = coalesce((p.l).oid, (p.n).oid)
          JOIN p AS q ON i.inhparent IN ((q.l).oid, (q.n).oid)
         WHERE (p.l).oid IS NULL <> ((p.n).oid IS NULL) AND coalesce((p.l).bound, (p.n).bound) IS NOT NULL AND (q.l).oid IS NOT NULL AND (q.n).oid IS NOT NULL)
    -- missing
    SELECT DISTINCT ON (p.pair) CASE WHEN q.pair IS NULL THEN p.object_type ELSE 'partition' END, p.object, 'existence',
           coalesce((p.l).bound, (p.l).object_type), coalesce((p.n).bound, (p.n).object_type),
           CASE WHEN (p.l).oid IS NULL THEN 'compatible' WHEN q.pair IS NOT NULL OR (p.l).kind IN ('r', 'p') THEN 'lossy' ELSE 'narrowing' END,
           CASE WHEN (p.l).oid IS NULL AND q.pair IS NOT NULL THEN 'The new side has one more partition.'
                WHEN (p.l).oid IS NULL THEN format('Only the new side has this %s.', p.object_type)
                WHEN q.pair IS NOT NULL THEN 'Create the partition on the new side, unless others take its rows.'
                WHEN (p.l).kind IN ('r', 'p') THEN 'Create it on the new side, or map the table to where its rows go: tandem.map_table().'
                ELSE format('Create the %s on the new side, or move who reads it.', p.object_type) END,
           p.pair, NULL, CASE WHEN (p.l).kind IN ('r', 'p') AND (p.n).oid IS NULL THEN (p.l).oid END,
           CASE WHEN q.pair IS NOT NULL THEN h.harm ELSE 'true' END, NULL,
           CASE WHEN q.pair IS NOT NULL THEN 'would find no partition' ELSE 'would have nowhere to go' END, h.uncounted
      FROM p LEFT JOIN parents AS q ON q.pair = p.pair
      CROSS JOIN LATERAL tandem.partition_harm((p.l).oid, q.new, m.maps[q.parent]) AS h
     WHERE ((p.l).oid IS NULL OR (p.n).oid IS NULL)
       -- partitions of a table that is partitioned in another way, or not at all, on the other side: said once, of the table
       AND (q.pair IS NULL OR tandem.same_text(m, q.legacy_key, q.new_key, m.words[q.parent]))
     UNION ALL
    -- different
    SELECT p.object_type, p.object, x.property, x.l, x.n, x.severity, x.hint, p.pair, NULL, CASE WHEN h.harm IS NOT NULL THEN x.source END, h.harm, NULL, 'would find no partition', h.uncounted
      FROM p
     CROSS JOIN LATERAL (VALUES
         ('kind', (p.l).object_type, (p.n).object_type, CASE WHEN (p.n).kind IN ('r', 'p') THEN 'compatible' ELSE 'narrowing' END, 'What writes to it, locks or indexes it may fail on the new side.', NULL),
         ('persistence', (p.l).persistence, (p.n).persistence, CASE WHEN (p.n).persistence = 'LOGGED' THEN 'compatible' ELSE 'narrowing' END,
          CASE WHEN (p.n).persistence = 'LOGGED' THEN 'The new side survives a crash.' ELSE 'A crash empties the table of the new side, and replicas have no rows of it: ALTER TABLE ... SET LOGGED.' END, NULL),
         ('row security', (p.l).row_security, (p.n).row_security, 'narrowing',
          CASE WHEN (p.n).row_security = 'enabled' THEN 'On the new side policies hide rows that legacy shows.' ELSE 'On the new side everybody with SELECT sees every row: ALTER TABLE ... ENABLE ROW LEVEL SECURITY.' END, NULL),
         ('forced row security', (p.l).forced, (p.n).forced, 'narrowing',
          CASE WHEN (p.n).forced = 'forced' THEN 'On the new side policies bind the table''s owner, too.' ELSE 'On the new side the table''s owner sees every row: ALTER TABLE ... FORCE ROW LEVEL SECURITY.' END, NULL),
         ('partition key', (p.l).partition_key, (p.n).partition_key, CASE WHEN (p.n).partition_key IS NULL THEN 'compatible' ELSE 'lossy' END,
          CASE WHEN (p.n).partition_key IS NULL THEN 'The new table holds the rows of all partitions itself.' ELSE 'The new side refuses a row for which it has no partition; a DEFAULT partition takes them all.' END, (p.l).oid),
         ('partition of', (p.l).parent, (p.n).parent, 'narrowing', 'It belongs to another table, or to none, on the new side.', NULL),
         ('partition bound', (p.l).bound, (p.n).bound, CASE WHEN (p.l).bound IS NULL OR (p.n).bound IS NULL THEN 'narrowing' ELSE 'lossy' END,
          'The partition of the new side takes other rows.', CASE WHEN (p.l).bound IS NOT NULL AND (p.n).bound IS NOT NULL THEN (p.l).oid END),
         ('inherits', (p.l).parents, (p.n).parents, 'narrowing', 'Queries of the parent table show its rows on one side only.', NULL),
         ('replica identity', (p.l).identity, (p.n).identity, CASE WHEN (p.n).identity = 'FULL' THEN 'compatible' ELSE 'narrowing' END,
          'Logical replication sends other old keys, or refuses UPDATE and DELETE: ALTER TABLE ... REPLICA IDENTITY.', NULL),
         ('definition', (p.l).definition, (p.n).definition, 'narrowing',
          CASE WHEN p.object_type = 'foreign table' THEN 'It reads from elsewhere.' ELSE format('It may show other rows or values: tandem.diff(%L, %L) tells.', format('%I.%I', m.legacy_schema, (p.l).name), format('%I.%I', m.new_schema, (p.n).name)) END, NULL),
         ('options', (p.l).options, (p.n).options, CASE WHEN concat((p.l).options, (p.n).options) ~ 'security_|check_option' THEN 'narrowing' ELSE 'cosmetic' END,
          CASE WHEN concat((p.l).options, (p.n).options) ~ 'security_|check_option' THEN 'They decide whose rights a view takes, and which rows it lets in.' ELSE 'Storage parameters.' END, NULL),
         ('owner', (p.l).owner, (p.n).owner, 'cosmetic', 'The owner holds every privilege, and row security does not bind him.', NULL),
         ('comment', (p.l).comment, (p.n).comment, 'cosmetic', 'COMMENT ON', NULL)
          ) AS x (property, l, n, severity, hint, source)
     CROSS JOIN LATERAL tandem.partition_harm(
               CASE WHEN x.severity = 'lossy' AND (p.l).kind IN ('r', 'p') AND x.l IS DISTINCT FROM x.n THEN x.source END,
               CASE WHEN x.property = 'partition key' THEN (p.n).oid ELSE (SELECT i.inhparent FROM pg_inherits AS i WHERE i.inhrelid = (p.n).oid) END,
               m.maps[p.pair]) AS h
     WHERE (p.l).oid IS NOT NULL AND (p.n).oid IS NOT NULL AND x.l IS DISTINCT FROM x.n
       AND (x.property NOT IN ('definition', 'replica identity', 'options') OR (p.l).object_type = (p.n).object_type)
       AND NOT tandem.same_text(m, x.l, x.n, CASE WHEN x.property IN ('definition', 'partition of', 'inherits') THEN m.all_words
                                                  WHEN x.property IN ('partition key', 'partition bound') THEN m.words[p.pair] END, x.property = 'partition bound')
       AND NOT (x.property = 'definition' AND (p.l).kind IN ('v', 'm') AND tandem.same_text(m, tandem.without_aliases(x.l), tandem.without_aliases(x.n), m.all_words))
$$;
COMMENT ON FUNCTION tandem.diff_relations IS 'diff_schema(): tables, views, materialized views, foreign tables and partitions';

CREATE FUNCTION tandem.schema_columns(schema name, relations oid[])
RETURNS TABLE (pair integer, relation oid, relation_name name, kind "char", attnum smallint, name name, type oid, typmod integer, type_text text, not_null boolean,
               expression text, expression_oid oid, generated "char", identity text, collation_text text, collation_id oid, inherited boolean, comment text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT u.pair::integer, c.oid, c.relname, c.relkind, a.attnum, a.attname, a.atttypid, a.atttypmod,
           CASE WHEN a.atttypid < 16384 THEN format_type(a.atttypid, a.atttypmod) ELSE tandem.schema_text(schema, 'type', a.atttypid, a.atttypmod) END,
           a.attnotnull,
           -- its own sequence goes by no name: the names of the sequences are not what differs
           CASE WHEN s.name IS NOT NULL AND a.attgenerated = '' AND pg_get_expr(d.adbin, d.adrelid) = format('nextval(%L::regclass)', s.name) THEN 'nextval of its own sequence'
                ELSE tandem.schema_expression(schema, d.adbin, d.adrelid) END,
           d.oid, a.attgenerated,
           CASE a.attidentity WHEN 'a' THEN 'ALWAYS' WHEN 'd' THEN 'BY DEFAULT' END,
           CASE WHEN a.attcollation <> t.typcollation THEN (SELECT CASE WHEN o.collnamespace = c.relnamespace OR o.collnamespace = 'pg_catalog'::regnamespace THEN quote_ident(o.collname)
                                                                        ELSE o.oid::regcollation::text END FROM pg_collation AS o WHERE o.oid = a.attcollation) END,
           a.attcollation, a.attinhcount > 0 AND NOT a.attislocal,
           (SELECT x.description FROM pg_description AS x WHERE x.classoid = 'pg_class'::regclass AND x.objoid = a.attrelid AND x.objsubid = a.attnum)
      FROM unnest(relations) WITH ORDINALITY AS u (relation, pair)
      JOIN pg_class AS c ON c.oid = u.relation
      JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      JOIN pg_type AS t ON t.oid = a.atttypid
      LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef
      LEFT JOIN LATERAL (SELECT k.objid::regclass::text AS name FROM pg_depend AS k JOIN pg_class AS q ON q.oid = k.objid AND q.relkind = 'S'
                          WHERE k.classid = 'pg_class'::regclass AND k.refclassid = 'pg_class'::regclass AND k.refobjid = a.attrelid
                            AND k.refobjsubid = a.attnum AND k.deptype = 'a' LIMIT 1) AS s ON d.oid IS NOT NULL
$$;
COMMENT ON FUNCTION tandem.schema_columns IS 'What diff_schema() compares of columns, one row for each';

-- The condition under which a value of a generated column is another on the new side.
CREATE FUNCTION tandem.generation_harm(legacy oid, new oid, map jsonb, value text, type oid, new_type oid, attrdef oid, OUT harm text, OUT uncounted text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    as_new record;
BEGIN
    IF attrdef IS NULL THEN
        RETURN;
    END IF;
    as_new := tandem.legacy_as_new(legacy, new, map);
    SELECT format('(SELECT (%s) IS DISTINCT FROM (%s)%s%s)', pg_get_expr(d.adbin, d.adrelid), value,
                  CASE WHEN type <> new_type THEN '::' || format_type(new_type, -1) END, as_new.from_row)
      INTO harm FROM pg_attrdef AS d WHERE d.oid = attrdef;
    uncounted := coalesce(as_new.uncounted, tandem.foreign_code('pg_attrdef'::regclass, attrdef));
END
$$;
COMMENT ON FUNCTION tandem.generation_harm IS 'The condition under which a generated column of the new side holds another value than legacy';

CREATE FUNCTION tandem.diff_columns(m tandem.schema_match) RETURNS SETOF tandem.schema_difference
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH l AS MATERIALIZED (SELECT c.* FROM tandem.schema_columns(m.legacy_schema, m.legacy) AS c),
    n AS MATERIALIZED (SELECT c.* FROM tandem.schema_columns(m.new_schema, m.new) AS c),
    p AS MATERIALIZED (
        SELECT x.*, l, n, l.attnum IS NULL AND x.value IS NOT NULL AS computed,
               CASE WHEN l.attnum IS NULL THEN tandem.object_label(NULL, nr.relname, NULL, n.name)
                    WHEN x.new_attnum IS NULL THEN tandem.object_label(lr.relname, NULL, l.name)
                    ELSE tandem.object_label(lr.relname, nr.relname, l.name, n.name) END AS object,
               m.legacy[x.pair] AS source, lr.relkind IN ('r', 'p') AND nr.relkind IN ('r', 'p', 'f') AS stored,
               CASE WHEN m.maps[x.pair] IS NOT NULL THEN tandem.foreign_mapping(m.maps[x.pair]) END AS uncounted
          FROM tandem.column_pairs(m.legacy, m.new, m.maps) AS x
          LEFT JOIN l ON l.pair = x.pair AND l.attnum = x.legacy_attnum
          LEFT JOIN n ON n.pair = x.pair AND n.attnum = x.new_attnum
          LEFT JOIN pg_class AS lr ON lr.oid = m.legacy[x.pair]
          LEFT JOIN pg_class AS nr ON nr.oid = m.new[x.pair])
    -- only in legacy
    SELECT 'column', p.object, 'existence', (p.l).type_text, NULL,
           CASE WHEN p.stored AND (p.l).generated = '' THEN 'lossy' ELSE 'narrowing' END,
           CASE WHEN (p.l).generated <> '' THEN 'Legacy computes it; add it as a generated column, or let the application compute it.'
                ELSE 'Add the column, or map it to where its values go: tandem.map_table(..., forward => ...).' END,
           p.pair, (p.l).name, CASE WHEN p.stored AND (p.l).generated = '' THEN p.source END, format('(%s) IS NOT NULL', p.value), NULL, 'would lose their value', p.uncounted
      FROM p WHERE (p.n).attnum IS NULL
     UNION ALL
    -- only in new
    SELECT 'column', p.object, 'existence', NULL, (p.n).type_text, CASE WHEN needed.it AND p.stored THEN 'lossy' ELSE 'compatible' END,
           CASE WHEN needed.it THEN 'It is NOT NULL without a default, so the new side refuses rows of legacy: give it a DEFAULT, or map it: tandem.map_table(..., forward => ...).'
                ELSE 'Rows of legacy get its default.' END,
           p.pair, (p.n).name, CASE WHEN needed.it AND p.stored THEN p.source END, 'true', NULL, 'would be refused', p.uncounted
      FROM p CROSS JOIN LATERAL (SELECT (p.n).not_null AND (p.n).expression IS NULL AND (p.n).identity IS NULL AS it) AS needed
     WHERE (p.l).attnum IS NULL AND NOT p.computed
     UNION ALL
    -- type
    SELECT 'column', p.object, 'type', coalesce((p.l).type_text, tandem.schema_text(m.legacy_schema, 'type', p.type, p.typmod)), (p.n).type_text,
           v.severity, CASE v.severity WHEN 'compatible' THEN 'Every value fits' WHEN 'narrowing' THEN 'Every value fits, but' ELSE 'Not every value fits:' END
                       || coalesce(CASE WHEN v.severity = 'compatible' THEN ': ' ELSE ' ' END || v.reason, '') || '.',
           p.pair, coalesce((p.l).name, (p.n).name), CASE WHEN v.severity = 'lossy' AND p.stored THEN p.source END, v.harm, NULL, 'would be changed or refused',
           coalesce(p.uncounted, tandem.foreign_cast(ARRAY[p.type, (p.n).type]), (tandem.domain_harm('', (p.n).type)).uncounted)
      FROM p CROSS JOIN LATERAL tandem.type_change(p.value, p.type, p.typmod, (p.n).type, (p.n).typmod) AS v
     WHERE (p.n).attnum IS NOT NULL AND p.value IS NOT NULL AND (p.type <> (p.n).type OR p.typmod <> (p.n).typmod)
       AND NOT tandem.same_text(m, coalesce((p.l).type_text, tandem.schema_text(m.legacy_schema, 'type', p.type, p.typmod)), (p.n).type_text, NULL)
       -- an expression has no length of its own, and the mirror's assignment gives it that of the column
       AND NOT (p.computed AND v.severity = 'compatible')
     UNION ALL
    -- nullability. Of an expression nobody knows but by counting.
    SELECT 'column', p.object, 'nullability', CASE WHEN (p.l).not_null THEN 'NOT NULL' ELSE 'NULL' END, CASE WHEN (p.n).not_null THEN 'NOT NULL' ELSE 'NULL' END,
           CASE WHEN (p.n).not_null THEN 'lossy' ELSE 'compatible' END,
           CASE WHEN (p.n).not_null THEN 'The new side refuses NULL: fill the values, or map the column with coalesce().' ELSE 'The new side accepts NULL, which legacy refuses: such a row cannot come back.' END,
           p.pair, (p.l).name, CASE WHEN (p.n).not_null AND p.stored THEN p.source END, format('(%s) IS NULL', p.value), NULL, 'would be refused', p.uncounted
      FROM p WHERE (p.l).attnum IS NOT NULL AND (p.n).attnum IS NOT NULL AND (p.l).not_null <> (p.n).not_null
     UNION ALL
    SELECT 'column', p.object, 'nullability', 'an expression', 'NOT NULL', 'lossy', 'The new side refuses NULL, which the mapping''s expression can give.',
           p.pair, (p.n).name, p.source, format('(%s) IS NULL', p.value), NULL, 'would be refused', NULL
      FROM p WHERE p.computed AND p.stored AND (p.n).not_null
       AND p.uncounted IS NULL AND EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = p.source AND p.reads ? a.attname AND NOT a.attnotnull)
     UNION ALL
    -- default, generation, identity, collation, comment
    SELECT 'column', p.object, x.property, x.l, x.n, x.severity, x.hint, p.pair, (p.l).name,
           CASE WHEN x.severity = 'lossy' AND p.stored THEN p.source END, h.harm, NULL, 'would hold another value', coalesce(p.uncounted, h.uncounted)
      FROM p
     CROSS JOIN LATERAL (VALUES
         ('default', CASE WHEN (p.l).generated = '' THEN (p.l).expression END, CASE WHEN (p.n).generated = '' THEN (p.n).expression END,
          CASE WHEN (p.l).expression IS NULL THEN 'compatible' ELSE 'narrowing' END,
          CASE WHEN (p.l).expression IS NULL THEN 'Only the new side fills the column by itself.'
               WHEN (p.n).expression IS NULL THEN 'The new side does not fill the column by itself: ALTER TABLE ... ALTER COLUMN ... SET DEFAULT.'
               ELSE 'An INSERT without this column gets another value.' END),
         ('generated', CASE WHEN (p.l).generated <> '' THEN (p.l).expression || CASE (p.l).generated WHEN 's' THEN ' STORED' ELSE ' VIRTUAL' END END,
          CASE WHEN (p.n).generated <> '' THEN (p.n).expression || CASE (p.n).generated WHEN 's' THEN ' STORED' ELSE ' VIRTUAL' END END,
          CASE WHEN (p.n).generated = '' THEN 'narrowing' WHEN tandem.same_text(m, (p.l).expression, (p.n).expression, m.words[p.pair], p.type <> (p.n).type) AND (p.l).generated <> '' THEN 'cosmetic' ELSE 'lossy' END,
          CASE WHEN (p.n).generated = '' THEN 'The new side does not compute the column.'
               WHEN (p.l).generated = '' THEN 'The new side computes the column, and takes no value of legacy.' ELSE 'The new side computes the column in another way.' END),
         ('identity', CASE WHEN (p.l).identity IS NULL AND (p.l).expression = 'nextval of its own sequence' THEN 'nextval of its own sequence' ELSE (p.l).identity END,
          CASE WHEN (p.n).identity IS NULL AND (p.n).expression = 'nextval of its own sequence' THEN 'nextval of its own sequence' ELSE (p.n).identity END,
          CASE WHEN (p.n).identity = 'BY DEFAULT' OR (p.n).expression = 'nextval of its own sequence' OR (p.l).identity IS NULL AND (p.l).expression IS NULL AND (p.n).identity <> 'ALWAYS' THEN 'compatible' ELSE 'narrowing' END,
          CASE WHEN (p.n).identity = 'ALWAYS' THEN 'The new side refuses a value that is given without OVERRIDING SYSTEM VALUE.'
               WHEN (p.n).identity = 'BY DEFAULT' OR (p.n).expression = 'nextval of its own sequence' THEN 'Both sides fill the column by a sequence of its own, if no value is given.'
               ELSE 'The new side does not fill the column by itself.' END),
         ('collation', coalesce((p.l).collation_text, CASE WHEN (p.n).collation_text IS NOT NULL THEN '"default"' END), coalesce((p.n).collation_text, CASE WHEN (p.l).collation_text IS NOT NULL THEN '"default"' END),
          'narrowing', 'Order, ranges and, if one is nondeterministic, equality differ.'),
         ('comment', (p.l).comment, (p.n).comment, 'cosmetic', 'COMMENT ON COLUMN')
          ) AS x (property, l, n, severity, hint)
     CROSS JOIN LATERAL tandem.generation_harm(p.source, (p.n).relation, m.maps[p.pair], p.value, p.type, (p.n).type,
               CASE WHEN x.property = 'generated' AND x.severity = 'lossy' AND p.stored THEN (p.n).expression_oid END) AS h
     WHERE (p.l).attnum IS NOT NULL AND (p.n).attnum IS NOT NULL AND x.l IS DISTINCT FROM x.n
       -- a column is filled by a default, an expression or an identity: one row says which
       AND NOT (x.property = 'default' AND ((p.l).generated <> '' OR (p.n).generated <> '' OR
                   ((p.l).identity IS NOT NULL OR (p.n).identity IS NOT NULL) AND coalesce((p.l).expression, 'nextval of its own sequence') = 'nextval of its own sequence'
                                                                              AND coalesce((p.n).expression, 'nextval of its own sequence') = 'nextval of its own sequence'))
       AND NOT (x.property = 'identity' AND (p.l).identity IS NULL AND (p.n).identity IS NULL)
       AND NOT (x.property = 'collation' AND p.type <> (p.n).type AND 0 IN ((p.l).collation_id, (p.n).collation_id))
       AND NOT tandem.same_text(m, x.l, x.n, CASE WHEN x.property IN ('default', 'generated') THEN m.words[p.pair] END,
                                x.property IN ('default', 'generated') AND (p.type <> (p.n).type OR p.typmod <> (p.n).typmod))
     UNION ALL
    -- order of the columns that both have
    SELECT 'table', tandem.object_label(o.legacy_name, o.new_name), 'column order', o.l, o.n, 'cosmetic', 'SELECT * and INSERT without a list of columns see it.', o.pair, NULL, NULL, NULL, NULL, NULL, NULL
      FROM (SELECT p.pair, (array_agg((p.l).relation_name))[1] AS legacy_name, (array_agg((p.n).relation_name))[1] AS new_name,
                   string_agg(quote_ident((p.l).name), ', ' ORDER BY p.legacy_attnum) AS l, string_agg(quote_ident((p.n).name), ', ' ORDER BY p.new_attnum) AS n,
                   array_agg(p.new_attnum ORDER BY p.legacy_attnum) <> array_agg(p.new_attnum ORDER BY p.new_attnum) AS differs
              FROM p WHERE p.legacy_attnum IS NOT NULL AND p.new_attnum IS NOT NULL GROUP BY p.pair) AS o
     WHERE o.differs
$$;
COMMENT ON FUNCTION tandem.diff_columns IS 'diff_schema(): columns';
