-- Tasks, and plain tables that are equal to theirs, the room that they leave on a page included. Ids end with a number, so that a script knows a row's id and version without asking.
CREATE EXTENSION pg_tandem;
CREATE SCHEMA bench;
-- From running to running: what is measured is the version, not the queue. A second set of rows is for batches.
SELECT count(tandem.task_create(kind, '{"customer": 4711, "note": "a payload as tasks have it"}')) FROM (VALUES ('bench'), ('bench.many')) AS k (kind), generate_series(1, :rows) \g /dev/null
SELECT count((tandem.task_cas(id, 1, 'running')).ok) FROM tandem.task WHERE kind LIKE 'bench%' \g /dev/null
UPDATE tandem.task SET id = ('00000000-0000-7000-8000-' || n + CASE kind WHEN 'bench' THEN 100000000000 ELSE 200000000000 END)::uuid, version = 1
  FROM (SELECT id AS old_id, row_number() OVER (PARTITION BY kind) - 1 AS n FROM tandem.task WHERE kind LIKE 'bench%') AS numbered WHERE id = old_id;
VACUUM FULL tandem.task;
CREATE TABLE bench.plain (LIKE tandem.task INCLUDING ALL) WITH (fillfactor = 40);
INSERT INTO bench.plain SELECT * FROM tandem.task WHERE kind = 'bench';
CREATE TABLE bench.plain_with_event (LIKE tandem.task INCLUDING ALL) WITH (fillfactor = 40);
INSERT INTO bench.plain_with_event SELECT * FROM tandem.task WHERE kind = 'bench';
CREATE TABLE bench.event (seq bigserial, at timestamptz NOT NULL, lsn pg_lsn, kind text, actor text, role text, client text, task_id uuid, state text, version bigint);
-- What a client has in its hands when it calls task_cas_many().
CREATE TABLE bench.batch (n integer PRIMARY KEY, ids uuid[] NOT NULL, states text[] NOT NULL);
INSERT INTO bench.batch SELECT (n / 100)::integer, array_agg(('00000000-0000-7000-8000-' || 200000000000 + n)::uuid ORDER BY n), array_agg('running'::text)
  FROM generate_series(0, :rows - 1) AS n GROUP BY n / 100;
VACUUM ANALYZE;
CHECKPOINT;

-- processor time of this backend, user and system, in microseconds
CREATE FUNCTION bench.cpu() RETURNS numeric LANGUAGE sql VOLATILE AS $$ SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::numeric / 1000 $$;

-- Processor time of a change in a loop of PL/pgSQL, in µs: each row once, in one transaction. `how`: cas, plain, or nothing but the loop.
CREATE FUNCTION bench.loop(how text) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
    ids uuid[];
    versions bigint[];
    answer record;
    done bigint := 0;
    begun numeric;
BEGIN
    SELECT array_agg(id ORDER BY id), array_agg(version ORDER BY id) INTO ids, versions
      FROM (SELECT id, version FROM tandem.task WHERE how = 'cas' AND kind = 'bench' UNION ALL SELECT id, version FROM bench.plain WHERE how <> 'cas') AS t;
    begun := bench.cpu();
    IF how = 'cas' THEN
        FOR i IN 1..cardinality(ids) LOOP
            answer := tandem.task_cas(ids[i], versions[i], 'running');
            IF answer.ok THEN done := done + 1; END IF;
        END LOOP;
    ELSIF how = 'plain' THEN
        FOR i IN 1..cardinality(ids) LOOP
            UPDATE bench.plain SET state = 'running', version = version + 1, updated_at = clock_timestamp() WHERE id = ids[i] AND version = versions[i];
            IF FOUND THEN done := done + 1; END IF;
        END LOOP;
    ELSE
        FOR i IN 1..cardinality(ids) LOOP
            done := done + 1;
        END LOOP;
    END IF;
    IF done <> cardinality(ids) THEN
        RAISE EXCEPTION '%: only % of % changes were accepted', how, done, cardinality(ids);
    END IF;
    RETURN (bench.cpu() - begun) / cardinality(ids);
END $$;
