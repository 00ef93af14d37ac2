-- The ledger of accepted differences, their severity, and who may accept.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE ROLE run_owner LOGIN; CREATE ROLE other_operator; CREATE ROLE oncall_role; CREATE ROLE watcher; CREATE ROLE stranger;
SELECT tandem.grant_role('run_owner', 'operator'), tandem.grant_role('other_operator', 'operator'), tandem.grant_role('oncall_role', 'oncall'), tandem.grant_role('watcher', 'viewer') \g /dev/null
GRANT CREATE ON DATABASE :DBNAME TO run_owner;
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC;
CREATE FUNCTION pg_temp.ticks(n integer) RETURNS void LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..n LOOP PERFORM tandem.tick(); END LOOP; END $$;
-- Behind the mirror's back
CREATE FUNCTION pg_temp.silently(statement text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    ALTER TABLE b.t DISABLE TRIGGER USER;
    EXECUTE statement;
    ALTER TABLE b.t ENABLE ALWAYS TRIGGER tandem_mirror_1;
END $$;

SET ROLE run_owner;
CREATE SCHEMA a; CREATE SCHEMA b;
CREATE TABLE a.t (id integer PRIMARY KEY, v integer, mail text, note text); CREATE TABLE b.t (id bigint PRIMARY KEY, v bigint, mail text, note text);
INSERT INTO a.t SELECT i, i, 'm' || i, 'n' || i FROM generate_series(1, 100) AS i;
SELECT tandem.create_run('r', 'a', 'b', steps => '{10,50,100}', hold => '1 hour') \g /dev/null
SELECT tandem.create_policy('gossip', '{"severity": "low"}') \g /dev/null
SELECT tandem.map_table('r', 'a.t', 'b.t', rules => '{"mail": {"severity": "critical"}, "note": {"policy": "gossip"}}', domain => 'people') \g /dev/null
SELECT tandem.set_option('r', 'max_stored_differences', '3'), tandem.set_option('r', 'validate_every', '0 seconds') \g /dev/null
SELECT tandem.start('r') \g /dev/null
SELECT pg_temp.ticks(4) \g /dev/null
SELECT results_eq($$SELECT stage, phase FROM tandem.status('r')$$, $$VALUES ('shadow', 'progressing')$$, 'a run in shadow');

-- severity
SELECT pg_temp.silently($$UPDATE b.t SET note = 'x' WHERE id = 1; UPDATE b.t SET note = 'x', v = -2 WHERE id = 2; UPDATE b.t SET mail = 'x', note = 'x' WHERE id = 3; DELETE FROM b.t WHERE id = 4; INSERT INTO b.t VALUES (0, 0)$$);
CREATE TEMP TABLE first_found AS SELECT * FROM tandem.validate('r');
SELECT results_eq($$SELECT equal, clean, missing, extra, changed, accepted, severities FROM first_found$$,
                  $$VALUES (false, false, 1::bigint, 1::bigint, 3::bigint, 0::bigint, '{"low": 1, "high": 1, "critical": 3}'::jsonb)$$, 'exact counts by severity, also beyond what is stored');
SELECT is((SELECT phase FROM tandem.status('r')), 'degraded', '... and the run rolled back');
SELECT results_eq($$SELECT key ->> 'id', kind, severity, status, domain, accepted_by FROM tandem.differences WHERE run = 'r' AND purpose = 'validate' ORDER BY id$$,
                  $$VALUES ('0', 'extra', 'critical', 'open', 'people', NULL::name), ('1', 'changed', 'low', 'open', 'people', NULL), ('2', 'changed', 'high', 'open', 'people', NULL)$$, 'the first differences with their severity');
SELECT tandem.set_option('r', 'max_stored_differences', '1000') \g /dev/null
SELECT is((SELECT severities FROM tandem.validate('r')), '{"low": 1, "high": 1, "critical": 3}', 'the same where all are stored');
CREATE TEMP TABLE found AS SELECT (key ->> 'id')::integer AS key, max(id) AS id FROM tandem.differences WHERE run = 'r' GROUP BY 1;

-- what is refused
SELECT throws_ok($$SELECT tandem.accept_difference(-1, 'why')$$, '42704', NULL, 'no such difference');
SELECT throws_ok($$SELECT tandem.accept_difference(NULL, 'why')$$, '42704', NULL, 'no difference');
SELECT throws_ok($$SELECT tandem.accept_difference(id, ' ') FROM found LIMIT 1$$, '22004', NULL, 'no reason');
SELECT throws_ok($$SELECT tandem.accept_difference(id, NULL) FROM found LIMIT 1$$, '22004', NULL, 'no reason at all');
SELECT throws_ok($$SELECT tandem.accept_difference(id, 'why', now() - interval '1 day') FROM found LIMIT 1$$, '22023', NULL, 'a time that has passed');
RESET ROLE;
GRANT SELECT ON found, first_found TO PUBLIC;
SET ROLE stranger;
SELECT throws_ok($$SELECT tandem.accept_difference(1, 'why')$$, '42501', NULL, 'a stranger accepts nothing');
SELECT throws_ok($$INSERT INTO tandem.acceptance (mapping_id) VALUES (1)$$, '42501', NULL, '... nor by hand');
RESET ROLE;
SET ROLE watcher;
SELECT throws_ok($$SELECT tandem.accept_difference(1, 'why')$$, '42501', NULL, 'a viewer accepts nothing');
SELECT is((SELECT count(*) FROM tandem.accepted_differences), 0::bigint, '... and sees the ledger');
RESET ROLE;
SET ROLE oncall_role;
SELECT throws_ok($$SELECT tandem.withdraw_acceptance(1)$$, '42501', NULL, 'on-call withdraws nothing');
RESET ROLE;

-- accepting
SET ROLE run_owner;
SELECT results_eq($$SELECT run, kind, a.key, columns, legacy, new, state, accepted_by, reason, until, difference = f.id FROM found AS f, tandem.accept_difference(f.id, 'old gossip') AS a WHERE f.key = 1$$,
                  $$VALUES ('r'::text, 'changed', '{"id": 1}'::jsonb, '{note}'::text[], '{"note": "n1"}'::jsonb, '{"note": "x"}'::jsonb, 'in force', 'run_owner'::name, 'old gossip', NULL::timestamptz, true)$$,
                  'the owner accepts a difference');
RESET ROLE;
SET ROLE other_operator;
SELECT lives_ok($$SELECT tandem.accept_difference(id, 'deleted by request', 'tomorrow') FROM found WHERE key = 4$$, 'another operator another');
RESET ROLE;
SET ROLE run_owner;
SELECT results_eq($$SELECT kind, reason, evidence -> 'key' FROM tandem.events('r') WHERE kind = 'accept_difference' ORDER BY seq LIMIT 1$$,
                  $$VALUES ('accept_difference', 'old gossip', '{"id": 1}'::jsonb)$$, 'an event says so');
SELECT results_eq($$SELECT d.status, d.accepted_by, d.accepted_why, d.accepted_until > now() FROM tandem.differences AS d JOIN found AS f ON f.id = d.id WHERE f.key IN (0, 4) ORDER BY f.key$$,
                  $$VALUES ('open', NULL::name, NULL, NULL::boolean), ('accepted', 'other_operator', 'deleted by request', true)$$, 'the view shows by whom, why, until when');
SELECT results_eq($$SELECT equal, clean, missing, extra, changed, accepted FROM tandem.validate('r')$$, $$VALUES (false, false, 1::bigint, 1::bigint, 3::bigint, 2::bigint)$$, 'counts stay as found; two are accepted');
SELECT is((SELECT differences FROM tandem.status('r')), 3::bigint, 'three are left');
SELECT is((SELECT array_agg(key ->> 'id' ORDER BY id) FROM tandem.differences WHERE comparison_id = (SELECT max(comparison_id) FROM tandem.differences)), '{0,2,3}', 'only those are stored');
SELECT throws_ok($$SELECT tandem.retry('r')$$, '55000', 'run "r" is not ready: its sides differ in 3 row(s)', 'retry counts them');
SELECT tandem.accept_difference(id, 'all right') FROM found WHERE key NOT IN (1, 4) \g /dev/null
SELECT results_eq($$SELECT clean, accepted FROM tandem.validate('r')$$, $$VALUES (true, 5::bigint)$$, 'all accepted: clean');
SELECT is((SELECT phase FROM tandem.retry('r')), 'progressing', 'the run goes on');
SELECT pg_temp.ticks(2) \g /dev/null
SELECT is((SELECT phase FROM tandem.status('r')), 'progressing', 'the guard lets it be');
SELECT is((SELECT weight FROM tandem.promote('r')), 10, 'and it is promoted');
SELECT is((SELECT count(*) FROM tandem.accepted_differences WHERE seen_at IS NULL), 0::bigint, 'the ledger knows which still stand');

-- judged on all differences, not on those that are stored
SELECT tandem.set_option('r', 'max_stored_differences', '1') \g /dev/null
SELECT results_eq($$SELECT clean, accepted, severities FROM tandem.validate('r')$$, $$VALUES (true, 5::bigint, '{"low": 1, "high": 1, "critical": 3}'::jsonb)$$, 'more accepted than are stored');
SELECT pg_temp.silently($$UPDATE b.t SET v = -1 WHERE id > 90$$);
SELECT results_eq($$SELECT clean, accepted, changed, severities FROM tandem.validate('r')$$, $$VALUES (false, 5::bigint, 13::bigint, '{"low": 1, "high": 11, "critical": 3}'::jsonb)$$, 'more differences than are looked at');
SELECT is((SELECT differences FROM tandem.status('r')), 10::bigint, 'ten count');
SELECT is((SELECT array_agg(key ->> 'id' ORDER BY id) FROM tandem.differences WHERE comparison_id = (SELECT max(comparison_id) FROM tandem.differences)), '{91}', 'the first of them is stored');
SELECT is((SELECT phase FROM tandem.status('r')), 'degraded', '... and the run rolled back');
SELECT pg_temp.ticks(1) \g /dev/null
SELECT results_eq($$SELECT differences, accepted, unexplained FROM tandem.rollback_proofs ORDER BY proof DESC LIMIT 1$$, $$VALUES (10::bigint, 5::bigint, 9::bigint)$$, 'its proof too counts what nobody accepted');
SELECT pg_temp.silently($$UPDATE b.t SET v = id WHERE id > 90$$);
SELECT tandem.set_option('r', 'max_stored_differences', '1000'), tandem.retry('r') \g /dev/null
SELECT tandem.rollback('r', 'to see a proof') \g /dev/null
SELECT pg_temp.ticks(1) \g /dev/null
SELECT results_eq($$SELECT verdict, differences, accepted FROM tandem.rollback_proofs ORDER BY proof DESC LIMIT 1$$, $$VALUES ('clean', 0::bigint, 5::bigint)$$, 'a proof is clean where all is accepted');
SELECT tandem.retry('r') \g /dev/null

-- an accepted difference is that difference
SELECT pg_temp.silently($$UPDATE b.t SET note = 'y' WHERE id = 1$$);
SELECT is((SELECT accepted FROM tandem.validate('r')), 4::bigint, 'another value: another difference');
SELECT pg_temp.silently($$UPDATE b.t SET note = 'x' WHERE id = 1$$);
SELECT is((SELECT accepted FROM tandem.validate('r')), 5::bigint, 'the value that was accepted');
SELECT pg_temp.silently($$UPDATE b.t SET v = -1 WHERE id = 1$$);
SELECT is((SELECT accepted FROM tandem.validate('r')), 4::bigint, 'another column more: another difference');
SELECT pg_temp.silently($$UPDATE b.t SET v = 1 WHERE id = 1$$);
SELECT pg_temp.silently($$DELETE FROM b.t WHERE id = 1$$);
SELECT is((SELECT accepted FROM tandem.validate('r')), 4::bigint, 'another kind: another difference');
SELECT pg_temp.silently($$INSERT INTO b.t VALUES (1, 1, 'm1', 'x')$$);
SELECT results_eq($$SELECT clean FROM tandem.validate('r')$$, $$VALUES (true)$$, 'as it was');

-- withdrawn, expired, replaced
SELECT results_eq($$SELECT state, withdrawn_by, withdrawn_why FROM tandem.withdraw_acceptance((SELECT acceptance FROM tandem.accepted_differences WHERE key ->> 'id' = '2'), 'a mistake')$$,
                  $$VALUES ('withdrawn', 'run_owner'::name, 'a mistake')$$, 'an acceptance is withdrawn');
SELECT results_eq($$SELECT clean, accepted FROM tandem.validate('r')$$, $$VALUES (false, 4::bigint)$$, '... and counts again');
SELECT throws_ok($$SELECT tandem.withdraw_acceptance((SELECT acceptance FROM tandem.accepted_differences WHERE key ->> 'id' = '2'))$$, '55000', NULL, '... once');
SELECT throws_ok($$SELECT tandem.withdraw_acceptance(-1)$$, '42704', NULL, 'no such acceptance');
SELECT throws_ok($$SELECT tandem.withdraw_acceptance(NULL)$$, '42704', NULL, 'no acceptance');
SELECT lives_ok($$SELECT tandem.accept_difference(id, 'for a moment', clock_timestamp() + interval '3 seconds') FROM found WHERE key = 2$$, 'accepted for a moment');
SELECT is((SELECT accepted FROM tandem.validate('r')), 5::bigint, '... which counts');
SELECT pg_sleep(3.1) \g /dev/null
SELECT is((SELECT accepted FROM tandem.validate('r')), 4::bigint, '... until it has passed');
SELECT is((SELECT state FROM tandem.accepted_differences WHERE reason = 'for a moment'), 'expired', '... as the ledger says');
SELECT lives_ok($$SELECT tandem.accept_difference(id, 'longer') FROM found WHERE key = 2$$, 'a later acceptance');
SELECT lives_ok($$SELECT tandem.accept_difference(id, 'longest') FROM found WHERE key = 2$$, '... and a later one');
SELECT results_eq($$SELECT state, reason FROM tandem.accepted_differences WHERE key ->> 'id' = '2' ORDER BY acceptance$$,
                  $$VALUES ('withdrawn', 'all right'), ('withdrawn', 'for a moment'), ('withdrawn', 'longer'), ('in force', 'longest')$$, 'replace the earlier');
SELECT results_eq($$SELECT clean, accepted FROM tandem.validate('r')$$, $$VALUES (true, 5::bigint)$$, '... and count once');

-- called in somebody else's name
CREATE FUNCTION a.accept_all() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM tandem.accept_difference(d.id, 'stolen') FROM tandem.differences AS d; RETURN NEW; END $$;
CREATE TRIGGER zz BEFORE UPDATE ON b.t FOR EACH ROW EXECUTE FUNCTION a.accept_all();
RESET ROLE;
UPDATE a.t SET v = v + 1 WHERE id = 50;
SELECT is((SELECT count(*) FROM tandem.accepted_differences WHERE reason = 'stolen'), 0::bigint, 'no acceptance in the name of whoever writes');
SELECT is((SELECT sqlstate FROM tandem.mirror_failures WHERE run = 'r' LIMIT 1), '42501', '... the trigger was refused');

SELECT * FROM finish();
ROLLBACK;
