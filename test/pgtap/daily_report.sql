-- Daily reports: random days of events, validations, writes and tasks against an oracle that asks each row for its day; the day's borders; what a second
-- call may change; the summary; the worker's own report and one that fails; who may do what.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE SCHEMA old_day; CREATE SCHEMA new_day;
CREATE TABLE old_day.t (id integer PRIMARY KEY); CREATE TABLE new_day.t (id integer PRIMARY KEY);
SELECT FROM tandem.create_run('day', 'old_day', 'new_day', hold => '0', steps => '{25,100}');
SELECT FROM tandem.map_table('day', 'old_day.t', 'new_day.t');
SELECT r.id AS run, m.id AS mapping FROM tandem.run AS r JOIN tandem.mapping AS m ON m.run_id = r.id WHERE r.name = 'day' \gset

SELECT throws_ok($$SELECT tandem.set_option('day', 'report_timezone', 'Berlin')$$, '22023', NULL, 'a time zone has a full name');
SELECT throws_ok($$SELECT tandem.daily_report('nix')$$, '42704', NULL, 'no such run');
SELECT FROM tandem.create_run('newborn', 'old_day', 'new_day');
SELECT is((SELECT summary FROM tandem.daily_report('newborn')), to_char((now() AT TIME ZONE 'UTC')::date - 1, '"OK: run newborn on "FMDay, FMDD FMMonth YYYY') || E'\n\nThe run was made after that day.',
          'a day before the run has a report that says so');
SELECT throws_ok($$SELECT tandem.daily_report('day', (now() AT TIME ZONE 'UTC')::date + 1)$$, '22023', NULL, 'tomorrow has none');
SELECT throws_ok($$SELECT tandem.daily_report('day', '-infinity')$$, '22023', NULL, 'nor has the beginning of time');
SELECT throws_ok($$SELECT tandem.daily_report('day', '2020-01-01')$$, '22023', NULL, 'nor a day long before the run');
DELETE FROM tandem.daily_report;

-- --- random days
CREATE TEMP TABLE said (at timestamptz, kind text, stage text, phase text, weight integer, seq bigint);
CREATE TEMP TABLE compared (at timestamptz, found bigint, accepted bigint, rows bigint);
CREATE TEMP TABLE refused (at timestamptz);
CREATE TEMP TABLE done (at timestamptz, state text, sla text);
CREATE TEMP TABLE checked (at timestamptz, name text, status text);
SELECT coalesce(nullif(current_setting('tandem_test.seed', true), ''), (random() * 1000000)::integer::text)::integer AS seed \gset
SELECT diag('seed ' || :seed || ' (PGOPTIONS="-c tandem_test.seed=' || :seed || '" repeats the random choices)');
SELECT setseed(:seed / 1000000.0) \g /dev/null

-- A moment of the last three days of the zone: at a border of its days, a microsecond beside one, or anywhere; never later than now.
CREATE FUNCTION pg_temp.moment(zone text) RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
    SELECT least(clock_timestamp(), CASE floor(random() * 3)
               WHEN 0 THEN (today - floor(random() * 3)::integer)::timestamp AT TIME ZONE zone + interval '1 microsecond' * floor(random() * 3 - 1)
               ELSE ((today - 2)::timestamp AT TIME ZONE zone) + random() * (clock_timestamp() - ((today - 2)::timestamp AT TIME ZONE zone)) END)
      FROM (SELECT (clock_timestamp() AT TIME ZONE zone)::date) AS d (today)
$$;
CREATE FUNCTION pg_temp.one_of(VARIADIC words text[]) RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT words[1 + floor(random() * cardinality(words))::integer] $$;
CREATE FUNCTION pg_temp.make(run integer, mapping integer, n integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    zone text := pg_temp.one_of('UTC', 'Europe/Berlin', 'America/St_Johns', 'Pacific/Kiritimati', 'Australia/Lord_Howe', 'Pacific/Pago_Pago');
    x record;
    at timestamptz;
    made uuid;
BEGIN
    PERFORM tandem.set_option('day', 'report_timezone', zone);
    UPDATE tandem.run AS r SET created_at = clock_timestamp() - interval '5 days' WHERE r.id = run;
    FOR x IN SELECT pg_temp.moment(zone) AS at, pg_temp.one_of('promote', 'rollback', 'round_failed', 'pause', 'resume', 'set_option', 'start', 'synced') AS kind,
                    pg_temp.one_of('shadow', 'live') AS stage, pg_temp.one_of('progressing', 'paused', 'degraded') AS phase, floor(random() * 101)::integer AS weight
               FROM generate_series(1, n) LOOP
        INSERT INTO said VALUES (x.at, x.kind, x.stage, x.phase, x.weight, tandem.append_event(x.kind, E'a\nreason', '{}', 'day', x.stage, x.phase, x.weight, 1, at => x.at));
    END LOOP;
    FOR x IN SELECT pg_temp.moment(zone) AS at, floor(random() * 3)::integer AS found, floor(random() * 2)::integer AS accepted, floor(random() * 100)::integer AS rows,
                    pg_temp.one_of('validate', 'validate', 'proof') AS purpose FROM generate_series(1, n) LOOP
        CONTINUE WHEN EXISTS (SELECT FROM compared AS c WHERE c.at = x.at);
        INSERT INTO tandem.comparison (run_id, mapping_id, purpose, epoch, snapshot, started_at, elapsed, equal, legacy_rows, new_rows, missing, extra, changed, duplicates, accepted, method, scope)
        VALUES (run, mapping, x.purpose, 1, '1:1:', x.at, '1 s', false, x.rows, x.rows - 1, x.found, 0, x.accepted, 0, x.accepted, 'join', 'changes');
        INSERT INTO compared SELECT x.at, x.found, x.accepted, x.rows WHERE x.purpose = 'validate';
    END LOOP;
    FOR x IN SELECT pg_temp.moment(zone) AS at, pg_temp.one_of('sum', 'count', 'by level') AS name, pg_temp.one_of('passed', 'passed', 'failed', 'unknown') AS status FROM generate_series(1, n) LOOP
        FOR i IN 1..CASE WHEN x.name = 'by level' THEN 3 ELSE 1 END LOOP
            INSERT INTO tandem.check_result (run_id, name, severity, tolerance_percent, group_key, legacy_value, new_value, difference_percent, status, reason, at, epoch)
            VALUES (run, x.name, 'high', 1, CASE WHEN x.name = 'by level' THEN jsonb_build_object('level', i) END, 100, 90, 10 * i, CASE WHEN i < 3 AND x.name = 'by level' THEN 'passed' ELSE x.status END, 'because ' || i, x.at, 1);
        END LOOP;
        INSERT INTO checked VALUES (x.at, x.name, x.status);
    END LOOP;
    FOR x IN SELECT pg_temp.moment(zone) AS at, pg_temp.one_of('done', 'dead') AS state, pg_temp.one_of('none', 'met', 'late') AS sla FROM generate_series(1, n) LOOP
        INSERT INTO tandem.mirror_failure (mapping_id, at, event, legacy_row, sqlstate, message) VALUES (mapping, x.at, 'INSERT', '(1)', '23505', 'no');
        INSERT INTO refused VALUES (x.at);
        made := (tandem.task_create('day_test')).id;
        at := pg_temp.moment(zone);
        UPDATE tandem.task AS t SET created_at = at - interval '2 hours', started_at = at - interval '1 hour', finished_at = at, state = x.state,
               finish_due = CASE x.sla WHEN 'met' THEN at + interval '1 second' WHEN 'late' THEN at - interval '3 hours' END WHERE t.id = made;
        INSERT INTO done VALUES (at, x.state, x.sla);
        IF x.sla = 'late' THEN
            INSERT INTO tandem.sla_breach (task_id, which, due_at, detected_at, kind, severity, tenant) VALUES (made, 'finish', at - interval '3 hours', at, 'day_test', 'normal', '');
        END IF;
    END LOOP;
    RETURN zone;
END $$;
SELECT pg_temp.make(:run, :mapping, 60) AS zone \gset
SELECT diag('zone ' || :'zone');
SELECT (clock_timestamp() AT TIME ZONE :'zone')::date AS today \gset
CREATE FUNCTION pg_temp.day_of(at timestamptz) RETURNS date LANGUAGE sql STABLE AS $$SELECT ($1 AT TIME ZONE tandem.report_timezone((SELECT id FROM tandem.run WHERE name = 'day')))::date$$;
CREATE FUNCTION pg_temp.oracle(day date) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', (SELECT concat_ws(' ', s.stage, s.phase, s.weight) FROM said AS s WHERE pg_temp.day_of(s.at) <= day ORDER BY s.seq DESC LIMIT 1),
        (SELECT concat_ws(' ', count(*) FILTER (WHERE kind = 'promote'), count(*) FILTER (WHERE kind = 'rollback'), count(*) FILTER (WHERE kind = 'round_failed'),
                          least(20, count(*) FILTER (WHERE kind NOT IN ('set_option', 'round_failed')))) FROM said WHERE pg_temp.day_of(at) = day),
        (SELECT concat_ws(' ', count(*), count(*) FILTER (WHERE found > 0), coalesce(sum(rows), 0), coalesce(max(found), 0), coalesce((array_agg(accepted ORDER BY at DESC))[1], 0))
           FROM compared WHERE pg_temp.day_of(at) = day),
        (SELECT count(*) FROM refused WHERE pg_temp.day_of(at) = day),
        (SELECT concat_ws(' ', count(*) FILTER (WHERE state = 'done'), count(*) FILTER (WHERE state = 'dead'), count(*) FILTER (WHERE sla = 'met')) FROM done WHERE pg_temp.day_of(at) = day),
        (SELECT count(*) FROM done WHERE sla = 'late' AND pg_temp.day_of(at - interval '3 hours') = day)) $$;
-- The checks of a day, one by one; what was found before the sides were in step is none.
CREATE FUNCTION pg_temp.checks_oracle(day date) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    c record;
    made jsonb := '{}';
    seen jsonb;
BEGIN
    FOR c IN SELECT x.at, x.name, min(array_position('{failed,unknown,passed}', x.status)) AS worst, bool_or(x.status = 'failed') AS failed, bool_or(x.status = 'unknown') AS unknown
               FROM checked AS x WHERE pg_temp.day_of(x.at) = day AND x.at >= (SELECT min(s.at) FROM said AS s WHERE s.kind = 'synced') GROUP BY x.at, x.name ORDER BY x.at LOOP
        seen := coalesce(made -> c.name, '[0,0,0]');
        made := made || jsonb_build_object(c.name, jsonb_build_array((seen ->> 0)::integer + 1, (seen ->> 1)::integer + c.failed::integer, (seen ->> 2)::integer + c.unknown::integer, ('{failed,unknown,passed}'::text[])[c.worst]));
    END LOOP;
    RETURN coalesce((SELECT string_agg(k || ' ' || v, ' ' ORDER BY k) FROM jsonb_each_text(made) AS e (k, v)), 'none');
END $$;
CREATE FUNCTION pg_temp.checks(d tandem.daily_report) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(string_agg(format('%s [%s, %s, %s, "%s"]', c ->> 'check', c -> 'made', c -> 'failed', c -> 'unknown', c ->> 'status'), ' ' ORDER BY c ->> 'check'), 'none')
      FROM jsonb_array_elements(d.numbers) AS c $$;
CREATE FUNCTION pg_temp.facts(d tandem.daily_report) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', d.stage, d.phase, d.weight, d.promotions, d.rollbacks, d.failed_rounds, cardinality(d.moves), d.validations, d.unclean, d.rows_compared, d.differences, d.accepted,
                     d.refused_writes, d.tasks_done, d.tasks_dead, d.sla_met, d.sla_breached) $$;
SELECT is(pg_temp.facts(tandem.daily_report('day', d)), pg_temp.oracle(d), 'the facts of ' || d) FROM unnest(ARRAY[:'today'::date, :'today'::date - 1]) AS d;
SELECT is(pg_temp.checks(tandem.daily_report('day', d)), pg_temp.checks_oracle(d), 'the checks of ' || d) FROM unnest(ARRAY[:'today'::date, :'today'::date - 1, :'today'::date - 2]) AS d;
SELECT is((SELECT array_agg(DISTINCT (c ->> 'failed' <> '0', d.status)::text) FROM tandem.daily_report AS d, jsonb_array_elements(d.numbers) AS c WHERE c ->> 'failed' <> '0' AND d.status <> 'CRITICAL'), NULL, 'a failed check of severity high makes a day critical');
SELECT is((SELECT count(*) FROM tandem.daily_report AS d WHERE d.checks <> jsonb_array_length(d.numbers) OR d.failed_checks <> (SELECT count(*) FROM jsonb_array_elements(d.numbers) AS c WHERE (c -> 'failed')::integer > 0)), 0::bigint, 'they are counted');
SELECT is((SELECT array_agg(DISTINCT c ->> 'group_key') FROM tandem.daily_report AS d, jsonb_array_elements(d.numbers) AS c WHERE c ->> 'check' = 'by level'), '{"{\"level\": 3}"}', 'of groups the one that is told is the worst');
SELECT is((SELECT (d.validations, d.promotions)::text FROM tandem.daily_report('day', :'today'::date - 2) AS d),
          (SELECT format('(,%s)', count(*)) FROM said WHERE kind = 'promote' AND pg_temp.day_of(at) = :'today'::date - 2), 'of the day before yesterday clean validations are not kept: unknown, not none');
SELECT is((SELECT weight_before FROM tandem.daily_report AS d WHERE d.day = :'today'), (SELECT d.weight FROM tandem.daily_report AS d WHERE d.day = :'today'::date - 1), 'a day begins as the one before ended');
SELECT is((SELECT array_agg(d.complete ORDER BY d.day) FROM tandem.daily_report AS d), '{t,t,f}', 'today is not complete');

-- --- again
SELECT is((SELECT count(*) FROM tandem.event AS e WHERE e.run = 'day' AND e.kind = 'daily_report' AND e.evidence ->> 'day' = (:'today'::date - 1)::text), 1::bigint, 'the report of a complete day is an event');
SELECT is((SELECT count(*) FROM tandem.event AS e WHERE e.run = 'day' AND e.kind = 'daily_report' AND e.evidence ->> 'day' = :'today'), 0::bigint, 'that of an incomplete one is none');
CREATE TEMP TABLE before AS SELECT * FROM tandem.daily_report;
DELETE FROM tandem.comparison;
SELECT is((SELECT d FROM tandem.daily_report('day') AS d), (SELECT ROW(b.*)::tandem.daily_report FROM before AS b WHERE b.day = :'today'::date - 1), 'yesterday is told once, whatever was thinned out since');
SELECT is((SELECT d.validations FROM tandem.daily_report('day', :'today') AS d), 0::bigint, 'today is told anew');
SELECT is((SELECT count(*) FROM tandem.daily_report), 3::bigint, 'a day has one row');
SELECT is((SELECT count(*) FROM tandem.event AS e WHERE e.run = 'day' AND e.kind = 'daily_report' AND e.evidence ->> 'day' = (:'today'::date - 1)::text), 1::bigint, '... and one event');

-- --- days of 23 and 25 hours
UPDATE tandem.run SET created_at = '2025-01-01' WHERE id = :run;
SELECT FROM tandem.set_option('day', 'report_timezone', 'Europe/Berlin');
SELECT is((SELECT count(*) FROM (SELECT tandem.append_event('promote', NULL, '{}', 'day', 'live', 'progressing', 1, 1, at => t) FROM generate_series('2026-03-28 00:30+00', '2026-03-30 00:00+00', interval '1 hour') AS t) AS x), 48::bigint, 'an event each hour');
SELECT is((SELECT d.promotions FROM tandem.daily_report('day', '2026-03-29') AS d), 23::bigint, 'the day on which summer begins has 23 hours');
SELECT is((SELECT count(*) FROM (SELECT tandem.append_event('promote', NULL, '{}', 'day', 'live', 'progressing', 1, 1, at => t) FROM generate_series('2025-10-25 00:30+00', '2025-10-27 00:00+00', interval '1 hour') AS t) AS x), 48::bigint, 'an event each hour');
SELECT is((SELECT d.promotions FROM tandem.daily_report('day', '2025-10-26') AS d), 25::bigint, 'the day on which it ends has 25');
SELECT matches((SELECT d.summary FROM tandem.daily_report('day', '2025-10-26') AS d), E'\n  [0-9:]+ promoted to 1 %\n  and more: tandem.events\\(\\) has all of it\n', 'twenty of them are told');

-- --- the summary: from the facts alone, each line one line
CREATE FUNCTION pg_temp.summary(changes jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT tandem.daily_summary(jsonb_populate_record(NULL::tandem.daily_report, '{"run": "bank", "day": "2026-11-23", "timezone": "Europe/Berlin", "made_at": "2026-11-24 00:00:01+01", "complete": true,
        "status": "OK", "stage": "live", "phase": "progressing", "weight_before": 5, "weight": 25, "promotions": 1, "rollbacks": 0, "failed_rounds": 0, "moves": ["14:05 promoted to 25 %"],
        "validations": 17280, "unclean": 0, "rows_compared": 1234567, "differences": 0, "accepted": 0, "refused_writes": 0, "tasks_done": 0, "tasks_dead": 0, "sla_met": 0, "sla_breached": 0,
        "batches": 0, "failed_batches": 0, "alerts_fired": 0, "health_score": 100, "waiting_for": "the hold until 2026-11-24 14:05:00+01, then weight 50"}'::jsonb || changes)) $$;
SELECT is(pg_temp.summary('{}'), E'OK: run bank on Monday, 23 November 2026\n\nAll is well.\nState: stage live, phase progressing, 25 % of the keys served by the new side (5 % when the day began).\n'
    'Comparisons: 17,280, 1,234,567 rows looked at, no difference.\nWhat happened (Europe/Berlin):\n  14:05 promoted to 25 %\n'
    'Now: health 100; the run waits for the hold until 2026-11-24 14:05:00+01, then weight 50.', 'a good day');
SELECT is(pg_temp.summary('{"status": "CRITICAL", "rollbacks": 1, "unclean": 1, "differences": 2, "accepted": 1, "moves": ["09:00 rolled back: guard any_difference: 2 differences"], "weight": 0, "phase": "degraded",
    "failed_rounds": 3, "refused_writes": 4, "tasks_done": 5000, "tasks_dead": 6, "sla_met": 7, "sla_breached": 8, "health_score": 50, "waiting_for": "retry(), once both sides are equal again"}'),
    E'CRITICAL: run bank on Monday, 23 November 2026\n\nThe run was rolled back to the legacy side.\nState: stage live, phase degraded, 0 % of the keys served by the new side (5 % when the day began).\n'
    'Comparisons: 17,280, 1,234,567 rows looked at, 1 of them found differences, 2 at most (1 accepted).\nWrites that the new side refused: 4.\nFailures of the worker''s rounds: 3.\n'
    'Tasks: 5,000 done, 6 given up; 8 deadlines missed, 7 tasks within theirs.\nWhat happened (Europe/Berlin):\n  09:00 rolled back: guard any_difference: 2 differences\n'
    'Now: health 50; the run waits for retry(), once both sides are equal again.', 'a bad day');
SELECT matches(pg_temp.summary('{"legacy_calls": 1200, "legacy_errors": 1, "legacy_p95_ms": 12.5, "new_calls": 300, "new_errors": 0, "new_p95_ms": 9}'),
    E'\nLatency: new 95 % within 9 ms, 300 calls, 0 failed; legacy 95 % within 12.5 ms, 1,200 calls, 1 failed\\.\n', 'latency of both sides');
SELECT matches(pg_temp.summary('{"legacy_calls": 1200, "legacy_errors": 1, "legacy_p95_ms": 12.5}'), E'\nLatency: legacy 95 % within 12.5 ms, 1,200 calls, 1 failed\\.\n', '... of one of them');
SELECT matches(pg_temp.summary('{"batches": 3, "failed_batches": 1, "alerts_fired": 2}'), E'\nBatches: 3, 1 of them failed\\.\nAlerts: 2\\.\n', 'batches and alerts');
SELECT matches(pg_temp.summary('{"status": "CRITICAL", "checks": 3, "failed_checks": 1, "numbers": [
    {"check": "by level", "severity": "high", "status": "passed", "group_key": {"level": "gold"}, "reason": "legacy 100, new 100: equal", "made": 4, "failed": 3, "unknown": 0},
    {"check": "sum", "severity": "low", "status": "unknown", "group_key": null, "reason": "neither\nquery returned a row", "made": 1, "failed": 0, "unknown": 1},
    {"check": "rows", "severity": "high", "status": "passed", "group_key": null, "reason": "legacy 5, new 5: equal", "made": 2, "failed": 0, "unknown": 0}]}'),
    E'\n\nThe two sides do not reconcile\\.\n.*\nChecks: 3, 1 of them failed\\.\n  by level {"level": "gold"}: legacy 100, new 100: equal \\(high; failed 3 of 4 times\\)\n'
    '  sum: neither query returned a row \\(low; not judged 1 of 1 times\\)\n  rows: legacy 5, new 5: equal\n', 'checks by name, with both sides in numbers');
SELECT matches(pg_temp.summary('{"checks": 1, "failed_checks": 0, "numbers": [{"check": "rows", "group_key": null, "reason": "equal", "made": 1, "failed": 0, "unknown": 0}]}'), E'\nChecks: 1, all passed\\.\n  rows: equal\n', '... that passed');
SELECT matches(pg_temp.summary(jsonb_build_object('checks', 25, 'failed_checks', 0, 'numbers', (SELECT jsonb_agg(jsonb_build_object('check', 'c' || i, 'reason', 'equal', 'made', 1, 'failed', 0, 'unknown', 0)) FROM generate_series(1, 25) AS i))),
    E'\n  c20: equal\n  and 5 more: tandem.parallel_run_metrics has all of them\n', '... not all of many');
SELECT is(pg_temp.summary('{"checks": 0, "failed_checks": 0, "numbers": []}') LIKE '%Checks%', false, 'where there is none, there is no line');
SELECT is(split_part(pg_temp.summary('{"run": "a\r\nBcc: everybody@example.org", "moves": ["x\ny"]}'), E'\n', 1), 'OK: run a Bcc: everybody@example.org on Monday, 23 November 2026', 'a name does not break the subject');
SELECT is(pg_temp.summary('{"moves": ["x\ny"]}') ~ E'\n  x y\n', true, '... nor a reason its line');
SELECT is(pg_temp.summary('{"complete": false}') ~ 'All is well. So far: the day was not over at 00:00.', true, 'a day that is not over says so');
SELECT is(pg_temp.summary('{"validations": 0}') ~ E'\nComparisons: none.\n' AND pg_temp.summary('{"validations": null}') ~ 'not kept any more', true, 'none is not unknown');

-- --- status
SELECT is((SELECT array_agg(DISTINCT d.status) FROM before AS d WHERE d.rollbacks > 0), '{CRITICAL}', 'a day with a rollback is critical');
SELECT FROM tandem.create_run('quiet', 'old_day', 'new_day');
UPDATE tandem.run SET created_at = clock_timestamp() - interval '5 days', stage = 'live', phase = 'progressing', weight = 5 WHERE name = 'quiet';
SELECT is((SELECT concat_ws(' ', d.status, d.validations) FROM tandem.daily_report('quiet') AS d), 'CRITICAL 0', 'a live run that nobody compared all day is critical');

-- of checks: what fails, how badly; what is not kept is not none
CREATE FUNCTION pg_temp.day_of_checks(severity text, status text, ago interval) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    r integer := (SELECT x.id FROM tandem.run AS x WHERE x.name = 'quiet');
    answer text;
BEGIN
    DELETE FROM tandem.check_result; DELETE FROM tandem.daily_report AS d WHERE d.run = 'quiet'; -- else the report that is there is final
    INSERT INTO tandem.check_result (run_id, name, severity, tolerance_percent, status, reason, at, epoch) VALUES (r, 'c', severity, 0, status, 'so', date_trunc('day', clock_timestamp(), 'UTC') - ago, 1);
    SELECT concat_ws(' ', d.status, coalesce(d.checks::text, 'unknown'), d.failed_checks) INTO answer FROM tandem.daily_report('quiet') AS d;
    RETURN answer;
END $$;
UPDATE tandem.run SET stage = 'dualwrite' WHERE name = 'quiet';
DELETE FROM tandem.sla_breach; DELETE FROM tandem.task;
UPDATE tandem.run_activity AS a SET round_at = clock_timestamp(), differences = 0 FROM tandem.run AS r WHERE r.id = a.run_id AND r.name = 'quiet';
SELECT is(pg_temp.day_of_checks('critical', 'failed', '1 hour'), 'OK 0 0', 'before the sides are in step checks say nothing');
UPDATE tandem.run SET stage = 'live' WHERE name = 'quiet';
INSERT INTO tandem.comparison (run_id, mapping_id, purpose, epoch, snapshot, started_at, elapsed, equal, legacy_rows, new_rows, missing, extra, changed, duplicates, accepted, method, scope)
SELECT id, :mapping, 'validate', 1, '1:1:', date_trunc('day', clock_timestamp(), 'UTC') - interval '1 hour', '1 s', true, 1, 1, 0, 0, 0, 0, 0, 'join', 'full' FROM tandem.run WHERE name = 'quiet';
SELECT is(pg_temp.day_of_checks(severity, status, '1 hour'), said, format('a check of severity %s is %s', severity, status))
  FROM (VALUES ('critical', 'failed', 'CRITICAL 1 1'), ('high', 'failed', 'CRITICAL 1 1'), ('medium', 'failed', 'WARNING 1 1'), ('low', 'failed', 'OK 1 1'),
               ('critical', 'unknown', 'WARNING 1 0'), ('low', 'unknown', 'OK 1 0'), ('critical', 'passed', 'OK 1 0')) AS v (severity, status, said);
SELECT is(pg_temp.day_of_checks('critical', 'failed', '25 hours'), 'OK 0 0', 'of another day');
SELECT FROM tandem.set_option('quiet', 'check_retention', '1 hour');
SELECT is(pg_temp.day_of_checks('critical', 'failed', '1 hour'), 'OK unknown', 'what is not kept so long is not known');
SELECT is((SELECT f.refused_writes FROM tandem.run AS r, tandem.daily_facts(r, (clock_timestamp() AT TIME ZONE 'UTC')::date - 1) AS f WHERE r.name = 'quiet'), NULL, '... nor how much was refused');
DELETE FROM tandem.check_result; DELETE FROM tandem.comparison;

-- --- the worker
UPDATE tandem.run SET created_at = clock_timestamp() - interval '2 days', stage = 'shadow', phase = 'paused' WHERE id = :run;
SELECT FROM tandem.set_option('day', 'report_timezone', 'UTC');
SELECT FROM tandem.set_option('quiet', 'daily_report', 'off');
DELETE FROM tandem.daily_report;
UPDATE tandem.run_activity SET validated_at = clock_timestamp(), differences = 0;
SELECT results_eq('SELECT run, did FROM tandem.tick() WHERE did LIKE $$%report%$$', $$SELECT 'day', 'daily report of ' || ((clock_timestamp() AT TIME ZONE 'UTC')::date - 1)$$, 'a round makes the report, unless the option says no');
SELECT is((SELECT count(*) FROM tandem.tick() WHERE did LIKE '%report%'), 0::bigint, '... once');
DELETE FROM tandem.daily_report;
ALTER TABLE tandem.daily_report ADD CONSTRAINT broken CHECK (summary NOT LIKE '%State%');
SELECT matches((SELECT did FROM tandem.tick() WHERE run = 'day'), '^daily report of .* failed: .*broken', 'one that fails');
SELECT matches((SELECT summary FROM tandem.daily_report), '^WARNING: run day: the report of .* could not be made: .*broken', '... says why');
SELECT is((SELECT count(*) FROM tandem.tick() WHERE did LIKE '%report%'), 0::bigint, '... and is not tried again every second');
ALTER TABLE tandem.daily_report DROP CONSTRAINT broken;
UPDATE tandem.daily_report SET day = day - 3; -- so that yesterday's is missing again
SELECT is((SELECT complete FROM tandem.daily_report('day')), true, 'by hand it is made when what failed is mended');

-- --- rights
CREATE ROLE day_owner; CREATE ROLE day_watcher; CREATE ROLE day_viewer; CREATE ROLE day_stranger;
GRANT pg_monitor TO day_watcher;
SELECT tandem.grant_role('day_viewer', 'viewer'), tandem.grant_role('day_owner', 'operator') \g /dev/null
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC;
SET ROLE day_watcher;
SELECT is((SELECT count(*) FROM tandem.daily_report), 2::bigint, 'pg_monitor reads reports');
SELECT throws_ok($$SELECT tandem.daily_report('day')$$, '42501', NULL, '... and makes none');
SET ROLE day_viewer;
SELECT is((SELECT count(*) FROM tandem.daily_report), 2::bigint, 'so does a viewer');
SELECT throws_ok($$SELECT tandem.daily_report('day')$$, '42501', NULL, '... and makes none');
SET ROLE day_owner;
SELECT lives_ok($$SELECT tandem.daily_report('day')$$, 'an operator makes them');
SET ROLE day_stranger;
SELECT throws_ok($$SELECT * FROM tandem.daily_report$$, '42501', NULL, 'a stranger sees nothing');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
