-- Who may do what, and as whom: roles without rights, a hostile owner, a writer who knows nothing of the new schema.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE ROLE owner_role LOGIN; CREATE ROLE writer_role; CREATE ROLE operator_role; CREATE ROLE oncall_role; CREATE ROLE viewer_role; CREATE ROLE stranger;
SELECT tandem.grant_role('owner_role', 'operator'), tandem.grant_role('operator_role', 'operator'), tandem.grant_role('oncall_role', 'oncall'), tandem.grant_role('viewer_role', 'viewer') \g /dev/null
GRANT CREATE ON DATABASE :DBNAME TO owner_role;
-- pgTAP's own functions, for every role that speaks below
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC;

SET ROLE owner_role;
CREATE SCHEMA a; CREATE SCHEMA b;
CREATE TABLE a.t (id integer PRIMARY KEY, v text, who text);
CREATE TABLE b.t (id integer PRIMARY KEY, v text, who text);
INSERT INTO a.t VALUES (1, 'x'), (2, 'y');
GRANT USAGE ON SCHEMA a TO writer_role; GRANT ALL ON a.t TO writer_role;

-- a function in a mapping expression runs as the owner, whoever writes
CREATE FUNCTION a.whoami(text) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN current_user; END $$;
SELECT lives_ok($$SELECT tandem.create_run('r', 'a', 'b', hold => '0')$$, 'an operator makes a run');
SELECT lives_ok($$SELECT tandem.map_table('r', 'a.t', 'b.t', forward => '{"who": "a.whoami(v)"}', reverse => '{"who": "who"}', rules => '{"who": {"ignore": true}}')$$, 'and maps its own tables');
SELECT lives_ok($$SELECT tandem.start('r')$$, 'and starts it');
DO $$ BEGIN FOR i IN 1..6 LOOP PERFORM tandem.tick(); END LOOP; END $$;
SELECT is((SELECT stage FROM tandem.status('r')), 'live', 'and takes it live by tick()');
SELECT throws_ok($$SELECT * FROM tandem.run$$, '42501', NULL, 'the tables of the extension are closed to an operator');
SELECT throws_ok($$UPDATE tandem.run SET weight = 100$$, '42501', NULL, 'weights are not set by hand');
SELECT throws_ok($$SELECT tandem.move_run(1, 'promote', 100, NULL)$$, '42501', NULL, 'the inner functions are closed');
SELECT throws_ok($$SELECT * FROM tandem.query_as('postgres', 'SELECT 1') AS x (a integer)$$, '42501', NULL, 'query_as is closed');
SELECT throws_ok($$SELECT * FROM tandem.copy_as('postgres', 'SELECT 1', 1) AS x (a integer)$$, '42501', NULL, 'copy_as is closed');
RESET ROLE;

SET ROLE writer_role;
SELECT lives_ok($$INSERT INTO a.t VALUES (3, 'z'); UPDATE a.t SET v = 'zz' WHERE id = 3; DELETE FROM a.t WHERE id = 2$$, 'a writer who may not even see the new schema writes as ever');
SELECT throws_ok($$SELECT * FROM b.t$$, '42501', NULL, '... and may not see it');
SELECT is(tandem.route('r', '1') IN ('legacy', 'new'), true, '... and may ask route()');
SELECT is(current_user, 'writer_role', 'the writer is who it was');
SELECT throws_ok($$SELECT tandem.status('r')$$, '42501', NULL, 'status is for viewers');
SELECT throws_ok($$SELECT tandem.rollback('r', 'mine')$$, '42501', NULL, 'rollback is for on-call');
RESET ROLE;
SELECT is((SELECT array_agg(id ORDER BY id) FROM b.t), '{1,3}', 'the new side has the writes');
SELECT is((SELECT DISTINCT who FROM b.t WHERE id = 3), 'owner_role', 'expressions ran as the run''s owner');

SET ROLE viewer_role;
SELECT is((SELECT weight FROM tandem.status('r')) > 0, true, 'a viewer sees the status');
SELECT lives_ok(format('SELECT * FROM tandem.%I', v), '... and view ' || v)
  FROM unnest('{runs,mappings,backfill_progress,comparisons,differences,rollback_proofs,mirror_failures,health}'::text[]) AS v;
SELECT is((SELECT count(*) > 0 FROM tandem.events('r')), true, '... and the events');
SELECT throws_ok($$SELECT tandem.pause('r')$$, '42501', NULL, '... and changes nothing');
RESET ROLE;
SET ROLE operator_role;
SELECT is((SELECT phase FROM tandem.pause('r', 'lunch')), 'paused', 'an operator pauses another''s run');
SELECT throws_ok($$SELECT tandem.create_run('r2', 'a', 'b'), tandem.map_table('r', 'a.t', 'b.t')$$, '42501', NULL, '... but writes no expression that runs as its owner');
RESET ROLE;
SET ROLE oncall_role;
SELECT is((SELECT epoch > 0 FROM tandem.rollback('r', 'it smells')), true, 'on-call rolls back');
SELECT is((SELECT count(*) FROM tandem.rollback('r', 'again')), 1::bigint, '... twice without harm');
SELECT throws_ok($$SELECT tandem.retry('r')$$, '42501', NULL, '... and does nothing else');
RESET ROLE;
SELECT results_eq($$SELECT actor, role, reason FROM tandem.events('r') WHERE kind = 'rollback' ORDER BY seq LIMIT 1$$,
                  $$VALUES (session_user::text COLLATE "default", 'oncall_role', 'it smells')$$, 'the event says who, as whom and why');

-- a hostile owner: functions in expressions, row security, a schema of the same names first in the path
SET ROLE owner_role;
CREATE FUNCTION a.evil(text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    BEGIN EXECUTE 'RESET ROLE'; RETURN 'escaped by RESET ROLE'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'SET ROLE postgres'; RETURN 'escaped by SET ROLE'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'SET SESSION AUTHORIZATION DEFAULT'; RETURN 'escaped by SET SESSION AUTHORIZATION'; EXCEPTION WHEN OTHERS THEN NULL; END;
    RETURN current_user;
END $$;
CREATE TABLE a.e (id integer PRIMARY KEY, v text); CREATE TABLE b.e (id integer PRIMARY KEY, v text, caught text);
SELECT lives_ok($$SELECT tandem.create_run('e', 'a', 'b'), tandem.map_table('e', 'a.e', 'b.e', forward => '{"caught": "a.evil(v)"}'), tandem.start('e')$$, 'a mapping with a hostile function');
RESET ROLE;
SELECT lives_ok($$INSERT INTO a.e VALUES (1, 'superuser writes')$$, 'a superuser writes');
SELECT is((SELECT caught FROM b.e), 'owner_role', 'the function stayed the owner');
SELECT is(current_user, session_user, 'and the superuser is the superuser');

-- whose name a verb is called in: never that of a superuser whose statement only happened to run the owner's SQL
SET ROLE owner_role;
CREATE TABLE a.bait (id integer);
CREATE FUNCTION a.steal(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM tandem.create_run('stolen', 'a', 'b'); RETURN $1; END $$;
INSERT INTO a.bait VALUES (1);
CREATE FUNCTION a.harmless(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END';
CREATE INDEX ON a.bait (a.harmless(id));
CREATE OR REPLACE FUNCTION a.harmless(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN a.steal($1); END';
CREATE FUNCTION a.steal_by_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM tandem.create_run('stolen', 'a', 'b'); RETURN OLD; END $$;
RESET ROLE;
SELECT throws_ok($$ANALYZE a.bait$$, '42501', NULL, 'an index expression that makes a run, under ANALYZE');
CREATE TABLE public.boss (id integer PRIMARY KEY);
INSERT INTO public.boss VALUES (1);
GRANT REFERENCES ON public.boss TO owner_role;
SET ROLE owner_role;
CREATE TABLE a.child (id integer PRIMARY KEY, boss integer REFERENCES public.boss ON DELETE CASCADE);
INSERT INTO a.child VALUES (1, 1);
CREATE TRIGGER steal BEFORE DELETE ON a.child FOR EACH ROW EXECUTE FUNCTION a.steal_by_trigger();
RESET ROLE;
SELECT throws_ok($$DELETE FROM public.boss$$, '42501', NULL, 'a trigger that makes a run, under the cascade of a superuser''s delete');
SELECT is((SELECT count(*) FROM tandem.runs WHERE run = 'stolen' AND owner <> 'owner_role'), 0::bigint, 'no run was made in the superuser''s name');

SET ROLE stranger;
SELECT throws_ok($$SELECT * FROM tandem.diff('a.t', 'b.t')$$, '42501', NULL, 'diff() has the caller''s rights');
RESET ROLE;
ALTER TABLE a.t ENABLE ROW LEVEL SECURITY; ALTER TABLE a.t FORCE ROW LEVEL SECURITY;
GRANT USAGE ON SCHEMA b TO writer_role; GRANT SELECT ON b.t TO writer_role;
CREATE POLICY p ON a.t TO writer_role USING (id = 1);
SET ROLE writer_role;
SELECT is((SELECT count(*) FROM tandem.diff('a.t', 'b.t', rules => '{"who": {"ignore": true}}') WHERE kind = 'extra'), 1::bigint, 'diff() sees the rows that the caller may see');
RESET ROLE;
SET ROLE owner_role;
SELECT is((SELECT sum(missing + extra + changed) FROM tandem.validate('r')), 0::numeric, 'a validation sees all rows, also under FORCE ROW LEVEL SECURITY');
RESET ROLE;

-- an owner whose role was renamed: writers are told why, and a superuser can end the run
ALTER ROLE owner_role RENAME TO renamed_role;
UPDATE tandem.run SET moved_at = moved_at WHERE name = 'e'; -- what is kept goes by the role's number
SELECT throws_ok($$INSERT INTO a.e VALUES (2, 'x')$$, '42704', NULL, 'a renamed owner: the mirror cannot write in its name');
SELECT is((SELECT stage FROM tandem.cancel('e')), 'off', '... and a superuser ends the run');
SELECT lives_ok($$INSERT INTO a.e VALUES (2, 'x')$$, '... after which the application writes again');

-- whose level is taken back while his run is on: it is done, and on record what nobody watches any more
CREATE ROLE leaver LOGIN; CREATE ROLE team; GRANT team TO leaver;
SELECT tandem.grant_role('leaver', 'operator'), tandem.grant_role('team', 'admin') \g /dev/null
CREATE SCHEMA la AUTHORIZATION leaver; CREATE SCHEMA lb AUTHORIZATION leaver;
SET ROLE leaver;
CREATE TABLE la.t (id integer PRIMARY KEY); CREATE TABLE lb.t (id integer PRIMARY KEY);
SELECT tandem.create_run('left', 'la', 'lb'), tandem.map_table('left', 'la.t', 'lb.t') \g /dev/null
SELECT tandem.start('left') \g /dev/null
RESET ROLE;
SELECT tandem.revoke_role('leaver', 'operator') \g /dev/null
SELECT is((SELECT e.evidence -> 'unwatched' FROM tandem.event AS e WHERE e.kind = 'revoke_role' ORDER BY e.seq DESC LIMIT 1), NULL, 'a level of an owner who has another by his team');
SET client_min_messages = error;
SELECT tandem.revoke_role('team', 'admin') \g /dev/null
SET client_min_messages = warning;
SELECT is((SELECT e.evidence -> 'unwatched' FROM tandem.event AS e WHERE e.kind = 'revoke_role' ORDER BY e.seq DESC LIMIT 1), '["left"]', '... his last one: his run is watched by nobody, and that is on record');
SELECT throws_ok($$SET LOCAL ROLE leaver; SELECT tandem.tick()$$, '42501', NULL, '... as he may make no round any more');
RESET ROLE;

SELECT lives_ok($$SELECT tandem.revoke_role('viewer_role', 'viewer')$$, 'a level is taken back');
SET ROLE viewer_role;
SELECT throws_ok($$SELECT tandem.status('r')$$, '42501', NULL, '... and gone');
RESET ROLE;
SELECT throws_ok($$SELECT tandem.revoke_role('viewer_role', 'viewer')$$, '42704', NULL, '... once');

SELECT * FROM finish();
ROLLBACK;
