-- Domains beside each other: one that is off or went back alone holds nobody up, and nobody takes it back again; the others stay guarded, and so
-- does one that was taken up again. By tick() alone.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE SCHEMA a; CREATE SCHEMA b;
CREATE ROLE domain_signer;
SELECT tandem.grant_role('domain_signer', 'approver') \g /dev/null
CREATE FUNCTION pg_temp.ticks(n integer) RETURNS void LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..n LOOP PERFORM tandem.tick(); END LOOP; END $$;
-- One row of b differs, or not any more, behind the mirror's back.
CREATE FUNCTION pg_temp.spoil(relation text, v integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name name := (SELECT t.tgname FROM pg_trigger AS t WHERE t.tgrelid = relation::regclass AND t.tgname LIKE 'tandem_mirror%' LIMIT 1);
BEGIN
    EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', relation, name);
    EXECUTE format('UPDATE %s SET v = %s WHERE id = 1', relation, v);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', relation, name);
    PERFORM pg_temp.ticks(4); -- a round may be for a proof
END $$;
CREATE FUNCTION pg_temp.sign() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('role', 'domain_signer', true);
    PERFORM tandem.sign_off('r', g.gate, 'go', 'seen') FROM tandem.gates AS g WHERE g.run = 'r';
    PERFORM set_config('role', 'none', true);
END $$;
CREATE FUNCTION pg_temp.state() RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', s.stage, s.phase, s.weight, (SELECT string_agg(format('%s=%s%s', d.domain, d.weight, CASE WHEN d.enabled THEN '' ELSE ' off' END), ' ' ORDER BY d.domain) FROM tandem.domains AS d WHERE d.run = 'r'))
      FROM tandem.status('r') AS s $$;

SELECT tandem.create_run('r', 'a', 'b', steps => '{50,100}', hold => '1 hour') \g /dev/null
DO $$ BEGIN FOR d IN 1..3 LOOP
    EXECUTE format('CREATE TABLE a.t%1$s (id integer PRIMARY KEY, v integer); CREATE TABLE b.t%1$s (id bigint PRIMARY KEY, v bigint); INSERT INTO a.t%1$s SELECT i, i FROM generate_series(1, 50) AS i', d);
    PERFORM tandem.map_table('r', format('a.t%s', d)::regclass, format('b.t%s', d)::regclass, domain => 'd' || d);
END LOOP; END $$;
SELECT tandem.set_option('r', 'validate_every', '0 seconds'), tandem.set_option('r', 'guard_every', '0 seconds'), tandem.start('r') \g /dev/null
SELECT pg_temp.ticks(8) \g /dev/null
SELECT tandem.add_gate('r', 'half', 'live', 50), tandem.add_gate('r', 'all', 'live', 100) \g /dev/null
SELECT pg_temp.sign(), tandem.promote('r', 50) \g /dev/null
SELECT is(pg_temp.state(), 'live progressing 50 d1=50 d2=50 d3=50', 'a run with three domains');

-- --- off
SELECT tandem.add_metric('r', 'one', 'SELECT 1', 'result = 1', min_samples => 0, every => '0 seconds'), tandem.add_guard('r', 'd3 is slow', 'one > 0', severity => 2, domain => 'd3') \g /dev/null
SELECT tandem.set_domain('r', 'd3', false, 'it is slow') \g /dev/null
SELECT pg_temp.spoil('b.t3', -1), pg_temp.ticks(3) \g /dev/null
SELECT is((SELECT m.value FROM tandem.metrics AS m WHERE m.run = 'r' AND m.metric = 'one'), 1::double precision, 'its guard would have what it needs');
SELECT is(pg_temp.state(), 'live progressing 50 d1=50 d2=50 d3=0 off', 'neither its guard nor a difference takes back anything');
SELECT is((SELECT s.differences FROM tandem.status('r') AS s), 0::bigint, '... and it holds nobody up');
SELECT is((SELECT g.status FROM tandem.guards AS g WHERE g.run = 'r' AND g.guard = 'd3 is slow'), 'off', 'its guard is off');
SELECT is((SELECT sum(c.changed) > 0 FROM tandem.comparisons AS c WHERE c.run = 'r'), true, 'the difference was found');
SELECT is((SELECT g.state FROM tandem.gates AS g WHERE g.run = 'r' AND g.gate = 'all'), 'signed', '... and voids no signature');
SELECT throws_ok($$SELECT tandem.rollback('r', 'it is slow', 'd3')$$, '55000', 'domain "d3" of run "r" is switched off', 'there is nothing to roll back');
SELECT throws_ok($$SELECT tandem.rollback('r', 'it is slow', 'd3', dry_run => true)$$, '55000', 'domain "d3" of run "r" is switched off', '... which a dry run says, too');
SELECT throws_ok($$SELECT tandem.set_domain('r', 'd3', true)$$, '55000', NULL, 'it differs, and stays off');
SELECT pg_temp.spoil('b.t3', 1), tandem.drop_guard('r', 'd3 is slow') \g /dev/null

-- --- what binds a promotion binds who takes a domain up again; that somebody watches: isolation/verbs_domain
SELECT tandem.add_check('r', 'sum', 'SELECT 1 FROM a.t1 LIMIT 1', 'SELECT 2', severity => 'critical') \g /dev/null
SELECT tandem.reconcile('r') \g /dev/null
SELECT throws_like($$SELECT tandem.set_domain('r', 'd3', true)$$, '%critical check sum fails%', 'not while a critical check fails');
SELECT tandem.drop_check('r', 'sum') \g /dev/null
SELECT tandem.set_domain('r', 'd3', true, 'it is fast') \g /dev/null
SELECT is(pg_temp.state(), 'live progressing 50 d1=50 d2=50 d3=50', 'on again');

-- --- back alone, two of three, and one taken up again
SELECT tandem.set_option('r', 'rollback_strategy', 'domain') \g /dev/null
SELECT pg_temp.spoil('b.t1', -1) \g /dev/null
SELECT is(pg_temp.state(), 'live degraded 50 d1=0 d2=50 d3=50', 'a difference takes back its domain');
SELECT pg_temp.spoil('b.t2', -1) \g /dev/null
SELECT is(pg_temp.state(), 'live degraded 50 d1=0 d2=0 d3=50', '... and another one its own');
SELECT pg_temp.spoil('b.t1', 1) \g /dev/null
SELECT throws_like($$SELECT tandem.set_domain('r', 'd1', true)$$, '%gate "half" has 0 of 1 approval%', 'a gate that was passed is to be signed again');
SELECT pg_temp.spoil('b.t2', 1), pg_temp.sign() \g /dev/null
SELECT tandem.set_domain('r', 'd1', true, 'mended') \g /dev/null
SELECT is(pg_temp.state(), 'live degraded 50 d1=50 d2=0 d3=50', 'taken up again, beside one that is not');
SELECT is((SELECT e.evidence -> 'guards' FROM tandem.events('r') AS e WHERE e.kind = 'guards_armed' ORDER BY e.seq DESC LIMIT 1), '["any_difference"]', 'with its guard armed');
SELECT is((SELECT array_agg(f.domain) FROM tandem.guard_firings AS f WHERE f.run = 'r' AND f.armed_at IS NULL), '{d2}'::text[], '... and not that of the other');
SELECT pg_temp.spoil('b.t1', -1) \g /dev/null
SELECT is(pg_temp.state(), 'live degraded 50 d1=0 d2=0 d3=50', 'another difference takes it back again');

-- --- a check that takes back all does so while some are back already
SELECT tandem.set_option('r', 'rollback_strategy', 'emergency'), tandem.add_check('r', 'sum', 'SELECT 1', 'SELECT 2', on_fail => 'rollback') \g /dev/null
SELECT tandem.reconcile('r') \g /dev/null
SELECT is(pg_temp.state(), 'shadow degraded 0 d1=0 d2=0 d3=0', 'the last one goes back, too');

-- --- what differs and is not mended is not kept again for each time that it is found
SELECT pg_temp.ticks(8) \g /dev/null
UPDATE tandem.comparison AS c SET started_at = c.started_at - interval '2 hours' FROM tandem.run AS r WHERE r.name = 'r' AND c.run_id = r.id AND c.purpose = 'validate' AND c.epoch = r.epoch;
CREATE TEMP TABLE kept AS SELECT c.id FROM tandem.comparison AS c JOIN tandem.run AS r ON r.id = c.run_id AND c.epoch = r.epoch
 WHERE c.purpose = 'validate' AND EXISTS (SELECT FROM tandem.difference AS d WHERE d.comparison_id = c.id);
SELECT cmp_ok((SELECT count(*) FROM kept), '>=', 2::bigint, 'found more than once');
SELECT pg_temp.ticks(1) \g /dev/null
SELECT results_eq('SELECT count(*), min(d.comparison_id) FROM tandem.difference AS d WHERE d.comparison_id IN (SELECT id FROM kept)', 'SELECT 1::bigint, min(id) FROM kept', 'the first finding stays');
SELECT is((SELECT count(*) FROM tandem.differences AS d WHERE d.run = 'r' AND d.comparison_id > (SELECT max(id) FROM kept)) > 0, true, '... and so does the last');
SELECT finish();
ROLLBACK;
