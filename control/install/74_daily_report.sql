-- daily_report: what a day of a run came to, as facts in columns and as a text that a person would send.
--
-- A day is one of the run's time zone (option report_timezone), from midnight to midnight, so it may have 23 or 25 hours. The worker makes the
-- report of a day in its first round after it (run_round, 69_worker.sql); daily_report() makes it by hand or by pg_cron (75_schedule.sql).

-- By the run's name, as events are: what was told stays told.
CREATE TABLE tandem.daily_report (
    run             text NOT NULL,
    day             date NOT NULL CHECK (isfinite(day)),
    timezone        text NOT NULL,
    made_at         timestamptz NOT NULL,
    complete        boolean NOT NULL,
    status          text NOT NULL CHECK (status IN ('OK', 'WARNING', 'CRITICAL')),
    stage           text,
    phase           text,
    weight_before   integer,
    weight          integer,
    promotions      bigint NOT NULL,
    rollbacks       bigint NOT NULL,
    failed_rounds   bigint NOT NULL,
    moves           text[] NOT NULL,
    validations     bigint,
    unclean         bigint,
    rows_compared   bigint,
    differences     bigint,
    accepted        bigint,
    refused_writes  bigint,
    tasks_done      bigint NOT NULL,
    tasks_dead      bigint NOT NULL,
    sla_met         bigint NOT NULL,
    sla_breached    bigint NOT NULL,
    legacy_calls    bigint,
    legacy_errors   bigint,
    legacy_p95_ms   numeric,
    new_calls       bigint,
    new_errors      bigint,
    new_p95_ms      numeric,
    batches         bigint,
    failed_batches  bigint,
    checks          bigint,
    failed_checks   bigint,
    numbers         jsonb,
    alerts_fired    bigint,
    health_score    integer,
    waiting_for     text,
    summary         text NOT NULL,
    PRIMARY KEY (run, day)
);
COMMENT ON TABLE tandem.daily_report IS 'Daily reports: one row for each run and day, facts and the summary that a person would send';
COMMENT ON COLUMN tandem.daily_report.timezone IS 'The day is one of this time zone';
COMMENT ON COLUMN tandem.daily_report.complete IS 'Made after the day had ended';
COMMENT ON COLUMN tandem.daily_report.status IS 'CRITICAL: rolled back, differences, or not validated at all; WARNING: something else to look at; OK';
COMMENT ON COLUMN tandem.daily_report.weight_before IS 'Weight when the day began; stage, phase and weight are those of its end';
COMMENT ON COLUMN tandem.daily_report.moves IS 'What was done to the run, the first 20, with the time of day';
COMMENT ON COLUMN tandem.daily_report.validations IS 'Validations that were made; NULL where they were not kept so long';
COMMENT ON COLUMN tandem.daily_report.unclean IS 'Validations that found differences nobody had accepted';
COMMENT ON COLUMN tandem.daily_report.differences IS 'The most such differences that one validation found';
COMMENT ON COLUMN tandem.daily_report.accepted IS 'Differences that somebody answers for, in the last validation';
COMMENT ON COLUMN tandem.daily_report.refused_writes IS 'Writes that the new side refused in stages dualwrite and shadow; NULL: of a day that is not kept';
COMMENT ON COLUMN tandem.daily_report.tasks_done IS 'Tasks of this database that were done in the day, but for the run''s own steps; tasks_dead: gave up';
COMMENT ON COLUMN tandem.daily_report.sla_met IS 'Tasks of this database finished in the day within their deadlines; sla_breached: deadlines of the day that were missed';
COMMENT ON COLUMN tandem.daily_report.legacy_calls IS 'What was observed on that side in the hours (of UTC) that began in the day; NULL: nothing';
COMMENT ON COLUMN tandem.daily_report.failed_batches IS 'Of the batches that began in the day: those that failed, or were never ended';
COMMENT ON COLUMN tandem.daily_report.checks IS 'Checks that were made in the day, while the sides were in step; NULL where what they found is not kept so long';
COMMENT ON COLUMN tandem.daily_report.failed_checks IS 'Of them: those that failed, once or more';
COMMENT ON COLUMN tandem.daily_report.numbers IS 'Each of them, at most 100, as it was found last in the day: both values as in parallel_run_metrics (of groups the one that is farthest apart), and how often it was made, failed and could not be judged';
COMMENT ON COLUMN tandem.daily_report.alerts_fired IS 'Alerts that fired in the day, on the run or on the database';
COMMENT ON COLUMN tandem.daily_report.health_score IS 'Health of the run when the report was made; so is waiting_for';

CREATE FUNCTION tandem.report_timezone(run_id integer) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT tandem.option($1, 'report_timezone') $$;
COMMENT ON FUNCTION tandem.report_timezone IS 'The time zone that the days of a run''s reports are of';

-- Clean validations are thinned out after a day (60_validate.sql), but not before yesterday's report is made: two days at most.
CREATE FUNCTION tandem.comparisons_kept_since(run tandem.run) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT least(clock_timestamp() - interval '1 day',
                 CASE WHEN NOT EXISTS (SELECT FROM tandem.daily_report AS d WHERE d.run = run.name AND d.day = y.day AND d.complete) THEN y.day::timestamp AT TIME ZONE z.name END)
      FROM (SELECT tandem.report_timezone(run.id) AS name) AS z
     CROSS JOIN LATERAL (SELECT (clock_timestamp() AT TIME ZONE z.name)::date - 1 AS day) AS y
$$;
COMMENT ON FUNCTION tandem.comparisons_kept_since IS 'Clean validations of a run that are older than this may be gone';

-- Asked in every round, so it is one look at an index.
CREATE FUNCTION tandem.daily_report_due(run tandem.run) RETURNS date
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT y.day
      FROM (SELECT tandem.report_timezone(run.id) AS name WHERE tandem.option(run.id, 'daily_report') = 'on') AS z
     CROSS JOIN LATERAL (SELECT (clock_timestamp() AT TIME ZONE z.name)::date - 1 AS day) AS y
     WHERE run.created_at < (y.day + 1)::timestamp AT TIME ZONE z.name
       AND NOT EXISTS (SELECT FROM tandem.daily_report AS d WHERE d.run = run.name AND d.day = y.day AND d.complete)
$$;
COMMENT ON FUNCTION tandem.daily_report_due IS 'Yesterday, where the worker is to make its report and has not yet; else NULL';

-- What was found before the sides were in step says nothing. Results are rows of groups: a check was made as often as there are different times.
CREATE FUNCTION tandem.daily_checks(run tandem.run, day_from timestamptz, day_to timestamptz, OUT checks bigint, OUT failed_checks bigint, OUT numbers jsonb)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH made AS (
        SELECT c.name, max(c.at) AS last, count(DISTINCT c.at) AS made, count(DISTINCT c.at) FILTER (WHERE c.status = 'failed') AS failed, count(DISTINCT c.at) FILTER (WHERE c.status = 'unknown') AS unknown
          FROM tandem.check_result AS c
         WHERE c.run_id = (daily_checks.run).id AND c.at >= day_from AND c.at < day_to
           AND c.at >= coalesce((SELECT min(e.at) FROM tandem.event AS e WHERE e.run = (daily_checks.run).name AND e.kind = 'synced'), CASE WHEN (daily_checks.run).stage IN ('off', 'dualwrite') THEN 'infinity'::timestamptz ELSE '-infinity' END)
         GROUP BY c.name
    ), found AS (
        SELECT m.*, w.severity, w.status, w.group_key, w.legacy_value, w.new_value, w.difference_percent, w.tolerance_percent, w.reason,
               row_number() OVER (ORDER BY m.failed = 0, m.unknown = 0, array_position('{critical,high,medium,low}', w.severity), m.name) AS n
          FROM made AS m
         CROSS JOIN LATERAL (SELECT c.* FROM tandem.check_result AS c WHERE c.run_id = (daily_checks.run).id AND c.name = m.name AND c.at = m.last
                              ORDER BY array_position('{failed,unknown,passed}', c.status), c.difference_percent DESC NULLS LAST, c.group_key LIMIT 1) AS w
    )
    SELECT count(*), count(*) FILTER (WHERE f.failed > 0),
           coalesce(jsonb_agg(jsonb_build_object('check', f.name, 'severity', f.severity, 'status', f.status, 'group_key', f.group_key, 'legacy_value', f.legacy_value, 'new_value', f.new_value,
                                                 'difference_percent', f.difference_percent, 'tolerance_percent', f.tolerance_percent, 'reason', f.reason, 'made', f.made, 'failed', f.failed, 'unknown', f.unknown)
                              ORDER BY f.n) FILTER (WHERE f.n <= 100), '[]')
      FROM found AS f
$$;
COMMENT ON FUNCTION tandem.daily_checks IS 'What the checks of a run found in a day, those that failed first';

CREATE FUNCTION tandem.daily_facts(run tandem.run, day date) RETURNS tandem.daily_report
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    d tandem.daily_report;
    zone text := tandem.report_timezone(run.id);
    day_from timestamptz := day::timestamp AT TIME ZONE zone;
    day_to timestamptz := (day + 1)::timestamp AT TIME ZONE zone;
BEGIN
    d.run := run.name;
    d.day := day;
    d.timezone := zone;
    d.made_at := clock_timestamp();
    d.complete := d.made_at >= day_to;
    IF run.created_at >= day_to THEN
        SELECT 'OK', 0, 0, 0, '{}', 0, 0, 0, 0, 0
          INTO d.status, d.promotions, d.rollbacks, d.failed_rounds, d.moves, d.refused_writes, d.tasks_done, d.tasks_dead, d.sla_met, d.sla_breached;
        RETURN d;
    END IF;

    SELECT e.stage, e.phase, e.weight INTO d.stage, d.phase, d.weight
      FROM tandem.event AS e WHERE e.run = run.name AND e.at < day_to AND e.stage IS NOT NULL ORDER BY e.seq DESC LIMIT 1;
    IF NOT FOUND AND d.made_at < day_to + interval '1 day' THEN -- the events are not kept: what is now
        d.stage := run.stage;
        d.phase := run.phase;
        d.weight := run.weight;
    END IF;
    d.weight_before := coalesce((SELECT e.weight FROM tandem.event AS e WHERE e.run = run.name AND e.at < day_from AND e.stage IS NOT NULL ORDER BY e.seq DESC LIMIT 1),
                                CASE WHEN run.created_at >= day_from THEN 0 ELSE d.weight END);
    SELECT count(*) FILTER (WHERE e.kind = 'promote'), count(*) FILTER (WHERE e.kind = 'rollback'), count(*) FILTER (WHERE e.kind = 'round_failed'),
           coalesce((array_agg(format('%s %s', to_char(e.at AT TIME ZONE zone, 'HH24:MI'),
               CASE e.kind WHEN 'start' THEN 'started' WHEN 'synced' THEN 'in step: ' || coalesce(e.reason, 'both sides equal') WHEN 'promote' THEN format('promoted to %s %%', e.weight)
                           WHEN 'rollback' THEN 'rolled back' || coalesce(' (' || (e.evidence ->> 'domain') || ')', '') || coalesce(': ' || e.reason, '')
                           WHEN 'pause' THEN 'paused' || coalesce(': ' || e.reason, '') WHEN 'resume' THEN 'resumed' || coalesce(': ' || e.reason, '')
                           WHEN 'retry' THEN 'tried again' || coalesce(': ' || e.reason, '') WHEN 'restored' THEN 'paused: ' || e.reason
                           WHEN 'cancel' THEN 'cancelled' || coalesce(': ' || e.reason, '') WHEN 'complete' THEN 'completed' END) ORDER BY e.seq)
               FILTER (WHERE e.kind IN ('start', 'synced', 'promote', 'rollback', 'pause', 'resume', 'retry', 'restored', 'cancel', 'complete')))[1:20], '{}')
      INTO d.promotions, d.rollbacks, d.failed_rounds, d.moves
      FROM tandem.event AS e WHERE e.run = run.name AND e.at >= day_from AND e.at < day_to;

    IF day_from >= tandem.comparisons_kept_since(run) OR run.created_at >= tandem.comparisons_kept_since(run) THEN
        SELECT count(*), count(*) FILTER (WHERE v.found > 0), coalesce(sum(v.looked_at), 0), coalesce(max(v.found), 0),
               coalesce((array_agg(v.accepted ORDER BY v.started_at DESC))[1], 0)
          INTO d.validations, d.unclean, d.rows_compared, d.differences, d.accepted
          FROM (SELECT c.started_at, sum(c.missing + c.extra + c.changed + c.duplicates + c.errors - c.accepted) AS found,
                       sum(greatest(c.legacy_rows, c.new_rows)) AS looked_at, sum(c.accepted) AS accepted
                  FROM tandem.comparison AS c WHERE c.run_id = run.id AND c.purpose = 'validate' AND c.started_at >= day_from AND c.started_at < day_to
                 GROUP BY c.started_at) AS v;
    END IF;
    IF day_from >= d.made_at - tandem.option(run.id, 'check_retention')::interval OR run.created_at >= d.made_at - tandem.option(run.id, 'check_retention')::interval THEN
        SELECT c.checks, c.failed_checks, c.numbers INTO d.checks, d.failed_checks, d.numbers FROM tandem.daily_checks(run, day_from, day_to) AS c;
        SELECT count(*) INTO d.refused_writes
          FROM tandem.mirror_failure AS f JOIN tandem.mapping AS m ON m.id = f.mapping_id WHERE m.run_id = run.id AND f.at >= day_from AND f.at < day_to;
    END IF;

    SELECT count(*) FILTER (WHERE t.state = 'done'), count(*) FILTER (WHERE t.state = 'dead'),
           count(*) FILTER (WHERE t.start_due IS NOT NULL OR t.finish_due IS NOT NULL)
             - count(*) FILTER (WHERE coalesce(t.started_at, t.finished_at) > t.start_due OR t.finished_at > t.finish_due)
      INTO d.tasks_done, d.tasks_dead, d.sla_met
      FROM tandem.task AS t WHERE t.finished_at >= day_from AND t.finished_at < day_to AND t.kind NOT LIKE 'tandem.%';
    SELECT count(*) INTO d.sla_breached FROM tandem.sla_breach AS b WHERE b.due_at >= day_from AND b.due_at < day_to;
    SELECT max(l.n) FILTER (WHERE l.side = 'legacy'), max(l.errors) FILTER (WHERE l.side = 'legacy'), max(l.p95_ms) FILTER (WHERE l.side = 'legacy'),
           max(l.n) FILTER (WHERE l.side = 'new'), max(l.errors) FILTER (WHERE l.side = 'new'), max(l.p95_ms) FILTER (WHERE l.side = 'new')
      INTO d.legacy_calls, d.legacy_errors, d.legacy_p95_ms, d.new_calls, d.new_errors, d.new_p95_ms
      FROM (SELECT h.side, sum(h.n)::bigint AS n, sum(h.errors)::bigint AS errors,
                   trim_scale(round((tandem.histogram_percentiles(tandem.histogram_sum(h.histogram), '{0.95}', max(h.longest_us)))[1]::numeric, 3)) AS p95_ms
              FROM tandem.latency_hour AS h WHERE h.run_id = run.id AND h.hour >= day_from AND h.hour < day_to GROUP BY h.side) AS l;
    SELECT count(*), count(*) FILTER (WHERE b.verdict = 'fail') INTO d.batches, d.failed_batches
      FROM tandem.batches AS b WHERE b.run = run.name AND b.started_at >= day_from AND b.started_at < day_to;
    SELECT count(*) INTO d.alerts_fired FROM tandem.alerts AS a WHERE (a.run = run.name OR a.run IS NULL) AND a.fired_at >= day_from AND a.fired_at < day_to;
    SELECT v.health_score, v.waiting_for INTO d.health_score, d.waiting_for FROM tandem.runs AS v WHERE v.run = run.name;

    d.status := CASE WHEN d.rollbacks > 0 OR d.differences > 0 OR (d.phase = 'degraded' AND d.stage <> 'off') THEN 'CRITICAL'
                     -- in step and yet not looked at for all the day
                     WHEN d.complete AND d.validations = 0 AND d.stage IN ('shadow', 'live', 'rampdown')
                          AND NOT EXISTS (SELECT FROM tandem.event AS e WHERE e.run = run.name AND e.at >= day_from AND e.at < day_to AND e.kind = 'synced') THEN 'CRITICAL'
                     -- as health judges them
                     WHEN EXISTS (SELECT FROM jsonb_array_elements(d.numbers) AS c WHERE (c -> 'failed')::bigint > 0 AND c ->> 'severity' IN ('critical', 'high')) THEN 'CRITICAL'
                     WHEN EXISTS (SELECT FROM jsonb_array_elements(d.numbers) AS c WHERE (c -> 'failed')::bigint + (c -> 'unknown')::bigint > 0 AND c ->> 'severity' <> 'low') THEN 'WARNING'
                     WHEN d.failed_rounds > 0 OR d.refused_writes > 0 OR d.sla_breached > 0 OR d.tasks_dead > 0 OR d.failed_batches > 0 OR d.alerts_fired > 0 OR d.phase = 'paused' OR d.health_score < 90 THEN 'WARNING'
                     ELSE 'OK' END;
    RETURN d;
END
$$;
COMMENT ON FUNCTION tandem.daily_facts IS 'The facts of a day of a run, without their summary';

-- From the facts and nothing else. What people wrote stands in one line each: a mail's subject must not be broken by the name of a run.
CREATE FUNCTION tandem.daily_summary(d tandem.daily_report) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lines text[] := '{}';
    n CONSTANT text := 'FM999,999,999,999,999,990';
BEGIN
    lines := lines || format('%s: run %s on %s', d.status, d.run, to_char(d.day, 'FMDay, FMDD FMMonth YYYY')) || ''::text;
    IF d.stage IS NULL AND d.validations IS NULL AND d.health_score IS NULL THEN
        RETURN regexp_replace(lines[1], '[[:cntrl:]]+', ' ', 'g') || E'\n\nThe run was made after that day.';
    END IF;
    lines := lines || (CASE d.status WHEN 'OK' THEN 'All is well.'
        WHEN 'WARNING' THEN 'Both sides agree as far as they were compared, but something wants a look.'
        ELSE CASE WHEN d.rollbacks > 0 THEN 'The run was rolled back to the legacy side.' WHEN d.differences > 0 THEN 'The two sides differed.'
                  WHEN d.phase = 'degraded' THEN 'The run is on the legacy side after a rollback, and waits for people.'
                  WHEN d.validations > 0 AND d.failed_checks > 0 THEN 'The two sides do not reconcile.'
                  ELSE 'Nobody compared the two sides all day: is the worker running?' END END
        || CASE WHEN d.complete THEN '' ELSE format(' So far: the day was not over at %s.', to_char(d.made_at AT TIME ZONE d.timezone, 'HH24:MI')) END);
    lines := lines || format('State: stage %s, phase %s, %s %% of the keys served by the new side%s.', coalesce(d.stage, 'unknown'), coalesce(d.phase, 'unknown'), coalesce(d.weight::text, '?'),
        CASE WHEN d.weight_before IS DISTINCT FROM d.weight THEN format(' (%s %% when the day began)', coalesce(d.weight_before::text, '?')) ELSE '' END);
    lines := lines || (CASE
        WHEN d.validations IS NULL THEN 'Comparisons: those of this day are not kept any more.'
        WHEN d.validations = 0 THEN 'Comparisons: none.'
        ELSE format('Comparisons: %s, %s rows looked at, %s.', to_char(d.validations, n), to_char(d.rows_compared, n),
            CASE WHEN d.differences = 0 THEN 'no difference' ELSE format('%s of them found differences, %s at most', to_char(d.unclean, n), to_char(d.differences, n)) END
            || CASE WHEN d.accepted > 0 THEN format(' (%s accepted)', to_char(d.accepted, n)) ELSE '' END) END);
    IF d.checks > 0 THEN
        lines := lines || format('Checks: %s, %s.', to_char(d.checks, n), CASE WHEN d.failed_checks > 0 THEN format('%s of them failed', to_char(d.failed_checks, n))
                                 WHEN EXISTS (SELECT FROM jsonb_array_elements(d.numbers) AS c WHERE (c -> 'unknown')::bigint > 0) THEN 'none failed, but not all could be judged' ELSE 'all passed' END)
              || ARRAY(SELECT format('  %s%s: %s%s', c ->> 'check', ' ' || (c ->> 'group_key'), left(c ->> 'reason', 300),
                                     CASE WHEN (c -> 'failed')::bigint > 0 THEN format(' (%s; failed %s of %s times)', c ->> 'severity', c ->> 'failed', c ->> 'made')
                                          WHEN (c -> 'unknown')::bigint > 0 THEN format(' (%s; not judged %s of %s times)', c ->> 'severity', c ->> 'unknown', c ->> 'made') ELSE '' END)
                         FROM jsonb_array_elements(d.numbers) WITH ORDINALITY AS x (c, i) WHERE x.i <= 20 ORDER BY x.i)
              || CASE WHEN d.checks > 20 THEN ARRAY[format('  and %s more: tandem.parallel_run_metrics has all of them', d.checks - 20)] ELSE '{}' END;
    END IF;
    IF d.refused_writes > 0 THEN
        lines := lines || format('Writes that the new side refused: %s.', to_char(d.refused_writes, n));
    END IF;
    IF d.failed_rounds > 0 THEN
        lines := lines || format('Failures of the worker''s rounds: %s.', to_char(d.failed_rounds, n));
    END IF;
    IF d.tasks_done + d.tasks_dead + d.sla_met + d.sla_breached > 0 THEN
        lines := lines || format('Tasks: %s done, %s given up; %s deadlines missed%s.', to_char(d.tasks_done, n), to_char(d.tasks_dead, n), to_char(d.sla_breached, n),
            CASE WHEN d.sla_met > 0 THEN format(', %s tasks within theirs', to_char(d.sla_met, n)) ELSE '' END);
    END IF;
    IF d.legacy_calls > 0 OR d.new_calls > 0 THEN
        lines := lines || ('Latency: ' || concat_ws('; ', CASE WHEN d.new_calls > 0 THEN format('new 95 %% within %s ms, %s calls, %s failed', d.new_p95_ms, to_char(d.new_calls, n), to_char(d.new_errors, n)) END,
            CASE WHEN d.legacy_calls > 0 THEN format('legacy 95 %% within %s ms, %s calls, %s failed', d.legacy_p95_ms, to_char(d.legacy_calls, n), to_char(d.legacy_errors, n)) END) || '.');
    END IF;
    IF d.batches > 0 THEN
        lines := lines || format('Batches: %s, %s of them failed.', to_char(d.batches, n), to_char(d.failed_batches, n));
    END IF;
    IF d.alerts_fired > 0 THEN
        lines := lines || format('Alerts: %s.', to_char(d.alerts_fired, n));
    END IF;
    IF d.moves <> '{}' THEN
        lines := lines || format('What happened (%s):', d.timezone) || ARRAY(SELECT '  ' || m FROM unnest(d.moves) WITH ORDINALITY AS x (m, i) ORDER BY i)
              || CASE WHEN cardinality(d.moves) = 20 THEN ARRAY['  and more: tandem.events() has all of it'] ELSE '{}' END;
    END IF;
    IF d.health_score IS NOT NULL THEN
        lines := lines || format('Now: health %s; the run waits for %s.', d.health_score, coalesce(d.waiting_for, 'nothing'));
    END IF;
    RETURN (SELECT string_agg(regexp_replace(l, '[[:cntrl:]]+', ' ', 'g'), E'\n' ORDER BY i) FROM unnest(lines) WITH ORDINALITY AS x (l, i));
END
$$;
COMMENT ON FUNCTION tandem.daily_summary IS 'The facts of a day as a text to send: its first line is the subject';

-- A report that was made after its day had ended is final once clean validations of that day may have been thinned out.
CREATE FUNCTION tandem.make_daily_report(run tandem.run, day date) RETURNS tandem.daily_report
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    before tandem.daily_report;
    d tandem.daily_report;
BEGIN
    PERFORM tandem.take_lock('tandem.daily_report', run.id); -- two at once: the second finds the first's
    SELECT * INTO before FROM tandem.daily_report AS x WHERE x.run = run.name AND x.day = day;
    IF before.complete AND day::timestamp AT TIME ZONE before.timezone < tandem.comparisons_kept_since(run) THEN
        RETURN before;
    END IF;
    d := tandem.daily_facts(run, day);
    d.summary := tandem.daily_summary(d);
    DELETE FROM tandem.daily_report AS x WHERE x.run = run.name AND x.day = day;
    INSERT INTO tandem.daily_report VALUES (d.*);
    IF d.complete THEN
        PERFORM tandem.keep_success(run, day);
    END IF;
    IF d.complete AND before.complete IS NOT TRUE THEN -- once for each day: whoever sends mails listens
        PERFORM tandem.record_event(run, 'daily_report', split_part(d.summary, E'\n', 1), jsonb_build_object('day', day, 'status', d.status));
    END IF;
    RETURN d;
END
$$;
COMMENT ON FUNCTION tandem.make_daily_report IS 'Makes the report of a day of a run, again where it is there; the first of a complete day is an event';

-- In a round: what can't be reported must not keep the run from being compared, nor be tried again every second.
CREATE FUNCTION tandem.daily_report_round(run tandem.run, day date) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    state text;
    message text;
BEGIN
    PERFORM tandem.make_daily_report(run, day);
    RETURN 'daily report of ' || day;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
    INSERT INTO tandem.daily_report (run, day, timezone, made_at, complete, status, promotions, rollbacks, failed_rounds, moves, refused_writes, tasks_done, tasks_dead,
                                     sla_met, sla_breached, summary)
    VALUES (run.name, day, tandem.report_timezone(run.id), clock_timestamp(), true, 'WARNING', 0, 0, 0, '{}', 0, 0, 0, 0, 0,
            format('WARNING: run %s: the report of %s could not be made: %s (%s)', run.name, day, message, state))
    ON CONFLICT ON CONSTRAINT daily_report_pkey DO UPDATE SET complete = true, status = 'WARNING', summary = EXCLUDED.summary;
    RETURN 'daily report of ' || day || ' failed: ' || message;
END
$$;
COMMENT ON FUNCTION tandem.daily_report_round IS 'The worker''s report of a day; where it fails, a report that says so';

-- SECURITY DEFINER: it writes the extension's tables.
CREATE FUNCTION tandem.daily_report(run text, day date DEFAULT NULL) RETURNS tandem.daily_report
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    r tandem.run := tandem.get_run(run);
    today date := (clock_timestamp() AT TIME ZONE tandem.report_timezone(r.id))::date;
    born date := (r.created_at AT TIME ZONE tandem.report_timezone(r.id))::date;
BEGIN
    PERFORM tandem.authorize(r, 'daily_report');
    day := coalesce(day, today - 1);
    IF day > today OR day < least(born, today - 1) THEN
        RAISE EXCEPTION 'run "%" has no report of %', r.name, day USING ERRCODE = 'invalid_parameter_value',
              DETAIL = format('The run was made on %s, and today is %s in time zone %s.', born, today, tandem.report_timezone(r.id)),
              HINT = 'Without a day it is yesterday''s; set_option(run, ''report_timezone'', ...) says when a day ends.';
    END IF;
    RETURN tandem.make_daily_report(r, day);
END
$$;
COMMENT ON FUNCTION tandem.daily_report IS 'Makes the report of a day, yesterday''s by default, and returns it; asked again for the same day it is the same row. Days are those of the option report_timezone';
