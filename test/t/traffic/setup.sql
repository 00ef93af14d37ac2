-- What t/traffic.pl drives: three tables on each side, one run, and what its clients call.

CREATE EXTENSION pg_tandem;
CREATE SCHEMA legacy;
CREATE SCHEMA bank;
CREATE TABLE legacy.account (id integer PRIMARY KEY, owner varchar(30), balance integer NOT NULL);
CREATE TABLE legacy.orders (id integer PRIMARY KEY, label text);
CREATE TABLE legacy.line (order_id integer REFERENCES legacy.orders ON DELETE CASCADE, pos smallint, qty integer, PRIMARY KEY (order_id, pos));
CREATE TABLE bank.account (account_no bigint PRIMARY KEY, holder text, cents numeric NOT NULL);
CREATE TABLE bank.purchase (purchase_id bigint PRIMARY KEY, label text);
CREATE TABLE bank.item (purchase_id bigint REFERENCES bank.purchase ON DELETE CASCADE, position bigint, quantity bigint, PRIMARY KEY (purchase_id, position));

INSERT INTO legacy.account SELECT i, 'owner ' || i, i FROM generate_series(1, 1500) AS i;
INSERT INTO legacy.account SELECT 2000 + i, 'counter ' || i, 0 FROM generate_series(1, 8) AS i; -- written by the scripts that count, and no others
INSERT INTO legacy.orders SELECT i, 'order ' || i FROM generate_series(1, 300) AS i;
INSERT INTO legacy.line SELECT i, p, 1 FROM generate_series(1, 300) AS i, generate_series(1, 2) AS p;

SELECT tandem.create_run('r', 'legacy', 'bank', hold => '300 ms');
SELECT tandem.map_table('r', 'legacy.line', 'bank.item', forward => '{"purchase_id": "order_id", "position": "pos", "quantity": "qty"}');
SELECT tandem.map_table('r', 'legacy.orders', 'bank.purchase', forward => '{"purchase_id": "id"}');
SELECT tandem.map_table('r', 'legacy.account', 'bank.account',
    forward => '{"account_no": "id", "holder": "owner", "cents": "balance::numeric * 100"}', reverse => '{"balance": "(cents / 100)::integer"}');
SELECT tandem.set_option('r', 'batch_size', '7'), tandem.set_option('r', 'validate_every', '200 ms');

CREATE SCHEMA work;
-- The names of the side on which a client works on a key: as route() says, or, where it picks 1 or 2, on the one or the other.
CREATE TABLE work.side (on_new boolean, account text, id text, owner text, balance text, unit integer,
                        orders text, order_key text, line text, order_id text, pos text, qty text);
INSERT INTO work.side VALUES
    (false, 'legacy.account', 'id', 'owner', 'balance', 1, 'legacy.orders', 'id', 'legacy.line', 'order_id', 'pos', 'qty'),
    (true, 'bank.account', 'account_no', 'holder', 'cents', 100, 'bank.purchase', 'purchase_id', 'bank.item', 'purchase_id', 'position', 'quantity');
CREATE FUNCTION work.choose(key integer, pick integer) RETURNS work.side LANGUAGE sql AS $$
    SELECT s FROM tandem.runs, work.side AS s
     WHERE s.on_new = CASE WHEN stage = 'off' OR pick = 1 THEN false WHEN pick = 2 THEN true ELSE tandem.route('r', key::text) = 'new' END
$$;

-- One row for each time that a counter was raised, written in the same transaction.
CREATE TABLE work.counted (key integer);

-- Executes what may meet a key that is there already.
CREATE FUNCTION work.unless_taken(sql text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE sql;
EXCEPTION WHEN unique_violation THEN
    NULL;
END $$;

CREATE FUNCTION work.truncate_is_refused(relation regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT stage = 'off' FROM tandem.runs) THEN
        RETURN;
    END IF;
    EXECUTE 'TRUNCATE ' || relation;
    RAISE 'TRUNCATE % was not refused', relation;
EXCEPTION WHEN object_not_in_prerequisite_state THEN
    NULL;
END $$;

CREATE VIEW work.unequal AS
SELECT 'account' AS tables, count(*) AS rows
  FROM ((SELECT id, owner, balance * 100 FROM legacy.account EXCEPT ALL TABLE bank.account)
        UNION ALL (TABLE bank.account EXCEPT ALL SELECT id, owner, balance * 100 FROM legacy.account)) AS x
UNION ALL
SELECT 'orders', count(*)
  FROM ((TABLE legacy.orders EXCEPT ALL TABLE bank.purchase) UNION ALL (TABLE bank.purchase EXCEPT ALL TABLE legacy.orders)) AS x
UNION ALL
SELECT 'line', count(*)
  FROM ((TABLE legacy.line EXCEPT ALL TABLE bank.item) UNION ALL (TABLE bank.item EXCEPT ALL TABLE legacy.line)) AS x;
