-- What t/schedules.pl drives: two tables on each side, runs one after the other, writers with a ledger.

CREATE EXTENSION pg_tandem;
CREATE SCHEMA legacy;
CREATE SCHEMA store;
CREATE SCHEMA work;
CREATE TABLE legacy.account (id integer PRIMARY KEY, qty integer NOT NULL, hits integer NOT NULL, owner text DEFAULT 'somebody');
CREATE TABLE store.account (account_id bigint PRIMARY KEY, holder text DEFAULT 'somebody', quantity bigint NOT NULL, hits bigint NOT NULL);
CREATE TABLE legacy.note (n integer PRIMARY KEY, mark integer NOT NULL, hits integer NOT NULL);
CREATE TABLE store.note (n bigint PRIMARY KEY, mark bigint NOT NULL, hits bigint NOT NULL) PARTITION BY RANGE (n); -- keys move between partitions, too
CREATE TABLE store.note_1 PARTITION OF store.note FOR VALUES FROM (MINVALUE) TO (150);
CREATE TABLE store.note_2 PARTITION OF store.note FOR VALUES FROM (150) TO (MAXVALUE);

-- A row as the writers see it: a key, a value, and how often it was written.
CREATE VIEW work.legacy_account AS SELECT id AS key, qty AS value, hits FROM legacy.account;
CREATE VIEW work.store_account AS SELECT account_id AS key, quantity AS value, hits FROM store.account;
CREATE VIEW work.legacy_note AS SELECT n AS key, mark AS value, hits FROM legacy.note;
CREATE VIEW work.store_note AS SELECT n AS key, mark AS value, hits FROM store.note;

CREATE TABLE work.present (run text NOT NULL, stop boolean NOT NULL DEFAULT false); -- one row

-- The ledger: every row that a transaction wrote, in that transaction. Who writes the row next, on whichever side, has waited until that
-- transaction ended; and an entry gets its number after its statement: so the entries of a key are in the order of its writes. Early: written on the
-- new side before the backfill was through, where rows that are not copied yet are not there.
CREATE TABLE work.ledger (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, transaction bigint NOT NULL, tab text NOT NULL, op text NOT NULL, side text NOT NULL, early boolean NOT NULL,
    key integer NOT NULL, from_key integer, value integer NOT NULL, hits integer NOT NULL, gone boolean NOT NULL);
CREATE TABLE work.done (transaction bigint PRIMARY KEY);

-- A statement of a writer, and its entries. Side: as route() says, or the one that is named. Where the new side is not mirrored, as between
-- two runs, nobody writes it.
CREATE FUNCTION work.write(transaction bigint, tab text, op text, side text, key integer, value integer, other integer) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    early boolean := false;
    sql CONSTANT text := CASE op
        WHEN 'insert' THEN 'INSERT INTO %1$s AS t VALUES ($1, $2, 1)'
        WHEN 'insert many' THEN 'INSERT INTO %1$s AS t SELECT i, $2, 1 FROM generate_series($1, $1 + 9) AS i ON CONFLICT DO NOTHING'
        WHEN 'upsert' THEN 'INSERT INTO %1$s AS t VALUES ($1, $2, 1), ($3, $2, 1) ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value, hits = t.hits + 1'
        WHEN 'update' THEN 'UPDATE %1$s AS t SET value = $2, hits = hits + 1 WHERE key = $1'
        WHEN 'update many' THEN 'UPDATE %1$s AS t SET value = $2, hits = hits + 1 WHERE key BETWEEN $1 AND $1 + 15'
        WHEN 'move' THEN 'UPDATE %1$s AS t SET key = $3, value = $2, hits = hits + 1 WHERE key = $1'
        WHEN 'delete' THEN 'DELETE FROM %1$s AS t WHERE key = $1'
        WHEN 'delete many' THEN 'DELETE FROM %1$s AS t WHERE key BETWEEN $1 AND $1 + 3' END;
    e record;
BEGIN
    IF side = 'route' THEN
        side := CASE tandem.route((SELECT p.run FROM work.present AS p), key::text, CASE tab WHEN 'account' THEN 'money' ELSE 'words' END) WHEN 'new' THEN 'store' ELSE 'legacy' END;
    END IF;
    IF side = 'store' THEN
        EXECUTE format('LOCK TABLE store.%I IN ROW EXCLUSIVE MODE', tab);
        IF NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = format('store.%I', tab)::regclass AND t.tgfoid = 'tandem.mirror()'::regprocedure) THEN
            side := 'legacy';
        ELSE -- no other run starts while we hold the lock
            early := (SELECT r.stage = 'dualwrite' FROM tandem.run AS r JOIN work.present AS p ON p.run = r.name);
        END IF;
    END IF;
    FOR e IN EXECUTE format(sql || ' RETURNING t.key::integer, t.value::integer, t.hits::integer', format('work.%I', side || '_' || tab)) USING key, value, other LOOP
        INSERT INTO work.ledger (transaction, tab, op, side, early, key, from_key, value, hits, gone)
        VALUES (transaction, tab, op, side, early, e.key, CASE WHEN op = 'move' THEN key WHEN e.hits > 1 OR op LIKE 'delete%' THEN e.key END, e.value, e.hits, op LIKE 'delete%');
    END LOOP;
END $$;

-- --- runs, one after the other, every other one with the write fence, every third one paused by DDL that the mirror survives
CREATE FUNCTION work.make_run(run text) RETURNS void LANGUAGE sql AS $$
    SELECT tandem.create_run(run, 'legacy', 'store', steps => '{10,50,100}', hold => '300 ms');
    SELECT tandem.map_table(run, 'legacy.account', 'store.account', forward => '{"account_id": "id", "holder": "owner", "quantity": "qty"}', domain => 'money'),
           tandem.map_table(run, 'legacy.note', 'store.note', domain => 'words');
    SELECT tandem.set_option(run, 'validate_every', '150 ms'), tandem.set_option(run, 'batch_size', '40'), tandem.set_option(run, 'throttle_delay', '5 ms');
    SELECT tandem.set_option(run, 'write_fence', CASE WHEN n % 2 = 0 THEN 'on' ELSE 'off' END), tandem.set_option(run, 'on_ddl', CASE WHEN n % 3 = 0 THEN 'pause' ELSE 'refuse' END)
      FROM (SELECT count(*) FROM tandem.run) AS x (n);
    UPDATE work.present AS p SET run = make_run.run;
$$;

-- Another run, where the present one is cancelled. What the new side holds is of the last one, and nobody writes it.
CREATE FUNCTION work.begin_anew() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT r.phase FROM tandem.runs AS r JOIN work.present AS p ON p.run = r.run) = 'cancelled' THEN
        PERFORM work.make_run('run ' || count(*) + 1) FROM tandem.runs;
    END IF;
    LOCK TABLE store.account, store.note, legacy.account, legacy.note IN SHARE ROW EXCLUSIVE MODE;
    IF (SELECT r.stage = 'off' AND r.phase = 'pending' FROM tandem.runs AS r JOIN work.present AS p ON p.run = r.run) THEN
        DELETE FROM store.account;
        DELETE FROM store.note;
        PERFORM tandem.start(p.run) FROM work.present AS p;
    END IF;
END $$;

-- The same, with cancel(), in one transaction: no write passes between the two.
CREATE FUNCTION work.cancel_and_begin_anew() RETURNS void LANGUAGE sql AS $$
    SELECT tandem.cancel(p.run, 'begins anew') FROM work.present AS p;
    SELECT work.begin_anew();
$$;

-- DDL that would break a mirror, where there is one: always refused.
CREATE FUNCTION work.break_mirror(tab regclass, ddl text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', tab);
    IF EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = tab AND t.tgfoid = 'tandem.mirror()'::regprocedure) THEN
        EXECUTE format(ddl, tab);
        RAISE EXCEPTION 'not refused: %', format(ddl, tab);
    END IF;
END $$;

INSERT INTO work.present VALUES ('none');
SELECT work.make_run('run 1');
SELECT work.write(0, t, 'insert', 'legacy', i, i, NULL) FROM unnest('{account,note}'::text[]) AS t, generate_series(1, 300) AS i;
INSERT INTO work.done VALUES (0);
