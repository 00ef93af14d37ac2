-- What diff() and compare() hold for equal: PostgreSQL's = of each type, and where other tools say EQUAL and are wrong.
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pg_tandem;
SET client_min_messages = warning;
CREATE EXTENSION citext;
\set SHOW_CONTEXT never
CREATE SCHEMA legacy;
CREATE SCHEMA bank;

-- Compares one value of each side in three ways: as a column beside a key, as a row without a key, and as the key itself.
-- Says 'equal', 'differ' or the SQLSTATE, and which way where they don't agree.
CREATE FUNCTION verdict(legacy_type text, legacy_value text, new_type text, new_value text, rules jsonb DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    how text;
    answer text;
    answers text[] = '{}';
BEGIN
    EXECUTE format('CREATE TABLE legacy.v (k integer PRIMARY KEY, v %s); CREATE TABLE bank.v (k integer PRIMARY KEY, v %s)', legacy_type, new_type);
    EXECUTE format('INSERT INTO legacy.v VALUES (1, %L); INSERT INTO bank.v VALUES (1, %L)', legacy_value, new_value);
    FOREACH how IN ARRAY ARRAY['column', 'row', 'key'] LOOP
        CONTINUE WHEN how = 'key' AND (legacy_value IS NULL OR new_value IS NULL);
        CONTINUE WHEN how <> 'column' AND rules ? 'v' AND rules::text ~ 'tolerance';
        BEGIN
            answer := CASE WHEN c.equal THEN 'equal' ELSE 'differ' END
                 FROM tandem.compare('legacy.v', 'bank.v', CASE how WHEN 'key' THEN '{v}'::name[] END,
                                     rules => rules || CASE WHEN how <> 'column' THEN '{"k": {"ignore": true}}' ELSE '{}' END::jsonb) AS c;
            IF (answer = 'equal') <> NOT EXISTS (SELECT FROM tandem.diff('legacy.v', 'bank.v', CASE how WHEN 'key' THEN '{v}'::name[] END,
                                     rules => rules || CASE WHEN how <> 'column' THEN '{"k": {"ignore": true}}' ELSE '{}' END::jsonb)) THEN
                answer := 'compare() and diff() contradict each other';
            END IF;
        EXCEPTION WHEN OTHERS THEN
            answer := SQLSTATE;
        END;
        answers := answers || answer;
    END LOOP;
    DROP TABLE legacy.v, bank.v;
    RETURN CASE WHEN (SELECT count(DISTINCT a) FROM unnest(answers) AS a) = 1 THEN answers[1] ELSE answers::text END;
END
$$;

--
-- PostgreSQL's = of the type
--
SELECT legacy_type || ' ' || coalesce(legacy_value, 'NULL') AS legacy, new_type || ' ' || coalesce(new_value, 'NULL') AS new, verdict(legacy_type, legacy_value, new_type, new_value)
  FROM (VALUES
    -- numbers: the value counts, not the type
    ('int4', '42', 'int8', '42'), ('int2', '42', 'numeric', '42.00'), ('int8', '9223372036854775807', 'numeric', '9223372036854775807'),
    ('numeric', '1.0', 'numeric', '1.00'), ('numeric', '1.0', 'numeric', '1.01'), ('numeric', 'NaN', 'numeric', 'NaN'), ('numeric', '0', 'numeric', '-0.0'),
    ('float8', '-0', 'float8', '0'), ('float8', 'NaN', 'float8', 'NaN'), ('float8', 'Infinity', 'float8', '-Infinity'), ('float8', 'Infinity', 'numeric', 'Infinity'),
    ('float4', '0.5', 'float8', '0.5'), ('float4', '0.1', 'float8', '0.1'), ('float4', '0.1', 'numeric', '0.1'), ('float8', '0.1', 'numeric', '0.1'), ('float8', '1e-320', 'float8', '0'),
    ('float8', '0.30000000000000004', 'float8', '0.3'), ('int8', '9007199254740993', 'float8', '9007199254740992'), ('oid', '1', 'int4', '1'), ('money', '1', 'money', '1.00'),
    -- text
    ('text', 'a', 'varchar(5)', 'a'), ('text', 'a', 'text', 'A'), ('text', 'a', 'text', 'a '), ('text', '', 'text', ' '),
    ('char(5)', 'ab', 'char(10)', 'ab'), ('char(5)', 'ab', 'text', 'ab'), ('char(5)', 'ab', 'text', 'ab   '), ('varchar', 'ab ', 'char(3)', 'ab'),
    ('name', 'a', 'text', 'a'), ('"char"', 'a', 'text', 'a'), ('citext', 'Ada', 'citext', 'ADA'), ('citext', 'Ada', 'text', 'ADA'), ('citext', 'Ada', 'text', 'Ada'),
    -- dates and times
    ('date', '2024-01-01', 'timestamp', '2024-01-01 00:00'), ('date', '2024-01-01', 'timestamp', '2024-01-01 00:00:00.000001'),
    ('timestamptz', '2024-01-01 12:00+02', 'timestamptz', '2024-01-01 10:00+00'), ('timestamp', 'infinity', 'timestamp', 'infinity'),
    ('timetz', '12:00+00', 'timetz', '13:00+01'), ('interval', '1 day', 'interval', '24 hours'), ('interval', '1 month', 'interval', '30 days'), ('time', '01:00', 'interval', '1 hour'),
    -- other types
    ('bool', 't', 'bool', 'true'), ('bytea', '\x00', 'bytea', '\x'), ('bytea', '\x00', 'bytea', '\x0000'), ('uuid', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 'uuid', '{a0eebc999c0b4ef8bb6d6bb9bd380a11}'),
    ('inet', '10.0.0.0/8', 'cidr', '10.0.0.0/8'), ('inet', '10.0.0.1', 'inet', '10.0.0.1/8'), ('bit(3)', '101', 'varbit', '101'), ('bit(3)', '101', 'bit(4)', '1010'),
    ('tsvector', 'b a', 'tsvector', 'a b'), ('pg_lsn', '0/1', 'pg_lsn', '0/01'), ('macaddr', '08:00:2b:01:02:03', 'macaddr', '08002b010203')
  ) AS x (legacy_type, legacy_value, new_type, new_value);

-- json as jsonb; other types without = by their text: not by an operator that only bears the name, such as box = box, which compares areas
SELECT legacy_type || ' ' || coalesce(legacy_value, 'NULL') AS legacy, new_type || ' ' || coalesce(new_value, 'NULL') AS new, verdict(legacy_type, legacy_value, new_type, new_value)
  FROM (VALUES
    ('json', '{"a": 1, "b": [2]}', 'json', '{"b":[2],"a":1.0}'), ('json', '{"a": 1}', 'jsonb', '{"a": 1}'), ('json', '{"a": 1, "a": 2}', 'jsonb', '{"a": 2}'),
    ('json', '{"a": null}', 'json', '{}'), ('jsonb', '"1"', 'jsonb', '1'), ('json', 'null', 'json', NULL),
    ('xml', '<a/>', 'xml', '<a/>'), ('xml', '<a/>', 'xml', '<a></a>'), ('point', '(1,2)', 'point', '(1,2)'), ('point', '(1,2)', 'point', '(1,2.0000000001)'),
    ('box', '(1,1),(0,0)', 'box', '(0,0),(1,1)'), ('box', '(1,1),(0,0)', 'box', '(3,3),(2,2)'), ('circle', '<(0,0),1>', 'circle', '<(5,5),1>'),
    ('lseg', '[(0,0),(1,1)]', 'lseg', '[(1,1),(0,0)]'), ('path', '((0,0),(1,1))', 'path', '[(0,0),(1,1)]'), ('polygon', '((0,0),(1,1))', 'polygon', '((0,0),(1,1))'),
    ('jsonpath', '$.a', 'jsonpath', '$."a"'), ('point[]', '{"(1,2)"}', 'point[]', '{"(1, 2)"}'), ('json[]', '{"{\"a\":1}"}', 'json[]', '{"{\"a\": 1}"}')
  ) AS x (legacy_type, legacy_value, new_type, new_value);

-- types of one's own, and types made of others
CREATE TYPE legacy.mood AS ENUM ('sad', 'happy');
CREATE TYPE bank.mood AS ENUM ('sad', 'happy');
CREATE TYPE legacy.pair AS (a integer, b text);
CREATE TYPE bank.couple AS (x integer, y text);
CREATE TYPE bank.wide_pair AS (a bigint, b text);
CREATE TYPE legacy.place AS (label text, at box);
CREATE DOMAIN legacy.amount AS numeric(10,2) CHECK (VALUE >= 0);
CREATE DOMAIN legacy.price AS legacy.amount;
CREATE DOMAIN legacy.document AS json;
CREATE DOMAIN legacy.email AS citext;
CREATE DOMAIN legacy.couple AS bank.couple;
SELECT legacy_type || ' ' || coalesce(legacy_value, 'NULL') AS legacy, new_type || ' ' || coalesce(new_value, 'NULL') AS new, verdict(legacy_type, legacy_value, new_type, new_value)
  FROM (VALUES
    ('legacy.mood', 'sad', 'legacy.mood', 'sad'), ('legacy.mood', 'sad', 'legacy.mood', 'happy'),
    ('legacy.price', '1', 'int4', '1'), ('legacy.price', '1', 'legacy.amount', '1.00'), ('legacy.document', '{"a":1}', 'jsonb', '{"a": 1}'),
    ('legacy.document', '{"a":1}', 'json', '{"a":2}'), ('legacy.email', 'A@B', 'citext', 'a@b'), ('legacy.email', 'A@B', 'legacy.email', 'a@b'),
    ('legacy.pair', '(1,)', 'legacy.pair', '(1,)'), ('legacy.pair', '(,)', 'legacy.pair', '(,)'), ('legacy.pair', '(1,)', 'legacy.pair', '(1,"")'),
    ('legacy.pair', '(,)', 'legacy.pair', NULL), ('legacy.pair', NULL, 'legacy.pair', '(,)'), ('legacy.pair', NULL, 'legacy.pair', NULL),
    ('legacy.pair', '(1,a)', 'bank.couple', '(1,a)'), ('legacy.pair', '(1,a)', 'legacy.couple', '(1,b)'),
    ('legacy.place', '(home,"(1,1),(0,0)")', 'legacy.place', '(home,"(3,3),(2,2)")'), ('legacy.place', '(home,"(1,1),(0,0)")', 'legacy.place', '(home,"(0,0),(1,1)")'),
    ('int[]', '{1,NULL}', 'int[]', '{1,NULL}'), ('int[]', '{}', 'int[]', NULL), ('int[]', '{1,2}', 'int[]', '{{1,2}}'), ('int[]', '{1,2}', 'int[]', '[0:1]={1,2}'),
    ('text[]', '{NULL}', 'text[]', '{"NULL"}'), ('citext[]', '{A}', 'citext[]', '{a}'), ('legacy.pair[]', '{"(1,)"}', 'legacy.pair[]', '{"(1,)"}'),
    ('int4range', '[1,3)', 'int4range', '[1,2]'), ('numrange', '[1,2]', 'numrange', '[1.0,2.0]'), ('int4multirange', '{[1,2],[3,4]}', 'int4multirange', '{[1,5)}')
  ) AS x (legacy_type, legacy_value, new_type, new_value);

-- No common =, or none that means the same in every session: an error, not a guess
SELECT legacy_type AS legacy, new_type AS new, verdict(legacy_type, NULL, new_type, NULL)
  FROM (VALUES
    ('timestamp', 'timestamptz'), ('date', 'timestamptz'), ('time', 'timetz'), ('int4', 'text'), ('uuid', 'text'), ('bool', 'int4'), ('money', 'numeric'), ('json', 'text'),
    ('legacy.mood', 'bank.mood'), ('legacy.mood', 'text'), ('point', 'box'), ('xml', 'json'), ('int4[]', 'int8[]'), ('int4range', 'int8range'), ('legacy.pair', 'bank.wide_pair'),
    ('legacy.pair', 'legacy.place'), ('legacy.pair', 'text')
  ) AS x (legacy_type, new_type);
-- ... which says how to map it
CREATE TABLE legacy.event (id integer PRIMARY KEY, at timestamp, mood legacy.mood, who text, size integer);
CREATE TABLE bank.event (id integer PRIMARY KEY, at timestamptz, mood bank.mood, who bank.couple, size integer);
INSERT INTO legacy.event VALUES (1, '2024-07-01 12:00', 'sad', 'Ada', 1), (2, '2024-12-01 12:00', NULL, NULL, NULL);
INSERT INTO bank.event VALUES (1, '2024-07-01 10:00Z', 'sad', '(1,Ada)', 1), (2, '2024-12-01 12:00Z', NULL, NULL, 1);
SELECT * FROM tandem.diff('legacy.event', 'bank.event');
SELECT * FROM tandem.diff('legacy.event', 'bank.event', columns => '{"at": "at AT TIME ZONE ''Europe/Berlin''", "mood": "mood::text"}');
SELECT * FROM tandem.diff('legacy.event', 'bank.event', columns => '{"at": "at AT TIME ZONE ''Europe/Berlin''", "mood": "mood::text::bank.mood", "who": "ROW(1, who)"}');
SELECT * FROM tandem.diff('legacy.event', 'bank.event', columns => '{"at": "at AT TIME ZONE ''Europe/Berlin''", "mood": "mood::text::bank.mood", "who": "CASE WHEN who IS NOT NULL THEN ROW(1, who)::bank.couple END"}');

--
-- Collations: of two different deterministic ones the bytes count; a nondeterministic one decides where both sides have it
--
CREATE COLLATION bank.ignoring_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
SELECT legacy_type || ' ' || coalesce(legacy_value, 'NULL') AS legacy, new_type || ' ' || coalesce(new_value, 'NULL') AS new, verdict(legacy_type, legacy_value, new_type, new_value)
  FROM (VALUES
    ('text COLLATE "C"', 'a', 'text COLLATE "POSIX"', 'a'), ('text COLLATE "C"', 'a', 'text', 'a'), ('text COLLATE "C"', 'a', 'text', 'A'),
    ('text[] COLLATE "C"', '{a}', 'text[]', '{a}'), ('name', 'a', 'text COLLATE "POSIX"', 'a'), ('citext COLLATE "C"', 'a', 'citext', 'A'), ('char(3) COLLATE "C"', 'a', 'char(5)', 'a'),
    ('text COLLATE bank.ignoring_case', 'Ada', 'text COLLATE bank.ignoring_case', 'ADA'), ('text COLLATE bank.ignoring_case', 'Ada', 'varchar COLLATE bank.ignoring_case', 'Ida'),
    ('text COLLATE bank.ignoring_case', 'Ada', 'text', 'Ada'), ('text COLLATE "C"', 'Ada', 'text COLLATE bank.ignoring_case', 'Ada')
  ) AS x (legacy_type, legacy_value, new_type, new_value);
CREATE TABLE legacy.named (id integer PRIMARY KEY, name text COLLATE "C");
CREATE TABLE bank.named (id integer PRIMARY KEY, name text COLLATE bank.ignoring_case);
INSERT INTO legacy.named VALUES (1, 'Ada');
INSERT INTO bank.named VALUES (1, 'ADA');
SELECT * FROM tandem.diff('legacy.named', 'bank.named');
SELECT * FROM tandem.diff('legacy.named', 'bank.named', columns => '{"name": "name COLLATE bank.ignoring_case"}');
SELECT kind, key FROM tandem.diff('legacy.named', 'bank.named', key => '{name}', columns => '{"name": "name COLLATE bank.ignoring_case"}');

--
-- Rules widen what is equal and never narrow it
--
SELECT legacy_type || ' ' || coalesce(legacy_value, 'NULL') AS legacy, new_type || ' ' || coalesce(new_value, 'NULL') AS new, rule, verdict(legacy_type, legacy_value, new_type, new_value, jsonb_build_object('v', rule::jsonb))
  FROM (VALUES
    ('citext', 'Ada', 'citext', ' ADA', '{"trim": true}'), ('char(5)', ' ab', 'char(10)', 'ab', '{"trim": true}'), ('char(5)', 'ab', 'text', 'ab   ', '{"trim": true}'),
    ('text', E'\ta', 'text', 'a', '{"trim": true}'), ('name', ' a', 'text', 'A ', '{"trim": true, "ignore_case": true}'), ('legacy.email', 'A', 'text', 'a ', '{"trim": true, "ignore_case": true}'),
    ('text COLLATE "C"', U&'\00C4', 'text COLLATE "und-x-icu"', U&'\00E4', '{"ignore_case": true}'), ('text COLLATE "und-x-icu"', U&'\00C4', 'text COLLATE "und-x-icu"', U&'\00E4', '{"ignore_case": true}'),
    ('text COLLATE "C"', U&'\00C4', 'text COLLATE "C"', U&'\00E4', '{"ignore_case": true}'), ('text', 'x', 'text', 'y', '{"ignore": false}'),
    ('text COLLATE bank.ignoring_case', 'Ada ', 'text COLLATE bank.ignoring_case', 'ADA', '{"trim": true}'),
    ('text', '', 'text', NULL, '{"empty_is_null": true}'), ('char(3)', '', 'text', NULL, '{"empty_is_null": true}'), ('text', ' ', 'text', NULL, '{"empty_is_null": true}'),
    ('float8', '1.11', 'float8', '1.10', '{"tolerance": 0.01}'), ('float8', '0.1', 'numeric', '0.1', '{"tolerance": 0}'), ('int4', '1', 'numeric', '1.5', '{"tolerance": 0.5}'),
    ('float4', '0.1', 'numeric', '0.1', '{"tolerance": 0}'), ('float8', 'NaN', 'float8', 'NaN', '{"tolerance": 1}'), ('float8', 'NaN', 'float8', '1', '{"tolerance": 1e300}'),
    ('float8', 'Infinity', 'float8', 'Infinity', '{"relative_tolerance": 1}'), ('float8', 'Infinity', 'float8', '1', '{"relative_tolerance": 1}'), ('float8', 'Infinity', 'float8', '-Infinity', '{"tolerance": 1e300}'),
    ('numeric', '100', 'numeric', '99', '{"relative_tolerance": 0.01}'), ('numeric', '99', 'numeric', '100', '{"relative_tolerance": 0.01}'), ('numeric', '98.9', 'numeric', '100', '{"relative_tolerance": 0.01}'),
    ('numeric', '-1', 'numeric', '1', '{"relative_tolerance": 1}'), ('numeric', '0', 'numeric', '1e-9', '{"relative_tolerance": 1e-6}'), ('numeric', '1', 'numeric', NULL, '{"tolerance": 1e300}'),
    ('legacy.price', '1', 'int8', '2', '{"tolerance": 1}'), ('int8', '9223372036854775807', 'int8', '-9223372036854775808', '{"tolerance": 1}'),
    ('date', '2024-01-01', 'timestamp', '2024-01-01 00:00:01', '{"time_tolerance": "1 second"}'), ('timestamp', '2024-01-01', 'date', '2024-01-02', '{"time_tolerance": "23 hours"}'),
    ('timestamptz', '2024-01-01 12:00+02', 'timestamptz', '2024-01-01 10:00:00.5+00', '{"time_tolerance": "0.5 s"}'), ('timestamptz', 'infinity', 'timestamptz', 'infinity', '{"time_tolerance": "0"}'),
    ('timestamp', 'infinity', 'timestamp', '-infinity', '{"time_tolerance": "1 year"}'), ('timestamp', 'infinity', 'timestamp', '2024-01-01', '{"time_tolerance": "1 year"}'),
    ('time', '12:00', 'time', '11:59:59', '{"time_tolerance": "1 s"}'), ('time', '00:00', 'time', '23:59:59', '{"time_tolerance": "1 s"}'), ('interval', '1 hour', 'interval', '59 minutes', '{"time_tolerance": "1 min"}'),
    ('timestamp', '4714-11-24 BC', 'timestamp', '294276-12-31', '{"time_tolerance": "1 second"}'), ('timestamp', '4714-11-24 BC', 'timestamp', '294276-12-31', '{"time_tolerance": "304000 years"}'), ('timestamptz', '4714-11-24Z BC', 'timestamptz', '294276-12-31Z', '{"time_tolerance": "298000 years"}'),
    ('timestamp', '2024-01-01', 'timestamp', '2025-01-01', '{"time_tolerance": "178000000 years"}'), ('date', '5874897-12-31', 'date', '5874897-12-30', '{"time_tolerance": "1 day"}'), ('date', '5874897-12-31', 'date', '4714-11-24 BC', '{"time_tolerance": "1000 years"}'),
    ('date', '5874897-12-31', 'timestamp', '294276-12-31', '{"time_tolerance": "5670000 years"}'), ('interval', '178000000 years', 'interval', '-178000000 years', '{"time_tolerance": "1 day"}'), ('interval', '1 month -30 days -00:00:01', 'interval', '0', '{"time_tolerance": "1 second"}'),
    ('numeric', '1', 'numeric', '1.0000001', '{"tolerance": 1e-400}'), ('float8', '1', 'float8', '1', '{"tolerance": 1e-400}'), ('float8', '1e308', 'float8', '-1e308', '{"tolerance": 1e400}'), ('float8', '1', 'float8', '1.5', '{"relative_tolerance": 1e-330}')
  ) AS x (legacy_type, legacy_value, new_type, new_value, rule);
-- intervals without end, which PostgreSQL 17 has: near to nothing, however wide the tolerance
DO $do$
DECLARE
    found text;
BEGIN
    IF current_setting('server_version_num')::integer >= 170000 THEN
        CREATE TABLE legacy.endless (k integer PRIMARY KEY, v interval);
        CREATE TABLE bank.endless (k integer PRIMARY KEY, v interval);
        INSERT INTO legacy.endless VALUES (1, 'infinity'), (2, '-infinity'), (3, '178000000 years'), (4, '1 day');
        INSERT INTO bank.endless VALUES (1, 'infinity'), (2, '-178000000 years'), (3, 'infinity'), (4, '-178000000 years');
        SELECT string_agg(d.key ->> 'k', ',' ORDER BY d.key) INTO found
          FROM tandem.diff('legacy.endless', 'bank.endless', rules => '{"v": {"time_tolerance": "178000000 years"}}') AS d;
        IF found IS DISTINCT FROM '2,3,4' THEN RAISE EXCEPTION 'differ: %', found; END IF;
        DROP TABLE legacy.endless, bank.endless;
    END IF;
END
$do$;

--
-- Where peers say EQUAL and are wrong
--
-- Counts of both ways: by the key k, and without a key.
CREATE FUNCTION counted(legacy_rows text, new_rows text) RETURNS TABLE (how text, equal boolean, missing bigint, extra bigint, changed bigint) LANGUAGE plpgsql AS $$
BEGIN
    CREATE TABLE legacy.r (k integer PRIMARY KEY, a text, b text, at timestamp);
    CREATE TABLE bank.r (k integer PRIMARY KEY, a text, b text, at timestamp);
    EXECUTE 'INSERT INTO legacy.r VALUES ' || legacy_rows;
    EXECUTE 'INSERT INTO bank.r VALUES ' || new_rows;
    RETURN QUERY SELECT 'keyed', c.equal, c.missing, c.extra, c.changed FROM tandem.compare('legacy.r', 'bank.r') AS c;
    RETURN QUERY SELECT 'multiset', c.equal, c.missing, c.extra, c.changed FROM tandem.compare('legacy.r', 'bank.r', rules => '{"k": {"ignore": true}}') AS c;
    DROP TABLE legacy.r, bank.r;
END
$$;
-- CRC32 and XOR: the same change on an even number of rows cancels
SELECT * FROM counted($$(1, 'x', 'old'), (2, 'x', 'old')$$, $$(1, 'x', 'new'), (2, 'x', 'new')$$);
-- concat_ws('|', coalesce(x, '')): NULL is not ''
SELECT * FROM counted($$(1, NULL, 'b')$$, $$(1, '', 'b')$$);
-- ... and ('a|b', 'c') is not ('a', 'b|c')
SELECT * FROM counted($$(1, 'a|b', 'c')$$, $$(1, 'a', 'b|c')$$);
-- ... nor does a NULL let a value slip into the next column
SELECT * FROM counted($$(1, 'a', NULL)$$, $$(1, NULL, 'a')$$);
-- 'NULL' is not NULL
SELECT * FROM counted($$(1, 'NULL', 'b')$$, $$(1, NULL, 'b')$$);
-- trimmed strings
SELECT * FROM counted($$(1, 'a ', 'b')$$, $$(1, 'a', 'b')$$);
-- dates cut to seconds
SELECT * FROM counted($$(1, 'a', 'b', '2024-01-01 00:00:00.1')$$, $$(1, 'a', 'b', '2024-01-01 00:00:00.2')$$);
-- XOR of duplicate pairs: two equal rows are not none, nor two other equal rows
SELECT * FROM counted($$(1, 'x', 'y'), (2, 'x', 'y'), (3, 'z', 'z')$$, $$(3, 'z', 'z')$$);
SELECT * FROM counted($$(1, 'x', 'y'), (2, 'x', 'y')$$, $$(1, 'z', 'z'), (2, 'z', 'z')$$);
-- a sum of linear hashes: values swapped between two rows
SELECT * FROM counted($$(1, 'x', 'p'), (2, 'y', 'q')$$, $$(1, 'y', 'p'), (2, 'x', 'q')$$);
SELECT * FROM counted($$(1, 'x', 'p'), (2, 'y', 'q')$$, $$(2, 'x', 'p'), (1, 'y', 'q')$$);

DROP FUNCTION verdict, counted;
DROP SCHEMA legacy, bank CASCADE;
DROP EXTENSION citext;
