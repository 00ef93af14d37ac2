-- preflight_server: what of the server stands in the way of a run, or will once it is under way. Nothing here reads a user's table or waits for a lock.

CREATE FUNCTION tandem.preflight_server(r tandem.run) RETURNS SETOF tandem.preflight_row
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH slot AS ( -- of max_worker_processes
        SELECT current_setting('max_worker_processes')::integer AS most, count(*) FILTER (WHERE a.backend_type NOT IN ('client backend', 'autovacuum launcher', 'autovacuum worker', 'background writer',
                   'checkpointer', 'startup', 'walreceiver', 'walsender', 'walwriter', 'walsummarizer', 'archiver', 'logger', 'slotsync worker', 'io worker', 'standalone backend')) AS used,
               count(*) FILTER (WHERE a.backend_type = 'pg_tandem coordinator' AND a.datname = current_database()) > 0 AS coordinator
          FROM pg_stat_activity AS a
    ), threshold AS (
        SELECT DISTINCT ON (t.check_name) t.check_name, t.warn, t.crit FROM tandem.health_threshold AS t ORDER BY t.check_name, t.shipped
    ), beat AS (
        SELECT w.beat_at, w.beat_at < clock_timestamp() - make_interval(secs => t.crit::double precision) AS stale
          FROM threshold AS t LEFT JOIN tandem.worker AS w ON w.name = 'coordinator' WHERE t.check_name = 'worker'
    ), wal AS (
        SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS lsn
    ), executor AS (
        SELECT nullif(current_setting('tandem.max_executors', true), '')::integer AS most,
               (SELECT count(*) FROM tandem.run AS x WHERE x.id <> r.id AND x.stage NOT IN ('off', 'complete') AND x.phase <> 'cancelled') AS used
    )
    SELECT 'worker', CASE WHEN NOT tandem.worker_preloaded() OR b.stale THEN 'WARNING' WHEN b.beat_at IS NULL AND s.used >= s.most AND NOT s.coordinator THEN 'CRITICAL' ELSE 'OK' END,
           CASE WHEN NOT tandem.worker_preloaded() THEN 'the library is not preloaded: no worker runs' WHEN b.stale THEN format('the last beat of the coordinator was at %s', b.beat_at::timestamptz(0))
                WHEN b.beat_at IS NULL AND s.used >= s.most AND NOT s.coordinator THEN format('there is no place for the coordinator: %s of %s processes are in use', s.used, s.most) ELSE 'the worker serves this database' END,
           CASE WHEN NOT tandem.worker_preloaded() THEN 'Set shared_preload_libraries = ''pg_tandem'' and restart, or call tandem.tick() every few seconds (pg_cron can).'
                WHEN b.stale THEN 'Nothing would be copied or compared: see the server''s log, and SELECT * FROM tandem.health.'
                WHEN b.beat_at IS NULL AND s.used >= s.most AND NOT s.coordinator THEN 'Raise max_worker_processes, and restart.' END
      FROM slot AS s, beat AS b
    UNION ALL
    -- a process for the run, and two for comparing in parallel
    SELECT 'processes', CASE WHEN s.most - s.used < 3 OR e.used >= e.most THEN 'WARNING' ELSE 'OK' END,
           CASE WHEN e.used >= e.most THEN format('%s other run(s) are served, tandem.max_executors is %s: they take turns', e.used, e.most) ELSE format('%s of max_worker_processes = %s are in use', s.used, s.most) END,
           CASE WHEN e.used >= e.most THEN 'Raise tandem.max_executors.' WHEN s.most - s.used < 3 THEN 'A run needs one, and a comparison of large tables some more: raise max_worker_processes, and restart.' END
      FROM slot AS s, executor AS e WHERE tandem.worker_preloaded()
    UNION ALL
    SELECT 'connections', CASE WHEN 100.0 * c.used / c.most >= t.warn THEN 'WARNING' ELSE 'OK' END, format('%s of %s connections are in use', c.used, c.most),
           CASE WHEN 100.0 * c.used / c.most >= t.warn THEN 'Raise max_connections, or put a pooler before the server.' END
      FROM (SELECT count(*) AS used, current_setting('max_connections')::integer AS most FROM pg_stat_activity AS a WHERE a.backend_type = 'client backend') AS c, threshold AS t WHERE t.check_name = 'connections'
    UNION ALL
    SELECT 'settings', 'WARNING', format('%s is off', x.name), x.hint
      FROM (VALUES ('fsync', 'A crash of the machine can destroy both sides.'), ('full_page_writes', 'A crash of the machine can destroy both sides.'),
                   ('autovacuum', 'Mirrored tables and the captured keys grow: VACUUM them yourself.'), ('track_counts', 'Autovacuum does not see what has changed.')) AS x (name, hint)
     WHERE current_setting(x.name) = 'off'
    UNION ALL
    SELECT 'capture', CASE WHEN current_setting('wal_level') <> 'logical' OR c.used >= c.most THEN 'CRITICAL' ELSE 'OK' END,
           CASE WHEN current_setting('wal_level') <> 'logical' THEN format('capture by logical decoding, and wal_level is %s', current_setting('wal_level')) ELSE format('%s of %s replication slots are in use', c.used, c.most) END,
           CASE WHEN current_setting('wal_level') <> 'logical' THEN format('Set wal_level = logical and restart, or SELECT tandem.set_option(%L, ''capture'', ''trigger'')', r.name)
                WHEN c.used >= c.most THEN 'Raise max_replication_slots and restart, or drop a slot that nobody uses.' END
      FROM (SELECT count(*) AS used, current_setting('max_replication_slots')::integer AS most FROM pg_replication_slots) AS c WHERE tandem.option(r.id, 'capture') = 'logical'
    UNION ALL
    SELECT 'replication', CASE WHEN p.alone THEN 'CRITICAL' WHEN p.lag > 256 * 1024 * 1024 OR p.late > interval '1 minute' THEN 'WARNING' ELSE 'OK' END,
           CASE WHEN p.alone THEN 'synchronous_standby_names is set, and no such standby is connected: every commit waits' WHEN p.standbys = 0 THEN 'no standby is connected'
                ELSE format('%s standby(s), %s behind at most%s', p.standbys, pg_size_pretty(p.lag), coalesce(', ' || date_trunc('second', p.late), '')) END,
           CASE WHEN p.alone THEN 'Let the standby come back, or set synchronous_standby_names anew.' WHEN p.lag > 256 * 1024 * 1024 OR p.late > interval '1 minute'
                THEN 'A run writes every row twice: wait until it has caught up, and see to it that the backfill is throttled (set_option throttle_delay).' END
      FROM (SELECT count(*) AS standbys, coalesce(max(pg_wal_lsn_diff(w.lsn, s.replay_lsn)), 0)::bigint AS lag, max(s.replay_lag) AS late,
                   current_setting('synchronous_standby_names') <> '' AND current_setting('synchronous_commit') NOT IN ('off', 'local') AND count(*) FILTER (WHERE s.sync_state IN ('sync', 'quorum')) = 0 AS alone
              FROM pg_stat_replication AS s, wal AS w) AS p WHERE NOT pg_is_in_recovery()
    UNION ALL
    SELECT 'replication', 'WARNING', CASE WHEN s.wal_status = 'lost' THEN format('replication slot %s has lost its log', s.slot_name) ELSE format('replication slot %s keeps %s of log, and nobody reads it', s.slot_name, pg_size_pretty(s.kept)) END,
           'A run writes much log, and the slot keeps it until the disk is full: let its reader come back, or drop it.'
      FROM (SELECT x.*, pg_wal_lsn_diff(w.lsn, x.restart_lsn)::bigint AS kept FROM pg_replication_slots AS x, wal AS w WHERE NOT x.active) AS s
     WHERE s.kept > 256 * 1024 * 1024 OR s.wal_status = 'lost'
    UNION ALL
    -- The backfill waits for transactions that are older than itself.
    SELECT 'transactions', CASE WHEN o.age >= t.warn THEN 'WARNING' ELSE 'OK' END,
           CASE WHEN o.age >= t.warn THEN format('a transaction of %s is open since %s (process %s)', coalesce('role ' || o.usename, o.backend_type), o.xact_start::timestamptz(0), o.pid)
                ELSE 'no transaction is open for long' END,
           CASE WHEN o.age >= t.warn THEN 'start() waits for those that hold the tables, the backfill for those that have written, and VACUUM for all of them.' END
      FROM threshold AS t LEFT JOIN LATERAL (
            SELECT a.*, extract(epoch FROM clock_timestamp() - a.xact_start) AS age FROM pg_stat_activity AS a
             WHERE (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL) AND a.pid <> pg_backend_pid() AND a.backend_type <> 'walsender' AND a.datname = current_database()
             ORDER BY a.xact_start LIMIT 1) AS o ON true
     WHERE t.check_name = 'old_transaction'
    UNION ALL
    SELECT 'prepared', CASE WHEN x.holds IS NOT NULL THEN 'CRITICAL' ELSE 'WARNING' END,
           format('transaction "%s" is prepared since %s%s', left(p.gid, 100), p.prepared::timestamptz(0), coalesce(' and holds ' || x.holds, '')),
           format('COMMIT PREPARED or ROLLBACK PREPARED %L: it keeps its locks until then, and the backfill waits for it.', left(p.gid, 100))
      FROM pg_prepared_xacts AS p
     CROSS JOIN LATERAL (
            SELECT string_agg(DISTINCT l.relation::regclass::text, ', ') AS holds FROM pg_locks AS i JOIN pg_locks AS l ON l.virtualtransaction = i.virtualtransaction AND l.pid IS NULL
              JOIN tandem.mapping AS m ON m.run_id = r.id AND l.relation IN (tandem.relation_of(m.legacy_schema, m.legacy_table), tandem.relation_of(m.new_schema, m.new_table))
             WHERE i.locktype = 'transactionid' AND i.transactionid = p.transaction AND l.locktype = 'relation' AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())) AS x
     WHERE p.database = current_database()
    UNION ALL
    SELECT 'backup', CASE WHEN b.most = interval '0' OR b.age <= b.most THEN 'OK' WHEN b.at IS NULL THEN 'WARNING' ELSE 'CRITICAL' END,
           CASE WHEN b.at IS NULL THEN 'when the last backup was made is not known' ELSE format('the last backup was made at %s', b.at::timestamptz(0)) END
           || CASE WHEN b.most = interval '0' THEN ', and option backup_max_age does not ask' ELSE format('; option backup_max_age is %s', b.most) END,
           CASE WHEN b.most > interval '0' AND b.age <= b.most IS NOT TRUE THEN format('Make one, then SELECT tandem.set_option(%L, ''backup_at'', now()::text)', r.name) END
      FROM (SELECT o.at, o.most, clock_timestamp() - o.at AS age
              FROM (SELECT nullif(tandem.option(r.id, 'backup_at'), '')::timestamptz AS at, tandem.option(r.id, 'backup_max_age')::interval AS most) AS o) AS b
    UNION ALL
    SELECT 'backup', 'WARNING', format('archiving has failed since %s, at %s', s.last_failed_time::timestamptz(0), s.last_failed_wal), 'The log that a run writes piles up in pg_wal: see the server''s log for what archive_command said.'
      FROM pg_stat_archiver AS s WHERE current_setting('archive_mode') <> 'off' AND s.last_failed_time > coalesce(s.last_archived_time, '-infinity')
    UNION ALL
    SELECT 'freeze', CASE WHEN f.percent >= 90 THEN 'CRITICAL' WHEN f.percent >= 50 THEN 'WARNING' ELSE 'OK' END, format('%s %% of the transaction ids are used up, by database %s', f.percent, f.datname),
           CASE WHEN f.percent >= 50 THEN 'A run writes twice as much: VACUUM that database first; SELECT datname, age(datfrozenxid) FROM pg_database' END
      FROM (SELECT d.datname, round(100.0 * greatest(age(d.datfrozenxid), mxid_age(d.datminmxid)) / 2147483647, 1) AS percent FROM pg_database AS d ORDER BY 2 DESC LIMIT 1) AS f
    UNION ALL
    SELECT 'collation', 'WARNING', format('the database''s collation has version %s, its indexes were made with %s', c.now, c.recorded), 'Keys that are text may not be found by their index: REINDEX, then ALTER DATABASE ... REFRESH COLLATION VERSION.'
      FROM (SELECT d.datcollversion AS recorded, pg_database_collation_actual_version(d.oid) AS now FROM pg_database AS d WHERE d.datname = current_database()) AS c WHERE c.now <> c.recorded
    UNION ALL
    SELECT 'event_triggers', 'WARNING', format('event trigger %I runs %s() at %s', e.evtname, e.evtfoid::regproc, e.evtevent), 'It sees the triggers that start() makes, and those that cancel() drops: if it refuses them, so do these.'
      FROM pg_event_trigger AS e JOIN pg_proc AS p ON p.oid = e.evtfoid WHERE e.evtenabled IN ('O', 'A') AND e.evtevent IN ('ddl_command_start', 'ddl_command_end', 'sql_drop') AND p.pronamespace <> 'tandem'::regnamespace
$$;
COMMENT ON FUNCTION tandem.preflight_server IS 'The checks of the server: worker, processes, settings, replication, transactions, backup, transaction ids';

INSERT INTO tandem.option_default VALUES
    ('backup_at', 'time', '', 'When the last backup was made, as you say: preflight() tells its age'),
    ('backup_max_age', 'interval', '0 seconds', 'preflight() refuses a last backup (backup_at) that is older; 0 does not ask');
