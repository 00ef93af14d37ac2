-- diff_schema() against changes whose answer is known: a schema, its copy, and DDL on the copy. Each change alone, each the other way round, and
-- random sets of them together must be reported exactly, and nothing else. TANDEM_SEED=n repeats a run, TANDEM_ROUNDS=n makes it longer.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
\set seed ''
\set rounds ''
\getenv seed TANDEM_SEED
\getenv rounds TANDEM_ROUNDS
SELECT coalesce(nullif(:'seed', ''), floor(random() * 1000000)::text) AS seed, coalesce(nullif(:'rounds', ''), '40') AS rounds \gset
SELECT diag('TANDEM_SEED=' || :'seed' || ' TANDEM_ROUNDS=' || :'rounds');
SELECT setseed(:seed / 1000000.0) \g /dev/null

CREATE ROLE tandem_reader; CREATE ROLE tandem_clerk;

-- The schema: {s} stands for its name. Everything refers to it by that name, some of it twice.
CREATE FUNCTION pg_temp.build(s text) RETURNS void LANGUAGE plpgsql AS $build$
BEGIN
    EXECUTE replace($ddl$
        CREATE SCHEMA {s};
        CREATE TYPE {s}.mood AS ENUM ('sad', 'calm', 'glad');
        CREATE DOMAIN {s}.email AS text CHECK (VALUE LIKE '%@%');
        CREATE TYPE {s}.place AS (street text, "no." integer);
        CREATE TYPE {s}.span AS RANGE (subtype = integer);
        CREATE SEQUENCE {s}.ticket AS bigint;
        CREATE FUNCTION {s}.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM count(*) FROM {s}.account; RETURN NEW; END';
        CREATE FUNCTION {s}.tax(amount numeric, m {s}.mood DEFAULT 'sad') RETURNS numeric LANGUAGE sql STABLE SET search_path = {s} AS 'SELECT amount * 0.19';
        CREATE TABLE {s}.account (
            id serial PRIMARY KEY, owner varchar(100) NOT NULL, title varchar(100) NOT NULL, mail {s}.email, amount numeric(12,2) NOT NULL DEFAULT 0, mood {s}.mood DEFAULT 'calm',
            opened timestamp, closed timestamptz, note text, score double precision, size bigint, tags text[], home {s}.place, state text DEFAULT 'new'::text,
            net numeric GENERATED ALWAYS AS (amount * 0.81) STORED, ticket bigint DEFAULT nextval('{s}.ticket'),
            CONSTRAINT amount_sane CHECK (amount > -1000 AND mood <> 'glad'::{s}.mood), CONSTRAINT owner_once UNIQUE (owner));
        CREATE INDEX account_note ON {s}.account (lower(note)) WHERE mood = 'sad'::{s}.mood;
        CREATE INDEX account_size ON {s}.account USING btree (size DESC) INCLUDE (owner);
        CREATE UNIQUE INDEX account_mail ON {s}.account ((lower(mail)));
        CREATE TABLE {s}.entry (
            id bigint GENERATED ALWAYS AS IDENTITY, account integer NOT NULL, at date NOT NULL, amount integer, remark text COLLATE "C", room int4range, floor int4range,
            PRIMARY KEY (id), CONSTRAINT entry_account FOREIGN KEY (account) REFERENCES {s}.account (id) ON DELETE CASCADE,
            CONSTRAINT rooms EXCLUDE USING gist (room WITH &&));
        CREATE TABLE {s}.log (at date NOT NULL, what text, account integer) PARTITION BY RANGE (at);
        CREATE TABLE {s}.log_old PARTITION OF {s}.log FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
        CREATE TABLE {s}.log_new PARTITION OF {s}.log FOR VALUES FROM ('2020-01-01') TO (MAXVALUE);
        CREATE INDEX log_what ON {s}.log (what);
        CREATE TABLE {s}.animal (name text, legs integer);
        CREATE TABLE {s}.dog (breed text) INHERITS ({s}.animal);
        CREATE TABLE {s}."odd %s ""name"" é" ("col %I" integer, "co""l" text, "select" text CHECK ("select" <> 'legacy.x'), PRIMARY KEY ("col %I"));
        CREATE VIEW {s}.rich AS SELECT a.id, e.amount FROM {s}.account AS a JOIN {s}.entry AS e ON e.account = a.id WHERE a.mood = 'glad'::{s}.mood;
        CREATE MATERIALIZED VIEW {s}.total AS SELECT count(*) AS n FROM {s}.entry;
        CREATE PROCEDURE {s}.close(day date) LANGUAGE sql AS 'DELETE FROM {s}.entry';
        CREATE TRIGGER touch BEFORE UPDATE OF owner ON {s}.account FOR EACH ROW WHEN (OLD.owner IS DISTINCT FROM NEW.owner) EXECUTE FUNCTION {s}.touch();
        CREATE RULE no_delete AS ON DELETE TO {s}.animal DO INSTEAD NOTHING;
        CREATE STATISTICS {s}.account_stats ON owner, mood FROM {s}.account;
        ALTER TABLE {s}.account ENABLE ROW LEVEL SECURITY;
        CREATE POLICY mine ON {s}.account TO tandem_reader USING (owner = current_user AND EXISTS (SELECT FROM {s}.entry AS e WHERE e.account = id));
        GRANT USAGE ON SCHEMA {s} TO tandem_reader;
        GRANT SELECT ON {s}.account, {s}.rich TO tandem_reader;
        GRANT UPDATE (note) ON {s}.account TO tandem_reader;
        GRANT USAGE ON SEQUENCE {s}.ticket TO tandem_reader;
        COMMENT ON TABLE {s}.account IS 'Accounts';
        COMMENT ON COLUMN {s}.account.note IS 'Free text';
    $ddl$, '{s}', quote_ident(s));
END
$build$;

CREATE TEMP TABLE change (id serial, topic text, ddl text, expected text[]);
INSERT INTO change (topic, ddl, expected) VALUES
-- columns. expected: object type|object|property|severity
    ('title', 'ALTER TABLE {s}.account ALTER title TYPE varchar(50)', '{column|account.title|type|lossy}'),
    ('title', 'ALTER TABLE {s}.account ALTER title TYPE varchar(200)', '{column|account.title|type|compatible}'),
    ('title', 'ALTER TABLE {s}.account ALTER title DROP NOT NULL', '{column|account.title|nullability|compatible}'),
    ('opened', 'ALTER TABLE {s}.account ALTER opened TYPE date', '{column|account.opened|type|lossy}'),
    ('opened', 'ALTER TABLE {s}.account ALTER opened TYPE timestamp(0)', '{column|account.opened|type|lossy}'),
    ('opened', 'ALTER TABLE {s}.account ALTER opened TYPE timestamptz', '{column|account.opened|type|narrowing}'),
    ('opened', 'ALTER TABLE {s}.account ALTER opened SET NOT NULL', '{column|account.opened|nullability|lossy}'),
    ('closed', 'ALTER TABLE {s}.account ALTER closed TYPE timestamp', '{column|account.closed|type|lossy}'),
    ('note', 'ALTER TABLE {s}.account ALTER note SET DEFAULT ''-''', '{column|account.note|default|compatible}'),
    ('note', 'COMMENT ON COLUMN {s}.account.note IS NULL', '{column|account.note|comment|cosmetic}'),
    ('score', 'ALTER TABLE {s}.account ALTER score TYPE real', '{column|account.score|type|lossy}'),
    ('score', 'ALTER TABLE {s}.account DROP COLUMN score', '{column|account.score|existence|lossy}'),
    ('score', 'ALTER TABLE {s}.account RENAME score TO points', '{column|account.score|existence|lossy,column|account.points|existence|compatible}'),
    ('size', 'ALTER TABLE {s}.account ALTER size TYPE integer', '{column|account.size|type|lossy}'),
    ('size', 'ALTER TABLE {s}.account ALTER size TYPE numeric', '{column|account.size|type|compatible}'),
    ('tags', 'ALTER TABLE {s}.account ALTER tags TYPE varchar(3)[]', '{column|account.tags|type|lossy}'),
    ('tags', 'ALTER TABLE {s}.account DROP tags; ALTER TABLE {s}.account ADD tags text[]', '{table|account|column order|cosmetic}'),
    ('state', 'ALTER TABLE {s}.account ALTER state DROP DEFAULT', '{column|account.state|default|narrowing}'),
    ('state', 'ALTER TABLE {s}.account ALTER state SET DEFAULT ''old''', '{column|account.state|default|narrowing}'),
    ('state', 'ALTER TABLE {s}.account ALTER state TYPE varchar(9)', '{column|account.state|type|lossy}'),
    ('net', 'ALTER TABLE {s}.account ALTER net DROP EXPRESSION', '{column|account.net|generated|narrowing}'),
    ('net', 'ALTER TABLE {s}.account DROP net; ALTER TABLE {s}.account ADD net numeric GENERATED ALWAYS AS (amount * 0.8) STORED', '{column|account.net|generated|lossy,table|account|column order|cosmetic}'),
    ('extra', 'ALTER TABLE {s}.account ADD extra text', '{column|account.extra|existence|compatible}'),
    ('extra', 'ALTER TABLE {s}.account ADD extra text NOT NULL', '{column|account.extra|existence|lossy}'),
    ('extra', 'ALTER TABLE {s}.account ADD extra text NOT NULL DEFAULT ''x''', '{column|account.extra|existence|compatible}'),
    ('entry.id', 'ALTER TABLE {s}.entry ALTER id SET GENERATED BY DEFAULT', '{column|entry.id|identity|compatible}'),
    ('entry.id', 'ALTER TABLE {s}.entry ALTER id DROP IDENTITY', '{column|entry.id|identity|narrowing}'),
    ('remark', 'ALTER TABLE {s}.entry ALTER remark TYPE text COLLATE "POSIX"', '{column|entry.remark|collation|narrowing}'),
    ('odd', 'ALTER TABLE {s}."odd %s ""name"" é" ALTER "co""l" TYPE varchar(1)', ARRAY['column|"odd %s ""name"" é"."co""l"|type|lossy']),
    ('odd', 'ALTER TABLE {s}."odd %s ""name"" é" ALTER "co""l" SET NOT NULL', ARRAY['column|"odd %s ""name"" é"."co""l"|nullability|lossy']),
-- keys, constraints, indexes
    ('pk', 'ALTER TABLE {s}.entry DROP CONSTRAINT entry_pkey', '{constraint|entry.entry_pkey|existence|narrowing}'),
    ('pk', 'ALTER TABLE {s}.entry DROP CONSTRAINT entry_pkey, ADD PRIMARY KEY (id, at)', '{constraint|entry.entry_pkey|definition|narrowing}'),
    ('pk', 'ALTER TABLE {s}.entry RENAME CONSTRAINT entry_pkey TO the_key', '{constraint|entry.entry_pkey|name|cosmetic}'),
    ('owner_once', 'ALTER TABLE {s}.account DROP CONSTRAINT owner_once', '{constraint|account.owner_once|existence|narrowing}'),
    ('owner_once', 'ALTER TABLE {s}.account DROP CONSTRAINT owner_once, ADD CONSTRAINT owner_once UNIQUE (owner) DEFERRABLE', '{constraint|account.owner_once|deferrable|narrowing}'),
    ('owner_once', 'ALTER TABLE {s}.account DROP CONSTRAINT owner_once, ADD CONSTRAINT owner_once UNIQUE NULLS NOT DISTINCT (owner)', '{constraint|account.owner_once|definition|narrowing}'),
    ('owner_once', 'ALTER TABLE {s}.account DROP CONSTRAINT owner_once; CREATE UNIQUE INDEX owner_once ON {s}.account (owner)', '{constraint|account.owner_once|kind|cosmetic}'),
    ('unique', 'ALTER TABLE {s}.account ADD CONSTRAINT note_once UNIQUE (note)', '{constraint|account.note_once|existence|lossy}'),
    ('unique', 'ALTER TABLE {s}.account ADD CONSTRAINT both_once UNIQUE (id, note)', '{constraint|account.both_once|existence|compatible}'),
    ('amount_sane', 'ALTER TABLE {s}.account DROP CONSTRAINT amount_sane', '{constraint|account.amount_sane|existence|compatible}'),
    ('amount_sane', 'ALTER TABLE {s}.account DROP CONSTRAINT amount_sane, ADD CONSTRAINT amount_sane CHECK (amount > 0)', '{constraint|account.amount_sane|definition|lossy}'),
    ('amount_sane', 'ALTER TABLE {s}.account RENAME CONSTRAINT amount_sane TO sane', '{constraint|account.amount_sane|name|cosmetic}'),
    ('check', 'ALTER TABLE {s}.entry ADD CONSTRAINT young CHECK (at > ''2000-01-01'') NOT VALID', '{constraint|entry.young|existence|lossy}'),
    ('fk', 'ALTER TABLE {s}.entry DROP CONSTRAINT entry_account', '{constraint|entry.entry_account|existence|compatible}'),
    ('fk', 'ALTER TABLE {s}.entry DROP CONSTRAINT entry_account, ADD CONSTRAINT entry_account FOREIGN KEY (account) REFERENCES {s}.account (id) ON DELETE RESTRICT', '{constraint|entry.entry_account|on delete|narrowing}'),
    ('fk', 'ALTER TABLE {s}.entry ALTER CONSTRAINT entry_account DEFERRABLE INITIALLY DEFERRED', '{constraint|entry.entry_account|deferrable|compatible}'),
    ('fk', 'ALTER TABLE {s}.entry DROP CONSTRAINT entry_account, ADD CONSTRAINT entry_account FOREIGN KEY (account) REFERENCES {s}.account (id) ON DELETE CASCADE NOT VALID', '{constraint|entry.entry_account|state|compatible}'),
    ('fk2', 'ALTER TABLE {s}.log ADD CONSTRAINT log_account FOREIGN KEY (account) REFERENCES {s}.account (id)', '{constraint|log.log_account|existence|lossy}'),
    ('rooms', 'ALTER TABLE {s}.entry DROP CONSTRAINT rooms', '{constraint|entry.rooms|existence|compatible}'),
    ('index', 'DROP INDEX {s}.account_note', '{index|account.account_note|existence|narrowing}'),
    ('index', 'DROP INDEX {s}.account_note; CREATE INDEX account_note ON {s}.account (lower(note))', '{index|account.account_note|definition|narrowing}'),
    ('index', 'DROP INDEX {s}.account_note; CREATE INDEX account_note ON {s}.account (upper(note)) WHERE mood = ''sad''', '{index|account.account_note|definition|narrowing}'),
    ('index', 'ALTER INDEX {s}.account_note RENAME TO other', '{index|account.account_note|name|cosmetic}'),
    ('index', 'ALTER INDEX {s}.account_note SET (fillfactor = 50)', '{index|account.account_note|options|cosmetic}'),
    ('index2', 'CREATE INDEX more ON {s}.log (account)', '{index|log.more|existence|compatible}'),
    ('index2', 'DROP INDEX {s}.log_what', '{index|log.log_what|existence|narrowing}'),
    ('account_mail', 'DROP INDEX {s}.account_mail; CREATE INDEX account_mail ON {s}.account ((lower(mail)))', '{index|account.account_mail|definition|narrowing}'),
    ('account_size', 'DROP INDEX {s}.account_size; CREATE UNIQUE INDEX account_size ON {s}.account USING btree (size DESC) INCLUDE (owner)', '{index|account.account_size|definition|lossy}'),
-- relations
    ('view', 'CREATE OR REPLACE VIEW {s}.rich AS SELECT a.id, e.amount FROM {s}.account AS a JOIN {s}.entry AS e ON e.account = a.id', '{view|rich|definition|narrowing}'),
    ('view', 'DROP VIEW {s}.rich', '{view|rich|existence|narrowing}'),
    ('total', 'DROP MATERIALIZED VIEW {s}.total', '{materialized view|total|existence|narrowing}'),
    ('total', 'DROP MATERIALIZED VIEW {s}.total; CREATE VIEW {s}.total AS SELECT count(*) AS n FROM {s}.entry', '{materialized view|total|kind|narrowing}'),
    ('table', 'CREATE TABLE {s}.another (id integer PRIMARY KEY)', '{table|another|existence|compatible}'),
    ('dog', 'DROP TABLE {s}.dog', '{table|dog|existence|lossy}'),
    ('dog', 'ALTER TABLE {s}.dog NO INHERIT {s}.animal', '{table|dog|inherits|narrowing}'),
    ('dog', 'ALTER TABLE {s}.dog SET UNLOGGED', '{table|dog|persistence|narrowing}'),
    ('dog', 'ALTER TABLE {s}.dog REPLICA IDENTITY NOTHING', '{table|dog|replica identity|narrowing}'),
    ('dog', 'ALTER TABLE {s}.dog SET (fillfactor = 50)', '{table|dog|options|cosmetic}'),
    ('dog', 'ALTER TABLE {s}.dog OWNER TO tandem_clerk', '{table|dog|owner|cosmetic}'),
    ('animal', 'ALTER TABLE {s}.animal ADD tail boolean', '{column|animal.tail|existence|compatible}'),
    ('animal', 'ALTER TABLE {s}.animal ALTER legs TYPE smallint', '{column|animal.legs|type|lossy}'),
    ('partition', 'DROP TABLE {s}.log_old', '{partition|log_old|existence|lossy}'),
    ('partition', 'CREATE TABLE {s}.log_rest PARTITION OF {s}.log DEFAULT', '{partition|log_rest|existence|compatible}'),
    ('partition', 'ALTER TABLE {s}.log DETACH PARTITION {s}.log_old; ALTER TABLE {s}.log ATTACH PARTITION {s}.log_old FOR VALUES FROM (MINVALUE) TO (''2019-01-01'')', '{table|log_old|partition bound|lossy}'),
    ('partition', 'ALTER TABLE {s}.log DETACH PARTITION {s}.log_old', '{table|log_old|partition of|narrowing,table|log_old|partition bound|narrowing,index|log_old.log_old_what_idx|existence|compatible}'),
    ('partition', 'ALTER TABLE {s}.log ALTER what TYPE varchar(20)', '{column|log.what|type|lossy}'),
    ('comment', 'COMMENT ON TABLE {s}.account IS ''All accounts''', '{table|account|comment|cosmetic}'),
-- row security, triggers, rules, statistics, grants
    ('rls', 'ALTER TABLE {s}.account DISABLE ROW LEVEL SECURITY', '{table|account|row security|narrowing}'),
    ('force', 'ALTER TABLE {s}.account FORCE ROW LEVEL SECURITY', '{table|account|forced row security|narrowing}'),
    ('policy', 'DROP POLICY mine ON {s}.account', '{policy|account.mine|existence|narrowing}'),
    ('policy', 'ALTER POLICY mine ON {s}.account USING (owner = session_user)', '{policy|account.mine|definition|narrowing}'),
    ('policy', 'ALTER POLICY mine ON {s}.account TO tandem_clerk', '{policy|account.mine|definition|narrowing}'),
    ('trigger', 'DROP TRIGGER touch ON {s}.account', '{trigger|account.touch|existence|narrowing}'),
    ('trigger', 'ALTER TABLE {s}.account DISABLE TRIGGER touch', '{trigger|account.touch|state|narrowing}'),
    ('trigger', 'DROP TRIGGER touch ON {s}.account; CREATE TRIGGER touch BEFORE UPDATE ON {s}.account FOR EACH ROW EXECUTE FUNCTION {s}.touch()', '{trigger|account.touch|definition|narrowing}'),
    ('rule', 'DROP RULE no_delete ON {s}.animal', '{rule|animal.no_delete|existence|narrowing}'),
    ('statistics', 'DROP STATISTICS {s}.account_stats', '{statistics|account.account_stats|existence|cosmetic}'),
    ('grant', 'REVOKE SELECT ON {s}.account FROM tandem_reader', '{grant|account|privileges of tandem_reader|narrowing}'),
    ('grant', 'GRANT INSERT ON {s}.account TO tandem_reader', '{grant|account|privileges of tandem_reader|compatible}'),
    ('grant', 'GRANT SELECT ON {s}.account TO tandem_reader WITH GRANT OPTION', '{grant|account|privileges of tandem_reader|narrowing}'),
    ('view', 'REVOKE SELECT ON {s}.rich FROM tandem_reader; GRANT SELECT ON {s}.rich TO PUBLIC', '{grant|rich|privileges of PUBLIC|compatible}'),
    ('grant column', 'REVOKE UPDATE (note) ON {s}.account FROM tandem_reader', '{grant|account.note|privileges of tandem_reader|narrowing}'),
    ('grant column', 'GRANT REFERENCES (note) ON {s}.account TO tandem_clerk', '{grant|account.note|privileges of tandem_clerk|compatible}'),
    ('grant schema', 'REVOKE USAGE ON SCHEMA {s} FROM tandem_reader', '{grant|schema|privileges of tandem_reader|narrowing}'),
    ('grant sequence', 'REVOKE USAGE ON SEQUENCE {s}.ticket FROM tandem_reader', '{grant|sequence ticket|privileges of tandem_reader|narrowing}'),
    ('tax', 'REVOKE EXECUTE ON FUNCTION {s}.tax FROM PUBLIC', '{"grant|tax(amount numeric, m mood)|privileges of PUBLIC|narrowing"}'),
-- sequences
    ('ticket', 'ALTER SEQUENCE {s}.ticket INCREMENT 5', '{sequence|ticket|increment|narrowing}'),
    ('ticket', 'ALTER SEQUENCE {s}.ticket MAXVALUE 1000 CYCLE', '{sequence|ticket|maximum|narrowing,sequence|ticket|cycle|narrowing}'),
    ('ticket', 'ALTER SEQUENCE {s}.ticket AS integer', '{sequence|ticket|type|narrowing}'),
    ('account_id_seq', 'ALTER SEQUENCE {s}.account_id_seq RENAME TO renamed', '{sequence|account_id_seq|name|cosmetic}'),
    ('account_id_seq', 'ALTER TABLE {s}.account ALTER id DROP DEFAULT; DROP SEQUENCE {s}.account_id_seq; ALTER TABLE {s}.account ALTER id ADD GENERATED BY DEFAULT AS IDENTITY', '{column|account.id|identity|compatible}'),
    ('account_id_seq', 'ALTER TABLE {s}.account ALTER id DROP DEFAULT', '{column|account.id|default|narrowing}'),
-- types and functions
    ('mood', 'ALTER TYPE {s}.mood ADD VALUE ''mad'' AFTER ''sad''', '{enum|mood|labels|compatible}'),
    ('mood', 'ALTER TYPE {s}.mood RENAME VALUE ''calm'' TO ''still''', '{enum|mood|labels|lossy,column|account.mood|default|narrowing}'),
    ('email', 'ALTER DOMAIN {s}.email DROP CONSTRAINT email_check', '{domain|email|constraints|compatible}'),
    ('email', 'ALTER DOMAIN {s}.email ADD CHECK (length(VALUE) < 100)', '{domain|email|constraints|lossy}'),
    ('email', 'ALTER DOMAIN {s}.email SET NOT NULL', '{domain|email|nullability|lossy}'),
    ('email', 'ALTER DOMAIN {s}.email SET DEFAULT ''a@b''', '{domain|email|default|compatible}'),
    ('place', 'ALTER TYPE {s}.place ADD ATTRIBUTE town text', '{type|place|attributes|compatible}'),
    ('place', 'ALTER TYPE {s}.place DROP ATTRIBUTE "no."', '{type|place|attributes|lossy}'),
    ('span', 'DROP TYPE {s}.span', '{type|span|existence|narrowing}'),
    ('type', 'CREATE TYPE {s}.colour AS ENUM (''red'')', '{enum|colour|existence|compatible}'),
    ('tax', 'DROP FUNCTION {s}.tax', '{"function|tax(amount numeric, m mood)|existence|narrowing"}'),
    ('tax', 'CREATE OR REPLACE FUNCTION {s}.tax(amount numeric, m {s}.mood DEFAULT ''sad'') RETURNS numeric LANGUAGE sql STABLE SET search_path = {s} AS ''SELECT amount * 0.16''', '{"function|tax(amount numeric, m mood)|body|narrowing"}'),
    ('tax', 'ALTER FUNCTION {s}.tax IMMUTABLE', '{"function|tax(amount numeric, m mood)|behaviour|narrowing"}'),
    ('tax', 'ALTER FUNCTION {s}.tax SECURITY DEFINER', '{"function|tax(amount numeric, m mood)|security|narrowing"}'),
    ('tax', 'ALTER FUNCTION {s}.tax RESET ALL', '{"function|tax(amount numeric, m mood)|settings|narrowing"}'),
    ('close', 'DROP PROCEDURE {s}.close', '{"procedure|close(IN day date)|existence|narrowing"}');
SELECT current_setting('server_version_num')::integer >= 180000 AS has_18 \gset
\if :has_18
INSERT INTO change (topic, ddl, expected) VALUES
    ('check', 'ALTER TABLE {s}.entry ADD CONSTRAINT lax CHECK (at > ''2000-01-01'') NOT ENFORCED', '{constraint|entry.lax|existence|compatible}'),
    ('fk', 'ALTER TABLE {s}.entry ALTER CONSTRAINT entry_account NOT ENFORCED', '{constraint|entry.entry_account|state|compatible}'),
    ('opened', 'ALTER TABLE {s}.account ADD CONSTRAINT known NOT NULL opened NOT VALID', '{column|account.opened|nullability|lossy}'),
    ('opened', 'ALTER TABLE {s}.account ADD CONSTRAINT known NOT NULL opened NO INHERIT', '{column|account.opened|nullability|lossy}'),
    ('net', 'ALTER TABLE {s}.account DROP net; ALTER TABLE {s}.account ADD net numeric GENERATED ALWAYS AS (amount * 0.81) VIRTUAL', '{column|account.net|generated|cosmetic,table|account|column order|cosmetic}'),
    ('period', 'ALTER TABLE {s}.entry ADD CONSTRAINT free UNIQUE (floor, room WITHOUT OVERLAPS)', '{constraint|entry.free|existence|lossy}');
\endif

CREATE FUNCTION pg_temp.reported(l name, n name, with_severity boolean) RETURNS text[] LANGUAGE sql AS $$
    SELECT coalesce(array_agg(t ORDER BY t COLLATE "C"), '{}')
      FROM (SELECT concat_ws('|', d.object_type, CASE WHEN d.object LIKE 'schema %' THEN 'schema' ELSE d.object END, d.property, CASE WHEN with_severity THEN d.severity END) AS t
              FROM tandem.diff_schema(l, n) AS d) AS d $$;
-- Applies changes to the copy, takes the answer, and takes the changes back. {s}: the copy; without severity the two schemas change places.
CREATE FUNCTION pg_temp.try(changes integer[], swapped boolean) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    c text;
    answer text[];
BEGIN
    BEGIN
        FOR c IN SELECT replace(x.ddl, '{s}', '"The Bank"') FROM change AS x WHERE x.id = ANY (changes) ORDER BY x.id LOOP
            EXECUTE c;
        END LOOP;
        answer := CASE WHEN swapped THEN pg_temp.reported('The Bank', 'legacy', false) ELSE pg_temp.reported('legacy', 'The Bank', true) END;
        RAISE EXCEPTION USING ERRCODE = 'TAKEN';
    EXCEPTION WHEN SQLSTATE 'TAKEN' THEN
        RETURN answer;
    WHEN OTHERS THEN
        RETURN ARRAY[SQLERRM];
    END;
END
$$;
CREATE FUNCTION pg_temp.wanted(changes integer[], with_severity boolean) RETURNS text[] LANGUAGE sql AS $$
    SELECT coalesce(array_agg(t ORDER BY t COLLATE "C"), '{}')
      FROM (SELECT DISTINCT CASE WHEN with_severity THEN e ELSE regexp_replace(e, '[|][a-z]+$', '') END AS t FROM change AS c CROSS JOIN unnest(c.expected) AS e WHERE c.id = ANY (changes)) AS w $$;

SELECT pg_temp.build('legacy'), pg_temp.build('The Bank') \g /dev/null
SELECT is(pg_temp.reported('legacy', 'The Bank', true), '{}', 'a copy is equal');
SELECT is(pg_temp.reported('legacy', 'legacy', true), '{}', 'a schema is equal to itself');
SELECT cmp_ok((SELECT count(*) FROM change), '>=', 100::bigint, 'there are many kinds of changes');
SELECT is(pg_temp.try(ARRAY[c.id], false), pg_temp.wanted(ARRAY[c.id], true), left(c.ddl, 120)) FROM change AS c ORDER BY c.id;
-- the other way round: what is renamed goes by its other name, and a kind by its other kind
SELECT is(pg_temp.try(ARRAY[c.id], true), pg_temp.wanted(ARRAY[c.id], false), 'swapped: ' || left(c.ddl, 110)) FROM change AS c
 WHERE c.expected::text !~ 'name[|]cosmetic|kind[|]|index[|]|partition of' ORDER BY c.id;

-- Several at once, of different topics; changes of a partitioned table, of the columns that others use and of a table that another drops keep apart.
CREATE FUNCTION pg_temp.some() RETURNS integer[] LANGUAGE sql VOLATILE AS $$
    SELECT array_agg(x.id ORDER BY x.id) FROM (
        SELECT t.id FROM (SELECT DISTINCT ON (c.topic) c.id, c.topic FROM change AS c
                           WHERE c.topic NOT IN ('mood', 'owner', 'note', 'fk2', 'index2', 'animal', 'net') AND c.ddl NOT LIKE '%DROP tags%'
                           ORDER BY c.topic, random()) AS t ORDER BY random() LIMIT 2 + floor(random() * 8)) AS x $$;
SELECT is(pg_temp.try(r.changes, false), pg_temp.wanted(r.changes, true), 'changes ' || array_to_string(r.changes, ', '))
  FROM (SELECT pg_temp.some() AS changes FROM generate_series(1, :rounds) OFFSET 0) AS r;

-- Views over what a mapping renames say the same; one that shows something else does not.
CREATE SCHEMA old_shop; CREATE SCHEMA new_shop;
CREATE TABLE old_shop.person (id integer PRIMARY KEY, name text, town text);
CREATE TABLE new_shop.client (id integer PRIMARY KEY, full_name text, town text);
CREATE VIEW old_shop.berliners AS SELECT id, name, upper(name) AS loud FROM old_shop.person WHERE town = 'Berlin AS name';
CREATE VIEW new_shop.berliners AS SELECT id, full_name AS name, upper(full_name) AS loud FROM new_shop.client WHERE town = 'Berlin AS name';
CREATE MATERIALIZED VIEW old_shop.towns AS SELECT p.town, count(p.name) FROM old_shop.person AS p GROUP BY p.town;
CREATE MATERIALIZED VIEW new_shop.towns AS SELECT p.town, count(p.full_name) AS count FROM new_shop.client AS p GROUP BY p.town;
SELECT FROM tandem.create_run('views', 'old_shop', 'new_shop');
SELECT FROM tandem.map_table('views', 'old_shop.person', 'new_shop.client', forward => '{"full_name": "name"}');
SELECT is(pg_temp.reported('old_shop', 'new_shop', true), '{}', 'views over renamed tables and columns are the same');
CREATE OR REPLACE VIEW new_shop.berliners AS SELECT id, town AS name, upper(full_name) AS loud FROM new_shop.client WHERE town = 'Berlin AS name';
SELECT is(pg_temp.reported('old_shop', 'new_shop', true), '{view|berliners|definition|narrowing}', 'one that takes another column is not');
CREATE OR REPLACE VIEW new_shop.berliners AS SELECT id, full_name AS name, upper(full_name) AS loud FROM new_shop.client WHERE town = 'Berlin AS other';
SELECT is(pg_temp.reported('old_shop', 'new_shop', true), '{view|berliners|definition|narrowing}', '... nor one with another literal');

-- Exclusion constraints: rows that conflict with one before them, against an oracle that takes every pair.
CREATE EXTENSION IF NOT EXISTS btree_gist;
CREATE SCHEMA old_rooms; CREATE SCHEMA new_rooms;
CREATE TABLE old_rooms.booking (id integer PRIMARY KEY, room integer, during int4range, cancelled boolean);
INSERT INTO old_rooms.booking SELECT i, CASE WHEN i % 17 > 0 THEN 1 + floor(random() * 5) END, int4range(a, a + 1 + floor(random() * 4)::integer), random() < 0.2
  FROM (SELECT i, floor(random() * 200)::integer AS a FROM generate_series(1, 150) AS i) AS x;
CREATE TABLE new_rooms.booking (id integer PRIMARY KEY, room integer, during int4range, cancelled boolean, CONSTRAINT free EXCLUDE USING gist (room WITH =, during WITH &&) WHERE (NOT cancelled));
CREATE TABLE old_rooms.slot (id integer PRIMARY KEY, during int4range); CREATE TABLE new_rooms.slot (id integer PRIMARY KEY, during int4range, EXCLUDE USING gist (during WITH &&));
INSERT INTO old_rooms.slot SELECT id, during FROM old_rooms.booking;
CREATE FUNCTION pg_temp.harmed(relation text) RETURNS text LANGUAGE sql AS $$ SELECT d.rows_harmed || ': ' || d.hint FROM tandem.diff_schema('old_rooms', 'new_rooms') AS d WHERE d.severity = 'lossy' AND d.object LIKE relation || '.%' $$;
SELECT is((regexp_match(pg_temp.harmed('booking'), '^\d+'))[1], (SELECT count(*) FROM old_rooms.booking AS a WHERE NOT a.cancelled
            AND EXISTS (SELECT FROM old_rooms.booking AS b WHERE b.ctid < a.ctid AND NOT b.cancelled AND b.room = a.room AND b.during && a.during))::text, 'rows that an exclusion constraint refuses are counted');
SELECT matches(pg_temp.harmed('booking'), ' of 150 rows would be refused, e\.g\. room = ', '... and one is named');
SELECT is((regexp_match(pg_temp.harmed('slot'), '^\d+'))[1], (SELECT count(*) FROM old_rooms.slot AS a WHERE EXISTS (SELECT FROM old_rooms.slot AS b WHERE b.ctid < a.ctid AND b.during && a.during))::text, '... without an equality, too');
INSERT INTO old_rooms.slot SELECT i, int4range(i, i + 1) FROM generate_series(1001, 20000) AS i;
SELECT matches((SELECT d.hint FROM tandem.diff_schema('old_rooms', 'new_rooms') AS d WHERE d.object LIKE 'slot.%' AND d.severity = 'lossy'), 'Not counted: every pair of rows would have to be compared, and they are too many', '... unless they are too many');

SELECT * FROM finish();
ROLLBACK;
