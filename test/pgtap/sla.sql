-- SLA: policies and which of them holds, service hours against a walk minute by minute, breaches by tick() alone (autocommit would be the
-- worker's; here everything is one transaction that the worker does not see), what is refused, who may do what.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
SET timezone = 'Europe/Berlin';

-- --- policies
SELECT results_eq($$SELECT kind, severity, start_within, finish_within, warn_ratio, escalate_to, shipped FROM tandem.sla_policies$$,
                  $$VALUES ('*', 'critical', NULL::interval, interval '5 minutes', 0.8, NULL::text, true)$$, 'critical tasks have five minutes, as shipped');

CREATE FUNCTION pg_temp.make(kind text, severity text DEFAULT 'normal', run_at timestamptz DEFAULT NULL) RETURNS uuid LANGUAGE sql
AS $$ SELECT id FROM tandem.task_create(kind, severity => severity, run_at => run_at) $$;
CREATE FUNCTION pg_temp.within(id uuid) RETURNS text LANGUAGE sql
AS $$ SELECT concat_ws(' ', start_due - greatest(created_at, run_at), finish_due - greatest(created_at, run_at)) FROM tandem.task AS t WHERE t.id = $1 $$;
-- as a later minute would find it: every time of the task and of its deadlines is moved back
CREATE FUNCTION pg_temp.age(id uuid, by interval) RETURNS void LANGUAGE sql
AS $$
    UPDATE tandem.task AS t SET created_at = created_at - by, start_due = start_due - by, finish_due = finish_due - by, started_at = started_at - by WHERE t.id = $1;
    UPDATE tandem.task_deadline AS d SET start_warn = start_warn - by, start_due = start_due - by, finish_warn = finish_warn - by, finish_due = finish_due - by WHERE d.task_id = $1
$$;
CREATE FUNCTION pg_temp.status(id uuid) RETURNS text LANGUAGE sql
AS $$ SELECT sla_status FROM tandem.emergency_response_metrics WHERE task_id = $1 $$;
CREATE FUNCTION pg_temp.cas(id uuid, VARIADIC states text[]) RETURNS boolean LANGUAGE plpgsql
AS $$
DECLARE s text; good boolean := true;
BEGIN
    FOREACH s IN ARRAY states LOOP
        good := good AND (SELECT c.ok FROM tandem.task AS t, tandem.task_cas(t.id, t.version, s) AS c WHERE t.id = $1);
    END LOOP;
    RETURN good;
END $$;

SELECT is(pg_temp.within(pg_temp.make('any', 'critical')), '00:05:00', 'a critical task is due after five minutes');
SELECT is(pg_temp.within(pg_temp.make('any')), '', 'any other is not');
SELECT is((SELECT count(*) FROM tandem.task_deadline AS d JOIN tandem.task AS t ON t.id = d.task_id WHERE t.severity <> 'critical'), 0::bigint, 'and has no row of deadlines');
SELECT lives_ok($$SELECT tandem.sla_policy('*', '*', '1 hour', NULL)$$, 'a policy for all');
SELECT lives_ok($$SELECT tandem.sla_policy('mail', '*', '10 minutes', '2 days', 0.5)$$, 'one for a kind');
SELECT lives_ok($$SELECT tandem.sla_policy('mail', 'high', NULL, '1 day', 1, 'escalated')$$, 'one for a kind and a severity');
SELECT is(pg_temp.within(pg_temp.make('any', 'low')), '01:00:00', 'a task of no policy of its own has that of all');
SELECT is(pg_temp.within(pg_temp.make('any', 'critical')), '00:05:00', 'the severity''s goes before it');
SELECT is(pg_temp.within(pg_temp.make('mail', 'critical')), '00:10:00 2 days', 'the kind''s before that of the severity; a day is 24 hours');
SELECT is(pg_temp.within(pg_temp.make('mail', 'high')), '1 day', 'the kind''s and severity''s before all');
SELECT lives_ok($$SELECT tandem.sla_policy('*', 'critical', NULL, '3 minutes')$$, 'what was shipped can be changed');
SELECT is(pg_temp.within(pg_temp.make('any', 'critical')), '00:03:00', '... and is');
SELECT lives_ok($$SELECT tandem.sla_policy('mail', '*', NULL, NULL)$$, 'a policy of no deadlines');
SELECT is(pg_temp.within(pg_temp.make('mail', 'critical')), '', '... takes its tasks out');
SELECT lives_ok($$SELECT tandem.drop_sla_policy('*', 'critical'), tandem.drop_sla_policy('*', '*')$$, 'policies are dropped');
SELECT is(pg_temp.within(pg_temp.make('any', 'critical')), '00:05:00', '... and what was shipped is back');
SELECT is(pg_temp.within(pg_temp.make('any', 'critical', clock_timestamp() + interval '3 days')), '00:05:00', 'a scheduled task''s clock starts at its time');
SELECT is((SELECT count(*) FROM tandem.event WHERE kind IN ('sla_policy', 'drop_sla_policy')), 7::bigint, 'each of these is an event');
SAVEPOINT changed;
SELECT tandem.sla_policy('*', 'critical', NULL, '1 minute') \g /dev/null
ROLLBACK TO changed;
SELECT is(pg_temp.within(pg_temp.make('any', 'critical')), '00:05:00', 'a policy that was rolled back holds for nobody');

-- --- what is refused
SELECT throws_ok(format('SELECT tandem.sla_policy(%s)', arguments), state, NULL, format('sla_policy(%s)', arguments))
  FROM (VALUES ('NULL, ''high'', NULL, ''1 hour''', '22004'), ('''k'', NULL, NULL, ''1 hour''', '22004'), ('''k'', ''high'', NULL, ''1 hour'', NULL', '22004'),
               ('''k'', ''urgent'', NULL, ''1 hour''', '22023'), ('''k'', ''high'', ''2 hours'', ''1 hour''', '22023'), ('''k'', ''high'', ''0'', NULL', '22023'), ('''k'', ''high'', ''-1 hour'', NULL', '22023'),
               ('''k'', ''high'', NULL, ''-1 second''', '22023'), ('''k'', ''high'', NULL, ''1 month''', '22023'), ('''k'', ''high'', NULL, ''2 years''', '22023'),
               ('''k'', ''high'', NULL, ''40000 days''', '22023'), ('''k'', ''high'', NULL, ''1 hour'', 0', '22023'), ('''k'', ''high'', NULL, ''1 hour'', -0.5', '22023'),
               ('''k'', ''high'', NULL, ''1 hour'', 1.01', '22023'), ('''k'', ''high'', NULL, ''1 hour'', ''NaN''', '22023'),
               ('''k'', ''high'', NULL, ''1 hour'', 0.8, ''gone''', '22023'), ('''k'', ''high'', NULL, ''1 hour'', 0.8, ''done''', '22023'),
               ('''k'', ''high'', NULL, ''1 hour'', 0.8, NULL, ''nowhere''', '42704'), (''''', ''high'', NULL, ''1 hour''', '42602')) AS v (arguments, state);
SELECT throws_ok($$SELECT tandem.drop_sla_policy('*', 'critical')$$, '42704', NULL, 'what was shipped is overridden, not dropped');
SELECT throws_ok(format('SELECT tandem.sla_calendar(''c'', %L, %L)', zone, hours), '22023', NULL, format('sla_calendar(%s, %s)', zone, hours))
  FROM (VALUES ('UTC', '{}'), ('UTC', '[]'), ('UTC', '{"mon": []}'), ('UTC', '{"monday": "08:00-17:00"}'), ('UTC', '{"mon": "17:00-08:00"}'),
               ('UTC', '{"mon": "08:00-08:00"}'), ('UTC', '{"mon": "8-17"}'), ('UTC', '{"mon": "08:00-24:01"}'), ('UTC', '{"mon": null}'), ('UTC', '{"mon": 8}'),
               ('UTC', '{"mon": ["08:00-12:00", "11:59-13:00"]}'), ('Europe/Atlantis', '{"mon": "08:00-17:00"}'), ('CEST', '{"mon": "08:00-17:00"}')) AS v (zone, hours);
SELECT throws_ok($$SELECT tandem.sla_calendar(NULL, 'UTC', '{"mon": "08:00-17:00"}')$$, '22004', NULL, 'a calendar without a name');
SELECT throws_ok($$SELECT tandem.sla_calendar('c', 'UTC', '{"mon": "08:00-17:00"}', '{2026-12-25,NULL}')$$, '22004', NULL, 'an unknown holiday');
SELECT throws_ok($$SELECT tandem.drop_sla_calendar('c')$$, '42704', NULL, 'no calendar to drop');

-- --- service hours, against a walk over every minute (minutes as a whole: all that is given is whole minutes)
SELECT lives_ok($$SELECT tandem.sla_calendar('office', 'Europe/Berlin', '{"mon": ["08:00-12:00", "13:00-17:00"], "tue": "08:00-17:00", "fri": "22:00-24:00", "sat": "00:00-02:30", "sun": ["00:00-24:00"]}',
                  '{2026-03-30,2026-10-26,2026-12-25}')$$, 'office hours');
SELECT lives_ok($$SELECT tandem.sla_calendar('lord_howe', 'Australia/Lord_Howe', '{"sun": "01:15-02:45", "wed": "09:00-10:00"}')$$, 'hours around a change of half an hour');
CREATE FUNCTION pg_temp.walk(start timestamptz, minutes integer, calendar text) RETURNS timestamptz LANGUAGE sql
AS $$
    SELECT m + interval '1 minute'
      FROM (SELECT m, row_number() OVER (ORDER BY m) AS n
              FROM generate_series(start, start + interval '20 days', interval '1 minute') AS m, tandem.sla_calendar AS c,
                   LATERAL (SELECT m AT TIME ZONE c.timezone AS local) AS l,
                   LATERAL (SELECT (extract(isodow FROM local)::integer - 1) * 1440 + extract(hour FROM local)::integer * 60 + extract(minute FROM local)::integer AS of_week) AS w
             WHERE c.name = calendar AND NOT local::date = ANY (c.holidays)
               AND EXISTS (SELECT FROM generate_series(1, array_length(c.open, 1), 2) AS i WHERE w.of_week >= c.open[i] AND w.of_week < c.open[i + 1])) AS open_minutes
     WHERE n = minutes
$$;
SELECT setseed(coalesce(nullif(current_setting('tandem_test.seed', true), '')::float8, 0.42)) \g /dev/null
CREATE TEMP TABLE probe AS
SELECT calendar, date_trunc('minute', base + random() * interval '10 days') AS start, 1 + (random() * 1500)::integer AS minutes
  FROM (VALUES ('office', timestamptz '2026-03-25 00:00+00'), ('office', '2026-10-20 00:00+00'), ('office', '2026-07-01 00:00+00'),
               ('lord_howe', '2026-03-28 00:00+00'), ('lord_howe', '2026-09-28 00:00+00')) AS v (calendar, base), generate_series(1, 8);
UPDATE probe SET minutes = 1 + minutes % 250 WHERE calendar = 'lord_howe';
ALTER TABLE probe ADD got timestamptz, ADD want timestamptz;
UPDATE probe SET got = tandem.due_time(start, minutes * interval '1 minute', calendar), want = pg_temp.walk(start, minutes, calendar);
SELECT is((SELECT jsonb_agg(p) FROM probe AS p WHERE got IS DISTINCT FROM want),
          NULL, 'due times agree with the walk, over changes of the clocks in spring and autumn, and holidays');
SELECT is(tandem.due_time('2026-03-28 23:00+01', '4 hours', 'office'), timestamptz '2026-03-29 05:00+02', 'the hour that spring leaves out is not counted');
SELECT is(tandem.due_time('2026-10-24 23:00+02', '4 hours', 'office'), timestamptz '2026-10-25 03:00+01', 'the one that autumn has twice is, twice');
SELECT is(tandem.due_time('2026-06-06 03:00+02', '1 second', 'office'), timestamptz '2026-06-07 00:00:01+02', 'a clock that stands waits');
SELECT is(tandem.due_time('2026-06-06 03:00+02', '36 hours'), timestamptz '2026-06-07 15:00+02', 'without a calendar it always runs');
SELECT throws_ok($$SELECT tandem.sla_policy('desk', '*', NULL, '2 days', calendar => 'office')$$, '22023', NULL, 'days of service hours are ambiguous');
SELECT throws_ok($$SELECT tandem.sla_policy('desk', '*', NULL, '800000 hours', calendar => 'lord_howe')$$, '22023', NULL, 'a deadline that would never come');
SELECT lives_ok($$SELECT tandem.sla_policy('desk', '*', '30 minutes', '8 hours', 0.5, calendar => 'office')$$, 'a policy in office hours');
SELECT is((SELECT (t.start_due, t.finish_due, d.finish_warn)::text FROM tandem.task AS t JOIN tandem.task_deadline AS d ON d.task_id = t.id WHERE t.id = made.id),
          (SELECT (tandem.due_time(t.created_at, '30 minutes', 'office'), tandem.due_time(t.created_at, '8 hours', 'office'), tandem.due_time(t.created_at, '4 hours', 'office'))::text FROM tandem.task AS t WHERE t.id = made.id),
          'its tasks are due and warned of in them') FROM (SELECT pg_temp.make('desk') AS id OFFSET 0) AS made;
SELECT throws_ok($$SELECT tandem.drop_sla_calendar('office')$$, '2BP01', NULL, 'a calendar in use stays');

-- --- breaches, by tick()
SELECT tandem.sla_policy('job', '*', '10 minutes', '20 minutes', 0.5, 'escalated') \g /dev/null
SELECT pg_temp.make('job') AS id \gset
SELECT is(pg_temp.status(:'id'), 'SLA_PENDING', 'a new task is pending');
SELECT pg_temp.age(:'id', '6 minutes') \g /dev/null
SELECT is(pg_temp.status(:'id'), 'SLA_AT_RISK', 'after half of its time it is at risk, also if nobody has looked');
SELECT is((SELECT array_agg(did) FROM tandem.tick()), '{"deadlines: 0 breaches, 1 warnings"}', 'tick() warns');
SELECT is((SELECT array_agg(did) FROM tandem.tick()), NULL, '... once');
SELECT is(pg_temp.status(:'id'), 'SLA_AT_RISK', 'it stays at risk');
SELECT pg_temp.age(:'id', '5 minutes') \g /dev/null
SELECT is(pg_temp.status(:'id'), 'SLA_BREACHED', 'then it is late, also if nobody has looked');
SELECT is((SELECT did FROM tandem.tick()), 'deadlines: 1 breaches, 1 warnings', 'tick() finds it, and that the second one is near');
SELECT is((SELECT array_agg(did) FROM tandem.tick()), NULL, '... once');
SELECT results_eq(format('SELECT which, due_at = (SELECT start_due FROM tandem.task WHERE id = %L), detected_at >= due_at, delay > interval ''1 minute'', escalated_to, state, landed_at FROM tandem.sla_breaches WHERE task_id = %1$L', :'id'),
                  $$VALUES ('start', true, true, true, 'escalated', 'escalated', NULL::timestamptz)$$, 'the breach, and the task escalated');
SELECT is((SELECT (state, version, priority)::text FROM tandem.task WHERE id = :'id'), '(escalated,2,20)', 'a change like any other, and the task is claimed earlier');
SELECT is((SELECT array_agg(kind ORDER BY seq) FROM tandem.event WHERE task_id = :'id'), '{task_create,sla_at_risk,sla_escalation,sla_breach,sla_at_risk}', 'all of it is in the record');
SELECT ok(pg_temp.cas(:'id', 'claimed', 'running'), 'somebody begins at last');
SELECT pg_temp.age(:'id', '10 minutes') \g /dev/null
SELECT ok(pg_temp.cas(:'id', 'done'), 'a late result lands');
SELECT is((SELECT finish_due IS NOT NULL FROM tandem.task_deadline WHERE task_id = :'id'), true, 'its deadline waits to be settled');
SELECT is((SELECT did FROM tandem.tick()), 'deadlines: 1 breaches, 0 warnings', 'and that it was late is found, though it is done');
SELECT results_eq(format('SELECT which, escalated_to, state, landed_at = (SELECT finished_at FROM tandem.task WHERE id = task_id), late_by > ''0'' FROM tandem.sla_breaches WHERE task_id = %L AND which = ''finish''', :'id'),
                  $$VALUES ('finish', NULL, 'done', true, true)$$, 'what has ended is not escalated');
SELECT is((SELECT count(*) FROM tandem.task_deadline WHERE task_id = :'id'), 0::bigint, 'nothing is due any more');
SELECT pg_temp.make('job') AS id \gset
SELECT ok(pg_temp.cas(:'id', 'running'), 'one that begins in time');
SELECT is((SELECT (start_warn, start_due)::text FROM tandem.task_deadline WHERE task_id = :'id'), '(,)', '... has no start to wait for');
SELECT is(pg_temp.status(:'id'), 'SLA_PENDING', '... and its finish is pending');
SELECT ok(pg_temp.cas(:'id', 'done'), '... and ends');
SELECT is(pg_temp.status(:'id'), 'SLA_MET', '... has met its SLA');
SELECT is((SELECT count(*) FROM tandem.task_deadline WHERE task_id = :'id'), 0::bigint, '... and no row of deadlines');
SELECT pg_temp.make('job') AS id \gset
SELECT pg_temp.age(:'id', '11 minutes'), pg_temp.cas(:'id', 'running', 'done') \g /dev/null
SELECT is(pg_temp.status(:'id'), 'SLA_BREACHED', 'one that began late was late, though it is done');
SELECT is((SELECT did FROM tandem.tick()), 'deadlines: 1 breaches, 0 warnings', 'tick() says so');
SELECT pg_temp.make('job') AS id \gset
SELECT pg_temp.age(:'id', '30 minutes') \g /dev/null
INSERT INTO tandem.sla_breach SELECT id, 'start', start_due, start_due, kind, severity, tenant FROM tandem.task WHERE id = :'id';
SELECT is((SELECT did FROM tandem.tick()), 'deadlines: 1 breaches, 0 warnings', 'a breach that is known, from a dump, is not made again');
SELECT is((SELECT count(*) FROM tandem.sla_breaches WHERE task_id = :'id'), 2::bigint, 'each once');
SELECT is((SELECT jsonb_agg(b) FROM (SELECT t.id FROM tandem.task AS t WHERE (coalesce(t.started_at, t.finished_at, clock_timestamp()) > t.start_due)
             AND NOT EXISTS (SELECT FROM tandem.sla_breach AS x WHERE x.task_id = t.id AND x.which = 'start')) AS b), NULL, 'breaches = late tasks: starts');
SELECT is((SELECT jsonb_agg(b) FROM (SELECT t.id FROM tandem.task AS t WHERE (coalesce(t.finished_at, clock_timestamp()) > t.finish_due)
             AND NOT EXISTS (SELECT FROM tandem.sla_breach AS x WHERE x.task_id = t.id AND x.which = 'finish')) AS b), NULL, 'breaches = late tasks: finishes');
INSERT INTO tandem.task_deadline (task_id, finish_due, lease_due) VALUES (gen_random_uuid(), '2000-01-02', 'infinity'), (gen_random_uuid(), 'infinity', '-infinity');
SELECT is((SELECT array_agg(did) FROM tandem.tick()), NULL, 'a deadline without its task is left alone');

-- --- the query of dashboards, unchanged; tenants; rights
SET search_path = public, tandem;
SELECT lives_ok($$SELECT COUNT(*), SUM(CASE WHEN sla_status = 'SLA_MET' THEN 1 ELSE 0 END) FROM emergency_response_metrics WHERE created_at > NOW() - INTERVAL '1 hour'$$, 'the dashboards'' query');
RESET search_path;
SELECT tandem.sla_policy('*', '*', NULL, '1 hour') \g /dev/null
SELECT id FROM tandem.task_create('any', tenant => 'acme') \gset
SELECT pg_temp.age(:'id', '2 hours') \g /dev/null
SELECT is((SELECT did FROM tandem.tick()), 'deadlines: 1 breaches, 0 warnings', 'another tenant''s task is late');
CREATE ROLE sla_viewer; CREATE ROLE sla_operator; CREATE ROLE sla_stranger;
SELECT tandem.grant_role('sla_viewer', 'viewer'), tandem.grant_role('sla_operator', 'operator') \g /dev/null
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC; GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC;
SET ROLE sla_viewer;
SELECT is((SELECT count(*) > 0 FROM tandem.emergency_response_metrics WHERE tenant = ''), true, 'a viewer sees the metrics');
SELECT is((SELECT count(*) FROM tandem.sla_breaches WHERE tenant = 'acme'), 1::bigint, '... the breaches, of all tenants');
SET tandem.tenant = 'acme';
SELECT is((SELECT array_agg(DISTINCT tenant) FROM tandem.emergency_response_metrics), '{acme}', '... or of one');
SELECT is((SELECT array_agg(DISTINCT tenant) FROM tandem.sla_breaches), '{acme}', '... or of one');
RESET tandem.tenant;
SELECT throws_ok($$SELECT tandem.sla_policy('*', 'low', NULL, '1 hour')$$, '42501', NULL, '... and makes no policy');
SET ROLE sla_operator;
SELECT lives_ok($$SELECT tandem.sla_policy('*', 'low', NULL, '1 hour'), tandem.sla_calendar('o', 'UTC', '{"mon": "08:00-17:00"}'), tandem.drop_sla_policy('*', 'low'), tandem.drop_sla_calendar('o')$$, 'an operator does');
SELECT throws_ok($$SELECT tandem.deadline_round()$$, '42501', NULL, '... and settles nothing by hand');
SET ROLE sla_stranger;
SELECT throws_ok($$SELECT * FROM tandem.sla_breaches$$, '42501', NULL, 'a stranger sees nothing');
SELECT throws_ok($$SELECT * FROM tandem.emergency_response_metrics$$, '42501', NULL, '... nor that');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
