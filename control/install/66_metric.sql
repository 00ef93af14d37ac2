-- metric: numbers that are measured again and again, and what they say of a run: pass, fail or inconclusive.
--
-- A user's metric is a query that runs as the run's owner and two conditions over its result. Metrics that come with the extension are
-- measured for each active run and for the database, all in one statement (metric_round()). Both are a series: the last value stands in
-- metric and in metric_reading, the history of both in measurement, which has a retention.

CREATE TYPE tandem.metric_result AS (result numeric);
COMMENT ON TYPE tandem.metric_result IS 'What the conditions of a metric are about: its result';

-- By names, as everything that a dump carries. What the rounds found stands in the same row, so that who locks it sees whether it is due.
CREATE TABLE tandem.metric (
    run_id             integer NOT NULL REFERENCES tandem.run ON DELETE CASCADE,
    name               text NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 63),
    query              text NOT NULL,
    resolved           text NOT NULL,
    success_condition  text,
    failure_condition  text,
    every              interval NOT NULL,
    failure_limit      integer NOT NULL,
    inconclusive_limit integer NOT NULL,
    min_samples        bigint NOT NULL,
    critical           boolean NOT NULL,
    dry_run            boolean NOT NULL,
    added_at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    value              double precision,
    samples            bigint,
    verdict            text,
    reason             text,
    measured_at        timestamptz,
    measurements       bigint NOT NULL DEFAULT 0,
    failures           integer NOT NULL DEFAULT 0,
    inconclusive       integer NOT NULL DEFAULT 0,
    attempting         boolean NOT NULL DEFAULT false,
    lost               integer NOT NULL DEFAULT 0,
    errors             integer NOT NULL DEFAULT 0,
    error_limit        integer NOT NULL,
    total_failures     integer NOT NULL DEFAULT 0,
    total_failure_limit integer,
    PRIMARY KEY (run_id, name)
) WITH (fillfactor = 50);
COMMENT ON TABLE tandem.metric IS 'Metrics that people added, with their last verdict; view metrics shows them beside those that come with the extension';
COMMENT ON COLUMN tandem.metric.resolved IS 'The query with every name qualified, as the search_path of who added it found them';
COMMENT ON COLUMN tandem.metric.failures IS 'Verdicts fail since the last pass: an inconclusive one in between says nothing';
COMMENT ON COLUMN tandem.metric.inconclusive IS 'Inconclusive verdicts since the last that was not, but for errors: what these are about is not known';
COMMENT ON COLUMN tandem.metric.errors IS 'Errors of the query or a condition since it last gave an answer';
COMMENT ON COLUMN tandem.metric.total_failures IS 'Verdicts fail since the counts began: when it was added, or the run was resumed or retried';
COMMENT ON COLUMN tandem.metric.attempting IS 'An executor is about to ask it; found so by the next one, it took its executor with it';
COMMENT ON COLUMN tandem.metric.lost IS 'Attempts that did so since the last that ended: asked after all others, and, where it was not once by chance, once a minute';

-- No foreign key to run, here and in measurement: its check would lock the run's row, and who rolls a run back must not wait for that.
CREATE TABLE tandem.metric_reading (
    run_id         integer,
    metric         text NOT NULL,
    value          double precision,
    measured_at    timestamptz NOT NULL,
    recorded_value double precision,
    recorded_at    timestamptz NOT NULL,
    samples        bigint,
    verdict        text,
    reason         text,
    UNIQUE NULLS NOT DISTINCT (run_id, metric)
) WITH (fillfactor = 50);
COMMENT ON TABLE tandem.metric_reading IS 'The last values of the metrics that come with the extension; no run: those of the database';

CREATE TABLE tandem.measurement (
    run_id  integer,
    metric  text NOT NULL,
    at      timestamptz NOT NULL,
    value   double precision,
    samples bigint,
    verdict text,
    reason  text
);
COMMENT ON TABLE tandem.measurement IS 'What was measured, for as long as the option measurement_retention says; view measurements shows it';
CREATE INDEX measurement_series ON tandem.measurement (run_id, metric, at);
CREATE INDEX measurement_at ON tandem.measurement (run_id, at);

-- Rows are only ever added: who resumes a run waits for no measurement, and no measurement for him.
CREATE TABLE tandem.metric_restart (run_id integer NOT NULL, at timestamptz NOT NULL);
CREATE INDEX metric_restart_run ON tandem.metric_restart (run_id, at);
COMMENT ON TABLE tandem.metric_restart IS 'When people let a run go on: verdicts in a row of its metrics are counted from then on';

CREATE FUNCTION tandem.restart_metrics() RETURNS trigger
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO tandem.metric_restart VALUES (NEW.id, clock_timestamp());
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tandem.restart_metrics IS 'Trigger: the metrics of a run that is resumed or retried begin to count anew';
CREATE TRIGGER restart_metrics AFTER UPDATE ON tandem.run FOR EACH ROW WHEN (OLD.phase IN ('paused', 'degraded') AND NEW.phase = 'progressing') EXECUTE FUNCTION tandem.restart_metrics();

INSERT INTO tandem.option_default VALUES
    ('metric_timeout', 'interval', '1 second', 'How long the query of a metric may take; a round begins no other one once as much time has gone'),
    ('measurement_retention', 'interval', '7 days', 'How long measurements are kept');

CREATE FUNCTION tandem.check_metric_query(query text, search_path text) RETURNS text
LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'tandem_check_metric_query';
COMMENT ON FUNCTION tandem.check_metric_query IS 'The query of a metric with every name qualified; refuses what is not one SELECT of one or two columns';

CREATE FUNCTION tandem.measure(
    role name, query text, success_condition text, failure_condition text, min_samples bigint, timeout_ms integer,
    OUT value double precision, OUT samples bigint, OUT verdict text, OUT reason text, OUT failed boolean)
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tandem_measure';
COMMENT ON FUNCTION tandem.measure IS
    'Asks the query of a metric as a role, in a read-only subtransaction that is rolled back, and judges its result: pass, fail, or inconclusive with the reason; failed: by an error. For our own SECURITY DEFINER functions only';

CREATE FUNCTION tandem.metric_breach(metric tandem.metric) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN metric.failures >= metric.failure_limit THEN 'failure_limit' WHEN metric.total_failures >= metric.total_failure_limit THEN 'total_failure_limit'
                WHEN metric.errors >= metric.error_limit THEN 'error_limit' WHEN metric.inconclusive >= metric.inconclusive_limit THEN 'inconclusive_limit' END
$$;
COMMENT ON FUNCTION tandem.metric_breach IS 'The limit that a metric has reached';

CREATE VIEW tandem.metrics AS
SELECT r.name AS run, m.name AS metric, m.query, m.every, m.value, m.verdict, m.reason, m.measured_at, m.samples, m.failures, m.inconclusive,
       false AS builtin, m.dry_run, m.critical,
       m.measurements, m.success_condition, m.failure_condition, m.failure_limit, m.inconclusive_limit, m.min_samples,
       tandem.metric_breach(m) AS breached, m.errors, m.error_limit, m.total_failures, m.total_failure_limit
  FROM tandem.metric AS m JOIN tandem.run AS r ON r.id = m.run_id
UNION ALL
SELECT r.name, b.metric, NULL, interval '5 seconds', b.value, b.verdict, b.reason, b.measured_at, b.samples, NULL, NULL, true, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
  FROM tandem.metric_reading AS b LEFT JOIN tandem.run AS r ON r.id = b.run_id WHERE b.metric NOT LIKE 'blocks %';
COMMENT ON VIEW tandem.metrics IS
    'Metrics with their last value and verdict: those that people added, and those that come with the extension (builtin; no run: of the database). failures, inconclusive and errors count in a row; samples is what the query said; breached: which limit was reached';

CREATE VIEW tandem.measurements AS
SELECT r.name AS run, m.metric, m.at, m.value, m.verdict, m.reason, m.samples
  FROM tandem.measurement AS m LEFT JOIN tandem.run AS r ON r.id = m.run_id;
COMMENT ON VIEW tandem.measurements IS 'What was measured; of a metric that comes with the extension, a value that stays the same is there once a minute';

CREATE FUNCTION tandem.add_metric(
    run text, name text, query text, success_condition text, failure_condition text DEFAULT NULL, every interval DEFAULT '5 seconds',
    failure_limit integer DEFAULT 3, inconclusive_limit integer DEFAULT 3, min_samples integer DEFAULT 100,
    critical boolean DEFAULT false, dry_run boolean DEFAULT false, search_path text DEFAULT current_setting('search_path'),
    error_limit integer DEFAULT 3, total_failure_limit integer DEFAULT NULL)
RETURNS tandem.metrics
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    r tandem.run := tandem.get_run(run);
    resolved text;
    condition text;
    result tandem.metrics;
BEGIN
    PERFORM tandem.authorize(r, 'add_metric');
    IF name IS NULL OR query IS NULL OR every IS NULL OR failure_limit IS NULL OR inconclusive_limit IS NULL OR min_samples IS NULL
       OR critical IS NULL OR dry_run IS NULL OR search_path IS NULL OR error_limit IS NULL OR num_nonnulls(success_condition, failure_condition) = 0 THEN
        RAISE EXCEPTION 'a metric needs a name, a query and a condition' USING ERRCODE = 'null_value_not_allowed',
              HINT = 'SELECT tandem.add_metric(''my_run'', ''errors'', ''SELECT count(*) FROM app.error'', ''result < 10'')';
    END IF;
    IF octet_length(name) NOT BETWEEN 1 AND 63 THEN
        RAISE EXCEPTION 'the name of a metric has 1 to 63 bytes' USING ERRCODE = CASE WHEN name = '' THEN 'invalid_name' ELSE 'name_too_long' END,
              DETAIL = format('This one has %s.', octet_length(name)), HINT = 'Choose a shorter name, such as ''error_rate''.';
    END IF;
    IF name IN (SELECT b.metric FROM tandem.builtin_metric AS b) THEN
        RAISE EXCEPTION 'metric "%" comes with the extension', name USING ERRCODE = 'duplicate_object', HINT = 'Choose another name.';
    END IF;
    IF every < interval '0' OR every > interval '1 year' OR least(failure_limit, inconclusive_limit, error_limit, total_failure_limit) < 1 OR min_samples < 0 THEN
        RAISE EXCEPTION 'metric "%" has a limit that is out of range', name USING ERRCODE = 'invalid_parameter_value',
              DETAIL = format('Found: every %s, failure_limit %s, inconclusive_limit %s, error_limit %s, total_failure_limit %s, min_samples %s.', every, failure_limit, inconclusive_limit, error_limit,
                              coalesce(total_failure_limit::text, 'none'), min_samples),
              HINT = 'every is 0 (in each round) to 1 year, the limits are 1 or more, min_samples is 0 or more.';
    END IF;
    IF (SELECT count(*) >= 1000 FROM tandem.metric AS m WHERE m.run_id = r.id) THEN
        RAISE EXCEPTION 'run "%" has 1000 metrics', r.name USING ERRCODE = 'program_limit_exceeded', HINT = 'Drop those that nobody looks at: tandem.drop_metric().';
    END IF;
    -- All that is parsed is parsed as the owner, who may see what it names.
    SELECT q.text INTO resolved FROM tandem.query_as(r.owner, format('SELECT tandem.check_metric_query(%L, %L)', query, search_path)) AS q (text text);
    FOREACH condition IN ARRAY ARRAY[success_condition, failure_condition] LOOP
        IF condition IS NOT NULL THEN
            PERFORM FROM tandem.query_as(r.owner, format('SELECT tandem.check_condition(''tandem.metric_result'', %L)::text', condition)) AS q (text text);
        END IF;
    END LOOP;
    INSERT INTO tandem.metric AS m (run_id, name, query, resolved, success_condition, failure_condition, every, failure_limit, inconclusive_limit, min_samples, critical, dry_run, error_limit, total_failure_limit)
    VALUES (r.id, name, query, resolved, success_condition, failure_condition, every, failure_limit, inconclusive_limit, min_samples, critical, dry_run, error_limit, total_failure_limit)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run "%" has a metric "%" already', r.name, name USING ERRCODE = 'duplicate_object', HINT = format('SELECT tandem.drop_metric(%L, %L) first.', r.name, name);
    END IF;
    PERFORM tandem.watch_metric(r, name, critical AND NOT dry_run, failure_limit, inconclusive_limit, error_limit);
    PERFORM tandem.record_event(r, 'add_metric', NULL, jsonb_build_object('metric', name, 'query', query, 'success_condition', success_condition, 'failure_condition', failure_condition,
                'every', every, 'failure_limit', failure_limit, 'inconclusive_limit', inconclusive_limit, 'min_samples', min_samples, 'critical', critical, 'dry_run', dry_run,
                'error_limit', error_limit, 'total_failure_limit', total_failure_limit)),
            tandem.worker_wake();
    SELECT * INTO result FROM tandem.metrics AS v WHERE v.run = r.name AND v.metric = name AND NOT v.builtin;
    RETURN result;
END
$$;
COMMENT ON FUNCTION tandem.add_metric IS
    'Adds a metric to a run: a query of one row, whose first column is the result and whose second, where there is one, the number of samples behind it; conditions over result. It runs as the run''s owner';

CREATE FUNCTION tandem.drop_metric(run text, name text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run := tandem.get_run(run);
    m tandem.metric;
BEGIN
    PERFORM tandem.authorize(r, 'drop_metric');
    DELETE FROM tandem.metric AS x WHERE x.run_id = r.id AND x.name = drop_metric.name RETURNING * INTO m;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run "%" has no metric "%"', r.name, name USING ERRCODE = 'undefined_object',
              HINT = format('SELECT metric FROM tandem.metrics WHERE run = %L AND NOT builtin lists them.', r.name);
    END IF;
    PERFORM tandem.unwatch_metric(r, m.name);
    DELETE FROM tandem.measurement AS x WHERE x.run_id = r.id AND x.metric = m.name;
    PERFORM tandem.record_event(r, 'drop_metric', NULL, to_jsonb(m) - 'run_id' - 'resolved');
END
$$;
COMMENT ON FUNCTION tandem.drop_metric IS 'Takes a metric and what it measured away; the event keeps its definition and its last verdict';

CREATE FUNCTION tandem.metric_evidence(metric tandem.metric) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object('metric', metric.name, 'value', metric.value, 'samples', metric.samples, 'verdict', metric.verdict, 'reason', metric.reason, 'breached', tandem.metric_breach(metric),
                              'failures', metric.failures, 'inconclusive', metric.inconclusive, 'errors', metric.errors, 'total_failures', metric.total_failures,
                              'critical', metric.critical, 'dry_run', metric.dry_run, 'measured_at', metric.measured_at)
$$;
COMMENT ON FUNCTION tandem.metric_evidence IS 'What events and rollbacks tell of a metric';

-- A limit that was reached, or left, is an event, once.
CREATE FUNCTION tandem.metric_moved(run tandem.run, metric tandem.metric, kind text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM tandem.record_event(run, kind, format('metric %s: %s', metric.name, metric.reason), tandem.metric_evidence(metric));
END
$$;
COMMENT ON FUNCTION tandem.metric_moved IS 'Records that a metric reached a limit (metric_failed, metric_inconclusive, metric_error) or is well again (metric_recovered)';

-- What a metric at its limit means for the run, asked at every measurement: a run that came to where it matters with the limit reached, or
-- that somebody resumed in between, is treated like any other. A critical metric that fails rolls back; any other limit pauses, and
-- validation, guards and metrics go on. While rows are still being copied a metric only reports.
CREATE FUNCTION tandem.metric_acts(run_id integer, metric tandem.metric) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run;
    breach text := tandem.metric_breach(metric);
    reason text := format('metric %s: %s', metric.name, left(metric.reason, 500));
    fails boolean := breach IN ('failure_limit', 'total_failure_limit');
BEGIN
    SELECT * INTO r FROM tandem.run AS x WHERE x.id = metric_acts.run_id;
    IF metric.dry_run OR breach IS NULL OR metric.verdict = 'pass' OR r.stage = 'dualwrite' OR tandem.guards_armed(r) IS NOT TRUE OR fails <> (metric.verdict = 'fail') THEN
        RETURN;
    END IF;
    IF fails AND metric.critical THEN
        -- Who moved the run meanwhile has the say.
        SELECT * INTO r FROM tandem.run AS x WHERE x.id = metric_acts.run_id FOR NO KEY UPDATE;
        IF tandem.guards_armed(r) THEN
            PERFORM tandem.roll_back(r.id, NULL, reason, 'emergency', true, tandem.metric_evidence(metric));
        END IF;
    ELSE
        PERFORM tandem.pause_run(r.id, reason, tandem.metric_evidence(metric));
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.metric_acts IS 'Rolls a run back, or pauses it, for a metric that has reached a limit';

-- What was found becomes the metric's state and a measurement; who calls it has the metric's row locked.
CREATE FUNCTION tandem.keep_measurement(
    run tandem.run, metric tandem.metric, at timestamptz, value double precision, samples bigint, verdict text, reason text, failed boolean, lost boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m tandem.metric;
    answer text := CASE WHEN failed THEN 'error' ELSE verdict END;
BEGIN
    IF EXISTS (SELECT FROM tandem.metric_restart AS x WHERE x.run_id = metric.run_id AND x.at > metric.measured_at) THEN
        metric.failures := 0;
        metric.inconclusive := 0;
        metric.errors := 0;
        metric.total_failures := 0;
    END IF;
    UPDATE tandem.metric AS x
       SET value = keep_measurement.value, samples = keep_measurement.samples, verdict = keep_measurement.verdict, reason = keep_measurement.reason, measured_at = at,
           measurements = x.measurements + 1, attempting = false, lost = CASE WHEN keep_measurement.lost THEN least(x.lost, 2147483646) + 1 ELSE 0 END,
           failures = CASE answer WHEN 'fail' THEN least(metric.failures, 2147483646) + 1 WHEN 'pass' THEN 0 ELSE metric.failures END,
           inconclusive = CASE answer WHEN 'inconclusive' THEN least(metric.inconclusive, 2147483646) + 1 WHEN 'error' THEN metric.inconclusive ELSE 0 END,
           errors = CASE answer WHEN 'error' THEN least(metric.errors, 2147483646) + 1 ELSE 0 END,
           total_failures = CASE answer WHEN 'fail' THEN least(metric.total_failures, 2147483646) + 1 ELSE metric.total_failures END
     WHERE x.run_id = metric.run_id AND x.name = metric.name RETURNING * INTO m;
    INSERT INTO tandem.measurement VALUES (m.run_id, m.name, m.measured_at, m.value, m.samples, m.verdict, m.reason);
    IF m.verdict = 'fail' AND tandem.metric_breach(m) IN ('failure_limit', 'total_failure_limit') AND tandem.metric_breach(m) IS DISTINCT FROM tandem.metric_breach(metric) THEN
        PERFORM tandem.metric_moved(run, m, 'metric_failed');
    ELSIF metric.errors < m.error_limit AND m.errors >= m.error_limit THEN
        PERFORM tandem.metric_moved(run, m, 'metric_error');
    ELSIF metric.inconclusive < m.inconclusive_limit AND m.inconclusive >= m.inconclusive_limit THEN
        PERFORM tandem.metric_moved(run, m, 'metric_inconclusive');
    ELSIF m.verdict = 'pass' AND tandem.metric_breach(metric) <> coalesce(tandem.metric_breach(m), '') THEN
        PERFORM tandem.metric_moved(run, m, 'metric_recovered');
    END IF;
    PERFORM tandem.metric_acts(run.id, m);
END
$$;
COMMENT ON FUNCTION tandem.keep_measurement IS 'Keeps the verdict of a metric, counts it, records a limit that is reached or left, and acts on it';

CREATE FUNCTION tandem.take_measurement(run tandem.run, metric tandem.metric) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    at timestamptz := clock_timestamp();
    timeout interval := tandem.option(run.id, 'metric_timeout')::interval;
    answer record;
BEGIN
    answer := tandem.measure(run.owner::name, metric.resolved, metric.success_condition, metric.failure_condition, metric.min_samples,
                             greatest(10, least(extract(epoch FROM timeout) * 1000, 600000))::integer);
    PERFORM tandem.keep_measurement(run, metric, at, answer.value, answer.samples, answer.verdict, answer.reason, answer.failed, false);
END
$$;
COMMENT ON FUNCTION tandem.take_measurement IS 'Asks the query of a metric and keeps the answer';

CREATE FUNCTION tandem.metric_due(metric tandem.metric) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN metric.measured_at <= clock_timestamp() -- else the clock was set back
                THEN metric.measured_at + CASE WHEN metric.lost > 1 THEN greatest(metric.every, interval '1 minute') ELSE metric.every END ELSE '-infinity' END
$$;
COMMENT ON FUNCTION tandem.metric_due IS 'When a metric is to be measured next';

CREATE FUNCTION tandem.is_measured(run tandem.run) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT tandem.run_is_armed(run.stage) AND run.phase <> 'cancelled' AND run.home = tandem.home() $$;
COMMENT ON FUNCTION tandem.is_measured IS 'Are the metrics of the run measured: is it active, and in the database in which it was made?';

-- For tick(): all that is due in this transaction. Who measures the same run at the same time takes others.
CREATE FUNCTION tandem.sample_metrics(run_id integer) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run;
    m tandem.metric;
    started timestamptz := clock_timestamp();
    count integer := 0;
BEGIN
    SELECT * INTO r FROM tandem.run AS x WHERE x.id = sample_metrics.run_id;
    IF tandem.is_measured(r) IS NOT TRUE THEN
        RETURN NULL;
    END IF;
    FOR m IN SELECT x.* FROM tandem.metric AS x WHERE x.run_id = r.id AND tandem.metric_due(x) <= clock_timestamp() ORDER BY x.lost, tandem.metric_due(x), x.name FOR UPDATE SKIP LOCKED LOOP
        EXIT WHEN count > 0 AND clock_timestamp() - started >= tandem.option(r.id, 'metric_timeout')::interval;
        PERFORM tandem.take_measurement(r, m);
        count := count + 1;
    END LOOP;
    RETURN nullif(count, 0) || ' metric(s) measured';
END
$$;
COMMENT ON FUNCTION tandem.sample_metrics IS 'Measures those metrics of a run that are due; says how many, NULL for none';

-- The executor's way: a transaction for each metric, which also chooses the next and says so before it is asked. So of a metric that ends its
-- process it is known which it was, and the others had their turn.
-- SECURITY DEFINER: the executor is connected as the run's owner, who does not own the extension's tables.
CREATE FUNCTION tandem.execute_sampling(run_id integer, metric text, more boolean, OUT next text, OUT wait_ms integer)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET deadlock_timeout = '10ms'
AS $$
DECLARE
    r tandem.run;
    m tandem.metric;
BEGIN
    SELECT * INTO r FROM tandem.run AS x WHERE x.id = execute_sampling.run_id;
    IF tandem.is_measured(r) IS NOT TRUE OR NOT EXISTS (SELECT FROM tandem.metric AS x WHERE x.run_id = r.id) THEN
        RETURN;
    END IF;
    PERFORM tandem.authorize(r, 'tick');
    IF metric IS NOT NULL THEN
        SELECT * INTO m FROM tandem.metric AS x WHERE x.run_id = r.id AND x.name = metric FOR UPDATE SKIP LOCKED;
        IF FOUND THEN
            PERFORM tandem.take_measurement(r, m);
        END IF;
    END IF;
    FOR m IN SELECT x.* FROM tandem.metric AS x WHERE more AND x.run_id = r.id AND tandem.metric_due(x) <= clock_timestamp() ORDER BY x.lost, tandem.metric_due(x), x.name FOR UPDATE SKIP LOCKED LOOP
        IF NOT m.attempting THEN
            UPDATE tandem.metric AS x SET attempting = true WHERE x.run_id = m.run_id AND x.name = m.name;
            next := m.name;
            EXIT;
        END IF;
        PERFORM tandem.keep_measurement(r, m, clock_timestamp(), NULL, NULL, 'inconclusive', 'the process that asked the query has ended, perhaps by the query', true, true);
    END LOOP;
    SELECT CASE WHEN next IS NOT NULL THEN 0 ELSE greatest(100, extract(epoch FROM min(greatest(tandem.metric_due(x), now())) - clock_timestamp()) * 1000) END INTO wait_ms
      FROM tandem.metric AS x WHERE x.run_id = r.id;
END
$$;
COMMENT ON FUNCTION tandem.execute_sampling IS
    'For the executor: measures a metric of a run, and names the one to be measured next (more: if any is wanted); wait_ms is the time to the next, NULL where there are none';
