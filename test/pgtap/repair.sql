-- repair(): the plan, the application, both authorities, what cannot be repaired, who may, and random differences against the oracle diff().
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
SET TimeZone = 'UTC'; -- times are shown as they are there
CREATE ROLE run_owner LOGIN; CREATE ROLE other_operator; CREATE ROLE oncall_role; CREATE ROLE stranger;
SELECT tandem.grant_role('run_owner', 'operator'), tandem.grant_role('other_operator', 'operator'), tandem.grant_role('oncall_role', 'oncall') \g /dev/null
GRANT CREATE ON DATABASE :DBNAME TO run_owner;
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC;
CREATE FUNCTION pg_temp.ticks(n integer) RETURNS void LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..n LOOP PERFORM tandem.tick(); END LOOP; END $$;
-- Behind the mirror's back, without foreign keys and triggers
CREATE FUNCTION pg_temp.silently(statement text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    t record;
BEGIN
    SET LOCAL session_replication_role = replica;
    FOR t IN SELECT tgrelid::regclass AS relation, tgname FROM pg_trigger WHERE tgname LIKE 'tandem_mirror%' LOOP EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', t.relation, t.tgname); END LOOP;
    EXECUTE statement;
    FOR t IN SELECT tgrelid::regclass AS relation, tgname FROM pg_trigger WHERE tgname LIKE 'tandem_mirror%' LOOP EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', t.relation, t.tgname); END LOOP;
    SET LOCAL session_replication_role = origin;
END $$;

SET ROLE run_owner;
CREATE SCHEMA a; CREATE SCHEMA b;
CREATE TABLE a.person (id integer PRIMARY KEY, first text, last text, cents integer, seen timestamptz, note text);
CREATE TABLE b."per""son" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, balance numeric NOT NULL, twice numeric GENERATED ALWAYS AS (balance * 2) STORED, seen timestamptz, note varchar(40), own text DEFAULT 'own');
CREATE TABLE a.pet (owner integer REFERENCES a.person, name text, tags integer[], PRIMARY KEY (owner, name));
CREATE TABLE b.pet (owner bigint REFERENCES b."per""son", name text, tags bigint[], PRIMARY KEY (owner, name));
INSERT INTO a.person SELECT i, 'F' || i, 'L' || i, i * 100, '2024-01-01'::timestamptz + i * interval '1 hour', 'n' || i FROM generate_series(1, 200) AS i;
INSERT INTO a.pet SELECT i, n, ARRAY[i, i + 1] FROM generate_series(1, 50) AS i, unnest('{cat,dog}'::text[]) AS n;
SELECT tandem.create_run('r', 'a', 'b', steps => '{50,100}', hold => '1 hour') \g /dev/null
SELECT tandem.map_table('r', 'a.person', 'b."per""son"', forward => '{"name": "first || '' '' || last", "balance": "cents / 100.0", "twice": "cents / 50.0"}',
    reverse => '{"first": "split_part(name, '' '', 1)", "last": "split_part(name, '' '', 2)", "cents": "(balance * 100)::integer"}',
    rules => '{"note": {"ignore": true}}') \g /dev/null
SELECT tandem.map_table('r', 'a.pet', 'b.pet', forward => '{"tags": "tags::bigint[]"}', reverse => '{"tags": "tags::integer[]"}', bucket_by => 'owner') \g /dev/null
SELECT throws_ok($$SELECT tandem.repair('r')$$, '55000', NULL, 'nothing to repair before the start');
SELECT tandem.set_option('r', 'validate_every', '0 seconds'), tandem.start('r') \g /dev/null
SELECT pg_temp.ticks(6) \g /dev/null
SELECT results_eq($$SELECT stage, phase FROM tandem.status('r')$$, $$VALUES ('shadow', 'progressing')$$, 'a run in shadow');
SELECT is_empty($$SELECT * FROM tandem.repair('r')$$, 'nothing differs: nothing to repair');
RESET ROLE;

-- legacy is authoritative
SELECT pg_temp.silently($$UPDATE b."per""son" SET name = 'it''s \ "x"', seen = NULL, note = 'kept' WHERE id = 1;
    UPDATE b."per""son" SET balance = -1 WHERE id = 2; DELETE FROM b.pet WHERE owner = 3; DELETE FROM b."per""son" WHERE id = 3;
    INSERT INTO b."per""son" (id, name, balance) OVERRIDING SYSTEM VALUE VALUES (900, 'too much', 0); INSERT INTO b.pet VALUES (900, 'rat');
    UPDATE b.pet SET tags = '{9}' WHERE owner = 4 AND name = 'cat'$$);
SELECT tandem.validate('r') \g /dev/null
SET ROLE run_owner;
SELECT results_eq($$SELECT new, kind, key, authority, statement, applied, note FROM tandem.repair('r')$$, $$VALUES
    ('b."per""son"', 'changed', '{"id": 1}'::jsonb, 'legacy', 'UPDATE b."per""son" SET name = CAST(''F1 L1'' AS text), seen = CAST(''2024-01-01 01:00:00+00'' AS timestamp with time zone) WHERE id = CAST(''1'' AS bigint)', false, NULL),
    ('b."per""son"', 'changed', '{"id": 2}', 'legacy', 'UPDATE b."per""son" SET balance = CAST(''2.0000000000000000'' AS numeric) WHERE id = CAST(''2'' AS bigint)', false, NULL),
    ('b."per""son"', 'missing', '{"id": 3}', 'legacy', 'INSERT INTO b."per""son" (id, name, balance, seen, note) OVERRIDING SYSTEM VALUE VALUES (CAST(''3'' AS bigint), CAST(''F3 L3'' AS text), CAST(''3.0000000000000000'' AS numeric), CAST(''2024-01-01 03:00:00+00'' AS timestamp with time zone), CAST(''n3'' AS character varying))', false, NULL),
    ('b."per""son"', 'extra', '{"id": 900}', 'legacy', 'DELETE FROM b."per""son" WHERE id = CAST(''900'' AS bigint)', false, NULL),
    ('b.pet', 'missing', '{"name": "cat", "owner": 3}', 'legacy', 'INSERT INTO b.pet (owner, name, tags) OVERRIDING SYSTEM VALUE VALUES (CAST(''3'' AS bigint), CAST(''cat'' AS text), CAST(''{3,4}'' AS bigint[]))', false, NULL),
    ('b.pet', 'missing', '{"name": "dog", "owner": 3}', 'legacy', 'INSERT INTO b.pet (owner, name, tags) OVERRIDING SYSTEM VALUE VALUES (CAST(''3'' AS bigint), CAST(''dog'' AS text), CAST(''{3,4}'' AS bigint[]))', false, NULL),
    ('b.pet', 'changed', '{"name": "cat", "owner": 4}', 'legacy', 'UPDATE b.pet SET tags = CAST(''{4,5}'' AS bigint[]) WHERE owner = CAST(''4'' AS bigint) AND name = CAST(''cat'' AS text)', false, NULL),
    ('b.pet', 'extra', '{"name": "rat", "owner": 900}', 'legacy', 'DELETE FROM b.pet WHERE owner = CAST(''900'' AS bigint) AND name = CAST(''rat'' AS text)', false, NULL)$$,
    'a dry run returns the plan as SQL');
SELECT is((SELECT count(*) FROM tandem.differences WHERE run = 'r' AND status = 'open'), 8::bigint, '... and changes nothing');
SELECT is((SELECT count(*) FROM tandem.events('r') WHERE kind = 'repair'), 0::bigint, '... nor is it an event');
RESET ROLE;
SET ROLE stranger;
SELECT throws_ok($$SELECT tandem.repair('r')$$, '42501', NULL, 'a stranger repairs nothing');
RESET ROLE;
SET ROLE oncall_role;
SELECT throws_ok($$SELECT tandem.repair('r', false)$$, '42501', NULL, 'nor does on-call');
RESET ROLE;
SET ROLE other_operator;
SELECT results_eq($$SELECT kind, key ->> 'id', applied, note FROM tandem.repair('r', false) WHERE new = 'b."per""son"'$$,
                  $$VALUES ('changed', '1', true, NULL), ('changed', '2', true, NULL), ('missing', '3', true, NULL), ('extra', '900', true, NULL)$$, 'an operator repairs: children first where they must go');
SELECT results_eq($$SELECT actor, role, evidence -> 'repaired', evidence -> 'left', jsonb_array_length(evidence -> 'steps') FROM tandem.events('r') WHERE kind = 'repair'$$,
                  $$VALUES (session_user::text COLLATE "default", 'other_operator', '8'::jsonb, '0'::jsonb, 8)$$, 'an event says who, and what');
RESET ROLE;
SELECT is((SELECT bool_and(clean) FROM tandem.validate('r')), true, 'validate finds both sides equal');
SELECT is((SELECT note FROM b."per""son" WHERE id = 1), 'kept', 'what is ignored stays');
SELECT is((SELECT string_agg(cents::text || first, ',' ORDER BY id) FROM a.person WHERE id < 4), '100F1,200F2,300F3', 'legacy was not written');
SELECT is((SELECT array_agg(DISTINCT status) FROM tandem.differences WHERE run = 'r'), '{repaired}', 'the differences are marked');
SELECT is_empty($$SELECT * FROM tandem.repair('r', false)$$, 'nothing is left to do');
SELECT tandem.retry('r') \g /dev/null

-- found different, and mended or changed since
SELECT pg_temp.silently($$UPDATE b."per""son" SET name = 'x' WHERE id IN (5, 6, 7); DELETE FROM b."per""son" WHERE id = 60$$);
SELECT tandem.validate('r') \g /dev/null
UPDATE a.person SET first = 'New' WHERE id = 5; -- the mirror heals it
SELECT pg_temp.silently($$DELETE FROM b.pet WHERE owner = 6; DELETE FROM b."per""son" WHERE id = 6; UPDATE b."per""son" SET name = 'F7 L7', balance = 8 WHERE id = 7$$);
SELECT results_eq($$SELECT key ->> 'id', kind, applied, note FROM tandem.repair('r')$$,
                  $$VALUES ('5', 'changed', false, 'no longer differs'), ('6', 'missing', false, NULL), ('7', 'changed', false, NULL), ('60', 'missing', false, NULL)$$, 'a dry run looks again');
SELECT results_eq($$SELECT key ->> 'id', kind, applied, note FROM tandem.repair('r', false)$$,
                  $$VALUES ('5', 'changed', false, 'no longer differs'), ('6', 'missing', true, NULL), ('7', 'changed', true, NULL), ('60', 'missing', true, NULL)$$, '... and so does a repair');
SELECT is((SELECT array_agg(key ->> 'owner' || (key ->> 'name') ORDER BY key) FROM tandem.diff('a.pet', 'b.pet', columns => '{"tags": "tags::bigint[]"}')), '{6cat,6dog}', 'what was not found yet is not repaired');
SELECT tandem.validate('r') \g /dev/null
SELECT is((SELECT count(*) FILTER (WHERE applied) FROM tandem.repair('r', false)), 2::bigint, '... until it is');
SELECT is((SELECT bool_and(clean) FROM tandem.validate('r')), true, 'equal');

-- accepted ones stay
SELECT pg_temp.silently($$UPDATE b."per""son" SET name = 'accepted' WHERE id = 10; UPDATE b."per""son" SET name = 'not accepted' WHERE id = 11$$);
SELECT tandem.validate('r') \g /dev/null
SELECT tandem.accept_difference(id, 'he is called so') FROM tandem.differences WHERE run = 'r' AND status = 'open' AND key ->> 'id' = '10' \g /dev/null
SELECT results_eq($$SELECT key ->> 'id', applied FROM tandem.repair('r', false)$$, $$VALUES ('11', true)$$, 'what is accepted is not repaired');
SELECT results_eq($$SELECT clean, accepted FROM tandem.validate('r') WHERE new LIKE '%per%'$$, $$VALUES (true, 1::bigint)$$, '... and stands');
SELECT tandem.retry('r') \g /dev/null

-- new is authoritative for half of the keys
SELECT tandem.withdraw_acceptance(acceptance) FROM tandem.accepted_differences WHERE state = 'in force' \g /dev/null
SELECT pg_temp.silently($$UPDATE b."per""son" SET name = 'F10 L10' WHERE id = 10$$);
SELECT tandem.validate('r') \g /dev/null
SELECT tandem.promote('r') \g /dev/null
CREATE TEMP TABLE sides AS SELECT i, tandem.route('r', i::text) AS side FROM generate_series(61, 1200) AS i;
SELECT pg_temp.silently($$UPDATE b."per""son" SET name = 'New ' || id, balance = id, note = 'note' WHERE id BETWEEN 61 AND 70$$);
SELECT pg_temp.silently($$DELETE FROM b."per""son" WHERE id BETWEEN 71 AND 80; INSERT INTO b."per""son" (id, name, balance) OVERRIDING SYSTEM VALUE SELECT i, 'New ' || i, i FROM generate_series(1001, 1010) AS i$$);
-- found by a comparison that does not roll back
SELECT tandem.run_comparison(r, 'validate') FROM tandem.run AS r \g /dev/null
SELECT is((SELECT count(*) FROM (SELECT key ->> 'id' AS i, authority FROM tandem.repair('r')) AS p JOIN sides AS s ON s.i::text = p.i AND s.side = p.authority), 30::bigint, 'each key by the side that route() names');
SELECT is((SELECT count(DISTINCT authority) FROM tandem.repair('r')), 2::bigint, '... both sides');
SELECT is((SELECT count(*) FILTER (WHERE applied) FROM tandem.repair('r', false)), 30::bigint, 'all are repaired');
SELECT is((SELECT bool_and(clean) FROM tandem.validate('r')), true, '... and equal');
SELECT is((SELECT count(*) FROM sides AS s LEFT JOIN a.person AS p ON p.id = s.i LEFT JOIN b."per""son" AS q ON q.id = s.i
            WHERE CASE WHEN s.i BETWEEN 61 AND 70 THEN (p.first = 'New') = (s.side = 'new') AND q.name = p.first || ' ' || p.last
                       WHEN s.i BETWEEN 71 AND 80 THEN (p.id IS NULL) = (s.side = 'new') AND (q.id IS NULL) = (p.id IS NULL)
                       WHEN s.i BETWEEN 1001 AND 1010 THEN (p.id IS NOT NULL) = (s.side = 'new') AND (q.id IS NULL) = (p.id IS NULL) END), 30::bigint, 'the side that serves the key was right');
SELECT tandem.rollback('r', 'enough') \g /dev/null
SELECT pg_temp.ticks(1) \g /dev/null
SELECT tandem.retry('r') \g /dev/null

-- what cannot be repaired is reported, and the others go on
SET ROLE run_owner;
ALTER TABLE b.pet ADD CONSTRAINT no_fish CHECK (name <> 'fish') NOT VALID;
CREATE FUNCTION b.stubborn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.id = 101 THEN RETURN NULL; END IF; IF NEW.id = 102 THEN NEW.name := 'mine'; END IF; RETURN NEW; END $$;
CREATE TRIGGER stubborn BEFORE UPDATE ON b."per""son" FOR EACH ROW EXECUTE FUNCTION b.stubborn();
RESET ROLE;
SELECT pg_temp.silently($$INSERT INTO a.pet VALUES (100, 'fish'), (100, 'cat'); UPDATE b."per""son" SET name = 'x' WHERE id IN (101, 102, 103)$$);
SELECT tandem.validate('r') \g /dev/null
SELECT results_eq($$SELECT coalesce(key ->> 'id', key ->> 'name'), applied, note FROM tandem.repair('r', false)$$, $$VALUES
    ('103', true, NULL), ('cat', true, NULL),
    ('101', false, '27000: the statement wrote no row: a trigger or a rule kept it from doing so'),
    ('102', false, '27000: it differs after the write, too: name'),
    ('fish', false, '23514: new row for relation "pet" violates check constraint "no_fish"')$$, 'refused rows are reported with their errors, the others go on');
SELECT results_eq($$SELECT evidence -> 'repaired', evidence -> 'left' FROM tandem.events('r') WHERE kind = 'repair' ORDER BY seq DESC LIMIT 1$$, $$VALUES ('2'::jsonb, '3'::jsonb)$$, '... and kept');
SELECT is((SELECT sum(missing + extra + changed) FROM tandem.validate('r')), 3::numeric, 'a validation finds them again');
DROP TRIGGER stubborn ON b."per""son"; ALTER TABLE b.pet DROP CONSTRAINT no_fish;
SELECT is((SELECT bool_and(applied) FROM tandem.repair('r', false)), true, 'with the hindrances gone they are repaired');
SELECT is((SELECT bool_and(clean) FROM tandem.validate('r')), true, '... and equal');

-- a key that stands twice; a routing key that differs
CREATE TABLE a.dup (k integer, v integer, tenant integer, id integer PRIMARY KEY); CREATE TABLE b.dup (k integer, v integer, tenant integer, id integer PRIMARY KEY);
INSERT INTO a.dup SELECT i, i, i, i FROM generate_series(1, 40) AS i;
SELECT tandem.create_run('t', 'a', 'b', steps => '{50,100}', hold => '1 hour'), tandem.map_table('t', 'a.dup', 'b.dup', bucket_by => 'tenant'), tandem.start('t') \g /dev/null
SELECT pg_temp.ticks(6) \g /dev/null
SELECT tandem.promote('t') \g /dev/null
SELECT pg_temp.silently($$UPDATE b.dup SET tenant = tenant + 1$$);
CREATE TABLE a.child () INHERITS (a.dup); INSERT INTO a.child VALUES (1, 1, 1, 1);
SELECT tandem.run_comparison(r, 'validate') FROM tandem.run AS r WHERE name = 't' \g /dev/null
SELECT matches((SELECT note FROM tandem.repair('t', false) WHERE kind = 'duplicate'), '^the key stands 2 times on legacy and 1 times on new', 'a duplicate is reported');
SELECT ok((SELECT count(*) BETWEEN 5 AND 35 FROM tandem.repair('t', false) WHERE note LIKE 'the routing key itself differs: legacy is authoritative for%'), 'so is a row that both sides claim');

-- hostile: names, an owner's function, a call in another's name
SET ROLE run_owner;
CREATE TABLE a."q'%s ""x" ("k'""%s" text PRIMARY KEY, "v$1" text); CREATE TABLE b."q'%s ""x" ("k'""%s" text PRIMARY KEY, "v$1" text, caught text);
CREATE FUNCTION a.evil(text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    BEGIN EXECUTE 'RESET ROLE'; RETURN 'escaped'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN PERFORM tandem.repair('r', false); RETURN 'repaired in another name'; EXCEPTION WHEN OTHERS THEN NULL; END;
    RETURN current_user;
END $$;
INSERT INTO a."q'%s ""x" SELECT v, v FROM unnest(ARRAY['''); DROP TABLE a.person; --', '%s %I %L $1', E'\\''\n"', '']) AS v;
SELECT tandem.create_run('q', 'a', 'b', hold => '1 hour'), tandem.map_table('q', $n$a."q'%s ""x"$n$, $n$b."q'%s ""x"$n$, forward => '{"caught": "a.evil(\"v$1\")"}'), tandem.start('q') \g /dev/null
SELECT pg_temp.ticks(5) \g /dev/null
RESET ROLE;
SELECT pg_temp.silently($$DELETE FROM b."q'%s ""x" WHERE "v$1" LIKE '%\%%'; UPDATE b."q'%s ""x" SET "v$1" = 'x', caught = 'x' WHERE "v$1" LIKE '%''%'; INSERT INTO b."q'%s ""x" VALUES (''', (SELECT 1)); --', '', '')$$);
SELECT tandem.validate('q') \g /dev/null
SELECT is((SELECT count(*) FILTER (WHERE applied) FROM tandem.repair('q', false)), 4::bigint, 'keys and values that would end a string');
SELECT is((SELECT bool_and(clean) FROM tandem.validate('q')), true, '... are repaired');
SELECT is((SELECT array_agg(DISTINCT caught) FROM b."q'%s ""x"), '{run_owner}', 'expressions ran as the run''s owner');
SELECT is(current_user, session_user, 'and we are who we were');
SET ROLE run_owner;
SELECT throws_ok($$SELECT * FROM tandem.repair_as('postgres', 'SELECT 1', 1, 'forward') AS q (a integer)$$, '42501', NULL, 'the inner functions are closed');
SELECT throws_ok($$SELECT tandem.repair('nobody')$$, '42704', NULL, 'a run that is not there');
RESET ROLE;

-- Random differences in both tables, repaired in random states of the run, against the oracle. The seed is printed.
SELECT tandem.cancel('t'), tandem.cancel('q') FROM (SELECT tandem.rollback('t', 'end')) AS x \g /dev/null
SELECT pg_temp.ticks(2), tandem.retry('r') FROM tandem.run AS r WHERE r.name = 'r' AND r.phase = 'degraded' \g /dev/null
CREATE TEMP TABLE seed AS SELECT (random() * 1e6)::integer AS seed;
SELECT diag('seed of repair.sql: ' || seed), setseed(seed / 1e6) FROM seed;
CREATE FUNCTION pg_temp.oracle_round(round integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    left_over text;
    steps bigint;
    found_before bigint;
BEGIN
    PERFORM pg_temp.silently(format($sql$
        UPDATE b."per""son" SET name = CASE WHEN random() < 0.5 THEN name ELSE 'N' || %1$s || ' ' || (random() * 9)::integer END, balance = CASE WHEN random() < 0.5 THEN balance ELSE (random() * 99)::integer END,
               seen = CASE WHEN random() < 0.7 THEN seen WHEN random() < 0.5 THEN NULL ELSE '2020-01-01' END WHERE random() < 0.05;
        UPDATE a.person SET first = 'M' || (random() * 9)::integer, cents = (random() * 9999)::integer WHERE random() < 0.03;
        UPDATE b.pet SET tags = CASE WHEN random() < 0.3 THEN NULL ELSE ARRAY[(random() * 9)::integer, NULL] END WHERE random() < 0.05;
        DELETE FROM b.pet WHERE random() < 0.04; DELETE FROM a.pet WHERE random() < 0.04;
        DELETE FROM b."per""son" AS p WHERE random() < 0.03 AND NOT EXISTS (SELECT FROM b.pet WHERE owner = p.id) AND NOT EXISTS (SELECT FROM a.pet WHERE owner = p.id);
        INSERT INTO b."per""son" (id, name, balance) OVERRIDING SYSTEM VALUE SELECT 2000 + %1$s * 10 + i, 'X ' || i, i FROM generate_series(1, 3) AS i;
        INSERT INTO b.pet SELECT 2000 + %1$s * 10 + i, 'parrot', NULL FROM generate_series(1, 3) AS i WHERE random() < 0.5$sql$, round));
    PERFORM tandem.run_comparison(r, 'validate') FROM tandem.run AS r WHERE name = 'r';
    found_before := (SELECT sum(c.missing + c.extra + c.changed) FROM (SELECT * FROM tandem.comparison ORDER BY id DESC LIMIT 2) AS c);
    SELECT count(*), string_agg(note, '; ') INTO steps, left_over FROM tandem.repair('r', false) WHERE applied OR note IS NOT NULL;
    IF left_over IS NOT NULL OR steps <> found_before THEN
        RETURN format('%s of %s, left over: %s', steps, found_before, left_over);
    END IF;
    RETURN nullif(concat((SELECT string_agg(d.kind || d.key::text, ', ') FROM tandem.diff('a.person', 'b."per""son"', '{id}', '{"name": "first || '' '' || last", "balance": "cents / 100.0", "twice": "cents / 50.0"}', '{"note": {"ignore": true}}') AS d),
           (SELECT string_agg(d.kind || d.key::text, ', ') FROM tandem.diff('a.pet', 'b.pet', columns => '{"tags": "tags::bigint[]"}') AS d)), '');
END $$;
SELECT is(pg_temp.oracle_round(n), NULL, format('round %s: repaired, then equal', n)) FROM generate_series(1, 6) AS n;
SELECT tandem.validate('r') \g /dev/null
SELECT tandem.promote('r') \g /dev/null
SELECT is((SELECT weight FROM tandem.status('r')), 50, 'half of the keys on new');
SELECT is(pg_temp.oracle_round(n), NULL, format('round %s: repaired by both authorities, then equal', n)) FROM generate_series(7, 12) AS n;

SELECT * FROM finish();
ROLLBACK;
