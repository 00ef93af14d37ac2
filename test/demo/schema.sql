-- The legacy schema: pgbench's four tables, as pgbench -i made them, with the two habits of an old system.
CREATE SCHEMA legacy;
ALTER TABLE pgbench_accounts SET SCHEMA legacy;
ALTER TABLE pgbench_branches SET SCHEMA legacy;
ALTER TABLE pgbench_tellers SET SCHEMA legacy;
ALTER TABLE pgbench_history SET SCHEMA legacy;

-- A key for the history: what has no key can be compared, but not mirrored.
ALTER TABLE legacy.pgbench_history ADD COLUMN id bigserial PRIMARY KEY;

-- A fixed-width record in a char column: currency and customer number, as in "EUR0000004711". Balances are whole cents.
UPDATE legacy.pgbench_accounts SET filler = 'EUR' || lpad(aid::text, 10, '0');
VACUUM (ANALYZE) legacy.pgbench_accounts, legacy.pgbench_branches, legacy.pgbench_tellers, legacy.pgbench_history;

-- The new design: other names, wider keys, euros instead of cents, a computed status, foreign keys.
CREATE SCHEMA bank;

CREATE TABLE bank.branch (
    id      bigint PRIMARY KEY,
    balance numeric(14,2) NOT NULL,
    note    text
);

CREATE TABLE bank.teller (
    id        bigint PRIMARY KEY,
    branch_id bigint NOT NULL REFERENCES bank.branch,
    balance   numeric(14,2) NOT NULL,
    note      text
);

CREATE TABLE bank.account (
    id        bigint PRIMARY KEY,
    branch_id bigint NOT NULL REFERENCES bank.branch,
    balance   numeric(14,2) NOT NULL,
    status    text NOT NULL GENERATED ALWAYS AS (CASE WHEN balance < 0 THEN 'overdrawn' ELSE 'ok' END) STORED,
    currency  text NOT NULL,
    customer  text NOT NULL
);

CREATE TABLE bank.entry (
    id         bigint PRIMARY KEY DEFAULT nextval('legacy.pgbench_history_id_seq'), -- one source of keys for both sides
    account_id bigint NOT NULL REFERENCES bank.account,
    desk       text NOT NULL, -- branch and teller, as in "1/7"
    amount     numeric(14,2) NOT NULL,
    booked_at  timestamptz NOT NULL,
    door       text -- which side the application wrote to
);
