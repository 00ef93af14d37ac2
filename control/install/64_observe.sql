-- observe: how long operations take on each side, and how many fail. Counted in shared memory (src/pg/observe.hpp says how), an hour's
-- row for each operation and side kept in latency_hour.
--
-- What reads it is SECURITY DEFINER where it needs tables that the reader may not see; it tells numbers, and EXECUTE is the gate.

-- --- operations
CREATE TABLE tandem.operation (
    run_id       integer NOT NULL REFERENCES tandem.run ON DELETE CASCADE,
    name         text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 63),
    threshold    interval,
    threshold_us bigint,
    PRIMARY KEY (run_id, name)
);
COMMENT ON TABLE tandem.operation IS 'Operations that are observed, with the duration that each should not exceed';
COMMENT ON COLUMN tandem.operation.threshold_us IS 'The threshold in us: what C++ reads';
CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON tandem.operation FOR EACH STATEMENT EXECUTE FUNCTION tandem.invalidate();

CREATE FUNCTION tandem.duration_us(duration interval) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'tandem_duration_us';
COMMENT ON FUNCTION tandem.duration_us IS 'A duration in us; 22023 where it is negative or has no definite length';

-- SECURITY DEFINER, here and in drop_operation(): they write a table that nobody else may write.
CREATE FUNCTION tandem.add_operation(run text, operation text, threshold interval DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    r tandem.run := tandem.get_run(run);
    us bigint := tandem.duration_us(threshold);
BEGIN
    PERFORM tandem.authorize(r, 'add_operation');
    IF operation IS NULL OR octet_length(operation) NOT BETWEEN 1 AND 63 THEN
        RAISE EXCEPTION 'an operation needs a name of 1 to 63 bytes' USING ERRCODE = 'invalid_name',
              HINT = 'SELECT tandem.add_operation(''my_run'', ''checkout'', ''200 ms'')';
    END IF;
    IF us = 0 THEN
        RAISE EXCEPTION 'a threshold must be longer than 0' USING ERRCODE = 'invalid_parameter_value',
              DETAIL = 'Every operation takes longer than that.', HINT = 'NULL, or no threshold at all, only counts.';
    END IF;
    INSERT INTO tandem.operation AS o (run_id, name, threshold, threshold_us) VALUES (r.id, operation, threshold, us)
    ON CONFLICT (run_id, name) DO UPDATE SET threshold = EXCLUDED.threshold, threshold_us = EXCLUDED.threshold_us;
    PERFORM tandem.record_event(r, 'add_operation', NULL, jsonb_build_object('operation', operation, 'threshold', threshold));
END
$$;
COMMENT ON FUNCTION tandem.add_operation IS
    'Makes an operation of a run known, or changes its threshold: from then on what takes longer is counted exactly';

CREATE FUNCTION tandem.drop_operation(run text, operation text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    r tandem.run := tandem.get_run(run);
BEGIN
    PERFORM tandem.authorize(r, 'drop_operation');
    DELETE FROM tandem.operation AS o WHERE o.run_id = r.id AND o.name = operation;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run "%" has no operation "%"', r.name, operation USING ERRCODE = 'undefined_object',
              HINT = 'SELECT * FROM tandem.operations shows them.';
    END IF;
    PERFORM tandem.record_event(r, 'drop_operation', NULL, jsonb_build_object('operation', operation));
END
$$;
COMMENT ON FUNCTION tandem.drop_operation IS 'Forgets an operation and its threshold; what was observed of it stays';

CREATE VIEW tandem.operations AS
SELECT r.name AS run, o.name AS operation, o.threshold FROM tandem.operation AS o JOIN tandem.run AS r ON r.id = o.run_id;
COMMENT ON VIEW tandem.operations IS 'Operations made known by add_operation(), with their thresholds';

-- --- recording: C, without proconfig, as applications call it for each of their operations
CREATE FUNCTION tandem.observe(run text, operation text, side text, duration interval, ok boolean DEFAULT true) RETURNS void
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'tandem_observe';
COMMENT ON FUNCTION tandem.observe IS
    'Counts an operation: on which side it ran, how long it took, whether it ended well. Counted also if the transaction is rolled back';

-- --- histograms: log-linear, 32 buckets an octave (src/core/histogram.hpp); a percentile is within 1.6 % of the exact one
CREATE FUNCTION tandem.histogram_add(state internal, histogram bytea) RETURNS internal
LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_histogram_add';
COMMENT ON FUNCTION tandem.histogram_add IS 'Transition of histogram_sum()';
CREATE FUNCTION tandem.histogram_final(state internal) RETURNS bytea
LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_histogram_final';
COMMENT ON FUNCTION tandem.histogram_final IS 'Result of histogram_sum()';
CREATE AGGREGATE tandem.histogram_sum(histogram bytea) (SFUNC = tandem.histogram_add, STYPE = internal, FINALFUNC = tandem.histogram_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE tandem.histogram_sum(bytea) IS 'Histograms added up';
CREATE FUNCTION tandem.histogram_percentiles(histogram bytea, shares double precision[], longest_us bigint DEFAULT NULL) RETURNS double precision[]
LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_histogram_percentiles';
COMMENT ON FUNCTION tandem.histogram_percentiles IS 'Percentiles of a histogram in ms, none beyond longest_us; within 1.6 % of the exact ones';
CREATE FUNCTION tandem.histogram_count(histogram bytea) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_histogram_count';
COMMENT ON FUNCTION tandem.histogram_count IS 'How many durations a histogram has counted';
CREATE FUNCTION tandem.histogram_buckets(histogram bytea) RETURNS TABLE (from_ms double precision, to_ms double precision, n bigint)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_histogram_buckets';
COMMENT ON FUNCTION tandem.histogram_buckets IS 'The buckets of a histogram that are not empty';

-- --- what is counted
CREATE FUNCTION tandem.observed(level integer, newest integer, merged boolean)
RETURNS TABLE (run_id integer, operation text, side text, at timestamptz, slot bigint, n bigint, errors bigint, over bigint, us bigint, longest_us bigint,
               threshold_us bigint, histogram bytea)
LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'tandem_observed';
COMMENT ON FUNCTION tandem.observed IS
    'The newest slots of a level (0: 5 seconds, 13 of them; 1: minutes, 61; 2: hours, 25), the one being filled among them; merged: one row for each series';

CREATE FUNCTION tandem.observed_totals()
RETURNS TABLE (run_id integer, operation text, side text, n bigint, errors bigint, over bigint, us bigint, longest_us bigint, threshold_us bigint, bounds bigint[])
LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'tandem_observed_totals';
COMMENT ON FUNCTION tandem.observed_totals IS 'What was counted since the server started';

CREATE FUNCTION tandem.observe_state(OUT bytes_used bigint, OUT bytes_limit bigint, OUT series bigint, OUT dropped bigint, OUT series_limit bigint,
                                     OUT counting_since timestamptz, OUT hour_slot bigint)
RETURNS SETOF record LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'tandem_observe_state';
COMMENT ON FUNCTION tandem.observe_state IS 'The shared memory of observing, in all databases together; no row without preload';

CREATE FUNCTION tandem.observe_bounds() RETURNS double precision[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_observe_bounds';
COMMENT ON FUNCTION tandem.observe_bounds IS 'Upper bounds of the buckets of latency_buckets(), in seconds, without infinity';

-- --- history. A life of the server has its own row for an hour, which it writes again and again until the hour is over: so a round that
-- is made twice counts nothing twice, and after a crash the rows of before stay as they are.
CREATE TABLE tandem.latency_hour (
    since          timestamptz NOT NULL,
    slot           bigint NOT NULL,
    run_id         integer NOT NULL REFERENCES tandem.run ON DELETE CASCADE,
    operation      text COLLATE "C" NOT NULL,
    side           text NOT NULL CHECK (side IN ('legacy', 'new')),
    hour           timestamptz NOT NULL,
    saved_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    n              bigint NOT NULL,
    errors         bigint NOT NULL,
    over_threshold bigint NOT NULL,
    sum_us         bigint NOT NULL,
    longest_us     bigint NOT NULL,
    histogram      bytea NOT NULL,
    PRIMARY KEY (since, slot, run_id, operation, side)
) WITH (fillfactor = 70);
CREATE INDEX latency_hour_hour ON tandem.latency_hour (hour);
COMMENT ON TABLE tandem.latency_hour IS 'What was observed, by hour: one row for each operation and side that was seen in it, and each life of the server';
COMMENT ON COLUMN tandem.latency_hour.since IS 'When that server began to count';
COMMENT ON COLUMN tandem.latency_hour.slot IS 'Hours since 1970 by a clock that is never set: that of the server while it lives';
COMMENT ON COLUMN tandem.latency_hour.hour IS 'When the hour began by the time of day';
COMMENT ON COLUMN tandem.latency_hour.saved_at IS 'What was observed before is in the row: a crash costs what came after';
COMMENT ON COLUMN tandem.latency_hour.histogram IS 'For histogram_sum() and histogram_percentiles()';

CREATE FUNCTION tandem.observe_round() RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    state record;
    saved bigint;
    keep text := current_setting('tandem.latency_retention', true);
BEGIN
    SELECT s.counting_since, s.hour_slot INTO state FROM tandem.observe_state() AS s;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    INSERT INTO tandem.latency_hour AS h (since, slot, run_id, operation, side, hour, n, errors, over_threshold, sum_us, longest_us, histogram)
    SELECT state.counting_since, o.slot, o.run_id, o.operation, o.side, o.at, o.n, o.errors, o.over, o.us, o.longest_us, o.histogram
           -- what was saved last, and all that came since
      FROM (SELECT least(25, state.hour_slot - coalesce(max(x.slot), 0) + 3)::integer AS newest FROM tandem.latency_hour AS x WHERE x.since = state.counting_since) AS w
     CROSS JOIN LATERAL tandem.observed(2, w.newest, false) AS o
      JOIN tandem.run AS r ON r.id = o.run_id
      LEFT JOIN tandem.latency_hour AS e ON (e.since, e.slot, e.run_id, e.operation, e.side) = (state.counting_since, o.slot, o.run_id, o.operation, o.side)
     WHERE e.n IS DISTINCT FROM o.n
        ON CONFLICT (since, slot, run_id, operation, side) DO UPDATE
       SET saved_at = clock_timestamp(), n = EXCLUDED.n, errors = EXCLUDED.errors, over_threshold = EXCLUDED.over_threshold, sum_us = EXCLUDED.sum_us,
           longest_us = EXCLUDED.longest_us, histogram = EXCLUDED.histogram;
    GET DIAGNOSTICS saved = ROW_COUNT;
    IF keep <> '' THEN
        DELETE FROM tandem.latency_hour AS h WHERE h.hour < clock_timestamp() - make_interval(days => keep::integer);
    END IF;
    RETURN saved;
END
$$;
COMMENT ON FUNCTION tandem.observe_round IS 'Saves what was observed into latency_hour: the coordinator calls it every tandem.observe_save_every, tick() each time';

-- --- latencies. One row for each operation and side that was seen in the window.
CREATE FUNCTION tandem.latency_rows(run_id integer, operation text, side text, span interval)
RETURNS TABLE (run text, operation text, side text, n bigint, errors bigint, p50_ms numeric, p95_ms numeric, p99_ms numeric, max_ms numeric,
               over_threshold bigint, compliance numeric, threshold_ms numeric, since timestamptz, run_id integer, us bigint, longest_us bigint, histogram bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH seconds AS (
        SELECT extract(epoch FROM $4)::double precision AS s
    ), w AS MATERIALIZED (
        SELECT CASE WHEN s <= 60 THEN 0 WHEN s <= 3600 THEN 1 ELSE 2 END AS level,
               1 + ceil(CASE WHEN s <= 60 THEN s / 5 WHEN s <= 3600 THEN s / 60 ELSE least(s / 3600, 24) END)::integer AS newest,
               x.counting_since, x.hour_slot, clock_timestamp() - make_interval(secs => s) AS begins
          FROM seconds LEFT JOIN tandem.observe_state() AS x ON true
    ), part AS (
        SELECT o.run_id, o.operation, o.side, o.n, o.errors, o.over, o.us, o.longest_us, o.histogram, greatest(w.begins, w.counting_since) AS begins, o.threshold_us
          FROM w CROSS JOIN LATERAL tandem.observed(w.level, w.newest, true) AS o
         UNION ALL
        SELECT h.run_id, h.operation, h.side, h.n, h.errors, h.over_threshold, h.sum_us, h.longest_us, h.histogram, greatest(w.begins, h.hour), NULL
          FROM w JOIN tandem.latency_hour AS h ON w.level = 2 AND h.hour > w.begins - interval '1 hour'
         -- the hours in memory are those
         WHERE w.counting_since IS NULL OR h.since <> w.counting_since OR h.slot <= w.hour_slot - 25
    ), summed AS (
        SELECT p.run_id, p.operation, p.side, sum(p.n)::bigint AS n, sum(p.errors)::bigint AS errors, sum(p.over)::bigint AS over, sum(p.us)::bigint AS us,
               max(p.longest_us) AS longest_us, tandem.histogram_sum(p.histogram) AS histogram, min(p.begins) AS begins, max(p.threshold_us) AS threshold_us
          FROM part AS p
         WHERE ($1 IS NULL OR p.run_id = $1) AND ($2 IS NULL OR p.operation = $2) AND ($3 IS NULL OR p.side = $3)
         GROUP BY 1, 2, 3
    )
    SELECT r.name, s.operation, s.side, s.n, s.errors, trim_scale(round(p.p[1]::numeric, 3)), trim_scale(round(p.p[2]::numeric, 3)), trim_scale(round(p.p[3]::numeric, 3)),
           trim_scale(s.longest_us / 1000.0), CASE WHEN t.us IS NOT NULL THEN s.over END,
           CASE WHEN t.us IS NOT NULL THEN trim_scale(round(100.0 * (s.n - s.over) / s.n, 4)) END, trim_scale(t.us / 1000.0), s.begins, s.run_id, s.us, s.longest_us, s.histogram
      FROM summed AS s JOIN tandem.run AS r ON r.id = s.run_id LEFT JOIN tandem.operation AS o ON o.run_id = s.run_id AND o.name = s.operation
     CROSS JOIN LATERAL (SELECT coalesce(o.threshold_us, s.threshold_us) AS us) AS t
     CROSS JOIN LATERAL (SELECT tandem.histogram_percentiles(s.histogram, '{0.5,0.95,0.99}', s.longest_us) AS p) AS p
     ORDER BY 1, 2, 3
$$;
COMMENT ON FUNCTION tandem.latency_rows IS 'What latency() and the views show: of one run or of all, of one operation and side or of all';

CREATE FUNCTION tandem.check_observed(run text, operation text, side text, span interval, step interval DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run := tandem.get_run(run);
BEGIN
    IF side NOT IN ('legacy', 'new') THEN
        RAISE EXCEPTION 'unknown side "%"', left(side, 63) USING ERRCODE = 'invalid_parameter_value', DETAIL = 'A run has the sides legacy and new.',
              HINT = 'NULL stands for both.';
    END IF;
    IF span IS NULL OR span <= interval '0' THEN
        RAISE EXCEPTION 'a span must be longer than 0' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Found: %s', coalesce(span::text, 'NULL')),
              HINT = 'SELECT * FROM tandem.latency(''my_run'', span => ''5 minutes'')';
    END IF;
    IF step <= interval '0' OR extract(year FROM step) <> 0 OR extract(month FROM step) <> 0 THEN
        RAISE EXCEPTION 'a step must be longer than 0, and of a definite length' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Found: %s', step),
              HINT = 'SELECT * FROM tandem.latency_series(''my_run'', span => ''1 day'', step => ''1 hour'')';
    END IF;
    IF operation IS NOT NULL AND operation NOT IN ('select', 'insert', 'update', 'delete', 'merge', 'copy')
       AND NOT EXISTS (SELECT FROM tandem.operation AS o WHERE o.run_id = r.id AND o.name = operation)
       AND NOT EXISTS (SELECT FROM tandem.observed_totals() AS t WHERE t.run_id = r.id AND t.operation = check_observed.operation)
       AND NOT EXISTS (SELECT FROM tandem.latency_hour AS h WHERE h.run_id = r.id AND h.operation = check_observed.operation) THEN
        RAISE EXCEPTION 'run "%" has no operation "%"', r.name, left(operation, 63) USING ERRCODE = 'undefined_object',
              HINT = 'SELECT * FROM tandem.operations shows them; tandem.add_operation() makes one.';
    END IF;
    RETURN r.id;
END
$$;
COMMENT ON FUNCTION tandem.check_observed IS 'Refuses an unknown run, operation or side, an empty span or step; answers with the id of the run';

CREATE FUNCTION tandem.latency(run text, operation text DEFAULT NULL, side text DEFAULT NULL, span interval DEFAULT '5 minutes')
RETURNS TABLE (operation text, side text, n bigint, errors bigint, p50_ms numeric, p95_ms numeric, p99_ms numeric, max_ms numeric, over_threshold bigint,
               compliance numeric, threshold_ms numeric, since timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT l.operation, l.side, l.n, l.errors, l.p50_ms, l.p95_ms, l.p99_ms, l.max_ms, l.over_threshold, l.compliance, l.threshold_ms, l.since
      FROM tandem.latency_rows(tandem.check_observed($1, $2, $3, $4), $2, $3, $4) AS l
$$;
COMMENT ON FUNCTION tandem.latency IS
    'Latencies of a run''s operations in the last span: percentiles within 1.6 %, over_threshold and max exact, compliance in percent; since: from when on it is complete';

CREATE VIEW tandem.latency AS
SELECT l.run, l.operation, l.side, l.n, l.errors, l.p50_ms, l.p95_ms, l.p99_ms, l.max_ms, l.over_threshold, l.compliance, l.threshold_ms, l.since
  FROM tandem.latency_rows(NULL, NULL, NULL, '5 minutes') AS l;
COMMENT ON VIEW tandem.latency IS 'Latencies of the last five minutes, of all runs';

CREATE FUNCTION tandem.latency_series(run text, operation text DEFAULT NULL, side text DEFAULT NULL, span interval DEFAULT '1 hour', step interval DEFAULT NULL)
RETURNS TABLE (at timestamptz, operation text, side text, n bigint, errors bigint, p50_ms numeric, p95_ms numeric, p99_ms numeric, over_threshold bigint, max_ms numeric)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH seconds AS (
        SELECT extract(epoch FROM $4)::double precision AS s
    ), w AS MATERIALIZED (
        SELECT u.level, u.unit, 1 + ceil(least(s / u.unit, 60))::integer AS newest, make_interval(secs => u.unit) AS slot, tandem.check_observed($1, $2, $3, $4, $5) AS run_id,
               x.counting_since, x.hour_slot
          FROM seconds CROSS JOIN LATERAL (SELECT * FROM (VALUES (0, 5, 60), (1, 60, 3600), (2, 3600, NULL)) AS v (level, unit, most) WHERE s <= coalesce(most, s) ORDER BY 1 LIMIT 1) AS u
          LEFT JOIN tandem.observe_state() AS x ON true
    ), part AS (
        SELECT o.operation, o.side, o.at, o.n, o.errors, o.over, o.longest_us, o.histogram, w.slot
          FROM w CROSS JOIN LATERAL tandem.observed(w.level, w.newest, false) AS o
         WHERE o.run_id = w.run_id
         UNION ALL
        SELECT h.operation, h.side, h.hour, h.n, h.errors, h.over_threshold, h.longest_us, h.histogram, w.slot
          FROM w JOIN tandem.latency_hour AS h ON w.level = 2 AND h.run_id = w.run_id AND h.hour > clock_timestamp() - $4 - interval '1 hour'
         -- the hours in memory are those
         WHERE w.counting_since IS NULL OR h.since <> w.counting_since OR h.slot <= w.hour_slot - 25
    ), summed AS (
        -- the middle of a slot decides: its beginning may be some milliseconds off after the clock was set
        SELECT CASE WHEN $5 > p.slot THEN date_bin($5, p.at + p.slot / 2, 'epoch') ELSE p.at END AS at, p.operation, p.side,
               sum(p.n)::bigint AS n, sum(p.errors)::bigint AS errors, sum(p.over)::bigint AS over, max(p.longest_us) AS longest_us, tandem.histogram_sum(p.histogram) AS histogram
          FROM part AS p WHERE ($2 IS NULL OR p.operation = $2) AND ($3 IS NULL OR p.side = $3)
         GROUP BY 1, 2, 3
    )
    SELECT u.at, u.operation, u.side, u.n, u.errors, trim_scale(round(p.p[1]::numeric, 3)), trim_scale(round(p.p[2]::numeric, 3)), trim_scale(round(p.p[3]::numeric, 3)), u.over,
           trim_scale(u.longest_us / 1000.0)
      FROM summed AS u CROSS JOIN LATERAL (SELECT tandem.histogram_percentiles(u.histogram, '{0.5,0.95,0.99}', u.longest_us) AS p) AS p
     ORDER BY 1, 2, 3
$$;
COMMENT ON FUNCTION tandem.latency_series IS
    'Latencies over time: points of 5 seconds for a span of a minute, of a minute for an hour, else of an hour; or of a longer step. Where nothing was seen there is no point';

-- --- counters, for Prometheus
CREATE VIEW tandem.latency_totals AS
SELECT r.name AS run, t.operation, t.side, t.n, t.errors, t.us / 1e6::double precision AS sum_seconds, t.threshold_us / 1e6::double precision AS threshold_seconds,
       CASE WHEN t.threshold_us IS NOT NULL THEN t.over END AS over_threshold
  FROM tandem.observed_totals() AS t JOIN tandem.run AS r ON r.id = t.run_id;
COMMENT ON VIEW tandem.latency_totals IS 'Counters since the server started (observe_memory: counting_since): they only grow, and begin anew after a restart';

CREATE FUNCTION tandem.latency_buckets(run text DEFAULT NULL)
RETURNS TABLE (run text, operation text, side text, le double precision, cumulative bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.name, t.operation, t.side, b.le, b.cumulative
      FROM tandem.observed_totals() AS t JOIN tandem.run AS r ON r.id = t.run_id
     CROSS JOIN LATERAL (SELECT x.le, x.cumulative FROM unnest(tandem.observe_bounds(), t.bounds) AS x (le, cumulative) UNION ALL SELECT 'Infinity', t.n) AS b
     WHERE $1 IS NULL OR r.id = (SELECT g.id FROM tandem.get_run($1) AS g)
     ORDER BY 1, 2, 3, 4
$$;
COMMENT ON FUNCTION tandem.latency_buckets IS 'Counters since the server started: how many took at most le seconds, exactly; a Prometheus histogram with latency_totals';

-- --- the run's baseline: what legacy took before traffic was moved
CREATE TABLE tandem.latency_baseline (
    run_id     integer NOT NULL REFERENCES tandem.run ON DELETE CASCADE,
    operation  text COLLATE "C" NOT NULL,
    kept_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    since      timestamptz NOT NULL,
    n          bigint NOT NULL,
    longest_us bigint NOT NULL,
    histogram  bytea NOT NULL,
    PRIMARY KEY (run_id, operation)
);
COMMENT ON TABLE tandem.latency_baseline IS 'What the operations of a run took on legacy until the first key was moved: kept in the transaction that moves it';

CREATE FUNCTION tandem.keep_baseline() RETURNS trigger
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO tandem.latency_baseline (run_id, operation, since, n, longest_us, histogram)
    SELECT NEW.id, l.operation, l.since, l.n, l.longest_us, l.histogram FROM tandem.latency_rows(NEW.id, NULL, 'legacy', '100 years') AS l
        ON CONFLICT DO NOTHING; -- the first time counts
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tandem.keep_baseline IS 'Trigger: keeps the baseline of a run that moves its first keys';
CREATE TRIGGER keep_baseline AFTER UPDATE ON tandem.run FOR EACH ROW WHEN (OLD.weight = 0 AND NEW.weight > 0) EXECUTE FUNCTION tandem.keep_baseline();

CREATE FUNCTION tandem.latency_baselines() RETURNS TABLE (run_id integer, operation text, p95_ms numeric, n bigint, kept boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT b.run_id, b.operation, trim_scale(round((tandem.histogram_percentiles(b.histogram, '{0.95}', b.longest_us))[1]::numeric, 3)), b.n, true FROM tandem.latency_baseline AS b
     UNION ALL
    SELECT l.run_id, l.operation, l.p95_ms, l.n, false FROM tandem.run AS r CROSS JOIN LATERAL tandem.latency_rows(r.id, NULL, 'legacy', '100 years') AS l
     WHERE r.weight = 0 AND NOT EXISTS (SELECT FROM tandem.latency_baseline AS b WHERE b.run_id = l.run_id AND b.operation = l.operation)
$$;
COMMENT ON FUNCTION tandem.latency_baselines IS 'The baseline of each operation: as it was kept when keys were first moved; until then, all that was seen on legacy';

-- --- views
CREATE VIEW tandem.latency_comparison AS
SELECT l.run, l.operation, sum(l.n) FILTER (WHERE l.side = 'legacy')::bigint AS legacy_n, sum(l.n) FILTER (WHERE l.side = 'new')::bigint AS new_n,
       max(l.p95_ms) FILTER (WHERE l.side = 'legacy') AS legacy_p95_ms, max(l.p95_ms) FILTER (WHERE l.side = 'new') AS new_p95_ms,
       trim_scale(round(max(l.p95_ms) FILTER (WHERE l.side = 'new') / nullif(max(l.p95_ms) FILTER (WHERE l.side = 'legacy'), 0), 4)) AS p95_ratio,
       trim_scale(round(max(100.0 * l.errors / l.n) FILTER (WHERE l.side = 'legacy'), 4)) AS legacy_error_rate,
       trim_scale(round(max(100.0 * l.errors / l.n) FILTER (WHERE l.side = 'new'), 4)) AS new_error_rate
  FROM tandem.latency_rows(NULL, NULL, NULL, '5 minutes') AS l GROUP BY l.run, l.operation;
COMMENT ON VIEW tandem.latency_comparison IS 'Both sides in the same five minutes: p95, their ratio (above 1: new is slower), error rates in percent';

CREATE VIEW tandem.operation_counts AS
SELECT d.run, d.operation, d.side, coalesce(m.n, 0) AS last_minute, coalesce(h.n, 0) AS last_hour, d.n AS last_day, d.errors AS errors_last_day
  FROM tandem.latency_rows(NULL, NULL, NULL, '24 hours') AS d
  LEFT JOIN tandem.latency_rows(NULL, NULL, NULL, '1 hour') AS h ON (h.run_id, h.operation, h.side) = (d.run_id, d.operation, d.side)
  LEFT JOIN tandem.latency_rows(NULL, NULL, NULL, '1 minute') AS m ON (m.run_id, m.operation, m.side) = (d.run_id, d.operation, d.side);
COMMENT ON VIEW tandem.operation_counts IS 'How often each operation was seen on each side';

CREATE VIEW tandem.latency_trend AS
SELECT l.run, l.operation, l.side, b.p95_ms AS baseline_p95_ms, l.p95_ms, trim_scale(round(100 * (l.p95_ms / nullif(b.p95_ms, 0) - 1), 2)) AS degradation_percent,
       b.n AS baseline_n, l.n, coalesce(b.kept, false) AS baseline_kept
  FROM tandem.latency_rows(NULL, NULL, NULL, '5 minutes') AS l
  LEFT JOIN tandem.latency_baselines() AS b ON b.run_id = l.run_id AND b.operation = l.operation;
COMMENT ON VIEW tandem.latency_trend IS
    'p95 of the last five minutes against the run''s baseline: what legacy took before the first key was moved. degradation_percent above 0: slower';

CREATE VIEW tandem.observe_memory AS
SELECT coalesce(s.bytes_used, 0) AS bytes_used, coalesce(s.bytes_limit, 0) AS bytes_limit, coalesce(s.series, 0) AS series, coalesce(s.dropped, 0) AS dropped,
       coalesce(s.series_limit, 0) AS series_limit, s.counting_since,
       (SELECT max(h.saved_at) FROM tandem.latency_hour AS h -- of the last hour, which the index finds
         WHERE (h.since, h.slot) = (SELECT x.since, x.slot FROM tandem.latency_hour AS x WHERE x.since = s.counting_since ORDER BY x.since DESC, x.slot DESC LIMIT 1)) AS saved_at,
       (SELECT max(h.saved_at) FROM tandem.latency_hour AS h
         WHERE (h.since, h.slot) = (SELECT x.since, x.slot FROM tandem.latency_hour AS x WHERE x.since < s.counting_since ORDER BY x.since DESC, x.slot DESC LIMIT 1)) AS previous_saved_at
  FROM (SELECT) AS one LEFT JOIN tandem.observe_state() AS s ON true;
COMMENT ON VIEW tandem.observe_memory IS
    'Shared memory of observing: what is used of tandem.observe_memory, how many observations found no room; what was observed after previous_saved_at and before counting_since is lost';
