-- preflight(): each check of tables and of what one session can bring about is silent, then it fires. The others are in t/preflight.
BEGIN;
SELECT no_plan();
SET client_min_messages = error;
CREATE ROLE pf_owner LOGIN; CREATE ROLE pf_app; CREATE ROLE pf_viewer;
SELECT tandem.grant_role('pf_owner', 'operator'), tandem.grant_role('pf_viewer', 'viewer') \g /dev/null
GRANT CREATE ON DATABASE :DBNAME TO pf_owner;
SET ROLE pf_owner;
CREATE SCHEMA a; CREATE SCHEMA b;
CREATE TABLE a.t (id integer PRIMARY KEY, v text); CREATE TABLE b.t (id integer PRIMARY KEY, v text);
CREATE TABLE b.kind (id text PRIMARY KEY);
INSERT INTO a.t SELECT i, 'v' || i FROM generate_series(1, 100) AS i;
SELECT FROM tandem.create_run('p', 'a', 'b');
SELECT FROM tandem.map_table('p', 'a.t', 'b.t');
RESET ROLE;

-- What a check says: its worst status with the detail, or nothing.
CREATE FUNCTION pg_temp.says(name text) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT p.status || ': ' || p.detail FROM tandem.preflight('p') AS p WHERE p.check_name = name ORDER BY array_position('{CRITICAL,WARNING,OK}', p.status), p.detail LIMIT 1 $$;
-- What it says after SQL, which is then taken back.
CREATE TEMP TABLE fired (name text); -- the checks that were seen to fire
CREATE FUNCTION pg_temp.after(sql text, name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text;
BEGIN
    BEGIN
        EXECUTE sql;
        said := pg_temp.says(name);
        RAISE EXCEPTION USING ERRCODE = 'TAKEN';
    EXCEPTION WHEN SQLSTATE 'TAKEN' THEN
        INSERT INTO fired SELECT name WHERE said !~ '^OK: ';
        RETURN said;
    END;
END $$;

-- --- what is well says so, or nothing
SELECT is((SELECT array_agg(DISTINCT p.check_name ORDER BY p.check_name) FROM tandem.preflight('p') AS p WHERE p.status = 'CRITICAL'), NULL, 'nothing is in the way');
SELECT is((SELECT count(*) FROM tandem.preflight('p') AS p WHERE p.status <> 'OK' AND coalesce(p.hint, '') = ''), 0::bigint, 'what is not well has a hint');
SELECT is(pg_temp.says(name), NULL, name || ' is silent') FROM unnest('{indexes,rules,triggers,publications,subscriptions,statistics,permissions,foreign_keys,prepared,capture,collation,event_triggers}'::text[]) AS name;
SELECT matches(pg_temp.says(name), '^OK: ', name || ' is well') FROM unnest('{locks,disk,content,backup,connections,transactions,replication,freeze}'::text[]) AS name;

-- --- tables
CREATE INDEX t_v ON b.t (v); CREATE INDEX t_v ON a.t (v);
SELECT is(pg_temp.after($$UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'b.t_v'::regclass$$, 'indexes'), 'WARNING: b.t: index b.t_v is invalid', 'an index that a failed CREATE INDEX CONCURRENTLY left');
SELECT is(pg_temp.after($$UPDATE pg_index SET indisready = false WHERE indexrelid = 'a.t_v'::regclass$$, 'indexes'), 'WARNING: a.t: index a.t_v is invalid', '... of either side');
SELECT is(pg_temp.after('CREATE RULE keep AS ON DELETE TO b.t DO INSTEAD NOTHING', 'rules'), 'CRITICAL: b.t: rule keep does something else instead of a write', 'a rule that swallows writes');
SELECT is(pg_temp.after('CREATE RULE note AS ON INSERT TO a.t DO ALSO NOTIFY x', 'rules'), 'WARNING: a.t: rule note does something more at a write', '... or adds to them');
SELECT is(pg_temp.after('CREATE RULE note AS ON INSERT TO a.t DO ALSO NOTIFY x; ALTER TABLE a.t DISABLE RULE note', 'rules'), NULL, '... but not when it is disabled');
CREATE FUNCTION b.stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.v := now(); RETURN NEW; END';
SELECT is(pg_temp.after('CREATE TRIGGER stamp BEFORE UPDATE ON b.t FOR EACH ROW EXECUTE FUNCTION b.stamp()', 'triggers'), 'WARNING: b.t: trigger stamp calls b.stamp()', 'a trigger that changes what the mirror writes');
SELECT is(pg_temp.after('CREATE TRIGGER stamp BEFORE UPDATE ON b.t FOR EACH ROW EXECUTE FUNCTION b.stamp(); ALTER TABLE b.t DISABLE TRIGGER stamp', 'triggers'), NULL, '... but not when it is disabled');
SELECT is(pg_temp.after('CREATE PUBLICATION pf_all FOR TABLE a.t', 'publications'), NULL, 'legacy is published: nothing new');
SELECT is(pg_temp.after('CREATE PUBLICATION pf_all FOR TABLES IN SCHEMA b', 'publications'), 'WARNING: b.t: publication pf_all publishes it', 'the new table is published');
SELECT is(pg_temp.after('ALTER TABLE b.t REPLICA IDENTITY NOTHING; CREATE PUBLICATION pf_one FOR TABLE b.t', 'publications'), 'CRITICAL: b.t: publication pf_one publishes its updates, and it has no replica identity', '... so that it can''t be updated');
SELECT is(pg_temp.after($$ALTER TABLE b.t REPLICA IDENTITY NOTHING; CREATE PUBLICATION pf_one FOR TABLE b.t WITH (publish = 'insert')$$, 'publications'), 'WARNING: b.t: publication pf_one publishes it', '... only its inserts: it can');
SELECT is(pg_temp.after(format($$CREATE SUBSCRIPTION pf_sub CONNECTION 'dbname=nowhere' PUBLICATION x WITH (connect = false); UPDATE pg_subscription SET subenabled = true WHERE subname = 'pf_sub';
            INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate) SELECT oid, %L::regclass, 'r' FROM pg_subscription WHERE subname = 'pf_sub'$$, t), 'subscriptions'), answer, 'a subscription that writes ' || t)
  FROM (VALUES ('a.t', 'WARNING: a.t: subscription pf_sub writes it'), ('b.t', 'CRITICAL: b.t: subscription pf_sub writes it')) AS v (t, answer);
SELECT is(pg_temp.after($$CREATE SUBSCRIPTION pf_sub CONNECTION 'dbname=nowhere' PUBLICATION x WITH (connect = false);
            INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate) SELECT oid, 'b.t'::regclass, 'r' FROM pg_subscription WHERE subname = 'pf_sub'$$, 'subscriptions'), NULL, '... but not one that is disabled');
CREATE FUNCTION pg_temp.xid(age bigint) RETURNS xid LANGUAGE sql AS $$ SELECT mod(pg_current_xact_id()::text::numeric - age + 4294967296, 4294967296)::bigint::text::xid $$;
SELECT matches(pg_temp.after($$UPDATE pg_class SET relfrozenxid = pg_temp.xid(190000000) WHERE oid = 'a.t'::regclass$$, 'freeze'), '^WARNING: a\.t: its oldest transaction id is 19\d* old$', 'a table of which a VACUUM against wraparound is due');
SELECT matches(pg_temp.after($$UPDATE pg_class SET relfrozenxid = pg_temp.xid(170000000) WHERE oid = 'a.t'::regclass$$, 'freeze'), '^OK: ', '... or is not yet');
SELECT is(pg_temp.after($$INSERT INTO a.t SELECT i, repeat('x', 900) FROM generate_series(1000, 11000) AS i$$, 'statistics'), 'WARNING: a.t: it was never analyzed', 'a large table that was never analyzed');
SELECT is(pg_temp.after($$INSERT INTO a.t SELECT i, repeat('x', 900) FROM generate_series(1000, 11000) AS i; ANALYZE a.t$$, 'statistics'), NULL, '... until it is');
GRANT USAGE ON SCHEMA a, b TO pf_app;
SELECT is(pg_temp.after('GRANT SELECT, INSERT ON a.t TO pf_app', 'permissions'), format('WARNING: a.t %s b.t: role pf_app may INSERT, SELECT on legacy, and not on new', tandem.glyph('to')), 'what an application may do on legacy only');
SELECT is(pg_temp.after('GRANT SELECT, INSERT ON a.t, b.t TO pf_app', 'permissions'), NULL, '... or on both');
SELECT is(pg_temp.after('GRANT SELECT ON a.t, b.t TO pf_app; REVOKE USAGE ON SCHEMA b FROM pf_app', 'permissions'), format('WARNING: a.t %s b.t: role pf_app may SELECT on legacy, and not on new', tandem.glyph('to')), '... without USAGE on the schema it may not');
SELECT is(pg_temp.after('GRANT SELECT ON a.t TO PUBLIC', 'permissions'), format('WARNING: a.t %s b.t: role PUBLIC may SELECT on legacy, and not on new', tandem.glyph('to')), 'PUBLIC');
SELECT is(pg_temp.after('ALTER TABLE b.t ADD CONSTRAINT known FOREIGN KEY (v) REFERENCES b.kind', 'foreign_keys'), format('WARNING: a.t %s b.t: known of the new table refers to b.kind, which the run does not map', tandem.glyph('to')), 'a foreign key to a table outside of the run');

SET ROLE pf_owner;
CREATE TABLE a.p (id integer PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE a.p1 PARTITION OF a.p FOR VALUES FROM (0) TO (10);
CREATE TABLE b.p (id integer PRIMARY KEY, v text); CREATE TABLE b.p1 (id integer PRIMARY KEY, v text);
RESET ROLE;
CREATE FUNCTION pg_temp.mirrors(legacy regclass, new regclass) RETURNS text LANGUAGE sql AS $$
    SELECT format($q$SELECT FROM tandem.create_run('other', 'a', 'b'); SELECT FROM tandem.map_table('other', %L, %L); UPDATE tandem.run SET stage = 'dualwrite', phase = 'progressing' WHERE name = 'other'$q$, legacy, new) $$;
SELECT is(pg_temp.after(pg_temp.mirrors('a.t', 'b.p'), 'other_runs'), 'CRITICAL: a.t: run "other" mirrors it already', 'another run mirrors a table');
SELECT is(pg_temp.after(pg_temp.mirrors('a.p', 'b.t'), 'other_runs'), 'CRITICAL: b.t: run "other" mirrors it already', '... of either side');
SELECT is(pg_temp.after(pg_temp.mirrors('a.p', 'b.p'), 'other_runs'), NULL, '... or other ones');
SELECT is(pg_temp.after(pg_temp.mirrors('a.t', 'b.t') || $$; UPDATE tandem.run SET stage = 'off', phase = 'cancelled' WHERE name = 'other'$$, 'other_runs'), NULL, '... or does not any more');
SELECT is(pg_temp.after($$SELECT FROM tandem.map_table('p', 'a.p', 'b.p');$$ || pg_temp.mirrors('a.p1', 'b.p1'), 'other_runs'), 'CRITICAL: a.p: run "other" mirrors a.p1, and one is a partition of the other', 'another run mirrors a partition');
SELECT is(pg_temp.after($$SELECT FROM tandem.map_table('p', 'a.p1', 'b.p1');$$ || pg_temp.mirrors('a.p', 'b.p'), 'other_runs'), 'CRITICAL: a.p1: run "other" mirrors a.p, and one is a partition of the other', '... or what this is a partition of');
SELECT is(pg_temp.after('ALTER TABLE b.t SET UNLOGGED', 'persistence'), format('WARNING: a.t %s b.t: a table is UNLOGGED: a crash empties it', tandem.glyph('to')), 'an UNLOGGED table');
SELECT is(pg_temp.after('CREATE TABLE a.child () INHERITS (a.t)', 'inheritance'), 'CRITICAL: a.t: it is part of an inheritance tree, and a trigger does not reach rows of other tables of it', 'an inheritance tree');
SELECT is(pg_temp.after('ALTER TABLE b.t DROP CONSTRAINT t_pkey', 'key'), 'CRITICAL: b.t: no valid, immediate, unconditional unique index on exactly {id}', 'a key that is not unique any more');
SELECT is(pg_temp.after($$UPDATE tandem.mapping_column SET expression = 'upper(v)' WHERE direction = 'forward' AND name = 'v'$$, 'round_trip'),
          format('WARNING: a.t %s b.t: 100 of the first 1,000 rows do not come back the same through forward and reverse', tandem.glyph('to')), 'a way back that changes rows');
SELECT is(pg_temp.says(name), NULL, name || ' is silent') FROM unnest('{other_runs,persistence,inheritance,expressions,sequences,generated}'::text[]) AS name;
SELECT matches(pg_temp.says(name), '^OK: ', name || ' is well') FROM unnest('{mirror,owner,ownership,key,round_trip,mappings}'::text[]) AS name;
CREATE FUNCTION pg_temp.expressed(expression text) RETURNS text LANGUAGE sql AS $$ SELECT format('UPDATE tandem.mapping_column SET expression = %L WHERE direction = ''forward'' AND name = ''v''', expression) $$;
SELECT is(pg_temp.after('CREATE FUNCTION b.conv(text) RETURNS text LANGUAGE sql IMMUTABLE AS ''SELECT $1'';' || pg_temp.expressed('b.conv(v)'), 'mirror'), format('OK: a.t %s b.t: the forward mirror compiles', tandem.glyph('to')), 'an expression with a function');
SELECT is(pg_temp.after('CREATE FUNCTION b.conv(text) RETURNS text LANGUAGE sql IMMUTABLE AS ''SELECT $1'';' || pg_temp.expressed('b.conv(v)') || '; DROP FUNCTION b.conv(text)', 'mirror'),
          format('CRITICAL: a.t %s b.t: the forward mirror does not compile: function b.conv(text) does not exist', tandem.glyph('to')), '... that was dropped since');
SELECT matches(pg_temp.after('CREATE FUNCTION b.conv(text) RETURNS text LANGUAGE sql IMMUTABLE AS ''SELECT $1'';' || pg_temp.expressed('b.conv(v)') || '; REVOKE ALL ON SCHEMA b FROM pf_owner; ALTER SCHEMA b OWNER TO pf_app', 'mirror'),
               '^CRITICAL: .*the forward mirror does not compile: permission denied for schema b$', '... or that the owner may not call');
SELECT matches(pg_temp.after('ALTER TABLE b.t ALTER v TYPE integer USING NULL', 'mirror'), '^CRITICAL: .*the forward mirror does not compile: column "v" is of type integer but expression is of type text', 'a column that has another type since');
SELECT matches(pg_temp.after('ALTER TABLE a.t RENAME v TO w', 'mirror'), '^CRITICAL: .*the forward mirror does not compile: column "?v"? does not exist', '... or another name');
SELECT is(pg_temp.after(pg_temp.expressed('to_char(now(), ''YYYY'') || v'), 'expressions'), format('WARNING: a.t %s b.t: 1 expression(s) use STABLE functions', tandem.glyph('to')), 'an expression that depends on the time');
SELECT is(pg_temp.after(pg_temp.expressed('upper(v)'), 'expressions'), NULL, '... or does not');
SELECT is(pg_temp.after('ALTER ROLE pf_owner NOLOGIN', 'owner'), 'CRITICAL: role "pf_owner" cannot log in, so the worker cannot act as it', 'an owner who cannot log in') WHERE tandem.owner_needs_login();
SELECT is(pg_temp.after('REASSIGN OWNED BY pf_owner TO pf_app; DROP OWNED BY pf_owner; DROP ROLE pf_owner', 'owner'), 'CRITICAL: role "pf_owner" does not exist', 'an owner who is gone');
SELECT throws_ok($$DO 'BEGIN REASSIGN OWNED BY pf_owner TO pf_app; DROP OWNED BY pf_owner; DROP ROLE pf_owner; PERFORM tandem.start(''p''); END'$$, '55000', NULL, '... so that the run does not start');
SELECT is(pg_temp.after('ALTER TABLE b.t OWNER TO pf_app', 'ownership'), 'CRITICAL: b.t: role "pf_owner" does not own it and cannot put a mirror on it', 'a table of somebody else');
SELECT is(pg_temp.after('SELECT tandem.unmap_table(''p'', ''a.t'')', 'mappings'), 'CRITICAL: 0 table(s) are mapped', 'a run without a table');
SELECT matches(pg_temp.after('CREATE SEQUENCE a.ids; CREATE SEQUENCE b.ids; ALTER SEQUENCE a.ids OWNER TO pf_owner; ALTER SEQUENCE b.ids OWNER TO pf_owner; ALTER TABLE a.t ALTER id SET DEFAULT nextval(''a.ids''); ALTER TABLE b.t ALTER id SET DEFAULT nextval(''b.ids'');
                              SELECT tandem.set_option(''p'', ''sequences'', ''bump'')', 'sequences'), '^WARNING: .*: each side draws keys from a sequence of its own$', 'keys from two sequences');
SELECT matches(pg_temp.after('ALTER TABLE a.t ADD x integer GENERATED ALWAYS AS (id + 1) VIRTUAL;' || pg_temp.expressed('v || x'), 'generated'), '^CRITICAL: .*: a mapping expression reads the virtual generated column x of a\.t$', 'a virtual generated column')
 WHERE current_setting('server_version_num')::integer >= 180000;

-- --- what it says to type, typed: a mapping is mapped anew
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC; GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC; -- pgTAP's own
SET ROLE pf_owner;
CREATE TABLE a."Odd ""t"" x" (id integer PRIMARY KEY, cents integer NOT NULL); CREATE TABLE b."Odd ""t"" x" (id integer PRIMARY KEY, amount numeric NOT NULL, note text NOT NULL);
SELECT FROM tandem.map_table('p', 'a."Odd ""t"" x"', 'b."Odd ""t"" x"', forward => '{"amount": "cents / 100.0"}', domain => 'odd');
CREATE TEMP TABLE hint AS SELECT DISTINCT regexp_replace(p.hint, '; then map_table.*', '') AS statement, p.check_name FROM tandem.preflight('p') AS p WHERE p.hint LIKE '%unmap_table%';
RESET ROLE;
SELECT is((SELECT array_agg(check_name ORDER BY check_name) FROM hint), '{forward_path,reverse_path}', 'columns without a counterpart');
INSERT INTO fired SELECT check_name FROM hint;
SELECT is((SELECT array_agg(DISTINCT statement) FROM hint), ARRAY[$$SELECT tandem.unmap_table('p', 'a."Odd ""t"" x"', 'b."Odd ""t"" x"')$$], '... and what to do about them');
SET ROLE pf_owner;
SELECT throws_ok($$SELECT tandem.unmap_table('p', 'a.gone')$$, '42704', NULL, 'a table that is not mapped');
SELECT throws_ok($$SELECT tandem.unmap_table('p', NULL)$$, '42704', NULL, 'no table');
SELECT throws_ok($$SELECT tandem.unmap_table('p', 'a.t', 'b."Odd ""t"" x"')$$, '42704', NULL, 'a mapping that there is not');
SELECT lives_ok((SELECT max(statement) FROM hint), 'the hint, typed');
SELECT is((SELECT count(*) FROM tandem.mappings WHERE run = 'p'), 1::bigint, '... the mapping is gone');
SELECT is((SELECT array_agg(domain) FROM tandem.domains WHERE run = 'p'), '{default}', '... and its domain, which has no other');
SELECT lives_ok($$SELECT tandem.map_table('p', 'a."Odd ""t"" x"', 'b."Odd ""t"" x"', forward => '{"amount": "cents / 100.0", "note": "''''::text"}', reverse => '{"cents": "(amount * 100)::integer"}')$$, 'mapped anew');
SELECT is((SELECT count(*) FROM tandem.preflight('p') WHERE check_name IN ('forward_path', 'reverse_path')), 0::bigint, '... nothing is missing');
DROP TABLE b."Odd ""t"" x";
SELECT matches((SELECT hint FROM tandem.preflight('p') WHERE check_name = 'tables' AND status = 'CRITICAL'), 'SELECT tandem\.unmap_table\(''p'', ''a\."Odd ""t"" x"'', ''b\."Odd ""t"" x"''\)', 'a table that is gone');
INSERT INTO fired SELECT 'tables' FROM tandem.preflight('p') WHERE check_name = 'tables' AND status = 'CRITICAL';
SELECT lives_ok($$SELECT tandem.unmap_table('p', 'Odd "t" x')$$, '... is unmapped by its name alone');
SELECT is((SELECT count(*) FROM tandem.events('p') WHERE kind = 'unmap_table' AND evidence ->> 'legacy_table' = 'Odd "t" x'), 2::bigint, 'and it is on record');
SELECT tandem.create_run('begun', 'a', 'b') \g /dev/null
RESET ROLE;
UPDATE tandem.run SET stage = 'dualwrite', phase = 'progressing' WHERE name = 'begun';
SET ROLE pf_owner;
SELECT throws_ok($$SELECT tandem.unmap_table('begun', 'a.t')$$, '55000', NULL, 'not under way');
RESET ROLE;
DELETE FROM tandem.run WHERE name = 'begun';

-- --- what the new side holds already
SELECT is(pg_temp.after('INSERT INTO b.t SELECT * FROM a.t WHERE id < 50', 'content'), format('OK: a.t %s b.t: the new table holds rows already, all of them as in legacy; 51 are missing', tandem.glyph('to')), 'some of the rows are there');
SELECT is(pg_temp.after($$INSERT INTO b.t SELECT * FROM a.t WHERE id < 50; UPDATE b.t SET v = 'x' WHERE id < 4; INSERT INTO b.t VALUES (-1), (-2)$$, 'content'),
          format('WARNING: a.t %s b.t: the new table holds rows already; 2 of them are not in legacy, 3 differ', tandem.glyph('to')), '... and some that should not be');
SELECT is(pg_temp.after('ALTER TABLE b.t ALTER v SET STORAGE PLAIN; INSERT INTO b.t SELECT i, repeat(''x'', 7000) FROM generate_series(1, 9000) AS i', 'content'),
          format('WARNING: a.t %s b.t: the new table holds rows already, and both are too large to compare here', tandem.glyph('to')), '... or more than can be compared here');
SELECT matches(pg_temp.after('REVOKE SELECT ON b.t FROM pf_owner', 'content'), '^CRITICAL: .* cannot be compared: permission denied for table t$', '... or what the owner may not read');

-- --- the server
SELECT is((SELECT count(*) FROM tandem.preflight('p') WHERE check_name = 'settings' AND detail = 'track_counts is off'), 0::bigint, 'a setting');
SET track_counts = off;
SELECT is((SELECT status FROM tandem.preflight('p') WHERE check_name = 'settings' AND detail = 'track_counts is off'), 'WARNING', '... that is off');
INSERT INTO fired SELECT 'settings' FROM tandem.preflight('p') WHERE check_name = 'settings' AND detail = 'track_counts is off';
RESET track_counts;
SELECT matches(pg_temp.after($$INSERT INTO tandem.run_option SELECT id, 'capture', 'logical' FROM tandem.run WHERE name = 'p'$$, 'capture'), '^CRITICAL: capture by logical decoding, and wal_level is ', 'logical decoding, but no log for it') WHERE current_setting('wal_level') <> 'logical';
SELECT is(pg_temp.after('CREATE FUNCTION b.watch() RETURNS event_trigger LANGUAGE plpgsql AS ''BEGIN END''; CREATE EVENT TRIGGER pf_watch ON ddl_command_end EXECUTE FUNCTION b.watch()', 'event_triggers'),
          'WARNING: event trigger pf_watch runs b.watch() at ddl_command_end', 'an event trigger');
SELECT is(pg_temp.after('CREATE FUNCTION b.watch() RETURNS event_trigger LANGUAGE plpgsql AS ''BEGIN END''; CREATE EVENT TRIGGER pf_watch ON ddl_command_end EXECUTE FUNCTION b.watch(); ALTER EVENT TRIGGER pf_watch DISABLE', 'event_triggers'),
          NULL, '... but not when it is disabled');
SELECT matches(pg_temp.after($$UPDATE pg_database SET datfrozenxid = pg_temp.xid(1200000000) WHERE datname = current_database()$$, 'freeze'), '^WARNING: 55\.9 % of the transaction ids are used up', 'transaction ids run out');
SELECT matches(pg_temp.after($$UPDATE pg_database SET datfrozenxid = pg_temp.xid(2000000000) WHERE datname = current_database()$$, 'freeze'), '^CRITICAL: 93\.1 % of the transaction ids are used up', '... soon');
SELECT is(pg_temp.says('backup'), 'OK: when the last backup was made is not known, and option backup_max_age does not ask', 'nobody asks for a backup');
SELECT matches(pg_temp.after($$SELECT tandem.set_option('p', 'backup_max_age', '1 day')$$, 'backup'), '^WARNING: when the last backup was made is not known; ', 'somebody does');
SELECT matches(pg_temp.after($$SELECT tandem.set_option('p', 'backup_max_age', '1 day'), tandem.set_option('p', 'backup_at', (now() - interval '25 hours')::text)$$, 'backup'), '^CRITICAL: the last backup was made at ', '... and it is too old');
SELECT throws_ok($$SELECT tandem.set_option('p', 'backup_max_age', '1 day'), tandem.set_option('p', 'backup_at', (now() - interval '25 hours')::text), tandem.start('p')$$, '55000', NULL, '... so that the run does not start');
SELECT matches(pg_temp.after($$SELECT tandem.set_option('p', 'backup_max_age', '1 day'), tandem.set_option('p', 'backup_at', (now() - interval '23 hours')::text)$$, 'backup'), '^OK: the last backup was made at ', '... or it is not');
SELECT throws_ok(format('SELECT tandem.set_option(''p'', ''backup_at'', %L)', v), '22023', NULL, 'no time of a backup: ' || v) FROM unnest('{yesterday night,infinity,2999-01-01,""}'::text[]) AS v;
SELECT matches(pg_temp.after($$SELECT tandem.set_health_threshold('connections', 0, 100)$$, 'connections'), '^WARNING: \d+ of \d+ connections are in use', 'connections run out');

-- --- which of them fired here: t/preflight reads this list, and adds its own, for all that docs/preflight.md names. 'generated' needs PostgreSQL 18
SELECT is((SELECT array_agg(DISTINCT f.name ORDER BY f.name) FROM fired AS f WHERE f.name NOT IN ('generated', 'capture', 'owner')),
          '{backup,connections,content,event_triggers,expressions,foreign_keys,forward_path,freeze,indexes,inheritance,key,mappings,mirror,other_runs,ownership,permissions,persistence,publications,reverse_path,round_trip,rules,sequences,settings,statistics,subscriptions,tables,triggers}',
          'the checks that fired');
SELECT is((SELECT array_agg(DISTINCT f.name ORDER BY f.name) FROM fired AS f WHERE f.name IN ('capture', 'owner')), (SELECT array_agg(x ORDER BY x) FROM (SELECT 'owner' UNION ALL SELECT 'capture' WHERE current_setting('wal_level') <> 'logical') AS v (x)), '... where the server lets them');

-- --- and the right to ask
SET ROLE pf_viewer;
SELECT throws_ok($$SELECT * FROM tandem.preflight('p')$$, '42501', NULL, 'a viewer asks nothing of the server');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
