-- DDL on mapped tables while a run is on: what would break the mirror is refused, what changes what it stands on is refused or pauses the run,
-- all else passes; and nobody else's DDL is concerned.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE ROLE ddl_other;
CREATE SCHEMA a; CREATE SCHEMA b; CREATE SCHEMA c; CREATE SCHEMA other AUTHORIZATION ddl_other;
CREATE FUNCTION c.twice(integer) RETURNS integer IMMUTABLE LANGUAGE sql AS 'SELECT $1 * 2';
CREATE FUNCTION c.half(bigint) RETURNS integer IMMUTABLE LANGUAGE sql AS 'SELECT ($1 / 2)::integer';
CREATE OPERATOR c.|+| (FUNCTION = int4pl, LEFTARG = integer, RIGHTARG = integer);
CREATE COLLATION c.coll FROM "C";
CREATE DOMAIN c.amount AS integer;
CREATE TABLE a.t (id integer PRIMARY KEY, v integer, name varchar(20), legacy_only text, o integer, k text, d c.amount);
CREATE TABLE b.t (id bigint PRIMARY KEY, v bigint, name text, new_only text DEFAULT 'x', o integer, k text, d integer);
CREATE TABLE a.p (id integer PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE a.p_1 PARTITION OF a.p FOR VALUES FROM (0) TO (100);
CREATE TABLE b.p (id integer PRIMARY KEY, v text);
INSERT INTO a.t SELECT i, i, 'n' FROM generate_series(1, 10) AS i;
INSERT INTO a.p SELECT i, 'n' FROM generate_series(1, 10) AS i;
SELECT tandem.create_run('r', 'a', 'b', hold => '1 hour') \g /dev/null
SELECT tandem.map_table('r', 'a.t', 'b.t', forward => '{"v": "c.twice(v)", "o": "o OPERATOR(c.|+|) 0", "k": "lower(k COLLATE c.coll)"}', reverse => '{"v": "c.half(v)", "o": "o", "k": "k"}'), tandem.map_table('r', 'a.p', 'b.p') \g /dev/null

CREATE FUNCTION pg_temp.meets(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    RAISE SQLSTATE 'ZZ999';
EXCEPTION WHEN SQLSTATE 'ZZ999' THEN RETURN '';
    WHEN OTHERS THEN RETURN SQLSTATE;
END $$;
CREATE TEMP TABLE breaking (command text);
INSERT INTO breaking VALUES ('DROP TABLE a.t'), ('DROP TABLE b.t'), ('DROP SCHEMA b CASCADE'), ('DROP SCHEMA a, b CASCADE'), ('DROP TABLE a.p_1'), ('ALTER TABLE a.t RENAME TO u'), ('ALTER TABLE b.t SET SCHEMA c'), ('ALTER SCHEMA b RENAME TO d'),
    ('ALTER TABLE a.t DROP COLUMN v'), ('ALTER TABLE b.t DROP COLUMN name'), ('ALTER TABLE a.t RENAME COLUMN name TO title'), ('ALTER TABLE a.p RENAME COLUMN v TO w'), ('ALTER TABLE b.t DROP CONSTRAINT t_pkey'),
    ('ALTER TABLE b.t ALTER COLUMN new_only SET NOT NULL, ALTER COLUMN new_only DROP DEFAULT'), ('DROP FUNCTION c.twice(integer)'), ('ALTER FUNCTION c.half(bigint) RENAME TO third'),
    ('ALTER TABLE a.t ALTER COLUMN v TYPE text'), ('ALTER ROUTINE c.half(bigint) RENAME TO third'), ('ALTER OPERATOR c.|+| (integer, integer) SET SCHEMA a'), ('ALTER COLLATION c.coll RENAME TO other'),
    ('ALTER INDEX a.t RENAME TO u'), ('CREATE RULE r AS ON DELETE TO b.t DO INSTEAD NOTHING'), ('CREATE RULE r AS ON INSERT TO a.t DO INSTEAD NOTHING');
CREATE TEMP TABLE changing (command text);
INSERT INTO changing VALUES ('ALTER DOMAIN c.amount RENAME TO sum'), ('ALTER TABLE a.t ALTER COLUMN name TYPE varchar(40)'), ('ALTER TABLE a.t ALTER COLUMN name TYPE text'), ('ALTER TABLE b.t ALTER COLUMN name TYPE varchar(100)'), ('ALTER TABLE a.p DETACH PARTITION a.p_1'),
    ('CREATE TABLE a.p_9 AS SELECT 950 AS id, ''x''::text AS v; ALTER TABLE a.p_9 ALTER id SET NOT NULL; ALTER TABLE a.p ATTACH PARTITION a.p_9 FOR VALUES FROM (900) TO (1000)');
CREATE TEMP TABLE harmless (command text);
INSERT INTO harmless VALUES ('CREATE INDEX ON a.t (v)'), ('COMMENT ON TABLE a.t IS ''x'''), ('ANALYZE a.t'), ('ALTER TABLE a.t ADD COLUMN more text DEFAULT ''m'''), ('ALTER TABLE b.t DROP COLUMN new_only'), ('ALTER TABLE a.t DROP COLUMN legacy_only'),
    ('ALTER TABLE b.t ADD CONSTRAINT positive CHECK (v > 0)'), ('ALTER TABLE a.t SET (fillfactor = 80)'), ('GRANT SELECT ON a.t TO ddl_other'), ('CREATE INDEX i ON a.t (v); DROP INDEX a.i'), ('CREATE STATISTICS s ON id, v FROM a.t'),
    ('CREATE TABLE a.p_2 PARTITION OF a.p FOR VALUES FROM (100) TO (200)'), ('ALTER TABLE a.t ALTER COLUMN v SET STATISTICS 10'), ('CREATE TRIGGER z AFTER INSERT ON a.t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger(); DROP TRIGGER z ON a.t'),
    -- nobody else's affair
    ('CREATE TABLE other.t (id integer); ALTER TABLE other.t RENAME TO u; ALTER TABLE other.u ADD COLUMN v text; ALTER TABLE other.u ALTER COLUMN v TYPE varchar(3); DROP TABLE other.u'), ('DROP SCHEMA other CASCADE'), ('DROP OWNED BY ddl_other'),
    ('CREATE TABLE a.u (id integer PRIMARY KEY, v text); ALTER TABLE a.u DROP COLUMN v; DROP TABLE a.u'), ('CREATE FUNCTION c.free() RETURNS integer LANGUAGE sql AS ''SELECT 1''; DROP FUNCTION c.free()'), ('CREATE TYPE c.e AS ENUM (''x''); ALTER TYPE c.e ADD VALUE ''y''; DROP TYPE c.e'),
    ('ALTER INDEX a.t_pkey RENAME TO t_key'), ('CREATE TABLE c.u (id integer); CREATE RULE r AS ON DELETE TO c.u DO INSTEAD NOTHING; ALTER TABLE c.u RENAME TO w; DROP TABLE c.w'),
    ('CREATE DOMAIN c.dom AS text; ALTER DOMAIN c.dom RENAME TO dom2; DROP DOMAIN c.dom2'), ('REVOKE ALL ON a.t FROM ddl_other');

SELECT is((SELECT array_agg(command) FROM (TABLE breaking UNION ALL TABLE changing UNION ALL TABLE harmless) AS x WHERE pg_temp.meets(command) NOT IN ('', '2BP01')), NULL, 'before start() everything passes');
SELECT lives_ok($$SELECT tandem.set_option('r', 'validate_every', '1 hour'), tandem.start('r')$$, 'start');
CREATE FUNCTION pg_temp.ticks(n integer) RETURNS void LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..n LOOP PERFORM tandem.tick(); END LOOP; END $$;
SELECT pg_temp.ticks(7);
SELECT is((SELECT stage FROM tandem.status('r')), 'shadow', 'in shadow');
SELECT is((SELECT string_agg(command, E'\n') FROM breaking WHERE pg_temp.meets(command) <> '55006'), NULL, 'what would break the mirror is refused');
SELECT is((SELECT string_agg(command || ' ' || pg_temp.meets(command), E'\n') FROM changing WHERE pg_temp.meets(command) <> '55006'), NULL, 'what changes what it stands on is refused');
SELECT is((SELECT string_agg(command || ' ' || pg_temp.meets(command), E'\n') FROM harmless WHERE pg_temp.meets(command) <> ''), NULL, 'all else passes');
SELECT is(pg_temp.meets(format('ALTER TRIGGER %I ON a.t RENAME TO mine', (SELECT t.tgname FROM pg_trigger AS t WHERE t.tgrelid = 'a.t'::regclass AND t.tgname LIKE 'tandem_mirror%'))), '55006', 'a mirror''s trigger keeps its name');
SELECT throws_ok('TRUNCATE a.p_1', '55000', NULL, 'TRUNCATE is refused as ever');

CREATE FUNCTION pg_temp.told(command text, OUT message text, OUT detail text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
EXCEPTION WHEN object_in_use THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
END $$;
SELECT results_eq($$SELECT message, detail FROM pg_temp.told('ALTER TABLE a.t RENAME COLUMN name TO title')$$,
    $$VALUES ('ALTER TABLE refused: run "r" mirrors a.t and b.t', 'mapped column name of a.t would not be there any more.')$$, 'the message names run, tables and column');
SELECT matches((SELECT hint FROM pg_temp.told('DROP TABLE a.t')), 'tandem.cancel\(''r''\)', '... and what to do');

-- a partition that came later is guarded, and mirrored
CREATE TABLE a.p_3 PARTITION OF a.p FOR VALUES FROM (200) TO (300);
CREATE TABLE a.p_4 (id integer NOT NULL, v text);
ALTER TABLE a.p ATTACH PARTITION a.p_4 FOR VALUES FROM (300) TO (400);
SELECT throws_ok('TRUNCATE a.p_3', '55000', NULL, 'a partition that was made later');
SELECT throws_ok('TRUNCATE a.p_4', '55000', NULL, '... or attached');
INSERT INTO a.p VALUES (250, 'new'), (350, 'new');
UPDATE a.t SET k = 'x' WHERE id = 1; -- and this session keeps the mirror's plans: they must not hide what comes below
SELECT is((SELECT count(*) FROM b.p WHERE v = 'new'), 2::bigint, 'their rows are mirrored');
SELECT is((SELECT count(*) FROM tandem.events('r') WHERE kind = 'ddl' AND evidence ->> 'command' = 'ALTER TABLE'), 1::bigint, 'DDL that passes is an event');

-- pause: what leaves the mirror working passes, and pauses
SELECT lives_ok($$SELECT tandem.set_option('r', 'on_ddl', 'pause')$$, 'pause');
SELECT is((SELECT string_agg(command, E'\n') FROM breaking WHERE pg_temp.meets(command) <> '55006'), NULL, 'what would break the mirror is refused all the same');
SELECT lives_ok('ALTER TABLE a.t ALTER COLUMN name TYPE varchar(40)', 'another type passes');
SELECT is((SELECT phase FROM tandem.status('r')), 'progressing', 'no lock on the run is taken');
SELECT pg_temp.ticks(1);
SELECT is((SELECT phase FROM tandem.status('r')), 'paused', 'the next round pauses');
SELECT matches((SELECT reason FROM tandem.events('r') WHERE kind = 'pause'), 'DDL on a mapped table: ALTER TABLE by .*character varying\(40\) instead of character varying\(20\)', '... and says why');
SELECT lives_ok($$UPDATE a.t SET name = repeat('x', 40) WHERE id = 1$$, 'the mirror goes on');
SELECT is((SELECT count(*) FROM tandem.diff('a.t', 'b.t', columns => '{"v": "c.twice(v)"}')), 0::bigint, '... with the new type');
SELECT lives_ok($$SELECT tandem.resume('r')$$, 'resume');
SELECT lives_ok('ALTER TABLE a.p DETACH PARTITION a.p_4', 'rows that go with a partition');
SELECT lives_ok('TRUNCATE a.p_4', '... which is guarded no longer');
SELECT pg_temp.ticks(1);
SELECT is((SELECT phase FROM tandem.status('r')), 'paused', '... pause the run');

-- a superuser past the event triggers: the run says what is the matter
SET LOCAL session_replication_role = replica;
SELECT lives_ok('ALTER TABLE b.t RENAME COLUMN name TO title', 'under session_replication_role = replica DDL passes');
RESET session_replication_role;
-- nobody is refused for what was the matter before
SELECT is((SELECT string_agg(command || ' ' || pg_temp.meets(command), E'\n') FROM unnest(ARRAY['CREATE FUNCTION c.free() RETURNS integer LANGUAGE sql AS ''SELECT 1''; ALTER FUNCTION c.free() RENAME TO freed',
            'CREATE TABLE c.u (id integer); REVOKE ALL ON c.u FROM ddl_other', 'CREATE TYPE c.e AS (x integer); ALTER TYPE c.e RENAME TO f', 'CREATE SCHEMA s; ALTER SCHEMA s RENAME TO s2']) AS command
            WHERE pg_temp.meets(command) <> ''), NULL, 'with a mirror that is damaged already, unrelated commands pass');
SELECT is(pg_temp.meets('ALTER SCHEMA a RENAME TO d'), '55006', '... what damages it further is refused');
SELECT throws_matching($$SELECT tandem.validate('r')$$, 'a mapped column is not there any more', 'a validation says which column is missing');
SET LOCAL session_replication_role = replica;
ALTER TABLE b.t RENAME COLUMN title TO name;
RESET session_replication_role;
ALTER EVENT TRIGGER tandem_ddl DISABLE;
SELECT is((SELECT status FROM tandem.health WHERE check_name = 'ddl'), 'WARNING', 'event triggers that are off are told by health');
ALTER EVENT TRIGGER tandem_ddl ENABLE;

-- what the owner of a run needs, who is no superuser
CREATE ROLE ddl_owner LOGIN;
SELECT tandem.grant_role('ddl_owner', 'operator') \g /dev/null
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC; GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC; -- pgTAP's own
CREATE SCHEMA e AUTHORIZATION ddl_owner; CREATE SCHEMA f AUTHORIZATION ddl_owner;
SET ROLE ddl_owner;
CREATE TABLE e.q (id integer PRIMARY KEY); CREATE TABLE f.q (id integer PRIMARY KEY);
SELECT tandem.create_run('owned', 'e', 'f'), tandem.map_table('owned', 'e.q', 'f.q'), tandem.start('owned') \g /dev/null
RESET ROLE;
SELECT is(pg_temp.meets(command), '55006', command) FROM unnest(ARRAY['REVOKE INSERT ON f.q FROM ddl_owner', 'REVOKE SELECT ON e.q FROM ddl_owner', 'REVOKE USAGE ON SCHEMA f FROM ddl_owner', 'REVOKE ALL ON SCHEMA e FROM ddl_owner',
    'ALTER SCHEMA f OWNER TO ddl_other', 'ALTER TABLE e.q OWNER TO ddl_other']) AS command;
SELECT is(pg_temp.meets(command), '', command) FROM unnest(ARRAY['REVOKE CREATE ON SCHEMA f FROM ddl_owner', 'REVOKE TRUNCATE ON e.q FROM ddl_owner', 'GRANT ALL ON SCHEMA f TO ddl_other', 'REVOKE ALL ON SCHEMA f FROM ddl_other',
    'GRANT USAGE ON SCHEMA f TO PUBLIC; REVOKE USAGE ON SCHEMA f FROM ddl_owner']) AS command;

-- a run that has ended, or that is of another database, concerns nobody
SAVEPOINT copy;
UPDATE tandem.run SET home = 'elsewhere';
SELECT is((SELECT string_agg(command || ' ' || pg_temp.meets(command), E'\n') FROM (TABLE breaking UNION ALL TABLE changing) AS x WHERE pg_temp.meets(command) NOT IN ('', '2BP01')), NULL, 'in a restored database everything passes');
ROLLBACK TO copy;
SELECT lives_ok('DROP EXTENSION pg_tandem CASCADE', 'the extension can be dropped while a run is on');
SELECT is((SELECT count(*) FROM pg_event_trigger), 0::bigint, '... with its event triggers');
SELECT lives_ok('DROP TABLE a.t', 'and then everything passes');
SELECT lives_ok('CREATE EXTENSION pg_tandem', 'it can be made again');
SELECT * FROM finish();
ROLLBACK;
