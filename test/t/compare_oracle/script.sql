-- write_script(round): the statements that make the relations of a round, fill and change them.

-- What a side has: its own names and types for the same columns, and i (legacy) or j (new), the number of the row.
CREATE FUNCTION oracle.side_columns(round integer, is_new boolean) RETURNS TABLE (place integer, name text, type text, collation_name text, kind text, value text, pool text[], family text, is_key boolean)
LANGUAGE sql STABLE AS $$
    SELECT c.place, CASE WHEN is_new THEN c.name ELSE c.old_name END, CASE WHEN is_new THEN c.new_type ELSE c.legacy_type END,
           CASE WHEN is_new THEN c.new_collation ELSE c.legacy_collation END, c.kind, CASE WHEN is_new AND c.kind = 'generated' THEN regexp_replace(c.value, '\mi\M', 'j', 'g') ELSE c.value END, c.pool, c.family, c.is_key
      FROM oracle.col AS c WHERE c.round = $1 AND (is_new OR c.kind <> 'generated' OR c.expression IS NULL)
$$;

CREATE FUNCTION oracle.definition(name text, type text, collation_name text, kind text, value text, is_virtual boolean) RETURNS text LANGUAGE sql AS $$
    SELECT format('%I %s', name, type) || coalesce(' COLLATE ' || collation_name, '')
           || CASE kind WHEN 'generated' THEN format(' GENERATED ALWAYS AS (%s) %s', value, CASE WHEN is_virtual THEN 'VIRTUAL' ELSE 'STORED' END) ELSE '' END
$$;

-- A table of one kind, still empty; without the columns that are to be added when half of the rows are there.
CREATE FUNCTION oracle.write_table(r oracle.round, relation text, is_new boolean, kind text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    number_name text := CASE WHEN is_new THEN 'j' ELSE 'i' END;
    is_virtual boolean := oracle.chance(0.5) AND current_setting('server_version_num')::integer >= 180000 AND kind NOT IN ('partitioned', 'inherited');
    definitions text[] := ARRAY(SELECT oracle.definition(s.name, s.type, s.collation_name, s.kind, s.value, is_virtual) FROM oracle.side_columns(r.number, is_new) AS s WHERE s.kind <> 'added') || format('%I integer', number_name);
    gone text[] := ARRAY(SELECT format('"gone %s" %s', g, oracle.pick('{integer,text,bool DEFAULT true,"numeric DEFAULT 1.5"}'::text[])) FROM generate_series(1, oracle.pick('{0,0,0,1,2}'::integer[])) AS g);
    shuffled text := (SELECT string_agg(d, ', ' ORDER BY random()) FROM unnest(definitions || gone) AS d);
    other_order text := (SELECT string_agg(d, ', ' ORDER BY random()) FROM unnest(definitions || gone) AS d);
    parts record;
    c record;
BEGIN
    IF kind = 'partitioned' THEN
        SELECT * INTO parts FROM (VALUES
            ('RANGE (%I)', 'FOR VALUES FROM (MINVALUE) TO (4)', 'FOR VALUES FROM (4) TO (15)', 'DEFAULT'),
            ('LIST ((%I %% 3))', 'FOR VALUES IN (0)', 'FOR VALUES IN (1)', 'FOR VALUES IN (2)'),
            ('HASH (%I)', 'FOR VALUES WITH (MODULUS 4, REMAINDER 0)', 'FOR VALUES WITH (MODULUS 4, REMAINDER 2)', 'FOR VALUES WITH (MODULUS 2, REMAINDER 1)')) AS v (scheme, one, two, rest)
         ORDER BY random() LIMIT 1;
        PERFORM oracle.say(r.number, 'make', format(s, relation))
           FROM unnest(ARRAY[
                'CREATE TABLE %1$s (' || replace(shuffled, '%', '%%') || ') PARTITION BY ' || replace(format(parts.scheme, number_name), '%', '%%'),
                'CREATE TABLE %1$s_one PARTITION OF %1$s ' || parts.one,
                'CREATE TABLE %1$s_two ("gone too" text, ' || replace(other_order, '%', '%%') || ', "gone three" integer)',
                'ALTER TABLE %1$s_two DROP COLUMN "gone too", DROP COLUMN "gone three"',
                'ALTER TABLE %1$s ATTACH PARTITION %1$s_two ' || parts.two,
                'CREATE TABLE %1$s_rest PARTITION OF %1$s ' || parts.rest || ' PARTITION BY HASH (' || number_name || ')',
                'CREATE TABLE %1$s_rest_0 PARTITION OF %1$s_rest FOR VALUES WITH (MODULUS 2, REMAINDER 0)',
                'CREATE TABLE %1$s_rest_1 PARTITION OF %1$s_rest FOR VALUES WITH (MODULUS 2, REMAINDER 1)']) AS s;
    ELSE
        PERFORM oracle.say(r.number, 'make', format('CREATE %s TABLE %s (%s)%s', CASE kind WHEN 'temp' THEN 'TEMP' WHEN 'unlogged' THEN 'UNLOGGED' END, relation, shuffled,
                                                    CASE WHEN oracle.chance(0.1) THEN ' WITH (fillfactor = 20)' END));
    END IF;
    IF kind = 'inherited' THEN
        PERFORM oracle.say(r.number, 'make', format('CREATE TABLE %s_child ("own" integer, %s)', relation, other_order)),
                oracle.say(r.number, 'make', format('ALTER TABLE %s_child INHERIT %s', relation, relation)),
                oracle.say(r.number, 'make', format('CREATE TABLE %1$s_grandchild ("of its own" text) INHERITS (%1$s_child)', relation));
    END IF;
    IF cardinality(gone) > 0 THEN
        PERFORM oracle.say(r.number, oracle.pick('{make,change}'::text[]), format('ALTER TABLE %s %s', relation, (SELECT string_agg(format('DROP COLUMN "gone %s"', g), ', ') FROM generate_series(1, cardinality(gone)) AS g)));
    END IF;
    FOR c IN SELECT s.* FROM oracle.side_columns(r.number, is_new) AS s WHERE s.kind = 'plain' AND s.type IN ('text', 'varchar', 'bytea', 'jsonb', 'json', 'text[]', 'numeric', 'tsvector') AND oracle.chance(0.2) LOOP
        PERFORM oracle.say(r.number, 'make', format('ALTER TABLE %s ALTER COLUMN %I %s', relation, c.name, oracle.pick(ARRAY['SET STORAGE EXTERNAL', 'SET STORAGE MAIN']
            || CASE WHEN (SELECT 'lz4' = ANY (s.enumvals) FROM pg_settings AS s WHERE s.name = 'default_toast_compression') AND kind <> 'partitioned' THEN ARRAY['SET COMPRESSION lz4', 'SET COMPRESSION lz4'] END)), true);
    END LOOP;
END
$$;

-- The rows. legacy's come of numbers, new's of the mapped rows of legacy. Half of them first, where a column is added between.
CREATE FUNCTION oracle.write_rows(r oracle.round, base text, is_new boolean, legacy_base text, kind text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    number_name text := CASE WHEN is_new THEN 'j' ELSE 'i' END;
    added text := (SELECT string_agg(format('ADD COLUMN %s DEFAULT %s::text::%s', oracle.definition(s.name, s.type, s.collation_name, s.kind, s.value, false), s.value, s.type), ', ')
                     FROM oracle.side_columns(r.number, is_new) AS s WHERE s.kind = 'added');
    names text;
    expressions text;
    half text;
BEGIN
    FOREACH half IN ARRAY ARRAY['i <= ' || r.size / 2, 'i > ' || r.size / 2] LOOP
        SELECT string_agg(quote_ident(s.name), ', ' ORDER BY s.place),
               string_agg(CASE WHEN NOT is_new THEN format('(%s)::text::%s', s.value, s.type)
                               WHEN half ~ '>' AND s.kind = 'added' AND oracle.chance(0.5) THEN format('%s::text::%s', s.value, s.type)
                               ELSE format(E'(%s\n)%s::%s', coalesce(c.expression, quote_ident(c.old_name)), CASE WHEN c.legacy_type <> c.new_type AND c.family IN ('pair', 'worn', 'refused: enums') THEN '::text' END, s.type) END, ', ' ORDER BY s.place)
          INTO names, expressions
          FROM oracle.side_columns(r.number, is_new) AS s JOIN oracle.col AS c ON c.round = r.number AND c.place = s.place
         WHERE s.kind = 'plain' OR (s.kind = 'added' AND half ~ '>');
        PERFORM oracle.say(r.number, 'make', format('INSERT INTO %s (%s) SELECT %s FROM %s WHERE %s', base, concat_ws(', ', number_name, names), concat_ws(', ', 'i', expressions),
                                                    CASE WHEN is_new THEN legacy_base ELSE format('generate_series(1, %s) AS i', r.size) END, half) || CASE WHEN is_new THEN ' ORDER BY oracle.h(i, 5)' ELSE '' END);
        IF half ~ '<=' AND added IS NOT NULL THEN
            PERFORM oracle.say(r.number, 'make', format('ALTER TABLE %s %s', base, added));
        END IF;
    END LOOP;
    IF kind = 'inherited' THEN
        names := (SELECT string_agg(quote_ident(s.name), ', ' ORDER BY s.place) FROM oracle.side_columns(r.number, is_new) AS s WHERE s.kind <> 'generated');
        PERFORM oracle.say(r.number, 'make', format('WITH moved AS (DELETE FROM ONLY %1$s WHERE %2$s %% 4 = %5$s RETURNING *) INSERT INTO %1$s_%3$s (%4$s) SELECT %4$s FROM moved', base, number_name, k.child, concat_ws(', ', number_name, names), k.rest))
           FROM (VALUES ('child', 1), ('grandchild', 2)) AS k (child, rest);
    END IF;
END
$$;

-- One change of one side.
CREATE FUNCTION oracle.write_change(r oracle.round, phase text, base text, is_new boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    number_name text := CASE WHEN is_new THEN 'j' ELSE 'i' END;
    a integer := oracle.upto(r.size + 1);
    b integer := oracle.upto(r.size + 1);
    names text := (SELECT string_agg(quote_ident(s.name), ', ' ORDER BY s.place) FROM oracle.side_columns(r.number, is_new) AS s WHERE s.kind <> 'generated');
    c record;
    d record;
    element text;
BEGIN
    SELECT * INTO c FROM oracle.side_columns(r.number, is_new) AS s WHERE s.kind <> 'generated' AND (NOT s.is_key OR oracle.chance(0.3)) ORDER BY random() LIMIT 1;
    IF c.name IS NULL THEN RETURN; END IF;
    SELECT * INTO d FROM oracle.side_columns(r.number, is_new) AS s WHERE s.name <> c.name AND s.type = c.type AND s.collation_name IS NOT DISTINCT FROM c.collation_name AND s.kind <> 'generated' LIMIT 1;
    element := format('(%s)::text::%s', oracle.pick(c.pool), c.type);
    PERFORM oracle.say(r.number, phase, sql.sql, true)
       FROM (SELECT CASE oracle.pick('{change,change,change,many,even,nullify,remove,add,double,double,swap,swap,shift,blank,letter,rewrite,undone,all}'::text[])
        WHEN 'change' THEN format('UPDATE %s SET %I = %s WHERE %I = %s', base, c.name, element, number_name, a)
        WHEN 'many' THEN format('UPDATE %s SET %I = %s WHERE %I %% 3 = %s', base, c.name, element, number_name, a % 3)
        WHEN 'even' THEN format('UPDATE %s SET %I = %s WHERE %I IN (%s, %s)', base, c.name, element, number_name, a, b)
        WHEN 'nullify' THEN CASE WHEN NOT c.is_key OR oracle.chance(0.2) THEN format('UPDATE %s SET %I = NULL WHERE %I = %s', base, c.name, number_name, a) END
        WHEN 'remove' THEN format('DELETE FROM %s WHERE %I IN (%s, %s)', base, number_name, a, b)
        WHEN 'add' THEN format('INSERT INTO %s (%s) SELECT %s FROM generate_series(%s, %s) AS i', base, concat_ws(', ', number_name, names),
                               (SELECT concat_ws(', ', 'i', string_agg(format('(%s)::text::%s', s.value, s.type), ', ' ORDER BY s.place)) FROM oracle.side_columns(r.number, is_new) AS s WHERE s.kind <> 'generated'), r.size + a, r.size + a + b % 3)
        WHEN 'double' THEN format('INSERT INTO %s (%s) SELECT %2$s FROM %1$s WHERE %3$I IN (%4$s, %5$s)', base, concat_ws(', ', number_name, names), number_name, a, b)
        WHEN 'swap' THEN format('UPDATE %1$s AS a SET %2$I = b.%2$I FROM %1$s AS b WHERE (a.%3$I = %4$s AND b.%3$I = %5$s) OR (a.%3$I = %5$s AND b.%3$I = %4$s)', base, c.name, number_name, a, b)
        WHEN 'shift' THEN CASE WHEN d.name IS NOT NULL THEN format('UPDATE %s SET %I = %I, %I = %I WHERE %I IN (%s, %s)', base, c.name, d.name, d.name, c.name, number_name, a, b) END
        WHEN 'blank' THEN CASE WHEN c.type ~ '^(text|varchar|char|name|kinds.citext)' AND c.type !~ '\[' THEN format('UPDATE %1$s SET %2$I = '''' WHERE %2$I IS NULL', base, c.name) END
        WHEN 'letter' THEN CASE WHEN c.type IN ('text', 'varchar', 'name', 'kinds.citext') THEN format('UPDATE %1$s SET %2$I = %3$s WHERE %4$I %% 2 = 1', base, c.name,
                                     format(oracle.pick('{%1$I || '' '',upper(%1$I),left(%1$I\, -1) || ''~'','' '' || %1$I,%1$I || U&''\0301''}'::text[]), c.name), number_name) END
        WHEN 'rewrite' THEN format('UPDATE %1$s SET %2$I = %2$I WHERE %2$I %% 2 = 0', base, number_name)
        WHEN 'undone' THEN format('DO $do$ BEGIN UPDATE %1$s SET %2$I = NULL; DELETE FROM %1$s; RAISE EXCEPTION USING ERRCODE = ''TR000''; EXCEPTION WHEN SQLSTATE ''TR000'' THEN NULL; END $do$', base, c.name)
        WHEN 'all' THEN CASE WHEN oracle.chance(0.2) THEN format('UPDATE %1$s SET %2$I = %2$I + 1000', base, number_name) WHEN oracle.chance(0.1) THEN 'DELETE FROM ' || base END
        END AS sql) AS sql WHERE sql.sql IS NOT NULL;
END
$$;

-- What is compared may show the table in another way. Returns its name.
CREATE FUNCTION oracle.write_cover(r oracle.round, base text, is_new boolean, kind text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    cover text := base || '_shown';
    definitions text;
    names text;
    file text := format('%s/oracle_%s_%s.csv', current_setting('oracle.folder'), r.number, is_new);
BEGIN
    SELECT string_agg(format('%I %s', s.name, s.type) || coalesce(' COLLATE ' || s.collation_name, ''), ', ' ORDER BY s.place) || CASE WHEN is_new THEN ', j integer' ELSE ', i integer' END,
           string_agg(quote_ident(s.name), ', ' ORDER BY s.place) || CASE WHEN is_new THEN ', j' ELSE ', i' END
      INTO definitions, names FROM oracle.side_columns(r.number, is_new) AS s;
    CASE kind
    WHEN 'view' THEN
        PERFORM oracle.say(r.number, 'apart', format('CREATE VIEW %s AS SELECT %s FROM %s%s', cover, names, base, CASE WHEN oracle.chance(0.3) THEN ' LIMIT 1000000' END));
    WHEN 'materialized' THEN
        PERFORM oracle.say(r.number, 'apart', format('CREATE MATERIALIZED VIEW %s AS SELECT %s FROM %s', cover, names, base));
    WHEN 'file' THEN
        PERFORM oracle.say(r.number, 'apart', format('COPY (SELECT %s FROM %s) TO %L', names, base, file)),
                oracle.say(r.number, 'apart', format('CREATE FOREIGN TABLE %s (%s) SERVER files OPTIONS (filename %L)', cover, definitions, file));
    WHEN 'loopback' THEN
        PERFORM oracle.say(r.number, 'apart', format('CREATE FOREIGN TABLE %s (%s) SERVER loopback OPTIONS (schema_name %L, table_name %L)', cover, definitions, r.schema, split_part(base, '.', 2)));
    ELSE
        RETURN base;
    END CASE;
    RETURN cover;
END
$$;

CREATE FUNCTION oracle.write_script(number integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    r oracle.round := (SELECT x FROM oracle.round AS x WHERE x.number = $1);
    kinds text[] := '{table,table,table,table,table,table,table,table,table,table,unlogged,temp,partitioned,partitioned,inherited,view,materialized,file,loopback}';
    legacy_kind text := oracle.pick(kinds);
    new_kind text := oracle.pick(kinds);
    legacy_base text := CASE legacy_kind WHEN 'temp' THEN format('pg_temp.%s_legacy', r.schema) ELSE r.schema || '.legacy' END;
    new_base text := CASE new_kind WHEN 'temp' THEN format('pg_temp.%s_new', r.schema) ELSE r.schema || '.new' END;
    phase text;
    is_new boolean;
    legacy_is_live boolean := legacy_kind NOT IN ('materialized', 'file', 'loopback');
    new_is_live boolean := new_kind NOT IN ('materialized', 'file', 'loopback');
    with_temp boolean := 'temp' IN (legacy_kind, new_kind);
BEGIN
    PERFORM oracle.say(number, 'make', 'CREATE SCHEMA ' || r.schema),
            oracle.write_table(r, legacy_base, false, legacy_kind), oracle.write_rows(r, legacy_base, false, NULL, legacy_kind),
            oracle.write_table(r, new_base, true, new_kind), oracle.write_rows(r, new_base, true, legacy_base, new_kind);
    IF r.is_keyed AND oracle.chance(0.5) THEN
        -- legacy's is the default where its columns are mapped as they are
        is_new := oracle.chance(0.8) OR EXISTS (SELECT FROM oracle.col AS c WHERE c.round = $1 AND c.is_key AND c.expression <> quote_ident(c.old_name));
        r.key_is_default := CASE WHEN is_new THEN new_kind ELSE legacy_kind END NOT IN ('view', 'materialized', 'file', 'loopback'); -- until it fails
        PERFORM oracle.say(number, 'make', format('ALTER TABLE %s ADD PRIMARY KEY (%s)', CASE WHEN is_new THEN new_base ELSE legacy_base END,
                (SELECT string_agg(quote_ident(CASE WHEN is_new THEN c.name ELSE c.old_name END), ', ') FROM oracle.col AS c WHERE c.round = $1 AND c.is_key)), true);
    END IF;
    FOR m IN 1 .. oracle.pick('{0,1,2,3,4,6,8}'::integer[]) LOOP
        is_new := oracle.chance(0.75);
        phase := CASE WHEN oracle.chance(0.1) AND NOT with_temp THEN 'apart'
                      WHEN oracle.chance(0.1) AND CASE WHEN is_new THEN new_is_live ELSE legacy_is_live END THEN 'late' ELSE oracle.pick('{make,change}'::text[]) END;
        PERFORM oracle.write_change(r, phase, CASE WHEN is_new THEN new_base ELSE legacy_base END, is_new);
    END LOOP;
    IF oracle.chance(0.3) THEN
        PERFORM oracle.say(number, 'apart', format('%s %s', oracle.pick('{VACUUM,VACUUM (FREEZE),ANALYZE,VACUUM FULL}'::text[]), oracle.pick(ARRAY[legacy_base, new_base])));
    END IF;
    r.legacy := oracle.write_cover(r, legacy_base, false, legacy_kind);
    r.new := oracle.write_cover(r, new_base, true, new_kind);
    IF oracle.chance(0.02) THEN -- a relation against itself
        r.legacy := r.new;
        UPDATE oracle.round AS x SET columns = NULL, legacy_where = x.new_where WHERE x.number = $1;
    END IF;
    IF NOT with_temp AND oracle.chance(0.06) THEN -- another transaction is in the midst of it
        PERFORM oracle.say(number, 'apart', 'BEGIN'), oracle.write_change(r, 'apart', new_base, true), oracle.write_change(r, 'apart', legacy_base, false),
                oracle.say(number, 'apart', format('PREPARE TRANSACTION %L', r.schema)), oracle.say(number, 'clean', format('ROLLBACK PREPARED %L', r.schema));
        r.isolation := 'READ COMMITTED';
        DELETE FROM oracle.script AS s WHERE s.round = $1 AND s.phase = 'late';
    END IF;
    PERFORM oracle.say(number, 'clean', format('DROP SCHEMA %s CASCADE', r.schema));
    PERFORM oracle.say(number, 'clean', 'DROP TABLE ' || t) FROM unnest(ARRAY[legacy_base, new_base]) AS t WHERE t ~ '^pg_temp';
    r.legacy_kind := legacy_kind;
    r.new_kind := new_kind;
    UPDATE oracle.round AS x SET legacy = r.legacy, new = r.new, legacy_kind = r.legacy_kind, new_kind = r.new_kind, key_is_default = r.key_is_default, isolation = r.isolation WHERE x.number = $1;
END
$$;
