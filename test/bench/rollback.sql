-- 100 sessions write what route() tells them, again and again; now and then the run is rolled back, by hand or by the guard.
CREATE SCHEMA legacy;
CREATE SCHEMA fresh;
CREATE SCHEMA bench;
CREATE UNLOGGED TABLE bench.answer (client integer, before_call timestamptz, at timestamptz, side text);
CREATE TABLE bench.trial (who text, began timestamptz NOT NULL, returned timestamptz, lag numeric, late bigint);
CREATE TABLE legacy.flip (id integer PRIMARY KEY, v integer);
CREATE TABLE fresh.flip (id bigint PRIMARY KEY, v bigint);
INSERT INTO legacy.flip SELECT i, 0 FROM generate_series(1, 1000) AS i;
SELECT FROM tandem.create_run('flip', 'legacy', 'fresh', steps => '{100}', hold => '0');
SELECT FROM tandem.map_table('flip', 'legacy.flip', 'fresh.flip');
SELECT FROM tandem.set_option('flip', 'validate_every', '1 second');
SELECT FROM tandem.start('flip');

-- An odd value does not arrive on the new side as it was written: a wrong row, committed by an application that knows nothing of it.
CREATE FUNCTION bench.wrong() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := NEW.v + 1000; RETURN NEW; END $$;
CREATE TRIGGER wrong BEFORE UPDATE ON fresh.flip FOR EACH ROW WHEN (NEW.id = 1000 AND NEW.v % 2 = 1) EXECUTE FUNCTION bench.wrong();

-- Every session is served by new again, and the worker is somewhere in its second. Commits as it goes.
CREATE PROCEDURE bench.arm() LANGUAGE plpgsql AS $$
BEGIN
    UPDATE legacy.flip SET v = v + 1 WHERE id = 1000 AND v % 2 = 1;
    COMMIT;
    FOR i IN 1..100 LOOP
        EXIT WHEN NOT EXISTS (SELECT FROM tandem.rollback_proofs WHERE verdict = 'pending');
        PERFORM pg_sleep(0.05);
        COMMIT;
    END LOOP;
    -- An executor that has never rolled back, as it would be: one that has is twice as fast.
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pg_tandem executor';
    COMMIT;
    PERFORM tandem.retry('flip') FROM tandem.status('flip') WHERE phase = 'degraded';
    COMMIT;
    FOR i IN 1..100 LOOP -- promoted by the worker, after a clean validation
        EXIT WHEN (tandem.status('flip')).weight = 100;
        PERFORM pg_sleep(0.05);
        COMMIT;
    END LOOP;
    TRUNCATE bench.answer;
    COMMIT;
    FOR i IN 1..200 LOOP
        EXIT WHEN (SELECT count(DISTINCT client) FROM bench.answer WHERE side = 'new') = 100;
        PERFORM pg_sleep(0.05);
        COMMIT;
    END LOOP;
    PERFORM pg_sleep(random());
END
$$;

-- A trial is over when every session has been answered legacy.
CREATE PROCEDURE bench.finish() LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..200 LOOP
        EXIT WHEN (SELECT count(DISTINCT client) FROM bench.answer WHERE side = 'legacy') = 100;
        PERFORM pg_sleep(0.05);
        COMMIT;
    END LOOP;
    UPDATE bench.trial AS t SET lag = extract(epoch FROM (SELECT greatest(max(a.at), t.began) FROM bench.answer AS a WHERE a.side = 'new') - t.began) * 1000,
           late = (SELECT count(*) FROM bench.answer AS a WHERE a.side = 'new' AND a.before_call > t.returned)
     WHERE t.lag IS NULL;
    COMMIT;
END
$$;

-- A wrong row is committed; the guard finds it. Two measurements: from that commit, and from the verdict, when roll_back() was called.
CREATE PROCEDURE bench.by_guard(trials integer) LANGUAGE plpgsql AS $$
DECLARE
    wrong_at timestamptz;
BEGIN
    FOR i IN 1..trials LOOP
        CALL bench.arm();
        UPDATE legacy.flip SET v = v + 1 WHERE id = 1000;
        COMMIT;
        wrong_at := clock_timestamp();
        FOR i IN 1..1000 LOOP
            EXIT WHEN (tandem.status('flip')).phase = 'degraded';
            PERFORM pg_sleep(0.01);
            COMMIT;
        END LOOP;
        INSERT INTO bench.trial (who, began) SELECT 'wrong row', wrong_at;
        INSERT INTO bench.trial (who, began) SELECT 'verdict', b.at - b.elapsed FROM tandem.rollback AS b ORDER BY b.id DESC LIMIT 1;
        COMMIT;
        CALL bench.finish();
    END LOOP;
END
$$;

CREATE FUNCTION bench.figures(who text) RETURNS text LANGUAGE sql AS $$
    SELECT format('%s|%s|%s|%s', round(percentile_cont(0.5) WITHIN GROUP (ORDER BY lag)::numeric, 1), round(percentile_disc(0.99) WITHIN GROUP (ORDER BY lag)::numeric, 1), round(max(lag), 1), count(*))
      FROM bench.trial AS t WHERE t.who = figures.who
$$;
