-- preflight: every check a careful operator would make before start(); start() refuses while one is CRITICAL.

-- Rows that do not come back as they were when mapped forward and then in reverse, among the first 1,000.
CREATE FUNCTION tandem.round_trip_losses(m tandem.mapping, owner name) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source regclass := tandem.relation_of(m.legacy_schema, m.legacy_table);
    target regclass := tandem.relation_of(m.new_schema, m.new_table);
    forward_list text;
    reverse_list text;
    differs text;
    losses bigint;
BEGIN
    -- Each expression sees its own side's columns and no others, as in the mirror; the legacy row travels along as one value. Values
    -- are cast with the column's length, as the mirror's assignment does: numeric(14,2) rounds, char(n) pads.
    SELECT string_agg(CASE WHEN c.name IS NULL THEN format('NULL::%s AS %I', format_type(t.atttypid, t.atttypmod), t.attname)
                           ELSE format(E'(%s\n)::%s AS %I', c.expression, format_type(t.atttypid, t.atttypmod), t.attname) END, ', ' ORDER BY t.attnum)
      INTO forward_list
      FROM pg_attribute AS t
      LEFT JOIN tandem.mapping_column AS c ON c.mapping_id = m.id AND c.direction = 'forward' AND c.name = t.attname
     WHERE t.attrelid = target AND t.attnum > 0 AND NOT t.attisdropped;
    SELECT string_agg(format(E'(%s\n)::%s AS %I', c.expression, format_type(s.atttypid, s.atttypmod), c.name), ', '),
           string_agg(format('(b."tandem row").%1$I::text IS DISTINCT FROM b.%1$I::text', c.name), ' OR ')
      INTO reverse_list, differs
      FROM tandem.mapping_column AS c JOIN pg_attribute AS s ON s.attrelid = source AND s.attname = c.name
     WHERE c.mapping_id = m.id AND c.direction = 'reverse';
    SELECT x.n INTO losses FROM tandem.query_as(owner, format(
        'SELECT count(*) FROM (SELECT %s, "tandem row" FROM (SELECT %s, %I AS "tandem row" FROM %s LIMIT 1000) AS %I) AS b WHERE %s',
        reverse_list, forward_list, m.legacy_table, source, m.new_table, differs)) AS x (n bigint);
    RETURN losses;
END
$$;
COMMENT ON FUNCTION tandem.round_trip_losses IS
    'How many of the first 1,000 legacy rows do not come back the same through forward and reverse';

CREATE TYPE tandem.preflight_row AS (check_name text, status text, detail text, hint text);
COMMENT ON TYPE tandem.preflight_row IS 'A check of preflight(): status OK, WARNING or CRITICAL';

-- Mapped again it has another expression: what is given is resolved when it is mapped.
CREATE FUNCTION tandem.remap_hint(r tandem.run, m tandem.mapping, direction text, columns text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('SELECT tandem.unmap_table(%L, %L, %L); then map_table() again, with %s => ''{"%s": "SQL expression over the %s row"}''', r.name,
                  format('%I.%I', m.legacy_schema, m.legacy_table), format('%I.%I', m.new_schema, m.new_table), direction, columns, CASE direction WHEN 'forward' THEN 'legacy' ELSE 'new' END)
$$;
COMMENT ON FUNCTION tandem.remap_hint IS 'How a mapping gets an expression that it lacks';

CREATE FUNCTION tandem.preflight_mapping(r tandem.run, m tandem.mapping) RETURNS SETOF tandem.preflight_row
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source regclass := tandem.relation_of(m.legacy_schema, m.legacy_table);
    target regclass := tandem.relation_of(m.new_schema, m.new_table);
    label text := tandem.mapping_label(m);
    side record;
    other record;
    problem text;
    hint text;
    n bigint;
    readable boolean := true; -- an expression may name what was dropped or renamed since: then the mirror does not compile, and what it reads is not known
BEGIN
    IF source IS NULL OR target IS NULL THEN
        RETURN NEXT ('tables', 'CRITICAL', format('%s: %s does not exist', label, CASE WHEN source IS NULL THEN m.legacy_schema || '.' || m.legacy_table ELSE m.new_schema || '.' || m.new_table END),
                     format('It was renamed or dropped after map_table(). SELECT tandem.unmap_table(%L, %L, %L), and map what took its place.', r.name,
                            format('%I.%I', m.legacy_schema, m.legacy_table), format('%I.%I', m.new_schema, m.new_table)))::tandem.preflight_row;
        RETURN;
    END IF;

    BEGIN
        PERFORM tandem.expression_info(CASE c.direction WHEN 'forward' THEN source ELSE target END, c.expression) FROM tandem.mapping_column AS c WHERE c.mapping_id = m.id;
    EXCEPTION WHEN OTHERS THEN
        readable := false;
    END;
    FOR side IN SELECT x.* FROM (VALUES (source, m.legacy_key), (target, m.new_key)) AS x (relation, key) LOOP
        IF EXISTS (SELECT FROM pg_roles AS o WHERE o.rolname = r.owner AND o.rolsuper) OR EXISTS (
               SELECT FROM pg_class AS c JOIN pg_roles AS o ON o.rolname = r.owner WHERE c.oid = side.relation AND pg_has_role(o.oid, c.relowner, 'USAGE')) THEN
            RETURN NEXT ('ownership', 'OK', format('%s: role "%s" owns it', side.relation, r.owner), NULL)::tandem.preflight_row;
        ELSE
            RETURN NEXT ('ownership', 'CRITICAL', format('%s: role "%s" does not own it and cannot put a mirror on it', side.relation, r.owner),
                         format('ALTER TABLE %s OWNER TO %I, or let its owner create the run.', side.relation, r.owner))::tandem.preflight_row;
        END IF;
        IF EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = side.relation AND a.attname = ANY (side.key) AND NOT a.attnotnull) THEN
            RETURN NEXT ('key', 'CRITICAL', format('%s: key %s can be NULL', side.relation, side.key),
                         format('ALTER TABLE %s %s', side.relation, (SELECT string_agg(format('ALTER COLUMN %I SET NOT NULL', k), ', ') FROM unnest(side.key) AS k)))::tandem.preflight_row;
        END IF;
        IF tandem.has_unique_index(side.relation, side.key) THEN
            RETURN NEXT ('key', 'OK', format('%s: unique by %s', side.relation, side.key), NULL)::tandem.preflight_row;
        ELSE
            RETURN NEXT ('key', 'CRITICAL', format('%s: no valid, immediate, unconditional unique index on exactly %s', side.relation, side.key),
                         format('CREATE UNIQUE INDEX CONCURRENTLY ON %s (%s); a DEFERRABLE key does not do: it can hold two rows for a moment.',
                                side.relation, (SELECT string_agg(quote_ident(k), ', ') FROM unnest(side.key) AS k)))::tandem.preflight_row;
        END IF;
        IF EXISTS (SELECT FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhparent WHERE c.relkind = 'r' AND side.relation IN (i.inhparent, i.inhrelid)) THEN
            RETURN NEXT ('inheritance', 'CRITICAL', format('%s: it is part of an inheritance tree, and a trigger does not reach rows of other tables of it', side.relation),
                         'Make it a partitioned table, or a single one.')::tandem.preflight_row;
        END IF;
        SELECT count(*) INTO n FROM pg_trigger AS t WHERE t.tgrelid = side.relation AND t.tgdeferrable AND NOT t.tgisinternal;
        IF n > 0 THEN
            RETURN NEXT ('triggers', 'WARNING', format('%s: %s deferrable trigger(s)', side.relation, n),
                         'Before PostgreSQL 18 a deferred trigger runs as whoever commits, not as the run''s owner.')::tandem.preflight_row;
        END IF;
        FOR other IN SELECT x.name, min(u.relation::text) AS relation FROM tandem.mapping AS o JOIN tandem.run AS x ON x.id = o.run_id
                      CROSS JOIN LATERAL unnest(ARRAY[tandem.relation_of(o.legacy_schema, o.legacy_table), tandem.relation_of(o.new_schema, o.new_table)]) AS u (relation)
                      WHERE x.id <> r.id AND x.stage NOT IN ('off', 'complete')
                        AND (u.relation = side.relation OR u.relation IN (SELECT p.relid FROM pg_partition_tree(side.relation) AS p) OR u.relation IN (SELECT a.relid FROM pg_partition_ancestors(side.relation) AS a))
                      GROUP BY x.name ORDER BY x.name LOOP
            RETURN NEXT ('other_runs', 'CRITICAL', format('%s: run "%s" mirrors %s', side.relation, other.name, CASE other.relation WHEN side.relation::text THEN 'it already' ELSE format('%s, and one is a partition of the other', other.relation) END),
                         'Run it after that one, or cancel() or complete() that one first.')::tandem.preflight_row;
        END LOOP;
    END LOOP;

    IF EXISTS (SELECT FROM pg_class AS c WHERE c.oid IN (source, target) AND c.relpersistence = 'u') THEN
        RETURN NEXT ('persistence', 'WARNING', format('%s: a table is UNLOGGED: a crash empties it', label), 'ALTER TABLE ... SET LOGGED before start().')::tandem.preflight_row;
    END IF;

    IF cardinality(m.missing_reverse) > 0 THEN
        RETURN NEXT ('reverse_path', 'CRITICAL', format('%s: a forward expression reads %s, and nothing gives it back', label, m.missing_reverse),
                     tandem.remap_hint(r, m, 'reverse', m.missing_reverse[1]))::tandem.preflight_row;
    END IF;
    FOR side IN SELECT a.attname, a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS needed, tandem.sibling_gives(m, a.attname) AS shared FROM pg_attribute AS a
                 WHERE a.attrelid = source AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND a.attname <> ALL (m.missing_reverse)
                   AND NOT EXISTS (SELECT FROM tandem.mapping_column AS c WHERE c.mapping_id = m.id AND c.direction = 'reverse' AND c.name = a.attname) LOOP
        CONTINUE WHEN side.shared AND NOT side.needed; -- another new table of this legacy table writes it
        RETURN NEXT ('reverse_path', CASE WHEN side.needed THEN 'CRITICAL' ELSE 'WARNING' END,
                     format('%s: column %I of legacy has no counterpart: rows written on the new side %s', label, side.attname,
                            CASE WHEN side.needed THEN 'cannot be written there, as it is NOT NULL without a default' ELSE 'get its default' END),
                     CASE WHEN side.shared THEN format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT ...: another new table gives it back, but later', source, side.attname)
                          ELSE tandem.remap_hint(r, m, 'reverse', side.attname) END)::tandem.preflight_row;
    END LOOP;
    IF readable THEN
        RETURN QUERY SELECT * FROM tandem.preflight_siblings(m);
    END IF;
    FOR side IN SELECT a.attname FROM pg_attribute AS a
                 WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
                   AND NOT EXISTS (SELECT FROM tandem.mapping_column AS c WHERE c.mapping_id = m.id AND c.direction = 'forward' AND c.name = a.attname) LOOP
        RETURN NEXT ('forward_path', 'CRITICAL', format('%s: column %I of new is NOT NULL without a default, and nothing is mapped to it', label, side.attname),
                     tandem.remap_hint(r, m, 'forward', side.attname))::tandem.preflight_row;
    END LOOP;

    FOR side IN SELECT x.direction, CASE x.direction WHEN 'forward' THEN target ELSE source END AS target
                  FROM (VALUES ('forward'), ('reverse')) AS x (direction) LOOP
        BEGIN
            PERFORM tandem.mirror_check(m.id, side.direction);
            RETURN NEXT ('mirror', 'OK', format('%s: the %s mirror compiles', label, side.direction), NULL)::tandem.preflight_row;
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
            RETURN NEXT ('mirror', 'CRITICAL', format('%s: the %s mirror does not compile: %s', label, side.direction, problem),
                         coalesce(nullif(hint, ''), format('Role "%s" needs SELECT, INSERT, UPDATE and DELETE on %s, and expressions of its columns'' types.', r.owner, side.target)))::tandem.preflight_row;
        END;
    END LOOP;

    IF cardinality(m.missing_reverse) = 0 THEN
        BEGIN
            n := tandem.round_trip_losses(m, r.owner);
            RETURN NEXT ('round_trip', CASE WHEN n = 0 THEN 'OK' ELSE 'WARNING' END,
                         format('%s: %s of the first 1,000 rows do not come back the same through forward and reverse', label, n),
                         CASE WHEN n > 0 THEN 'A row that is written on the new side would change in legacy: check the reverse expressions.' END)::tandem.preflight_row;
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
            RETURN NEXT ('round_trip', 'CRITICAL', format('%s: existing rows cannot be mapped forward and back: %s', label, problem),
                         'Correct the expressions, or the rows that they fail on.')::tandem.preflight_row;
        END;
    END IF;

    -- Where the columns are copies of legacy ones, a batch of the backfill takes along what its rows reference.
    IF NOT readable THEN
        NULL;
    ELSIF EXISTS (SELECT FROM pg_constraint AS f WHERE f.conrelid = target AND f.confrelid = target AND f.contype = 'f') AND tandem.ancestors_sql(m, 'true', 'true') IS NULL THEN
        RETURN NEXT ('foreign_keys', 'WARNING', format('%s: the new table references itself by computed columns', label),
                     'The backfill goes by key and sets rows apart, up to max_rejected, that come before those they reference: map bare columns, or see that they come after.')::tandem.preflight_row;
    END IF;
    -- The mirror deletes a parent before the children that the cascade took: the other side's immediate foreign key would refuse it.
    FOR side IN SELECT a.conname AS cascading, b.conname AS refusing, b.conrelid::regclass AS relation
                  FROM (VALUES (source, target, false), (target, source, true)) AS d (here, there, reverse)
                  JOIN pg_constraint AS a ON a.conrelid = d.here AND a.contype = 'f' AND a.confdeltype IN ('c', 'n', 'd')
                  JOIN tandem.mapping AS p ON p.run_id = r.id
                  JOIN pg_constraint AS b ON b.conrelid = d.there AND b.contype = 'f' AND b.confdeltype IN ('a', 'r') AND NOT b.condeferred
                 WHERE a.confrelid = CASE WHEN d.reverse THEN tandem.relation_of(p.new_schema, p.new_table) ELSE tandem.relation_of(p.legacy_schema, p.legacy_table) END
                   AND b.confrelid = CASE WHEN d.reverse THEN tandem.relation_of(p.legacy_schema, p.legacy_table) ELSE tandem.relation_of(p.new_schema, p.new_table) END LOOP
        RETURN NEXT ('foreign_keys', 'WARNING', format('%s: a delete that %I cascades on one side is refused by %I of %s on the other', label, side.cascading, side.refusing, side.relation),
                     format('Make %I ON DELETE CASCADE too, or DEFERRABLE INITIALLY DEFERRED.', side.refusing))::tandem.preflight_row;
    END LOOP;
    -- What a mirrored write causes by a cascade is not written back (docs/mirror.md).
    FOR side IN SELECT a.conname AS cascading, a.conrelid::regclass AS relation, d.there
                  FROM (VALUES (source, target, false), (target, source, true)) AS d (here, there, reverse)
                  JOIN pg_constraint AS a ON a.conrelid = d.here AND a.contype = 'f' AND (a.confdeltype IN ('c', 'n', 'd') OR a.confupdtype IN ('c', 'n', 'd'))
                  JOIN tandem.mapping AS p ON p.run_id = r.id AND a.confrelid = CASE WHEN d.reverse THEN tandem.relation_of(p.new_schema, p.new_table) ELSE tandem.relation_of(p.legacy_schema, p.legacy_table) END
                 WHERE NOT EXISTS (SELECT FROM tandem.siblings(m)) AND NOT EXISTS (SELECT FROM tandem.siblings(p))
                   AND NOT EXISTS (SELECT FROM pg_constraint AS b WHERE b.conrelid = d.there AND b.contype = 'f'
                                      AND b.confrelid = CASE WHEN d.reverse THEN tandem.relation_of(p.legacy_schema, p.legacy_table) ELSE tandem.relation_of(p.new_schema, p.new_table) END) LOOP
        RETURN NEXT ('foreign_keys', 'WARNING', format('%s: what %I of %s cascades when its parent is written on the other side stays as it is there: %s has no such foreign key',
                                                       label, side.cascading, side.relation, side.there::regclass),
                     format('Give %s the same foreign key with the same actions.', side.there::regclass))::tandem.preflight_row;
    END LOOP;
    IF NOT readable THEN
        RETURN;
    END IF;
    -- A virtual generated column (PostgreSQL 18) is computed when it is read, and is not in the row that a trigger sees.
    FOR side IN SELECT DISTINCT a.attname, a.attrelid::regclass AS relation FROM tandem.mapping_column AS c
                 CROSS JOIN LATERAL (SELECT CASE c.direction WHEN 'forward' THEN source ELSE target END AS relation) AS s
                 CROSS JOIN LATERAL tandem.expression_info(s.relation, c.expression) AS i
                  JOIN pg_attribute AS a ON a.attrelid = s.relation AND a.attname = ANY (i.columns) AND a.attgenerated = 'v'
                 WHERE c.mapping_id = m.id LOOP
        RETURN NEXT ('generated', 'CRITICAL', format('%s: a mapping expression reads the virtual generated column %I of %s', label, side.attname, side.relation),
                     'The mirror cannot see it: write the expression of the column itself into the mapping, or make the column STORED.')::tandem.preflight_row;
    END LOOP;
    IF EXISTS (SELECT FROM unnest(m.new_key) AS k
                WHERE (tandem.expression_info(source, coalesce(m.forward ->> k, quote_ident(k)))).bare_column IS NULL)
       AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = source AND i.indexprs IS NOT NULL) THEN
        RETURN NEXT ('capture', 'WARNING', format('%s: the key is computed, and no index of legacy has it: validations of changed rows read all of the legacy table', label),
                     format('CREATE INDEX ON %s (%s)', source, (SELECT string_agg(format('(%s)', coalesce(m.forward ->> k, quote_ident(k))), ', ') FROM unnest(m.new_key) AS k)))::tandem.preflight_row;
    END IF;
    SELECT count(*) INTO n FROM tandem.mapping_column AS c WHERE c.mapping_id = m.id
       AND (tandem.expression_info(CASE c.direction WHEN 'forward' THEN source ELSE target END, c.expression)).volatility = 's';
    IF n > 0 THEN
        RETURN NEXT ('expressions', 'WARNING', format('%s: %s expression(s) use STABLE functions', label, n),
                     'Their value must not depend on the time or the session, else both sides drift apart: now() does, to_char() does not under pinned settings.')::tandem.preflight_row;
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.preflight_mapping IS 'The checks of one mapping';

-- SECURITY DEFINER: it reads the extension's tables; what belongs to the user is read as the run's owner.
CREATE FUNCTION tandem.preflight(run text) RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run := tandem.get_run(run);
    m tandem.mapping;
    problem text;
BEGIN
    PERFORM tandem.authorize(r, 'preflight');
    RETURN QUERY
    SELECT c.check_name, c.status, c.detail, c.hint FROM (
        SELECT 'mappings' AS check_name, CASE WHEN count(*) > 0 THEN 'OK' ELSE 'CRITICAL' END AS status,
               format('%s table(s) are mapped', count(*)) AS detail,
               CASE WHEN count(*) = 0 THEN format('SELECT tandem.map_table(%L, ''%s.table'', ''%s.table'')', r.name, r.legacy_schema, r.new_schema) END AS hint
          FROM tandem.mapping AS x WHERE x.run_id = r.id
        UNION ALL
        SELECT 'owner', CASE WHEN o.rolname IS NULL THEN 'CRITICAL' WHEN NOT o.rolcanlogin AND tandem.owner_needs_login() AND tandem.worker_preloaded() THEN 'CRITICAL' ELSE 'OK' END,
               CASE WHEN o.rolname IS NULL THEN format('role "%s" does not exist', r.owner)
                    WHEN NOT o.rolcanlogin AND tandem.owner_needs_login() THEN format('role "%s" cannot log in, so the worker cannot act as it', r.owner)
                    ELSE format('the run works as role "%s"', r.owner) END,
               CASE WHEN o.rolname IS NULL THEN 'CREATE ROLE it, or make the run again.'
                    WHEN NOT o.rolcanlogin AND tandem.owner_needs_login() THEN format('ALTER ROLE %I LOGIN (PostgreSQL 17 and newer do not need it).', r.owner) END
          FROM (SELECT) AS one LEFT JOIN pg_roles AS o ON o.rolname = r.owner
        UNION ALL
        SELECT 'recovery', 'CRITICAL', 'this server is a standby', 'Start the run on the primary.' WHERE pg_is_in_recovery()
    ) AS c;
    RETURN QUERY SELECT p.* FROM tandem.preflight_server(r) AS p;
    RETURN QUERY SELECT p.* FROM tandem.preflight_disk(r) AS p;
    FOR m IN SELECT x.* FROM tandem.mapping AS x WHERE x.run_id = r.id ORDER BY x.id LOOP
        RETURN QUERY SELECT p.* FROM tandem.preflight_locks(r, m) AS p;
        IF NOT tandem.preflight_blocked(m) THEN -- else the rest would wait
            RETURN QUERY SELECT p.* FROM tandem.preflight_mapping(r, m) AS p;
            RETURN QUERY SELECT p.* FROM tandem.preflight_tables(r, m) AS p;
        END IF;
    END LOOP;
    IF NOT EXISTS (SELECT FROM tandem.mapping AS x WHERE x.run_id = r.id AND tandem.preflight_blocked(x)) THEN
        BEGIN
            RETURN QUERY SELECT p.* FROM tandem.preflight_sequences(r) AS p;
        EXCEPTION WHEN OTHERS THEN -- an owner who is gone, an expression that does not compile: each is told above
            GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
            RETURN QUERY VALUES ('sequences', 'CRITICAL', format('what sequences are behind the mapped columns cannot be told: %s', problem), 'Mend first what else is CRITICAL here.');
        END;
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.preflight IS 'What stands in the way of start(): checks with status OK, WARNING or CRITICAL, and what to do';
