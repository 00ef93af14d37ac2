-- preflight_tables: what of the mapped tables stands in the way of a run: who holds them, what else writes or reads them, what they hold already.

-- Both tables of a mapping that are there.
CREATE FUNCTION tandem.preflight_sides(m tandem.mapping) RETURNS TABLE (side text, relation regclass)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT x.side, x.relation FROM (VALUES ('legacy', tandem.relation_of(m.legacy_schema, m.legacy_table)), ('new', tandem.relation_of(m.new_schema, m.new_table))) AS x (side, relation) WHERE x.relation IS NOT NULL
$$;
COMMENT ON FUNCTION tandem.preflight_sides IS 'The tables of a mapping';

-- Reading catalogs waits for nobody. Preparing the mirror's statements waits for whoever keeps writers out, as start() would.
CREATE FUNCTION tandem.preflight_blocked(m tandem.mapping) RETURNS boolean
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM pg_locks AS l JOIN tandem.preflight_sides(m) AS s ON s.relation = l.relation
                    WHERE l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()) AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
                      AND l.pid IS DISTINCT FROM pg_backend_pid())
$$;
COMMENT ON FUNCTION tandem.preflight_blocked IS 'Does another session hold, or wait for, a lock of a table of the mapping that keeps writers out?';

CREATE FUNCTION tandem.preflight_locks(r tandem.run, m tandem.mapping) RETURNS SETOF tandem.preflight_row
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH held AS (
        SELECT s.relation, l.mode, l.granted, l.pid, a.usename, a.application_name, a.xact_start, clock_timestamp() - a.xact_start AS age
          FROM tandem.preflight_sides(m) AS s JOIN pg_locks AS l ON l.locktype = 'relation' AND l.relation = s.relation
          LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
         WHERE l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()) AND l.pid <> pg_backend_pid()
    ), wrong AS (
        SELECT h.*, h.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') AS exclusive FROM held AS h
         WHERE h.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
            OR (h.mode IN ('RowExclusiveLock', 'ShareUpdateExclusiveLock') AND h.age > tandem.option(r.id, 'lock_timeout')::interval)
    )
    SELECT 'locks', CASE WHEN bool_or(w.exclusive) THEN 'CRITICAL' WHEN count(w.pid) > 0 THEN 'WARNING' ELSE 'OK' END,
           CASE WHEN count(w.pid) = 0 THEN format('%s: nobody holds its tables for long', (SELECT string_agg(s.relation::text, ', ') FROM tandem.preflight_sides(m) AS s))
                ELSE left(string_agg(format('%s: process %s%s %s %s%s', w.relation, w.pid, coalesce(' of role ' || w.usename, ''), CASE WHEN w.granted THEN 'holds' ELSE 'waits for' END, w.mode,
                                            coalesce(' since ' || w.xact_start::timestamptz(0), '')), '; ' ORDER BY w.exclusive DESC, w.xact_start), 1000) END,
           CASE WHEN bool_or(w.exclusive) THEN 'It keeps writers out, and nothing else of these tables can be checked: wait until they are free.'
                WHEN count(w.pid) > 0 THEN 'start() puts triggers on both tables, waits lock_timeout for each, and keeps writers waiting meanwhile: see pg_stat_activity.' END
      FROM (SELECT) AS one LEFT JOIN wrong AS w ON true
$$;
COMMENT ON FUNCTION tandem.preflight_locks IS 'Who holds the tables of a mapping, so that start() would wait';

-- What the backfill will write, and about as much log.
CREATE FUNCTION tandem.preflight_disk(r tandem.run) RETURNS SETOF tandem.preflight_row
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH size AS (
        SELECT coalesce(sum(greatest(x.legacy - x.new, 0)), 0)::bigint AS rows
          FROM tandem.mapping AS m
         CROSS JOIN LATERAL (SELECT coalesce(sum(pg_total_relation_size(t.relid)) FILTER (WHERE s.side = 'legacy'), 0) AS legacy, coalesce(sum(pg_total_relation_size(t.relid)) FILTER (WHERE s.side = 'new'), 0) AS new
                               FROM tandem.preflight_sides(m) AS s CROSS JOIN LATERAL (SELECT s.relation::oid AS relid UNION SELECT p.relid FROM pg_partition_tree(s.relation) AS p) AS t) AS x
         WHERE m.run_id = r.id AND NOT tandem.preflight_blocked(m)
    )
    SELECT 'disk', CASE WHEN h.disk_free IS NULL THEN 'WARNING' WHEN h.disk_free < s.rows THEN 'CRITICAL' WHEN h.disk_free - 2 * s.rows < h.disk_total / 20 AND s.rows > 0 THEN 'WARNING' ELSE 'OK' END,
           CASE WHEN h.disk_free IS NULL THEN format('about %s are to be copied; the disk of the data directory cannot be read', pg_size_pretty(s.rows))
                ELSE format('about %s are to be copied, with as much log; %s of %s are free on the disk of the data directory', pg_size_pretty(s.rows), pg_size_pretty(h.disk_free), pg_size_pretty(h.disk_total)) END,
           CASE WHEN h.disk_free IS NULL THEN 'See for yourself that there is room.' WHEN h.disk_free < s.rows OR (h.disk_free - 2 * s.rows < h.disk_total / 20 AND s.rows > 0)
                THEN 'Make room, or put the new tables into a tablespace on another disk, which is not looked at here.' END
      FROM size AS s, tandem.host_facts() AS h
$$;
COMMENT ON FUNCTION tandem.preflight_disk IS 'Is there room for what the backfill copies?';

CREATE FUNCTION tandem.preflight_tables(r tandem.run, m tandem.mapping) RETURNS SETOF tandem.preflight_row
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source regclass := tandem.relation_of(m.legacy_schema, m.legacy_table);
    target regclass := tandem.relation_of(m.new_schema, m.new_table);
    label text := tandem.mapping_label(m);
    found record;
    problem text;
BEGIN
    IF source IS NULL OR target IS NULL THEN
        RETURN; -- said already
    END IF;
    RETURN QUERY
    SELECT x.* FROM (
        SELECT 'indexes', 'WARNING', format('%s: index %s is invalid', i.indrelid::regclass, i.indexrelid::regclass), format('REINDEX INDEX CONCURRENTLY %s, or drop it.', i.indexrelid::regclass)
          FROM pg_index AS i WHERE i.indrelid IN (source, target) AND NOT (i.indisvalid AND i.indisready)
        UNION ALL
        -- The mirror's writes are rewritten, too.
        SELECT 'rules', CASE WHEN w.is_instead THEN 'CRITICAL' ELSE 'WARNING' END, format('%s: rule %I %s', w.ev_class::regclass, w.rulename, CASE WHEN w.is_instead THEN 'does something else instead of a write' ELSE 'does something more at a write' END),
               'The mirror''s writes are rewritten by it, too: make a trigger of it.'
          FROM pg_rewrite AS w WHERE w.ev_class IN (source, target) AND w.ev_type <> '1' AND w.ev_enabled <> 'D'
        UNION ALL
        SELECT 'triggers', 'WARNING', format('%s: %s', t.relation, left(string_agg(format('trigger %I calls %s()', t.tgname, t.tgfoid::regproc), '; ' ORDER BY t.tgname), 500)),
               'It fires for rows that the mirror writes, too: what it changes there differs between the sides, and what it sends out is sent once more.'
          FROM (SELECT g.tgrelid::regclass AS relation, g.tgname, g.tgfoid FROM pg_trigger AS g
                 WHERE g.tgrelid IN (source, target) AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A') AND g.tgtype & 28 <> 0 AND g.tgfoid NOT IN (SELECT p.oid FROM pg_proc AS p WHERE p.pronamespace = 'tandem'::regnamespace)) AS t
         GROUP BY t.relation
        UNION ALL
        SELECT 'publications', 'CRITICAL', format('%s: publication %I publishes its updates, and it has no replica identity', c.oid::regclass, p.pubname), format('The mirror''s UPDATE and DELETE would fail: ALTER TABLE %s REPLICA IDENTITY ...', c.oid::regclass)
          FROM pg_publication AS p CROSS JOIN LATERAL pg_get_publication_tables(p.pubname) AS t JOIN pg_class AS c ON c.oid = t.relid
         WHERE t.relid IN (source, target) AND (p.pubupdate OR p.pubdelete)
           AND (c.relreplident = 'n' OR (c.relreplident = 'd' AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid))
                OR (c.relreplident = 'i' AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid)))
        UNION ALL
        SELECT 'publications', 'WARNING', format('%s: publication %I publishes it', target, string_agg(p.pubname, ', ' ORDER BY p.pubname)), 'Its subscribers get the backfill and every mirrored row: see that they want them.'
          FROM pg_publication AS p CROSS JOIN LATERAL pg_get_publication_tables(p.pubname) AS t WHERE t.relid = target HAVING count(*) > 0
        UNION ALL
        SELECT 'subscriptions', CASE WHEN s.srrelid = target THEN 'CRITICAL' ELSE 'WARNING' END, format('%s: subscription %I writes it', s.srrelid::regclass, u.subname),
               CASE WHEN s.srrelid = target THEN 'The mirror writes it, too, and either may find the other''s rows there: ALTER SUBSCRIPTION ... DISABLE, or map another table.'
                    ELSE 'The mirror sees what it writes. But a row that the new side refuses ends the apply worker, once that side is live.' END
          FROM pg_subscription_rel AS s JOIN pg_subscription AS u ON u.oid = s.srsubid WHERE s.srrelid IN (source, target) AND u.subenabled
        UNION ALL
        SELECT 'freeze', 'WARNING', format('%s: its oldest transaction id is %s old', c.oid::regclass, age(c.relfrozenxid)), format('A VACUUM that prevents wraparound is due, and gives way to nobody: VACUUM (FREEZE) %s first.', c.oid::regclass)
          FROM pg_class AS c WHERE c.oid IN (source, target) AND c.relkind = 'r' AND age(c.relfrozenxid) > 0.9 * current_setting('autovacuum_freeze_max_age')::bigint
        UNION ALL
        SELECT 'statistics', 'WARNING', format('%s: it was never analyzed', c.oid::regclass), format('The estimates of the backfill and the plans of comparisons rest on that: ANALYZE %s', c.oid::regclass)
          FROM pg_class AS c WHERE c.oid = source AND c.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_statistic AS s WHERE s.starelid = c.oid) AND pg_relation_size(c.oid) > 8 * 1024 * 1024
        UNION ALL
        -- What applications may do on legacy and not on new shows when the first key is moved.
        SELECT 'permissions', 'WARNING', format('%s: role %s may %s on legacy, and not on new', label, coalesce(quote_ident(g.rolname), 'PUBLIC'), string_agg(g.privilege_type, ', ' ORDER BY g.privilege_type)),
               format('GRANT %s ON %s TO %s; and USAGE on schema %I', string_agg(g.privilege_type, ', ' ORDER BY g.privilege_type), target, coalesce(quote_ident(g.rolname), 'PUBLIC'), m.new_schema)
          FROM (SELECT DISTINCT o.rolname, a.privilege_type
                  FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a LEFT JOIN pg_roles AS o ON o.oid = a.grantee
                 WHERE c.oid = source AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE') AND (a.grantee = 0 OR o.oid IS NOT NULL)
                   AND NOT (has_table_privilege(coalesce(o.rolname, 'public'), target, a.privilege_type) AND has_schema_privilege(coalesce(o.rolname, 'public'), m.new_schema, 'USAGE'))) AS g
         GROUP BY g.rolname
        UNION ALL
        SELECT 'foreign_keys', 'WARNING', format('%s: %I of the new table refers to %s, which the run does not map', label, k.conname, k.confrelid::regclass), 'Rows that it refers to must be there before the backfill, and nothing of the run keeps them so.'
          FROM pg_constraint AS k WHERE k.conrelid = target AND k.contype = 'f' AND k.conparentid = 0 AND k.confrelid <> target
           AND NOT EXISTS (SELECT FROM tandem.mapping AS o WHERE o.run_id = r.id AND k.confrelid IN (tandem.relation_of(o.new_schema, o.new_table), tandem.relation_of(o.legacy_schema, o.legacy_table)))
    ) AS x;

    -- Does the new side hold rows that it should not? Before the start, and where telling takes no time.
    IF r.stage <> 'off' THEN
        RETURN;
    END IF;
    BEGIN
        SELECT q.filled INTO found FROM tandem.query_as(r.owner, format('SELECT EXISTS (SELECT FROM %s)', target)) AS q (filled boolean);
        IF NOT found.filled THEN
            RETURN NEXT ('content', 'OK', format('%s: the new table is empty, and the backfill fills it', label), NULL)::tandem.preflight_row;
        ELSIF pg_table_size(source) + pg_table_size(target) > 64 * 1024 * 1024 THEN
            RETURN NEXT ('content', 'WARNING', format('%s: the new table holds rows already, and both are too large to compare here', label),
                         format('SELECT * FROM tandem.compare(%L, %L, ...): the first comparison of the run must find no difference but rows that are missing.', source, target))::tandem.preflight_row;
        ELSE
            SELECT q.missing, q.extra, q.changed INTO found
              FROM tandem.query_as(r.owner, format('SELECT c.missing, c.extra, c.changed FROM tandem.compare(%s) AS c', tandem.comparison_arguments(m))) AS q (missing bigint, extra bigint, changed bigint);
            IF found.extra + found.changed > 0 THEN
                RETURN NEXT ('content', 'WARNING', format('%s: the new table holds rows already; %s of them are not in legacy, %s differ', label, found.extra, found.changed),
                             format('The backfill adds the %s that are missing and changes none: empty the new table, or mend what tandem.diff(%L, %L, ...) shows.', found.missing, source, target))::tandem.preflight_row;
            ELSE
                RETURN NEXT ('content', 'OK', format('%s: the new table holds rows already, all of them as in legacy; %s are missing', label, found.missing), NULL)::tandem.preflight_row;
            END IF;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
        RETURN NEXT ('content', 'CRITICAL', format('%s: the tables cannot be compared: %s', label, problem), 'Correct the mapping: the first comparison would fail as well.')::tandem.preflight_row;
    END;
END
$$;
COMMENT ON FUNCTION tandem.preflight_tables IS 'What else writes or reads the tables of a mapping, and what they hold already';
