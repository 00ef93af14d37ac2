-- Looks at guards, each in a transaction of its own, as the executor makes them: processor time of a look.
SET client_min_messages = warning;
SET synchronous_commit = off;
CREATE EXTENSION pg_tandem;
CREATE SCHEMA gl; CREATE SCHEMA gn;
CREATE TABLE gl.t (id integer PRIMARY KEY); CREATE TABLE gn.t (id integer PRIMARY KEY);
SELECT FROM tandem.create_run('g', 'gl', 'gn', hold => '1 day');
SELECT FROM tandem.map_table('g', 'gl.t', 'gn.t');
SELECT FROM tandem.set_option('g', 'guard_every', '0');
SELECT tandem.add_operation('g', 'op ' || i) FROM generate_series(1, 10) AS i \g /dev/null
SELECT count(tandem.add_metric('g', 'm' || i, 'SELECT 1, 1000', 'result = 1', every => '1 hour')) FROM generate_series(1, :metrics) AS i \g /dev/null
SELECT FROM tandem.start('g');
-- Ten operations that both sides have served.
SELECT count(tandem.observe('g', 'op ' || (1 + i % 10), CASE WHEN i % 20 < 10 THEN 'legacy' ELSE 'new' END, (1 + 20 * random() ^ 3) * interval '1 ms', i % 100 <> 0)) FROM generate_series(1, 100000) AS i \g /dev/null
SELECT tandem.sample_metrics(id), tandem.metric_round() FROM tandem.run \g /dev/null
UPDATE tandem.run SET stage = 'shadow';

-- Processor time of this session so far, in ms.
CREATE FUNCTION gl.cpu() RETURNS double precision LANGUAGE sql AS $$
    SELECT (f[12]::bigint + f[13]::bigint) * 10.0 FROM (SELECT string_to_array(regexp_replace(pg_read_file('/proc/self/stat'), '^.*\) ', ''), ' ') AS f) AS x $$;
CREATE PROCEDURE gl.looks(what text, n integer) LANGUAGE plpgsql AS $$
DECLARE
    began double precision;
BEGIN
    FOR i IN 1..n + 20 LOOP
        PERFORM tandem.guard_round(r) FROM tandem.run AS r;
        COMMIT;
        IF i = 20 THEN -- the plans are kept by then
            began := gl.cpu();
        END IF;
    END LOOP;
    RAISE NOTICE '%', format('%s %s ms', rpad(what, 42), round(((gl.cpu() - began) / n)::numeric, 2));
END $$;
CREATE PROCEDURE gl.add(wanted integer, metrics integer, condition text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tandem.drop_guard('g', guard) FROM tandem.guards WHERE template IS NULL;
    PERFORM tandem.add_guard('g', 'g' || i, replace(replace(condition, '<A>', 'm' || (1 + i % metrics)), '<B>', 'm' || (1 + (i * 7) % metrics)), hold => '1 minute', min_samples => 100) FROM generate_series(1, wanted) AS i;
END $$;

SET client_min_messages = notice;
CALL gl.looks('no guard but any_difference', :looks);
CALL gl.add(:guards, :metrics, '<A> > 5 AND <B> > 0'); CALL gl.looks('over metrics of a user''s', :looks);
CALL gl.add(:guards, :metrics, '<A> > 5 AND health_score < 70 OR differences > 10'); CALL gl.looks('over these and the run''s', :looks);
CALL gl.add(:guards, :metrics, '<A> > 5 OR new_error_rate > 50 OR new_p95_ms > 5000'); CALL gl.looks('over these and what was observed', :looks);
CALL gl.add(:guards, :metrics, '<A> > 5 OR greatest(errors_worse, p95_worse) > 1'); CALL gl.looks('over these and verdicts on both sides', :looks);
CALL gl.add(:guards, :metrics, '<A> < 5 AND <B> > 0'); CALL gl.looks('all of them true, and held', :looks);
