-- Casts in mappings: only what loses nothing may be read from the stored bytes; and a key is unique only under its own type's equality.
\set VERBOSITY terse
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pg_tandem;
DROP SCHEMA IF EXISTS casts CASCADE;
CREATE SCHEMA casts;
SET search_path = casts, public;
-- what each method says of a comparison, in one line where all agree
CREATE FUNCTION casts.ask(arguments text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    method text;
    path text;
    answer text;
    answers text[] := '{}';
BEGIN
    FOR method, path IN VALUES ('join', 'auto'), ('auto', 'auto'), ('sketch', 'slots'), ('sketch', 'executor'), ('radix', 'raw') LOOP
        PERFORM set_config('tandem.compare_method', method, true), set_config('tandem.compare_path', path, true);
        EXECUTE 'SELECT format(''equal %s, missing %s, extra %s, changed %s, duplicates %s, errors %s'', equal, missing, extra, changed, duplicates, errors) FROM tandem.compare(' || arguments || ')' INTO answer;
        answers := answers || answer;
    END LOOP;
    RETURN QUERY SELECT DISTINCT a FROM unnest(answers) AS a;
END $$;

CREATE TABLE f8 (id integer PRIMARY KEY, v float8); INSERT INTO f8 VALUES (1, 0.1);
CREATE TABLE f8too (LIKE f8 INCLUDING ALL); INSERT INTO f8too TABLE f8;
CREATE TABLE f4 (id integer PRIMARY KEY, v real); INSERT INTO f4 TABLE f8;
SELECT * FROM ask($$'f8', 'f8too', columns => '{"v": "v::real"}'$$);
SELECT * FROM ask($$'f8', 'f4', columns => '{"v": "v::real"}'$$);
SELECT * FROM ask($$'f4', 'f8', columns => '{"v": "v::float8"}'$$);

CREATE TABLE wide (id integer PRIMARY KEY, v bigint); INSERT INTO wide VALUES (1, 4294967301), (2, 5);
CREATE TABLE wide_too (LIKE wide INCLUDING ALL); INSERT INTO wide_too TABLE wide;
SELECT * FROM ask($$'wide', 'wide_too', columns => '{"v": "v::integer"}'$$);
CREATE TABLE small (id bigint PRIMARY KEY, v smallint); INSERT INTO small VALUES (1, 7), (2, 5);
CREATE TABLE decimals (id numeric PRIMARY KEY, v numeric(6,2)); INSERT INTO decimals VALUES (1.0, 7.00), (2, 6);
SELECT * FROM ask($$'small', 'decimals', columns => '{"id": "id::numeric", "v": "v::numeric"}'$$);
SELECT * FROM ask($$'small', 'wide', columns => '{"v": "v::bigint"}'$$);

CREATE TABLE padded (k varchar PRIMARY KEY); INSERT INTO padded VALUES ('a'), ('a ');
CREATE TABLE padded_too (LIKE padded INCLUDING ALL); INSERT INTO padded_too TABLE padded;
SELECT * FROM ask($$'padded', 'padded_too', key => '{k}', columns => '{"k": "k::bpchar"}'$$);
CREATE TYPE one AS (n numeric);
CREATE TABLE imaged (k one NOT NULL, v integer); CREATE UNIQUE INDEX ON imaged (k record_image_ops); INSERT INTO imaged VALUES (ROW(1.0), 1), (ROW(1.00), 1);
CREATE TABLE imaged_too (LIKE imaged INCLUDING ALL); INSERT INTO imaged_too TABLE imaged;
SELECT * FROM ask($$'imaged', 'imaged_too', key => '{k}'$$);
CREATE TABLE named (id integer PRIMARY KEY, n name); INSERT INTO named VALUES (1, 'a ');
CREATE TABLE fixed (id integer PRIMARY KEY, n char(5)); INSERT INTO fixed VALUES (1, 'a');
SELECT * FROM ask($$'named', 'fixed', columns => '{"n": "n::bpchar"}'$$);

-- dates go further than timestamps
CREATE TABLE days (id integer PRIMARY KEY, d date); INSERT INTO days VALUES (1, '500000-01-01'), (2, '2020-01-01'), (3, 'infinity'), (4, '500000-01-02');
CREATE TABLE moments (id integer PRIMARY KEY, d timestamp); INSERT INTO moments VALUES (1, '200000-01-01'), (2, '2020-01-01'), (3, 'infinity'), (4, 'infinity');
SELECT * FROM ask($$'days', 'moments'$$);

-- a view that is never the same twice cannot be compared
CREATE VIEW dice AS SELECT (random() * 1e9)::integer AS id;
CREATE VIEW more_dice AS SELECT (random() * 1e9)::integer AS id;
SELECT * FROM tandem.diff('dice', 'more_dice', key => '{id}');

-- rights: of the schema, too, and not of columns that nobody asks for
CREATE SCHEMA hidden; CREATE TABLE hidden.t (id integer PRIMARY KEY); CREATE TABLE shown (id integer PRIMARY KEY);
CREATE TABLE partly (id integer PRIMARY KEY, d integer, secret integer); INSERT INTO partly VALUES (1, 0, 1);
CREATE TABLE fully (id integer PRIMARY KEY, d integer);
SELECT 'hidden.t'::regclass::oid AS hidden \gset
CREATE ROLE casts_reader;
GRANT USAGE ON SCHEMA casts TO casts_reader; GRANT SELECT ON hidden.t, shown, fully TO casts_reader; GRANT SELECT (id, d) ON partly TO casts_reader;
SET ROLE casts_reader;
SELECT equal FROM tandem.compare(:hidden::regclass, 'shown');
SELECT kind, key, legacy FROM tandem.diff('partly', 'fully', columns => '{"d": "1 / d"}');
RESET ROLE;
DROP SCHEMA casts, hidden CASCADE;
DROP ROLE casts_reader;
