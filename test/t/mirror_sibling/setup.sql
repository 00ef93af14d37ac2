-- Tables for mirror_sibling.pl: one legacy table in three new ones; and what the same writes make of one table without any mirror.
CREATE EXTENSION pg_tandem;
CREATE SCHEMA legacy;
CREATE SCHEMA fresh;
CREATE SCHEMA oracle;
CREATE TABLE legacy.person (id integer PRIMARY KEY, name text DEFAULT 'nobody', street text DEFAULT 'nowhere', phone integer, old text DEFAULT 'old');
CREATE TABLE fresh.customer (id bigint PRIMARY KEY, name text);
CREATE TABLE fresh.address (person_id integer PRIMARY KEY, lane text);
CREATE TABLE fresh.contact (phone bigint, id integer PRIMARY KEY);
CREATE TABLE oracle.person (id integer PRIMARY KEY, name text DEFAULT 'nobody', street text DEFAULT 'nowhere', phone integer);
INSERT INTO legacy.person SELECT i, 'name ' || i, 'street ' || i, i FROM generate_series(1, 40) AS i;
INSERT INTO oracle.person SELECT id, name, street, phone FROM legacy.person;

SELECT FROM tandem.create_run('r', 'legacy', 'fresh', hold => '1 day');
SELECT FROM tandem.map_table('r', 'legacy.person', 'fresh.customer');
SELECT FROM tandem.map_table('r', 'legacy.person', 'fresh.address', forward => '{"person_id": "id", "lane": "street"}', reverse => '{"street": "lane"}');
SELECT FROM tandem.map_table('r', 'legacy.person', 'fresh.contact', reverse => '{"phone": "phone::integer"}');
SELECT FROM tandem.set_option('r', 'validate_every', '1 day');
SELECT FROM tandem.start('r');
DO $$ BEGIN FOR i IN 1..2000 LOOP PERFORM tandem.tick(); EXIT WHEN EXISTS (SELECT FROM tandem.run WHERE stage = 'shadow'); PERFORM pg_sleep(0.01); END LOOP; END $$;

CREATE FUNCTION oracle.differences(step integer) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT format('step %s: %s', step, concat_ws(', ', 'oracle ' || o, 'legacy ' || l, 'customer ' || c, 'address ' || a, 'contact ' || p))
      FROM oracle.person AS o FULL JOIN legacy.person AS l USING (id) FULL JOIN fresh.customer AS c USING (id)
      FULL JOIN fresh.address AS a ON a.person_id = id FULL JOIN fresh.contact AS p ON p.id = coalesce(o.id, l.id, c.id, a.person_id)
     WHERE (o.id, o.name, o.street, o.phone, o.name, o.street, o.phone::bigint) IS DISTINCT FROM (l.id, l.name, l.street, l.phone, c.name, a.lane, p.phone)
        OR l.id IS NULL OR c.id IS NULL OR a.person_id IS NULL OR p.id IS NULL
    UNION ALL
    SELECT format('step %s: %s row(s) still wait', step, count(*)) FROM tandem.sibling_wait HAVING count(*) > 0
$$;
