-- throttle: what holds the backfill back. Replication lag and load are looked at before each batch; throttle() (71_throttle.sql) changes the
-- limits while it runs.

INSERT INTO tandem.option_default VALUES
    ('throttle_lag', 'interval, size or off', 'off', 'No batch while a standby is further behind than this: in time (5 seconds) or in log (64 MB)'),
    ('throttle_load', 'load, backends or off', 'off', 'No batch while the host''s load per processor is above this (0.8), or more sessions are active (20 backends)');

CREATE FUNCTION tandem.lag_limit(value text, OUT age interval, OUT bytes numeric)
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN NOT x.is_size AND value <> 'off' THEN value::interval END, CASE WHEN x.is_size THEN pg_size_bytes(value) END
      FROM (SELECT value ~* '^\s*[0-9.]+\s*(bytes|[kmgtp]b)\s*$' AS is_size) AS x
$$;
COMMENT ON FUNCTION tandem.lag_limit IS 'What a value of throttle_lag means: an age, or bytes of log; neither for off';

CREATE FUNCTION tandem.load_limit(value text, OUT load double precision, OUT backends integer)
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN value NOT LIKE '%backends' AND value <> 'off' THEN value::double precision END,
           CASE WHEN value LIKE '%backends' THEN left(value, -8)::integer END
$$;
COMMENT ON FUNCTION tandem.load_limit IS 'What a value of throttle_load means: load per processor, or active backends; neither for off';

CREATE FUNCTION tandem.is_limit(kind text, value text) RETURNS boolean
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE kind WHEN 'interval, size or off' THEN (SELECT x.age IS NULL OR x.age BETWEEN interval '0' AND interval '1 year' FROM tandem.lag_limit(value) AS x)
                     ELSE (SELECT coalesce(x.load > 0 AND x.load < 'Infinity', x.backends >= 1, true) FROM tandem.load_limit(value) AS x) END
$$;
COMMENT ON FUNCTION tandem.is_limit IS 'Is a value one that throttle_lag or throttle_load may have? Fails with a data exception where it is no value at all';

-- Where the log was when. pg_stat_replication tells no lag in time for a standby that had nothing to do when its replay was stopped.
CREATE TABLE tandem.log_mark (
    at  timestamptz NOT NULL,
    lsn pg_lsn NOT NULL
);
COMMENT ON TABLE tandem.log_mark IS 'Where the end of the log was when, while throttle_lag is a time: how old is what a standby has not replayed?';

CREATE FUNCTION tandem.held_by_lag(value text) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted record := tandem.lag_limit(value);
    slowest record;
    age interval;
BEGIN
    IF wanted.age IS NULL AND wanted.bytes IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT coalesce(nullif(s.application_name, ''), s.pid::text) AS name, s.replay_lsn, pg_wal_lsn_diff(pg_current_wal_lsn(), s.replay_lsn) AS bytes INTO slowest
      FROM pg_stat_replication AS s WHERE s.state IN ('streaming', 'catchup') AND s.replay_lsn IS NOT NULL ORDER BY s.replay_lsn LIMIT 1;
    IF wanted.bytes IS NOT NULL THEN
        RETURN CASE WHEN slowest.bytes > wanted.bytes THEN format('lag: %s is %s behind (limit %s)', slowest.name, pg_size_pretty(slowest.bytes), value) END;
    END IF;
    -- Marks that the slowest has replayed say nothing more; the oldest that is left tells how far behind it is, at least.
    DELETE FROM tandem.log_mark AS k WHERE k.lsn <= slowest.replay_lsn OR slowest.replay_lsn IS NULL OR k.at > clock_timestamp();
    INSERT INTO tandem.log_mark SELECT clock_timestamp(), pg_current_wal_lsn()
     WHERE slowest.replay_lsn IS NOT NULL AND NOT EXISTS (SELECT FROM tandem.log_mark AS k WHERE k.at > clock_timestamp() - greatest(wanted.age / 10, interval '10 ms'));
    SELECT clock_timestamp() - min(k.at) INTO age FROM tandem.log_mark AS k;
    RETURN CASE WHEN age > wanted.age THEN format('lag: %s is %s behind (limit %s)', slowest.name, date_trunc('second', age + interval '999 ms'), value) END;
END
$$;
COMMENT ON FUNCTION tandem.held_by_lag IS 'Which standby is too far behind, and how far; NULL where none is';

CREATE FUNCTION tandem.held_by_load(value text) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted record := tandem.load_limit(value);
    active bigint;
    host record;
BEGIN
    IF wanted.load IS NULL AND wanted.backends IS NULL THEN
        RETURN NULL;
    END IF;
    active := (SELECT count(*) FROM pg_stat_activity AS a WHERE a.backend_type = 'client backend' AND a.state = 'active' AND a.pid <> pg_backend_pid());
    IF wanted.backends IS NOT NULL THEN
        RETURN CASE WHEN active > wanted.backends THEN format('load: %s active backends (limit %s)', active, value) END;
    END IF;
    SELECT coalesce(x.load, active) / greatest(coalesce(x.cpus, 1), 0.01) AS load, CASE WHEN x.load IS NULL THEN 'active backends' ELSE 'load' END AS what INTO host FROM tandem.host_facts() AS x;
    RETURN CASE WHEN host.load > wanted.load THEN format('load: %s per processor is %s (limit %s)', host.what, round(host.load::numeric, 2), value) END;
END
$$;
COMMENT ON FUNCTION tandem.held_by_load IS 'How busy the host is, where that is too busy; else NULL. Where its load cannot be read, active backends count in its place';

CREATE FUNCTION tandem.backfill_held(run_id integer) RETURNS text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT nullif(concat_ws('; ', tandem.held_by_lag(tandem.option($1, 'throttle_lag')), tandem.held_by_load(tandem.option($1, 'throttle_load'))), '')
$$;
COMMENT ON FUNCTION tandem.backfill_held IS 'Why the backfill of a run is held back now; NULL where it is not';

-- What a round does of the backfill: one batch, unless something holds it back.
CREATE FUNCTION tandem.backfill_round(r tandem.run, OUT did text, OUT wait_ms integer, OUT seen bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    held text := tandem.backfill_held(r.id);
BEGIN
    IF held IS NOT NULL THEN
        UPDATE tandem.backfill AS b SET throttled_by = held WHERE b.mapping_id = (SELECT x.id FROM tandem.backfill_next(r.id) AS x) AND b.throttled_by IS DISTINCT FROM held;
        did := 'backfill: held back by ' || held;
        wait_ms := 200;
        RETURN;
    END IF;
    seen := tandem.backfill_batch(r.id);
    IF seen < 0 THEN
        did := coalesce((SELECT 'backfill: waits for ' || b.throttled_by FROM tandem.backfill_next(r.id) AS m JOIN tandem.backfill AS b ON b.mapping_id = m.id), 'backfill: waits for open transactions');
        wait_ms := 50;
    ELSE
        did := format('backfill: %s rows', coalesce(seen, 0));
        wait_ms := extract(epoch FROM tandem.option(r.id, 'throttle_delay')::interval) * 1000;
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.backfill_round IS 'One batch of the backfill, or why there is none now: what was done, when to come again, the rows seen';
