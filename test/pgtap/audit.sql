-- The audit record: what stands in an event, where it goes, who may read it, and that nobody changes it. Sealing: t/audit.pl, as it needs commits.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE ROLE operator_role LOGIN; CREATE ROLE viewer_role; CREATE ROLE admin_role; CREATE ROLE stranger;
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC;
CREATE FUNCTION pg_temp.partition_of(seq bigint) RETURNS text LANGUAGE sql AS $$ SELECT e.tableoid::regclass::text FROM tandem.event AS e WHERE e.seq = $1 $$;

SELECT is((SELECT count(*) FROM pg_inherits WHERE inhparent = 'tandem.event'::regclass), 0::bigint, 'CREATE EXTENSION makes no partition: a restore brings its own');
SELECT results_eq('SELECT ok, first_bad, head FROM tandem.audit_verify()', 'SELECT true, NULL::bigint, NULL::text', 'an empty record is genuine');
SELECT is((SELECT lag FROM tandem.audit_status()), interval '0', '... and has nothing to seal');

-- Months are those of UTC, whatever the session says.
SET TimeZone = 'Pacific/Kiritimati';
SELECT is(pg_temp.partition_of(tandem.append_event('x', at => '2031-12-31 23:59:59.999999+00')), 'tandem.event_2031_12', 'the last moment of a year');
SELECT is(pg_temp.partition_of(tandem.append_event('x', at => '2032-01-01 00:00+00')), 'tandem.event_2032_01', 'the first moment of the next');
SET TimeZone = 'America/Anchorage';
SELECT is(pg_temp.partition_of(tandem.append_event('x', at => '2032-01-01 00:00+00')), 'tandem.event_2032_01', '... in another time zone');
SELECT is(pg_temp.partition_of(tandem.append_event('x', at => '2031-12-01 00:00+00')), 'tandem.event_2031_12', 'a clock that was set back');
SELECT is(pg_temp.partition_of(tandem.append_event('x', at => '2030-02-28 12:00+00')), 'tandem.event_2030_02', '... to a month that had no event');
RESET TimeZone;
SELECT throws_ok($$SELECT tandem.append_event('x', at => 'infinity')$$, '22008', NULL, 'not at the end of time');
SELECT throws_ok($$SELECT tandem.append_event('x', at => '0001-01-01 BC')$$, '22008', NULL, 'nor before it');
SELECT throws_ok($$SELECT tandem.append_event(repeat('x', 64))$$, '22023', NULL, 'a kind is short');
SELECT throws_ok($$SELECT tandem.append_event(NULL)$$, '22023', NULL, '... and there is one');

-- Who, as whom, from where.
SET application_name = 'first';
SELECT tandem.append_event('mine') AS first \gset
SET application_name = 'second one';
SELECT tandem.append_event('mine', 'because', '{"b": 1.50, "a": [null]}', 'r', 'live', 'paused', 25, 7, NULL, '018f0000-0000-7000-8000-000000000001', 'running', 3) AS second \gset
SELECT results_eq(format('SELECT kind, actor, role, client FROM tandem.event WHERE seq = %s', :first), $$SELECT 'mine', session_user::text COLLATE "default", current_user::text COLLATE "default", 'first'$$, 'who did it');
SELECT results_eq(format('SELECT client, reason, run, stage, phase, weight, epoch, task_id::text, state, version, evidence::text FROM tandem.event WHERE seq = %s', :second),
                  $$VALUES ('second one', 'because', 'r', 'live', 'paused', 25, 7::bigint, '018f0000-0000-7000-8000-000000000001', 'running', 3::bigint, '{"a": [null], "b": 1.50}')$$, 'and all the rest');
SELECT is((SELECT abs(extract(epoch FROM at - clock_timestamp())) < 60 AND lsn <= pg_current_wal_insert_lsn() FROM tandem.event WHERE seq = :second), true, 'when, and where in the log');
SELECT is(tandem.append_event('big', evidence => jsonb_build_object('a', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 5000) AS i))) > :second, true, 'large evidence');
SELECT is((SELECT length(evidence ->> 'a') FROM tandem.event WHERE kind = 'big'), 160000, '... can be read again');

-- An index that a DBA adds, with expression and condition, is kept; so are ours.
DO $$ BEGIN EXECUTE format('CREATE INDEX own ON %s ((evidence ->> ''a'')) WHERE kind = ''indexed''', (SELECT tableoid::regclass FROM tandem.event WHERE kind = 'mine' LIMIT 1)); END $$;
SELECT tandem.append_event('indexed', evidence => '{"a": "here"}', task_id => '018f0000-0000-7000-8000-000000000002'), tandem.append_event('other', evidence => '{"a": "here"}') \g /dev/null
SET enable_seqscan = off;
SELECT is((SELECT count(*) FROM tandem.event WHERE evidence ->> 'a' = 'here' AND kind = 'indexed'), 1::bigint, 'found by an index of a DBA''s own');
SELECT is((SELECT kind FROM tandem.event WHERE task_id = '018f0000-0000-7000-8000-000000000002'), 'indexed', '... and by that of tasks');
SELECT is((SELECT array_agg(seq) FROM tandem.event WHERE run = 'r'), ARRAY[:second]::bigint[], '... of runs');
SELECT is((SELECT count(*) FROM tandem.event WHERE seq BETWEEN :first AND :second), 2::bigint, '... and of numbers');
RESET enable_seqscan;

-- Nobody changes it.
SELECT throws_ok(format(statement, relation), '42501', NULL, format(statement, relation))
  FROM unnest('{UPDATE %s SET kind = kind,UPDATE %s SET kind = ''x'' WHERE false,DELETE FROM %s,DELETE FROM %s WHERE false,TRUNCATE %s}'::text[]) AS statement,
       unnest(ARRAY['tandem.event', pg_temp.partition_of(:first), 'tandem.event_2031_12']) AS relation;
SELECT throws_ok($$MERGE INTO tandem.event AS e USING (VALUES (1)) AS x (i) ON e.kind = 'mine' WHEN MATCHED THEN DELETE$$, '42501', NULL, 'MERGE');
SET session_replication_role = replica;
SELECT throws_ok($$UPDATE tandem.event SET kind = 'x'$$, '42501', NULL, 'nor as a replica');
SELECT throws_ok(format('DELETE FROM %s', pg_temp.partition_of(:first)), '42501', NULL, '... of a partition');
RESET session_replication_role;
SELECT throws_ok(statement, '42501', NULL, statement)
  FROM unnest('{UPDATE tandem.audit_seal SET row_count = 0,DELETE FROM tandem.audit_seal,TRUNCATE tandem.audit_seal,DELETE FROM tandem.audit_dropped}'::text[]) AS statement;
SELECT throws_like($$DELETE FROM tandem.event$$, '%append-only%', 'and it says why');
SELECT throws_ok($$SELECT tandem.append_event('x') FROM (SELECT set_config('transaction_read_only', 'on', true)) AS s$$, '25006', NULL, 'a transaction that only reads writes no event');

-- Who may read and ask.
SELECT tandem.grant_role('viewer_role', 'viewer'), tandem.grant_role('operator_role', 'operator'), tandem.grant_role('admin_role', 'admin') \g /dev/null
SET ROLE viewer_role;
SELECT is((SELECT count(*) > 0 FROM tandem.event), true, 'a viewer reads events');
SELECT is((SELECT ok FROM tandem.audit_verify()), true, '... verifies them');
SELECT throws_ok($$SELECT * FROM tandem.audit_verify(5, 4)$$, '22023', NULL, '... but no range that is none');
SELECT is((SELECT sealed_seq FROM tandem.audit_status()), NULL, '... and sees how far they are sealed');
SELECT throws_ok($$SELECT tandem.append_event('forged')$$, '42501', NULL, '... but writes none');
SELECT throws_ok($$INSERT INTO tandem.event (seq, at, kind, actor, role) VALUES (1, now(), 'forged', 'me', 'me')$$, '42501', NULL, '... in no way');
SELECT throws_ok($$SELECT tandem.audit_seal_round()$$, '42501', NULL, '... and seals none');
SET ROLE stranger;
SELECT throws_ok($$SELECT * FROM tandem.event$$, '42501', NULL, 'a stranger reads none');
SELECT throws_ok($$SELECT * FROM tandem.audit_verify()$$, '42501', NULL, '... and asks nothing');
RESET ROLE;

-- Every action of an operator is an event.
CREATE SCHEMA a; CREATE SCHEMA b;
CREATE TABLE a.t (id integer PRIMARY KEY, v text); CREATE TABLE b.t (id integer PRIMARY KEY, v text);
INSERT INTO a.t SELECT i, 'v' FROM generate_series(1, 10) AS i;
GRANT ALL ON SCHEMA a, b TO operator_role; GRANT ALL ON a.t, b.t TO operator_role;
ALTER TABLE a.t OWNER TO operator_role; ALTER TABLE b.t OWNER TO operator_role;
CREATE FUNCTION pg_temp.writes(kind text, statement text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    before bigint := pg_sequence_last_value('tandem.event_seq');
BEGIN
    EXECUTE statement;
    RETURN NEXT is((SELECT string_agg(DISTINCT concat_ws(' ', e.kind, e.actor = session_user, e.role = current_user), ', ') FROM tandem.event AS e WHERE e.seq > before AND e.kind = $1), $1 || ' t t', statement);
END $$;
SELECT tandem.grant_role('operator_role', 'viewer') \g /dev/null
GRANT SELECT ON tandem.event TO operator_role, admin_role; GRANT SELECT ON SEQUENCE tandem.event_seq TO operator_role, admin_role;
SET ROLE admin_role;
SELECT pg_temp.writes('grant_role', $$SELECT tandem.grant_role('viewer_role', 'oncall')$$);
SELECT pg_temp.writes('revoke_role', $$SELECT tandem.revoke_role('viewer_role', 'oncall')$$);
SET ROLE operator_role;
SELECT pg_temp.writes('create_policy', $$SELECT tandem.create_policy('money', '{"tolerance": 0.01}')$$);
SELECT pg_temp.writes('drop_policy', $$SELECT tandem.drop_policy('money')$$);
SELECT pg_temp.writes('create_run', $$SELECT tandem.create_run('r', 'a', 'b', hold => '1 hour')$$);
SELECT pg_temp.writes('map_table', $$SELECT tandem.map_table('r', 'a.t', 'b.t')$$);
SELECT pg_temp.writes('set_option', $$SELECT tandem.set_option('r', 'batch_size', '100')$$);
SELECT pg_temp.writes('start', $$SELECT tandem.start('r')$$);
SELECT tandem.tick() FROM generate_series(1, 4) \g /dev/null
SELECT pg_temp.writes('validate', $$SELECT tandem.validate('r')$$);
SELECT pg_temp.writes('promote', $$SELECT tandem.promote('r')$$);
SELECT pg_temp.writes('pause', $$SELECT tandem.pause('r')$$);
SELECT pg_temp.writes('resume', $$SELECT tandem.resume('r')$$);
SELECT pg_temp.writes('rollback', $$SELECT tandem.rollback('r', 'why not')$$);
SELECT pg_temp.writes('repair', $$SELECT tandem.repair('r', false)$$);
SELECT pg_temp.writes('cancel', $$SELECT tandem.cancel('r')$$);
RESET ROLE;
SELECT is((SELECT count(*) FROM tandem.events('r') AS e WHERE e.run IS DISTINCT FROM 'r'), 0::bigint, 'events() of a run are its own');

-- The setting.
SELECT throws_ok(format('SET tandem.event_retention = %L', v), '22023', NULL, format('no retention of "%s"', v)) FROM unnest('{1,days,0 days,-1 days,1 hour,1 day 1 day,100000 years," 1 day"}'::text[]) AS v;
SELECT lives_ok(format('SET tandem.event_retention = %L', v), format('a retention of "%s"', v)) FROM unnest('{"",forever,30 days,1 day,13 months,1year,7 years}'::text[]) AS v;
SET tandem.event_retention = '1 day';
SELECT is(tandem.audit_retention(), 0, 'what is not sealed is not dropped');

SELECT * FROM finish();
ROLLBACK;
