-- Tables for mirror_oracle.pl: one pair with computed columns, partitions on either side, triggers of the application, foreign keys that
-- cascade, a key of two columns under a unique index in another order.
CREATE EXTENSION pg_tandem;
CREATE SCHEMA legacy;
CREATE SCHEMA fresh;
CREATE SCHEMA oracle;

CREATE TABLE legacy.account (gone text, note text, id integer PRIMARY KEY, cents integer CHECK (cents < 100000000), only_old text DEFAULT 'old');
ALTER TABLE legacy.account DROP COLUMN gone;
CREATE TABLE fresh.account (account_id bigint PRIMARY KEY, balance numeric(14,0), memo varchar(20000), doubled numeric GENERATED ALWAYS AS (balance * 2) STORED, only_new text DEFAULT 'new');

CREATE TABLE legacy.parted (id integer, n integer, s text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE legacy.parted_low PARTITION OF legacy.parted FOR VALUES FROM (MINVALUE) TO (200);
CREATE TABLE legacy.parted_high PARTITION OF legacy.parted FOR VALUES FROM (200) TO (MAXVALUE);
CREATE TABLE fresh.parted (s text, id integer PRIMARY KEY, n integer);

CREATE TABLE legacy.watched (id integer PRIMARY KEY, n integer, s text);
CREATE TABLE fresh.watched (id integer PRIMARY KEY, n integer, s text);

CREATE TABLE legacy.pair (id integer NOT NULL, half integer NOT NULL DEFAULT 1, n integer, s text);
CREATE UNIQUE INDEX ON legacy.pair (half, id);
ALTER TABLE legacy.pair ADD UNIQUE (id);
CREATE TABLE fresh.pair (id bigint NOT NULL, half smallint NOT NULL DEFAULT 1, n integer, s text, PRIMARY KEY (id, half), UNIQUE (id));

CREATE TABLE legacy.parent (id integer PRIMARY KEY, name text);
CREATE TABLE legacy.child (parent_id integer REFERENCES legacy.parent ON DELETE CASCADE ON UPDATE CASCADE, n integer, v text, PRIMARY KEY (parent_id, n));
CREATE TABLE fresh.parent (id integer PRIMARY KEY, name text);
CREATE TABLE fresh.child (parent_id integer REFERENCES fresh.parent ON DELETE CASCADE ON UPDATE CASCADE, n integer, v text, PRIMARY KEY (n, parent_id));

CREATE TABLE legacy.note (id integer PRIMARY KEY, parent_id integer REFERENCES legacy.parent ON DELETE SET NULL ON UPDATE CASCADE, text text);
CREATE TABLE fresh.note (id integer PRIMARY KEY, text text, parent_id integer REFERENCES fresh.parent ON DELETE SET NULL ON UPDATE CASCADE);
CREATE TABLE legacy.node (id integer PRIMARY KEY, above integer REFERENCES legacy.node ON DELETE CASCADE ON UPDATE CASCADE, n integer);
CREATE TABLE fresh.node (n integer, id integer PRIMARY KEY, above integer REFERENCES fresh.node ON DELETE CASCADE ON UPDATE CASCADE);

INSERT INTO legacy.account SELECT 'note ' || i, i, i * 100 FROM generate_series(1, 400) AS i;
INSERT INTO legacy.parted SELECT i, i, 's' || i FROM generate_series(1, 400) AS i;
INSERT INTO legacy.watched SELECT i, i, 's' || i FROM generate_series(1, 200) AS i;
INSERT INTO legacy.pair SELECT i, 1, i, 's' || i FROM generate_series(1, 200) AS i;
INSERT INTO legacy.parent SELECT i, 'p' || i FROM generate_series(1, 100) AS i;
INSERT INTO legacy.child SELECT p, n, 'c' FROM generate_series(1, 100) AS p, generate_series(1, 4) AS n;
INSERT INTO legacy.note SELECT i, 1 + i % 100, 'note' FROM generate_series(1, 200) AS i;
INSERT INTO legacy.node SELECT i, nullif(i / 4, 0), i FROM generate_series(1, 300) AS i;

SELECT FROM tandem.create_run('r', 'legacy', 'fresh', hold => '1 day');
SELECT FROM tandem.map_table('r', 'legacy.account', 'fresh.account', forward => '{"account_id": "id", "balance": "cents", "memo": "note"}', reverse => '{"cents": "balance::integer", "note": "memo"}');
SELECT FROM tandem.map_table('r', 'legacy.parted', 'fresh.parted');
SELECT FROM tandem.map_table('r', 'legacy.watched', 'fresh.watched');
SELECT FROM tandem.map_table('r', 'legacy.pair', 'fresh.pair', key => '{id,half}');
SELECT FROM tandem.map_table('r', 'legacy.child', 'fresh.child');
SELECT FROM tandem.map_table('r', 'legacy.parent', 'fresh.parent');
SELECT FROM tandem.map_table('r', 'legacy.note', 'fresh.note');
SELECT FROM tandem.map_table('r', 'legacy.node', 'fresh.node');
SELECT FROM tandem.set_option('r', 'batch_size', '1000');
SELECT FROM tandem.set_option('r', 'validate_every', '1 day');
SELECT FROM tandem.start('r');
DO $$ BEGIN FOR i IN 1..2000 LOOP PERFORM tandem.tick(); EXIT WHEN EXISTS (SELECT FROM tandem.run WHERE stage = 'shadow'); PERFORM pg_sleep(0.01); END LOOP; END $$;

-- Triggers of the application: one that changes the row again, one that writes other rows, before and after the mirror by name.
CREATE FUNCTION legacy.again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.n % 11 = 0 THEN INSERT INTO legacy.watched VALUES (OLD.id, OLD.n + 1, 'back') ON CONFLICT DO NOTHING; END IF;
    ELSIF NEW.n % 7 = 0 THEN UPDATE legacy.watched SET n = n + 1 WHERE id = NEW.id;
    ELSIF NEW.n % 13 = 0 THEN UPDATE legacy.account SET cents = cents + 1 WHERE id BETWEEN NEW.id AND NEW.id + 6;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER again AFTER INSERT OR UPDATE OR DELETE ON legacy.watched FOR EACH ROW EXECUTE FUNCTION legacy.again();
CREATE FUNCTION fresh.before() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.s := rtrim(NEW.s, '!'); RETURN NEW; END $$;
CREATE TRIGGER before BEFORE INSERT OR UPDATE ON fresh.watched FOR EACH ROW EXECUTE FUNCTION fresh.before();
CREATE FUNCTION fresh.zz() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.n % 17 = 0 THEN UPDATE fresh.account SET balance = balance + 1 WHERE account_id BETWEEN NEW.id AND NEW.id + 6; END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER zz AFTER INSERT OR UPDATE ON fresh.watched FOR EACH ROW EXECUTE FUNCTION fresh.zz();

CREATE FUNCTION oracle.differences(step integer) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT format('step %s: account %s %s', step, l, f) FROM legacy.account AS l FULL JOIN fresh.account AS f ON f.account_id = l.id
     WHERE l.id IS NULL OR f.account_id IS NULL OR (l.note, l.cents) IS DISTINCT FROM (f.memo::text, f.balance::integer) OR f.doubled IS DISTINCT FROM f.balance * 2
    UNION ALL
    SELECT format('step %s: parted %s %s', step, l, f) FROM legacy.parted AS l FULL JOIN fresh.parted AS f ON f.id = l.id
     WHERE l.id IS NULL OR f.id IS NULL OR (l.n, l.s) IS DISTINCT FROM (f.n, f.s)
    UNION ALL
    SELECT format('step %s: watched %s %s', step, l, f) FROM legacy.watched AS l FULL JOIN fresh.watched AS f ON f.id = l.id
     WHERE l.id IS NULL OR f.id IS NULL OR (l.n, l.s) IS DISTINCT FROM (f.n, f.s)
    UNION ALL
    SELECT format('step %s: pair %s %s', step, l, f) FROM legacy.pair AS l FULL JOIN fresh.pair AS f ON (f.id, f.half) = (l.id, l.half)
     WHERE l.id IS NULL OR f.id IS NULL OR (l.n, l.s) IS DISTINCT FROM (f.n, f.s)
    UNION ALL
    SELECT format('step %s: parent %s %s', step, l, f) FROM legacy.parent AS l FULL JOIN fresh.parent AS f ON f.id = l.id
     WHERE l.id IS NULL OR f.id IS NULL OR l.name IS DISTINCT FROM f.name
    UNION ALL
    SELECT format('step %s: child %s %s', step, l, f) FROM legacy.child AS l FULL JOIN fresh.child AS f ON (f.parent_id, f.n) = (l.parent_id, l.n)
     WHERE l.n IS NULL OR f.n IS NULL OR l.v IS DISTINCT FROM f.v
    UNION ALL
    SELECT format('step %s: note %s %s', step, l, f) FROM legacy.note AS l FULL JOIN fresh.note AS f ON f.id = l.id
     WHERE l.id IS NULL OR f.id IS NULL OR (l.parent_id, l.text) IS DISTINCT FROM (f.parent_id, f.text)
    UNION ALL
    SELECT format('step %s: node %s %s', step, l, f) FROM legacy.node AS l FULL JOIN fresh.node AS f ON f.id = l.id
     WHERE l.id IS NULL OR f.id IS NULL OR (l.above, l.n) IS DISTINCT FROM (f.above, f.n)
$$;

CREATE FUNCTION oracle.everything() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT md5(string_agg(r, E'\n' ORDER BY r COLLATE "C")) FROM (
        SELECT 'la' || x::text FROM legacy.account AS x UNION ALL SELECT 'fa' || x::text FROM fresh.account AS x UNION ALL
        SELECT 'fp' || x::text FROM fresh.parted AS x UNION ALL SELECT 'fw' || x::text FROM fresh.watched AS x UNION ALL
        SELECT 'fi' || x::text FROM fresh.pair AS x UNION ALL SELECT 'fc' || x::text FROM fresh.child AS x UNION ALL SELECT 'ft' || x::text FROM fresh.parent AS x UNION ALL
        SELECT 'fn' || x::text FROM fresh.note AS x UNION ALL SELECT 'fo' || x::text FROM fresh.node AS x) AS t (r)
$$;
