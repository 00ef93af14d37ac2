-- Gates: who may sign, what a signature counts for and for how long, what a run does that waits for one; rampdown; holds, successes and samples.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE ROLE oscar; CREATE ROLE alice; CREATE ROLE bob; CREATE ROLE twice; CREATE ROLE boss; CREATE ROLE viewer;
SELECT tandem.grant_role('oscar', 'operator'), tandem.grant_role('alice', 'approver'), tandem.grant_role('bob', 'approver'), tandem.grant_role('boss', 'admin'),
       tandem.grant_role('twice', 'operator'), tandem.grant_role('twice', 'approver'), tandem.grant_role('viewer', 'viewer') \g /dev/null
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC; -- pgTAP's own
GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC;
CREATE SCHEMA a; CREATE SCHEMA b;
CREATE TABLE a.x (id integer PRIMARY KEY, v integer); CREATE TABLE b.x (id bigint PRIMARY KEY, v bigint);
CREATE TABLE a.y (id integer PRIMARY KEY, v integer); CREATE TABLE b.y (id bigint PRIMARY KEY, v bigint);
INSERT INTO a.x SELECT i, i FROM generate_series(1, 100) AS i;
CREATE FUNCTION pg_temp.ticks(n integer) RETURNS void LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..n LOOP PERFORM tandem.tick(); END LOOP; END $$;
CREATE FUNCTION pg_temp.state(run text) RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' ', stage, phase, weight) FROM tandem.runs AS r WHERE r.run = $1 $$;
CREATE FUNCTION pg_temp.detail(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    d text;
BEGIN
    EXECUTE command;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL;
    RETURN SQLSTATE || ' ' || SQLERRM || E'\n' || d;
END $$;
GRANT ALL ON ALL FUNCTIONS IN SCHEMA pg_temp TO PUBLIC;
SELECT tandem.create_run('r', 'a', 'b', steps => '{10,50,100}', hold => '0'), tandem.map_table('r', 'a.x', 'b.x'), tandem.set_option('r', 'validate_every', '0') \g /dev/null

-- what a gate may be
SELECT throws_ok($$SELECT tandem.add_gate('r', 'g', 'off')$$, '22023', NULL, 'no gate before stage off');
SELECT throws_ok($$SELECT tandem.add_gate('r', 'g', 'live', 11)$$, '22023', NULL, 'nor before a weight that is no step');
SELECT throws_ok($$SELECT tandem.add_gate('r', 'g', 'complete', 100)$$, '22023', NULL, 'nor before a weight of another stage than live');
SELECT throws_ok($$SELECT tandem.add_gate('r', 'g', 'live', approvals => 0)$$, '22023', NULL, 'nor without an approval');
SELECT throws_ok($$SELECT tandem.add_gate('r', 'g', 'live', valid_for => '0')$$, '22023', NULL, 'nor one that is void at once');
SELECT throws_ok($$SELECT tandem.add_gate('r', '', 'live')$$, '42602', NULL, 'nor without a name');
SELECT throws_ok($$SELECT tandem.add_gate('r', repeat('g', 64), 'live')$$, '42622', NULL, 'nor with a very long one');
SELECT throws_ok($$SELECT tandem.add_gate('r', NULL, 'live')$$, '22004', NULL, 'nor with none');
SELECT throws_ok($$SELECT tandem.add_gate('nobody', 'g', 'live')$$, '42704', NULL, 'nor without a run');
SET ROLE viewer;
SELECT throws_ok($$SELECT tandem.add_gate('r', 'g', 'live')$$, '42501', NULL, 'a viewer adds none');
SET ROLE oscar;
SELECT results_eq($$SELECT run, gate, before_stage, before_weight, approvals, given, state, added_by FROM tandem.add_gate('r', 'go_live', 'live', approvals => 2)$$,
                  $$VALUES ('r'::text, 'go_live', 'live', NULL::integer, 2, 0::bigint, 'open', 'oscar')$$, 'an operator adds one, and is answered with it');
SELECT throws_ok($$SELECT tandem.add_gate('r', 'go_live', 'live')$$, '42710', NULL, 'once');
RESET ROLE;

-- nothing is signed before there is evidence
SET ROLE alice;
SELECT matches(pg_temp.detail($$SELECT tandem.sign_off('r', 'go_live', 'go')$$), '^55000 .*there is no evidence', 'nothing was compared: there is nothing to sign');
SELECT throws_ok($$SELECT tandem.sign_off('r', 'nothing', 'go')$$, '42704', NULL, 'a gate that is not there');
SELECT throws_ok($$SELECT tandem.sign_off('r', 'go_live', 'perhaps')$$, '22023', NULL, 'go or no_go');
SELECT throws_ok($$SELECT tandem.sign_off('r', 'go_live', NULL)$$, '22004', NULL, '... and nothing else');
RESET ROLE;

-- the run comes to the gate, and waits
SELECT tandem.start('r') \g /dev/null
SELECT pg_temp.ticks(4);
SELECT is(pg_temp.state('r'), 'shadow waiting_approval 0', 'the worker comes to the gate: the run waits');
SELECT is((SELECT waiting_for FROM tandem.status('r')), 'sign_off(): Gate "go_live" has 0 of 2 approval(s), then weight 10', 'and says for what');
SELECT is((SELECT count(*) FROM tandem.events('r') WHERE kind = 'await'), 1::bigint, 'an event, once');
SELECT is((SELECT e.evidence ->> 'to_weight' FROM tandem.events('r') AS e WHERE kind = 'await'), '10', '... with what it rests on');
CREATE TEMP TABLE seen AS SELECT validated_at FROM tandem.runs WHERE run = 'r';
SELECT pg_temp.ticks(1);
SELECT ok((SELECT r.validated_at > s.validated_at FROM tandem.runs AS r, seen AS s WHERE r.run = 'r'), 'it is validated while it waits');
SELECT matches(pg_temp.detail($$SELECT tandem.promote('r')$$), '^55000 run "r" is not promoted: gate "go_live" has 0 of 2 approval\(s\)\ngate: Gate', 'no promotion, by nobody');
SELECT matches(pg_temp.detail($$SELECT tandem.promote('r', dry_run => true)$$), '^55000 ', 'a dry run says so as well');
SELECT is(pg_temp.state('r'), 'shadow waiting_approval 0', '... and changes nothing');

-- who signs
SET ROLE oscar;
SELECT throws_ok($$SELECT tandem.sign_off('r', 'go_live', 'go')$$, '42501', NULL, 'an operator signs nothing');
SET ROLE alice;
SELECT results_eq($$SELECT stage, phase FROM tandem.sign_off('r', 'go_live', 'go', 'looks good', '{"wait": "a week", "go": "now"}')$$, $$VALUES ('shadow'::text, 'waiting_approval'::text)$$, 'one of two: it still waits');
SELECT results_eq($$SELECT stage, phase FROM tandem.sign_off('r', 'go_live', 'go', 'still good')$$, $$VALUES ('shadow'::text, 'waiting_approval'::text)$$, 'the same role twice is one approval');
SELECT throws_ok($$SELECT tandem.promote('r')$$, '42501', NULL, 'who approves does not promote');
SELECT throws_ok($$SELECT * FROM tandem.decision$$, '42501', NULL, 'the table is closed');
SELECT is((SELECT given FROM tandem.gates WHERE gate = 'go_live'), 1::bigint, 'the views are not');
SET ROLE bob;
SELECT results_eq($$SELECT stage, phase FROM tandem.sign_off('r', 'go_live', 'go')$$, $$VALUES ('shadow'::text, 'progressing'::text)$$, 'the second approval lets it go on');
RESET ROLE;
SELECT results_eq($$SELECT state, approved_by FROM tandem.gates WHERE gate = 'go_live'$$, $$VALUES ('signed'::text, '{alice,bob}'::text[])$$, 'the gate is signed');
SELECT pg_temp.ticks(1);
SELECT is(pg_temp.state('r'), 'live progressing 10', 'the next round promotes it');
SELECT is((SELECT jsonb_array_length(e.evidence -> 'decisions') FROM tandem.events('r') AS e WHERE kind = 'promote'), 2, 'on these decisions');
SELECT results_eq($$SELECT gate, decision, comment, options, role, d."session_user" = session_user FROM tandem.decisions AS d WHERE run = 'r' ORDER BY id LIMIT 1$$,
                  $$VALUES ('go_live'::text, 'go'::text, 'looks good'::text, '{"wait": "a week", "go": "now"}'::jsonb, 'alice'::text, true)$$, 'the decision log has the options that were considered');
SELECT is((SELECT count(*) FROM tandem.decisions WHERE digest <> encode(sha256(convert_to((evidence - 'digest')::text, 'UTF8')), 'hex') OR digest <> evidence ->> 'digest'), 0::bigint,
          'the digest is that of the evidence');
SELECT ok((SELECT bool_and(jsonb_array_length(evidence -> 'comparisons') > 0 AND (evidence ->> 'differences') = '0') FROM tandem.decisions), 'which names the comparisons');
SELECT is((SELECT evidence -> 'comparisons' -> 0 ->> 'id' FROM tandem.decisions ORDER BY id LIMIT 1)::bigint <= (SELECT max(id) FROM tandem.comparison), true, '... by their ids');
SELECT is((SELECT count(*) FROM tandem.events('r') WHERE kind = 'sign_off' AND evidence ? 'digest'), 3::bigint, 'each is an event with the digest');
SET ROLE alice;
SELECT throws_ok($$SELECT tandem.sign_off('r', 'go_live', 'go')$$, '55000', NULL, 'a gate that is passed is not signed');
RESET ROLE;

-- every gate on the way, also where steps are skipped; in advance; not by who asks
SET ROLE oscar;
SELECT lives_ok($$SELECT tandem.add_gate('r', 'half', 'live', 50), tandem.add_gate('r', 'full', 'live', 100)$$, 'gates before steps');
SELECT is((SELECT count(*) FROM regexp_matches(pg_temp.detail($$SELECT tandem.promote('r', 100)$$), 'gate: Gate "(half|full)"', 'g')), 2::bigint, 'who skips a step is stopped by all gates on the way');
SET ROLE twice;
SELECT lives_ok($$SELECT tandem.sign_off('r', 'half', 'go')$$, 'signed in advance');
SELECT matches(pg_temp.detail($$SELECT tandem.promote('r', 50)$$), '^55000 .*0 of 1 approval.*that of twice: it asks for the promotion', 'what one signed does not count for what one asks');
SET ROLE oscar;
SELECT is((SELECT weight FROM tandem.promote('r', 50)), 50, '... but for what another one asks');
SET ROLE twice;
SELECT lives_ok($$SELECT tandem.add_gate('r', 'mine', 'live', 100)$$, 'an operator who is an approver too adds a gate');
SELECT matches(pg_temp.detail($$SELECT tandem.sign_off('r', 'mine', 'go')$$), '^42501 role "twice" cannot approve what it asked for', '... and cannot sign it');
RESET ROLE;
SET ROLE oscar;
SELECT throws_ok($$SELECT tandem.drop_gate('r', 'mine')$$, '42501', NULL, 'an operator cannot get rid of it');
SET ROLE boss;
SELECT lives_ok($$SELECT tandem.drop_gate('r', 'mine', 'a mistake')$$, 'an admin can');
SELECT throws_ok($$SELECT tandem.drop_gate('r', 'mine')$$, '42704', NULL, 'once');
RESET ROLE;

-- no go
SELECT pg_temp.ticks(1);
SELECT is(pg_temp.state('r'), 'live waiting_approval 50', 'the next gate');
SET ROLE alice;
SELECT results_eq($$SELECT phase FROM tandem.sign_off('r', 'full', 'no_go', 'p95 is up')$$, $$VALUES ('paused'::text)$$, 'no go pauses the run');
RESET ROLE;
SELECT matches((SELECT reason FROM tandem.events('r') WHERE kind = 'pause'), '^gate full: no go by alice: p95 is up$', 'and says why');
SELECT is((SELECT state FROM tandem.gates WHERE gate = 'full'), 'no_go', 'the gate says so');
SELECT is((SELECT phase FROM tandem.resume('r')), 'progressing', 'an operator resumes');
SELECT pg_temp.ticks(1);
SELECT is(pg_temp.state('r'), 'live waiting_approval 50', 'and it waits again');
SELECT matches((SELECT waiting_for FROM tandem.status('r')), 'that of alice: no go, p95 is up', 'waiting_for repeats what was said');
SET ROLE bob;
SELECT lives_ok($$SELECT tandem.sign_off('r', 'full', 'go')$$, 'another one says go');
SELECT is((SELECT given FROM tandem.gates WHERE gate = 'full'), 1::bigint, '... which counts, as it came after');
SET ROLE alice;
SELECT lives_ok($$SELECT tandem.sign_off('r', 'full', 'no_go')$$, 'and the first says no again');
RESET ROLE;
SELECT is((SELECT given FROM tandem.gates WHERE gate = 'full'), 0::bigint, 'which voids it');
SELECT is((SELECT void FROM tandem.decisions WHERE gate = 'full' AND role = 'bob'), 'a no go since', 'the log says why');

-- signatures expire
SET ROLE bob;
SELECT lives_ok($$SELECT tandem.sign_off('r', 'full', 'go')$$, 'go');
RESET ROLE;
UPDATE tandem.decision SET expires_at = clock_timestamp() - interval '1 second' WHERE gate = 'full';
SELECT is((SELECT given FROM tandem.gates WHERE gate = 'full'), 0::bigint, 'an expired one does not count');
SELECT is((SELECT phase FROM tandem.resume('r')), 'progressing', 'resumed');
SELECT pg_temp.ticks(2);
SELECT is(pg_temp.state('r'), 'live waiting_approval 50', 'so the run waits');

-- a guard breached while the run waits rolls back; the evidence has turned, and retry needs a new sign-off of what was passed
SET ROLE bob;
SELECT lives_ok($$SELECT tandem.sign_off('r', 'full', 'go')$$, 'signed anew');
RESET ROLE;
SELECT tandem.pause('r') \g /dev/null
ALTER TABLE b.x DISABLE TRIGGER USER;
UPDATE b.x SET v = -1 WHERE id = 7;
ALTER TABLE b.x ENABLE ALWAYS TRIGGER tandem_mirror_1;
SELECT pg_temp.ticks(1);
SELECT is(pg_temp.state('r'), 'shadow degraded 0', 'any difference rolls it back, whatever it waits for');
SELECT is((SELECT given FROM tandem.gates WHERE gate = 'full'), 0::bigint, 'and voids the signature');
SET ROLE alice;
SELECT matches(pg_temp.detail($$SELECT tandem.sign_off('r', 'go_live', 'go')$$), '^55000 .*found 1 difference', 'nobody signs while the sides differ');
RESET ROLE;
UPDATE a.x SET v = v + 1000 WHERE id = 7;
SELECT pg_temp.ticks(2);
SELECT matches((SELECT waiting_for FROM tandem.status('r')), '^retry\(\), once it is signed: Gate "go_live" has 0 of 2 approval', 'retry waits for the gates that were passed');
SELECT matches(pg_temp.detail($$SELECT tandem.retry('r')$$), '^55000 .*not signed again', '... and is refused until then');
SET ROLE alice;
SELECT lives_ok($$SELECT tandem.sign_off('r', 'go_live', 'go'), tandem.sign_off('r', 'half', 'go')$$, 'signed while it is degraded');
SET ROLE bob;
SELECT lives_ok($$SELECT tandem.sign_off('r', 'go_live', 'go')$$, '... by both');
RESET ROLE;
SELECT is((SELECT phase FROM tandem.retry('r')), 'progressing', 'retry');
SELECT pg_temp.ticks(3);
SELECT is(pg_temp.state('r'), 'live waiting_approval 50', 'it goes up again, to the gate that it had not passed');

-- a difference that was found and mended while it was degraded voids what was signed before
SELECT tandem.rollback('r', 'to look at it') \g /dev/null
SELECT pg_temp.ticks(1);
SET ROLE bob;
SELECT lives_ok($$SELECT tandem.sign_off('r', 'half', 'go')$$, 'signed while degraded');
RESET ROLE;
ALTER TABLE b.x DISABLE TRIGGER USER;
UPDATE b.x SET v = -1 WHERE id = 8;
ALTER TABLE b.x ENABLE ALWAYS TRIGGER tandem_mirror_1;
SELECT tandem.validate('r') \g /dev/null
UPDATE a.x SET v = v + 1000 WHERE id = 8;
SELECT is((SELECT bool_and(clean) FROM tandem.validate('r')), true, 'found, and mended');
SELECT is((SELECT void FROM tandem.decisions WHERE gate = 'half' ORDER BY id DESC LIMIT 1), 'a difference was found since', 'the signature is void all the same');

-- a gate that goes while the run waits
SET ROLE boss;
SELECT tandem.drop_gate('r', 'go_live'), tandem.drop_gate('r', 'half') \g /dev/null
SELECT is((SELECT phase FROM tandem.retry('r')), 'progressing', 'without gates, retry needs none');
RESET ROLE;
SELECT pg_temp.ticks(4);
SELECT is(pg_temp.state('r'), 'live waiting_approval 50', 'waits at the last');
SET ROLE boss;
SELECT tandem.drop_gate('r', 'full') \g /dev/null
RESET ROLE;
SELECT pg_temp.ticks(1);
SELECT is(pg_temp.state('r'), 'live progressing 100', 'and goes on when it is gone');

-- before complete: no rampdown without retention
SET ROLE oscar;
SELECT lives_ok($$SELECT tandem.add_gate('r', 'the end', 'complete', valid_for => '1 hour')$$, 'a gate before complete');
SELECT matches(pg_temp.detail($$SELECT tandem.complete('r', 'r')$$), '^55000 run "r" is not completed: gate "the end" has 0 of 1', 'complete is refused');
RESET ROLE;
SELECT pg_temp.ticks(1);
SELECT is(pg_temp.state('r'), 'live waiting_approval 100', 'the run waits for it');
SET ROLE alice;
SELECT lives_ok($$SELECT tandem.sign_off('r', 'the end', 'go')$$, 'signed');
RESET ROLE;
SELECT is((SELECT waiting_for FROM tandem.status('r')), 'complete()', 'people complete a run');
SELECT pg_temp.ticks(1);
SELECT is(pg_temp.state('r'), 'live progressing 100', '... not the worker');
SET ROLE oscar;
SELECT is((SELECT stage FROM tandem.complete('r', 'r')), 'complete', 'complete');
SELECT throws_ok($$SELECT tandem.add_gate('r', 'late', 'complete')$$, '55000', NULL, 'no gate after the end');
SET ROLE alice;
SELECT throws_ok($$SELECT tandem.sign_off('r', 'the end', 'go')$$, '55000', NULL, 'and nothing to sign');
RESET ROLE;

-- rampdown: the way back stays open for as long as the option retention says
SELECT tandem.create_run('s', 'a', 'b', steps => '{100}', hold => '0'), tandem.map_table('s', 'a.y', 'b.y'), tandem.set_option('s', 'validate_every', '0'), tandem.set_option('s', 'retention', '1 hour'),
       tandem.start('s') \g /dev/null
SELECT pg_temp.ticks(5);
SELECT is(pg_temp.state('s'), 'live progressing 100', 'a run at its last step');
SELECT is((SELECT waiting_for FROM tandem.status('s')), 'complete()', 'waits for complete()');
SELECT results_eq($$SELECT stage, phase, weight FROM tandem.complete('s', 's')$$, $$VALUES ('rampdown'::text, 'progressing'::text, 100)$$, 'which leads to rampdown');
SELECT matches((SELECT waiting_for FROM tandem.status('s')), '^the end of the retention: Stage rampdown keeps the way back until .*, then complete\(\)$', 'it waits for the end of retention');
INSERT INTO b.y VALUES (1, 1);
SELECT is((SELECT v FROM a.y WHERE id = 1), 1, 'writes are mirrored back');
SELECT pg_temp.ticks(1);
SELECT is((SELECT r.validated_at > r.moved_at FROM tandem.runs AS r WHERE r.run = 's'), true, 'and validated');
SELECT is(tandem.route('s', '1'), 'new', 'new serves');
SELECT matches(pg_temp.detail($$SELECT tandem.complete('s', 's')$$), '^55000 run "s" is not completed: stage rampdown keeps', 'complete is too early');
SELECT throws_ok($$SELECT tandem.promote('s')$$, '55000', NULL, 'nothing to promote');
SELECT throws_ok($$SELECT tandem.cancel('s')$$, '55000', NULL, 'no cancel');
SELECT is((SELECT phase FROM tandem.pause('s')), 'paused', 'it can be paused');
SELECT is((SELECT phase FROM tandem.resume('s')), 'progressing', '... and resumed');
SELECT ok((SELECT rampdown_at < moved_at FROM tandem.run WHERE name = 's'), '... which does not begin retention anew');
SELECT is((SELECT count(*) FROM tandem.rollback('s', 'second thoughts')), 1::bigint, 'a rollback works');
SELECT is(pg_temp.state('s'), 'shadow degraded 0', '... back to shadow');
SELECT is(tandem.route('s', '1'), 'legacy', 'legacy serves');
SELECT pg_temp.ticks(1);
SELECT tandem.retry('s') \g /dev/null
SELECT pg_temp.ticks(2);
SELECT is((SELECT stage FROM tandem.complete('s', 's')), 'rampdown', 'once more');
UPDATE tandem.run SET rampdown_at = rampdown_at - interval '1 hour' WHERE name = 's';
SELECT is((SELECT waiting_for FROM tandem.status('s')), 'complete()', 'when retention is over');
SELECT results_eq($$SELECT stage, phase, weight FROM tandem.complete('s', 's')$$, $$VALUES ('complete'::text, 'succeeded'::text, 100)$$, 'complete ends the run');
SELECT matches(pg_temp.detail($$SELECT tandem.rollback('s', 'too late')$$), '^55000 cannot rollback', 'and a rollback is an error');
SELECT is((SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'tandem%' AND NOT tgisinternal), 0::bigint, 'the mirrors are gone');

-- a hold for each step, successes in a row, samples
CREATE TABLE a.z (id integer PRIMARY KEY); CREATE TABLE b.z (id bigint PRIMARY KEY);
SELECT tandem.create_run('t', 'a', 'b', steps => '{10,100}', hold => '0'), tandem.map_table('t', 'a.z', 'b.z'), tandem.set_option('t', 'validate_every', '0') \g /dev/null
SELECT throws_ok($$SELECT tandem.set_option('t', 'holds', '{1 hour}')$$, '22023', NULL, 'as many holds as there are steps');
SELECT throws_ok($$SELECT tandem.set_option('t', 'holds', '{1 hour,-1 hour}')$$, '22023', NULL, 'none of them negative');
SELECT throws_ok($$SELECT tandem.set_option('t', 'holds', '{1 hour,NULL}')$$, '22023', NULL, 'none NULL');
SELECT throws_ok($$SELECT tandem.set_option('t', 'holds', 'soon')$$, '22023', NULL, 'an array');
SELECT throws_ok($$SELECT tandem.set_option('t', 'min_samples', '-1')$$, '22023', NULL, 'no negative number of samples');
SELECT lives_ok($$SELECT tandem.set_option('t', 'holds', '{1 hour,0}'), tandem.set_option('t', 'consecutive', '3')$$, 'options');
SELECT tandem.start('t') \g /dev/null
SELECT pg_temp.ticks(3);
SELECT is(pg_temp.state('t'), 'shadow progressing 0', 'in shadow');
SELECT matches((SELECT waiting_for FROM tandem.status('t')), '^clean validations: [12] of the 3 clean validations in a row that are wanted were made since the run came here, then weight ', 'successes in a row are wanted');
SELECT pg_temp.ticks(2);
SELECT is(pg_temp.state('t'), 'live progressing 10', 'after three it goes on: the hold of shadow is that of the run');
SELECT pg_temp.ticks(4);
SELECT matches((SELECT waiting_for FROM tandem.status('t')), '^the hold until ', 'at 10 %, the hold of that step binds');
UPDATE tandem.run SET moved_at = moved_at - interval '1 hour' WHERE name = 't';
SELECT tandem.set_option('t', 'min_samples', '1000') \g /dev/null
SELECT is((SELECT count(*) FROM regexp_matches(pg_temp.detail($$SELECT tandem.promote('t')$$), 'samples: The new side was seen to serve 0 of 1000', 'g')), 1::bigint, 'samples bind people as well');
SELECT is((SELECT waiting_for FROM tandem.status('t')), 'traffic on the new side: The new side was seen to serve 0 of 1000 statements since the run came to 10 %, then weight 100', 'waiting_for says so');
SELECT tandem.set_option('t', 'min_samples', '50') \g /dev/null
\o /dev/null
SELECT 'SELECT FROM b.z' FROM generate_series(1, 49) \gexec
SELECT 'SELECT FROM a.z' FROM generate_series(1, 60) \gexec
\o
SELECT pg_temp.ticks(4);
SELECT is(pg_temp.state('t'), 'live progressing 10', 'after 49 statements on new, and all the validations that are wanted, it stays');
SELECT is((SELECT waiting_for FROM tandem.status('t')), 'traffic on the new side: The new side was seen to serve 49 of 50 statements since the run came to 10 %, then weight 100',
          '... for want of the fiftieth: those on legacy do not count, nor what the extension reads and writes itself');
SELECT is((SELECT count(*) FROM regexp_matches(pg_temp.detail($$SELECT tandem.promote('t')$$), 'samples: The new side was seen to serve 49 of 50', 'g')), 1::bigint, '... also for people');
INSERT INTO b.z VALUES (1);
SELECT is(tandem.statements_on_new(r.id, clock_timestamp() - r.moved_at), 50::bigint, 'a write is a statement as well') FROM tandem.run AS r WHERE r.name = 't';
SELECT pg_temp.ticks(1);
SELECT is(pg_temp.state('t'), 'live progressing 100', 'with it the run goes to 100 %');

-- successes in a row: a validation that finds a difference begins them anew
CREATE TABLE a.w (id integer PRIMARY KEY, v integer); CREATE TABLE b.w (id bigint PRIMARY KEY, v bigint);
INSERT INTO a.w SELECT i, i FROM generate_series(1, 10) AS i;
SELECT tandem.create_run('w', 'a', 'b', steps => '{10,100}', hold => '0'), tandem.map_table('w', 'a.w', 'b.w'), tandem.set_option('w', 'validate_every', '0'), tandem.drop_guard('w', 'any_difference'),
       tandem.start('w') \g /dev/null
SELECT pg_temp.ticks(4);
SELECT is(pg_temp.state('w'), 'live progressing 10', 'a run without the guard any_difference');
SELECT tandem.set_option('w', 'consecutive', '3') \g /dev/null
CREATE FUNCTION pg_temp.successes(run text) RETURNS integer LANGUAGE sql AS
$$ SELECT CASE WHEN a.counted_from = r.moved_at THEN a.successes ELSE 0 END FROM tandem.run AS r JOIN tandem.run_activity AS a ON a.run_id = r.id WHERE r.name = $1 $$;
SELECT pg_temp.ticks(2);
SELECT is(pg_temp.successes('w'), 2, 'two clean validations');
SELECT format('tandem_mirror_%s', m.id) AS mirror FROM tandem.mappings AS m WHERE m.run = 'w' \gset
ALTER TABLE b.w DISABLE TRIGGER :mirror;
UPDATE b.w SET v = -1 WHERE id = 7;
ALTER TABLE b.w ENABLE ALWAYS TRIGGER :mirror;
SELECT pg_temp.ticks(1);
SELECT is((SELECT concat_ws(' ', pg_temp.state('w'), differences) FROM tandem.runs WHERE run = 'w'), 'live progressing 10 1', 'the third is not clean: it waits, and nothing rolls it back');
SELECT is(pg_temp.successes('w'), 0, '... and counts from the beginning');
SELECT is((SELECT array_agg(b.blocker) FROM tandem.run AS r, tandem.promotion_blockers(r, 'live', 100) AS b WHERE r.name = 'w'), '{differences,consecutive}', '... with both as the reason');
UPDATE a.w SET v = v + 1000 WHERE id = 7;
SELECT pg_temp.ticks(2);
SELECT is((SELECT concat_ws(' ', pg_temp.state('w'), differences) FROM tandem.runs WHERE run = 'w'), 'live progressing 10 0', 'mended, and found clean twice: it still waits');
SELECT matches((SELECT waiting_for FROM tandem.status('w')), '^clean validations: 2 of the 3 clean validations in a row that are wanted', '... for the third in a row');
SELECT pg_temp.ticks(1);
SELECT is(pg_temp.state('w'), 'live progressing 100', 'which comes, and it goes on');

-- all that stands in the way, at once
SELECT tandem.create_run('u', 'a', 'b', steps => '{10,100}', hold => '1 hour'), tandem.map_table('u', 'a.x', 'b.x'), tandem.start('u') \g /dev/null
SELECT pg_temp.ticks(3);
SELECT tandem.add_gate('u', 'g', 'live') \g /dev/null
UPDATE tandem.run_activity AS a SET differences = 2, error = 'XX000: broken.', error_at = now() FROM tandem.run AS r WHERE r.id = a.run_id AND r.name = 'u';
SELECT is((SELECT array_agg(m[1]) FROM regexp_matches(pg_temp.detail($$SELECT tandem.promote('u', dry_run => true)$$), '^([a-z]+): ', 'gn') AS m), '{rounds,differences,gate}', 'a dry run names everything');
SELECT is((SELECT array_agg(b.blocker) FROM tandem.run AS r, tandem.promotion_blockers(r, 'live', 10) AS b WHERE r.name = 'u'), '{rounds,differences,consecutive,hold,gate}', 'the worker is bound by the hold and the wanted successes, too');

-- the evidence has all that is measured
SELECT tandem.add_check('u', 'rows', 'SELECT count(*) FROM a.x', 'SELECT count(*) FROM b.x'), tandem.add_metric('u', 'few', 'SELECT 1', 'result < 2') \g /dev/null
SELECT is((SELECT count(*) FROM tandem.reconcile('u')), 1::bigint, 'a check is made');
CREATE TEMP TABLE known AS SELECT tandem.evidence(r.id) AS e FROM tandem.run AS r WHERE r.name = 'u';
SELECT is((SELECT (e -> 'checks' -> 0) - 'checked_at' FROM known), '{"check": "rows", "status": "passed", "severity": "high", "group_key": null, "new_value": 100, "legacy_value": 100, "difference_percent": 0, "tolerance_percent": 0}', 'the check');
SELECT ok((SELECT e -> 'metrics' @> '[{"metric": "few"}]' FROM known), 'the metric');
SELECT is((SELECT e ->> 'differences' FROM known), '2', 'what the last validation found');
SELECT is((SELECT e -> 'comparisons' -> 0 ->> 'new' FROM known), 'b.x', 'the comparison that it comes from');

-- pause_run(), for the machine
SELECT is((SELECT array_agg(tandem.pause_run(r.id, 'look', '{}')) FROM tandem.run AS r, generate_series(1, 2) WHERE r.name = 'u'), '{t,f}', 'pauses what progresses, once');
SELECT is((SELECT tandem.pause_run(r.id, 'look', '{}') FROM tandem.run AS r WHERE r.name = 's'), false, 'and nothing that has ended');

SELECT * FROM finish();
ROLLBACK;
