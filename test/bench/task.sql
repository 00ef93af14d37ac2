-- Tasks, and a plain table that is equal to theirs. Ids end with a number, so that a script knows a row's id and version without asking.
CREATE EXTENSION pg_tandem;
CREATE SCHEMA bench;
-- From running to running: what is measured is the version, not the queue.
SELECT count(tandem.task_create('bench', '{"customer": 4711, "note": "a payload as tasks have it"}')) FROM generate_series(1, :rows) \g /dev/null
SELECT count((tandem.task_cas(id, 1, 'running')).ok) FROM tandem.task WHERE kind = 'bench' \g /dev/null
UPDATE tandem.task SET id = ('00000000-0000-7000-8000-' || 100000000000 + n)::uuid, version = 1
  FROM (SELECT id AS old_id, row_number() OVER () - 1 AS n FROM tandem.task WHERE kind = 'bench') AS numbered WHERE id = old_id;
VACUUM FULL tandem.task;
CREATE TABLE bench.plain (LIKE tandem.task INCLUDING ALL) WITH (fillfactor = 70);
INSERT INTO bench.plain SELECT * FROM tandem.task;
CREATE TABLE bench.plain_with_event (LIKE tandem.task INCLUDING ALL) WITH (fillfactor = 70);
INSERT INTO bench.plain_with_event SELECT * FROM tandem.task;
CREATE TABLE bench.event (seq bigserial, at timestamptz NOT NULL, lsn pg_lsn, kind text, actor text, role text, client text, task_id uuid, state text, version bigint);
VACUUM ANALYZE;
CHECKPOINT;

-- processor time of this backend, user and system, in microseconds
CREATE FUNCTION bench.cpu() RETURNS numeric LANGUAGE sql VOLATILE AS $$ SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::numeric / 1000 $$;

-- Processor time of a change in a loop of PL/pgSQL, in µs: each row once, in one transaction. `how`: cas, plain, or nothing but the loop.
CREATE FUNCTION bench.loop(how text) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
    ids uuid[] := (SELECT array_agg(id ORDER BY id) FROM bench.plain);
    expected bigint := (SELECT CASE how WHEN 'cas' THEN (SELECT max(version) FROM tandem.task WHERE kind = 'bench') ELSE (SELECT max(version) FROM bench.plain) END);
    one uuid;
    accepted boolean;
    done bigint := 0;
    begun numeric;
BEGIN
    begun := bench.cpu();
    IF how = 'cas' THEN
        FOREACH one IN ARRAY ids LOOP
            accepted := ok FROM tandem.task_cas(one, expected, 'running');
            IF accepted THEN done := done + 1; END IF;
        END LOOP;
    ELSIF how = 'plain' THEN
        FOREACH one IN ARRAY ids LOOP
            UPDATE bench.plain SET state = 'running', version = version + 1, updated_at = clock_timestamp() WHERE id = one AND version = expected;
            IF FOUND THEN done := done + 1; END IF;
        END LOOP;
    ELSE
        FOREACH one IN ARRAY ids LOOP
            done := done + 1;
        END LOOP;
    END IF;
    IF done <> cardinality(ids) THEN
        RAISE EXCEPTION '%: only % of % changes were accepted', how, done, cardinality(ids);
    END IF;
    RETURN (bench.cpu() - begun) / cardinality(ids);
END $$;
