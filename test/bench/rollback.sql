-- 100 sessions write what route() tells them, again and again; a rollback is committed in the middle.
CREATE SCHEMA bench;
CREATE UNLOGGED TABLE bench.answer (client integer, before_call timestamptz, at timestamptz, side text);
CREATE TABLE bench.flip (called timestamptz, returned timestamptz);
CREATE TABLE bench.late (client integer);
CREATE TABLE legacy.flip (id integer PRIMARY KEY, v integer);
CREATE TABLE fresh.flip (id bigint PRIMARY KEY, v bigint);
INSERT INTO legacy.flip SELECT i, 0 FROM generate_series(1, 100) AS i;
SELECT FROM tandem.create_run('flip', 'legacy', 'fresh', steps => '{100}', hold => '0');
SELECT FROM tandem.map_table('flip', 'legacy.flip', 'fresh.flip');
SELECT FROM tandem.start('flip');

-- Takes the run to 100 % again.
CREATE FUNCTION bench.arm() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE bench.answer, bench.flip;
    IF (tandem.status('flip')).phase = 'degraded' THEN
        PERFORM tandem.retry('flip');
    END IF;
    WHILE (tandem.status('flip')).weight < 100 LOOP
        PERFORM tandem.tick();
    END LOOP;
END
$$;

-- Milliseconds from the call of rollback() to the last answer of new.
CREATE FUNCTION bench.lag() RETURNS numeric LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO bench.late SELECT a.client FROM bench.answer AS a, bench.flip AS f WHERE a.side = 'new' AND a.before_call > f.returned;
    RETURN (SELECT greatest(0, extract(epoch FROM max(a.at) - min(f.called)) * 1000) FROM bench.answer AS a, bench.flip AS f WHERE a.side = 'new');
END
$$;
