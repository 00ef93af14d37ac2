-- pgbench's own transaction (TPC-B), written by an application that asks route() about every row and writes where it points.
-- One account, :quiet, is nobody's customer today: the demo needs a row that no write happens to mend.
\set aid random(1, 100000 * :scale - 1)
\set aid case when :aid >= :quiet then :aid + 1 else :aid end
\set bid random(1, 1 * :scale)
\set tid random(1, 10 * :scale)
\set delta random(-5000, 5000)
BEGIN;
SELECT (tandem.route('bank', :aid::text) = 'new')::int AS account_new,
       (tandem.route('bank', :tid::text) = 'new')::int AS teller_new,
       (tandem.route('bank', :bid::text) = 'new')::int AS branch_new \gset
\if :account_new
UPDATE bank.account SET balance = balance + :delta / 100.0 WHERE id = :aid;
SELECT balance FROM bank.account WHERE id = :aid;
\else
UPDATE legacy.pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM legacy.pgbench_accounts WHERE aid = :aid;
\endif
\if :teller_new
UPDATE bank.teller SET balance = balance + :delta / 100.0 WHERE id = :tid;
\else
UPDATE legacy.pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
\endif
\if :branch_new
UPDATE bank.branch SET balance = balance + :delta / 100.0 WHERE id = :bid;
\else
UPDATE legacy.pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
\endif
\if :account_new
INSERT INTO bank.entry (account_id, desk, amount, booked_at, door) VALUES (:aid, :bid || '/' || :tid, :delta / 100.0, now(), 'new');
\else
INSERT INTO legacy.pgbench_history (tid, bid, aid, delta, mtime, filler) VALUES (:tid, :bid, :aid, :delta, now(), 'legacy');
\endif
END;
