-- Tables and helpers of backfill.sh: -v rows=…
CREATE EXTENSION pg_tandem;
CREATE SCHEMA legacy;
CREATE SCHEMA store;
CREATE SCHEMA bench;
CREATE TABLE legacy.item (id integer PRIMARY KEY, name text NOT NULL, qty integer NOT NULL, price numeric(10,2) NOT NULL, note text, at timestamptz NOT NULL);
INSERT INTO legacy.item SELECT i, 'item ' || i, i % 1000, i % 10000 / 100.0, md5(i::text), now() FROM generate_series(1, :rows) AS i;
VACUUM ANALYZE legacy.item;
CREATE TABLE bench.size AS SELECT :rows::bigint AS rows;
CREATE FUNCTION bench.rows() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT rows FROM bench.size';
-- seconds of processor time of a process
CREATE FUNCTION bench.cpu(pid integer) RETURNS numeric LANGUAGE sql VOLATILE AS $$
    SELECT (s[14]::numeric + s[15]::numeric) / 100 FROM regexp_split_to_array(pg_read_file('/proc/' || pid || '/stat'), ' ') AS s $$;
-- The new table, empty.
CREATE FUNCTION bench.fresh() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM tandem.run;
    DROP TABLE IF EXISTS store.item;
    CREATE TABLE store.item (item_id bigint PRIMARY KEY, title text NOT NULL, quantity bigint NOT NULL, price numeric(12,2) NOT NULL, note text, at timestamptz NOT NULL);
END $$;
CREATE FUNCTION bench.run() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tandem.create_run('b', 'legacy', 'store', hold => '1 hour');
    PERFORM tandem.map_table('b', 'legacy.item', 'store.item', forward => '{"item_id": "id", "title": "name", "quantity": "qty"}');
    PERFORM tandem.start('b');
END $$;
