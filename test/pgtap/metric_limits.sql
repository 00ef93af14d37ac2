-- What follows when a metric reaches a limit: which limit it is, whether the run is rolled back or paused, where it is not, and that counts begin
-- anew when people let the run go on. All in one transaction, which the worker does not see.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
LOCK TABLE tandem.metric_reading, tandem.alert_watch IN SHARE ROW EXCLUSIVE MODE; -- the worker keeps out of it
CREATE SCHEMA ml; CREATE SCHEMA mn;
CREATE TABLE ml.t (id integer PRIMARY KEY); CREATE TABLE mn.t (id integer PRIMARY KEY);
CREATE TABLE ml.now (value text, samples bigint); INSERT INTO ml.now VALUES ('1', 1000);
CREATE FUNCTION ml.value() RETURNS text STABLE LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT n.value FROM ml.now AS n) = 'error' THEN RAISE EXCEPTION 'no answer' USING ERRCODE = 'P0123'; END IF;
    RETURN (SELECT n.value FROM ml.now AS n);
END $$;
SELECT FROM tandem.create_run('m', 'ml', 'mn', steps => '{50,100}', hold => '1 hour');
SELECT FROM tandem.map_table('m', 'ml.t', 'mn.t');
SELECT FROM tandem.set_option('m', 'validate_every', '1 hour');
SELECT FROM tandem.start('m');

CREATE FUNCTION pg_temp.stage(stage text, phase text, weight integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tandem.run AS r SET stage = $1, phase = $2, weight = $3 WHERE r.name = 'm';
    UPDATE tandem.run_domain AS d SET weight = $3 WHERE d.run_id = (SELECT r.id FROM tandem.run AS r WHERE r.name = 'm');
END $$;
-- The run in that state with one metric, measured with one value after the other; what became of it.
CREATE FUNCTION pg_temp.measured(
    "values" text[], critical boolean DEFAULT false, dry_run boolean DEFAULT false, stage text DEFAULT 'live', phase text DEFAULT 'progressing', weight integer DEFAULT 50,
    failure_limit integer DEFAULT 3, inconclusive_limit integer DEFAULT 3, error_limit integer DEFAULT 3, total_failure_limit integer DEFAULT NULL, keep boolean DEFAULT false)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v text;
    said text;
BEGIN
    PERFORM pg_temp.stage(stage, phase, weight);
    IF NOT EXISTS (SELECT FROM tandem.metric) THEN
        PERFORM tandem.add_metric('m', 'x', 'SELECT ml.value(), samples FROM ml.now', 'result < 10', 'result >= 20', every => '0', critical => critical, dry_run => dry_run, failure_limit => failure_limit,
                                  inconclusive_limit => inconclusive_limit, error_limit => error_limit, total_failure_limit => total_failure_limit);
    END IF;
    FOREACH v IN ARRAY "values" LOOP
        UPDATE ml.now SET value = v;
        PERFORM tandem.sample_metrics((SELECT r.id FROM tandem.run AS r WHERE r.name = 'm'));
    END LOOP;
    SELECT format('%s %s %s', r.phase, r.weight, coalesce(m.breached, '-')) INTO said FROM tandem.runs AS r, tandem.metrics AS m WHERE r.run = 'm' AND m.run = 'm' AND m.metric = 'x' AND NOT m.builtin;
    IF NOT keep THEN
        PERFORM tandem.drop_metric('m', 'x');
    END IF;
    RETURN said;
END $$;

-- --- the limits
SELECT is(pg_temp.measured('{30,30}'), 'progressing 50 -', 'two fails are none');
SELECT is(pg_temp.measured('{30,30,1,30,30}'), 'progressing 50 -', 'a pass in between');
SELECT is(pg_temp.measured('{30,30,30}'), 'paused 50 failure_limit', 'three pause the run');
SELECT is(pg_temp.measured('{30,15,30,error,30}'), 'paused 50 failure_limit', 'what is inconclusive in between says nothing');
SELECT is(pg_temp.measured('{30,1,30,1,30,1,30}', total_failure_limit => 4), 'paused 50 total_failure_limit', 'all together');
SELECT is(pg_temp.measured('{30,1,30,1,30,1}', total_failure_limit => 4), 'progressing 50 -', '... but not before');
SELECT is(pg_temp.measured('{15,15}'), 'progressing 50 -', 'two that are inconclusive are none');
SELECT is(pg_temp.measured('{15,15,15}'), 'paused 50 inconclusive_limit', 'three pause the run');
SELECT is(pg_temp.measured('{15,15,error,error,15}'), 'paused 50 inconclusive_limit', 'errors in between are not counted, and end nothing');
SELECT is(pg_temp.measured('{15,1,15,30,15}'), 'progressing 50 -', 'a pass or a fail ends them');
SELECT is(pg_temp.measured('{error,error}'), 'progressing 50 -', 'two errors are none');
SELECT is(pg_temp.measured('{error,error,error}'), 'paused 50 error_limit', 'three pause the run');
SELECT is(pg_temp.measured('{error,error,15,error,error}', inconclusive_limit => 2), 'progressing 50 -', 'any answer ends them');
SELECT is(pg_temp.measured('{error,error,error,error}', error_limit => 5, inconclusive_limit => 1), 'progressing 50 -', 'an error is not inconclusive');

-- --- a critical metric
SELECT is(pg_temp.measured('{30,30,30}', critical => true), 'degraded 0 failure_limit', 'that fails rolls back');
SELECT results_eq($$SELECT domain, automatic, reason, from_weight, evidence ->> 'breached', evidence ->> 'metric', (evidence ->> 'value')::float8 FROM tandem.rollback_proofs WHERE run = 'm'$$,
                  $$VALUES (NULL::text, true, 'metric x: result 30 meets the failure condition: result >= 20', 50, 'failure_limit', 'x', 30::float8)$$, '... with its evidence');
SELECT is((SELECT array_agg(kind ORDER BY seq) FROM (SELECT kind, seq FROM tandem.events('m') WHERE kind IN ('metric_failed', 'rollback') ORDER BY seq DESC LIMIT 2) AS e), '{metric_failed,rollback}', '... which are events');
SELECT is(pg_temp.measured('{30,30,30}', critical => true, phase => 'paused'), 'degraded 0 failure_limit', 'also while the run is paused');
SELECT is(pg_temp.measured('{30,30,30}', critical => true, phase => 'waiting_approval'), 'degraded 0 failure_limit', '... or waits for approval');
SELECT is(pg_temp.measured('{30,30,30}', critical => true, stage => 'shadow', weight => 0), 'degraded 0 failure_limit', '... or is in shadow');
SELECT is(pg_temp.measured('{30,30}', critical => true, phase => 'waiting_approval'), 'waiting_approval 50 -', 'but not before its limit');
SELECT is(pg_temp.measured('{1,30,30,1,30,30,15}', critical => true, phase => 'paused'), 'paused 50 -', '... in any phase');
SELECT is(pg_temp.measured('{15,15,15}', critical => true), 'paused 50 inconclusive_limit', 'where it cannot tell it pauses');
SELECT is(pg_temp.measured('{error,error,error}', critical => true), 'paused 50 error_limit', '... or cannot be asked');
SELECT is(pg_temp.measured('{1,30,1,30}', critical => true, total_failure_limit => 2), 'degraded 0 total_failure_limit', 'fails all together roll back');

-- --- where nothing follows
SELECT is(pg_temp.measured('{30,30,30,30}', critical => true, dry_run => true), 'progressing 50 failure_limit', 'a dry run reports only');
SELECT is(pg_temp.measured('{15,15,15,error,error,error}', dry_run => true), 'progressing 50 error_limit', '... whatever it finds');
SELECT is(pg_temp.measured('{30,30,30,30}', critical => true, stage => 'dualwrite', weight => 0), 'progressing 0 failure_limit', 'so does any metric while rows are copied');
SELECT is(pg_temp.measured('{30,30,30}', critical => true, stage => 'shadow', phase => 'degraded', weight => 0), 'degraded 0 failure_limit', 'a run that is back stays as it is');
SELECT is((SELECT count(*) FROM tandem.rollback_proofs WHERE run = 'm'), 5::bigint, '... without another rollback');

-- --- how it goes back, and when somebody hears of it
SELECT FROM tandem.set_option('m', 'rollback_strategy', 'integrity');
SELECT is(pg_temp.measured('{30,30,30}', critical => true), 'degraded 0 failure_limit', 'a run with a strategy of its own');
SELECT is((SELECT strategy FROM tandem.rollback_proofs WHERE run = 'm' ORDER BY proof DESC LIMIT 1), 'integrity', '... goes back by it');
SELECT FROM tandem.set_option('m', 'rollback_strategy', 'emergency');
CREATE FUNCTION pg_temp.commits(v text, critical boolean DEFAULT false) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    PERFORM pg_temp.stage('live', 'progressing', 50);
    PERFORM tandem.add_metric('m', 'x', 'SELECT ml.value(), samples FROM ml.now', 'result < 10', 'result >= 20', every => '0', critical => critical, failure_limit => 1, error_limit => 2);
    UPDATE ml.now SET value = v;
    PERFORM set_config('synchronous_commit', 'on', true);
    PERFORM tandem.execute_sampling((SELECT r.id FROM tandem.run AS r WHERE r.name = 'm'), 'x', false);
    found := current_setting('synchronous_commit');
    PERFORM set_config('synchronous_commit', 'on', true), tandem.drop_metric('m', 'x');
    RETURN format('%s: %s', (SELECT r.phase FROM tandem.run AS r WHERE r.name = 'm'), found);
END $$;
SELECT is(pg_temp.commits('1'), 'progressing: off', 'a measurement may be lost in a crash, and is made again');
SELECT is(pg_temp.commits('error'), 'progressing: off', '... whatever it says');
SELECT is(pg_temp.commits('30'), 'paused: on', 'a pause is there to stay before anybody hears of it');
SELECT is(pg_temp.commits('30', critical => true), 'degraded: local', '... so is a rollback, which waits for no standby');
SELECT set_config('synchronous_commit', 'off', true) \g /dev/null
SELECT pg_temp.stage('live', 'progressing', 50);
SELECT FROM tandem.rollback('m', 'by hand');
SELECT is(current_setting('synchronous_commit'), 'local', '... by hand, too, where others'' commits may be lost');
SET LOCAL synchronous_commit = 'on';

-- --- what is acted on at every measurement
SELECT is(pg_temp.measured('{30,30,30,30}', critical => true, stage => 'dualwrite', weight => 0, keep => true), 'progressing 0 failure_limit', 'a limit that was reached while rows were copied');
SELECT is(pg_temp.measured('{30}', stage => 'shadow', weight => 0), 'degraded 0 failure_limit', '... counts as soon as it matters');
SELECT is(pg_temp.measured('{30,30,30}', keep => true), 'paused 50 failure_limit', 'a run that was paused');
SELECT is((SELECT phase FROM tandem.resume('m', 'looked at it')), 'progressing', '... and resumed');
SELECT is(pg_temp.measured('{30,30}', keep => true), 'progressing 50 -', '... has its limit anew');
SELECT is(pg_temp.measured('{30}', keep => true), 'paused 50 failure_limit', '... and no more than that');
SELECT pg_temp.stage('shadow', 'degraded', 0);
UPDATE tandem.run SET phase = 'progressing' WHERE name = 'm'; -- as retry() does
SELECT is(pg_temp.measured('{30,15,15,error,error}'), 'progressing 50 -', 'so has one that was retried, of all limits');
SELECT results_eq($$SELECT kind FROM tandem.events('m') WHERE kind IN ('metric_failed', 'metric_error', 'metric_inconclusive', 'pause') ORDER BY seq LIMIT 2$$, $$VALUES ('metric_failed'), ('pause')$$, 'limits and pauses are events');
SELECT is((SELECT array_agg(DISTINCT kind ORDER BY kind) FROM tandem.events('m') WHERE kind LIKE 'metric%'), '{metric_error,metric_failed,metric_inconclusive}', '... of their kind');

-- --- bad input
SELECT throws_ok(format('SELECT tandem.add_metric(''m'', ''y'', ''SELECT 1'', ''true'', %s)', arguments), state, NULL, arguments)
  FROM (VALUES ('error_limit => 0', '22023'), ('error_limit => NULL', '22004'), ('total_failure_limit => 0', '22023'), ('total_failure_limit => -1', '22023')) AS v (arguments, state);

SELECT * FROM finish();
ROLLBACK;
