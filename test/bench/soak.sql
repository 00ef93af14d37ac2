-- What test/bench/soak.sh drives: the tables of TPC-B on both sides, all balances 0, and a day that is begun.
CREATE EXTENSION pg_tandem;
CREATE SCHEMA legacy;
CREATE SCHEMA bank;
CREATE TABLE legacy.branch (bid integer PRIMARY KEY, balance integer NOT NULL);
CREATE TABLE legacy.teller (tid integer PRIMARY KEY, bid integer NOT NULL, balance integer NOT NULL);
CREATE TABLE legacy.account (aid integer PRIMARY KEY, bid integer NOT NULL, balance integer NOT NULL, filler char(84));
CREATE TABLE legacy.history (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tid integer NOT NULL, bid integer NOT NULL, aid integer NOT NULL, delta integer NOT NULL, mtime timestamp NOT NULL DEFAULT now());
CREATE TABLE bank.branch (branch_id bigint PRIMARY KEY, cents bigint NOT NULL);
CREATE TABLE bank.teller (teller_id bigint PRIMARY KEY, branch_id bigint NOT NULL, cents bigint NOT NULL);
CREATE TABLE bank.account (account_id bigint PRIMARY KEY, branch_id bigint NOT NULL, cents bigint NOT NULL, filler text);
CREATE TABLE bank.history (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), teller_id bigint NOT NULL, branch_id bigint NOT NULL, account_id bigint NOT NULL, delta bigint NOT NULL, mtime timestamptz NOT NULL DEFAULT now());
INSERT INTO legacy.branch SELECT i, 0 FROM generate_series(1, 10) AS i;
INSERT INTO legacy.teller SELECT i, 1 + i % 10, 0 FROM generate_series(1, 100) AS i;
INSERT INTO legacy.account SELECT i, 1 + i % 10, 0, '' FROM generate_series(1, 100000) AS i;
VACUUM ANALYZE;

-- Cents on the new side, whole amounts in the old one; times with their zone.
SELECT tandem.create_run('day', 'legacy', 'bank', template => '24-hour');
SELECT tandem.map_table('day', 'legacy.branch', 'bank.branch', forward => '{"branch_id": "bid", "cents": "balance::bigint * 100"}', reverse => '{"balance": "(cents / 100)::integer"}'),
       tandem.map_table('day', 'legacy.teller', 'bank.teller', forward => '{"teller_id": "tid", "branch_id": "bid", "cents": "balance::bigint * 100"}', reverse => '{"balance": "(cents / 100)::integer"}'),
       tandem.map_table('day', 'legacy.account', 'bank.account', forward => '{"account_id": "aid", "branch_id": "bid", "cents": "balance::bigint * 100", "filler": "rtrim(filler)"}', reverse => '{"balance": "(cents / 100)::integer", "filler": "filler"}'),
       tandem.map_table('day', 'legacy.history', 'bank.history', forward => '{"teller_id": "tid", "branch_id": "bid", "account_id": "aid", "delta": "delta::bigint * 100", "mtime": "mtime AT TIME ZONE ''UTC''"}',
                        reverse => '{"delta": "(delta / 100)::integer", "mtime": "mtime AT TIME ZONE ''UTC''"}');
SELECT tandem.set_option('day', 'time_scale', :'scale'), tandem.set_option('day', 'full_validate_every', :'full_every');
SELECT tandem.add_check('day', 'money', 'SELECT sum(balance) * 100 FROM legacy.account', 'SELECT sum(cents) FROM bank.account', severity => 'critical', on_fail => 'rollback', every => '1 hour');
