-- What a run waits for, and what it is refused: every stage and phase that the law can lead to, with whatever may stand in the way. waiting_for is never
-- empty, and true: it names what has to be done first, and where that is no verb of somebody's, a reason that promotion_blockers() has. Every verb is
-- taken where the law has it, and else refused with what is missing.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE SCHEMA wl; CREATE SCHEMA wn;
CREATE TABLE wl.t (id integer PRIMARY KEY); CREATE TABLE wn.t (id integer PRIMARY KEY);
INSERT INTO wl.t SELECT generate_series(1, 5);
SELECT FROM tandem.create_run('w', 'wl', 'wn', steps => '{50,100}', hold => '0');
SELECT FROM tandem.map_table('w', 'wl.t', 'wn.t');
SELECT FROM tandem.set_option('w', 'validate_every', '1 hour');
SELECT FROM tandem.start('w');

-- --- the states that there are: from the beginning, by every verb of the law
CREATE TEMP TABLE state AS
WITH RECURSIVE reached AS (
    SELECT 'off' AS stage, 'pending' AS phase
    UNION
    SELECT coalesce(l.to_stage, r.stage), coalesce(l.to_phase, r.phase) FROM reached AS r JOIN tandem.run_law() AS l ON r.stage = ANY (l.stages) AND r.phase = ANY (l.phases)
) SELECT r.stage, r.phase, w.weight FROM reached AS r
   CROSS JOIN LATERAL unnest(CASE r.stage WHEN 'live' THEN '{50,100}'::integer[] WHEN 'rampdown' THEN '{100}' WHEN 'complete' THEN '{100}' ELSE '{0}' END) AS w (weight);
SELECT is((SELECT count(DISTINCT (stage, phase)) FROM state), 19::bigint, 'every stage and phase');

CREATE FUNCTION pg_temp.stands(stage text, phase text, weight integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tandem.run AS r SET stage = $1, phase = $2, weight = $3, moved_at = clock_timestamp() - interval '1 minute',
                               rampdown_at = CASE WHEN $1 = 'rampdown' THEN clock_timestamp() - interval '1 minute' END WHERE r.name = 'w';
    UPDATE tandem.run_domain SET weight = $3;
    UPDATE tandem.backfill SET finished_at = clock_timestamp(), read_at = clock_timestamp();
    UPDATE tandem.run_activity SET round_at = clock_timestamp(), validated_at = clock_timestamp(), differences = 0, error = NULL, error_at = NULL, successes = 5,
                                   counted_from = (SELECT r.moved_at FROM tandem.run AS r WHERE r.name = 'w');
END $$;

-- --- what stands in the way, one at a time, and all of it
CREATE TEMP TABLE obstacle (name text, sql text);
INSERT INTO obstacle VALUES
    ('nothing', 'SELECT'),
    ('no worker', $$UPDATE tandem.run_activity SET round_at = clock_timestamp() - interval '1 hour'$$),
    ('rounds fail', $$UPDATE tandem.run_activity SET error = '22012: division by zero', error_at = clock_timestamp(), round_at = clock_timestamp() - interval '1 hour'$$),
    ('a round failed', $$UPDATE tandem.run_activity SET error = '22012: division by zero', error_at = clock_timestamp() - interval '1 second'$$),
    ('no validation', $$UPDATE tandem.run_activity SET differences = NULL, validated_at = NULL, successes = 0$$),
    ('differences', $$UPDATE tandem.run_activity SET differences = 3$$),
    ('successes', $$SELECT tandem.set_option('w', 'consecutive', '7')$$),
    ('hold', $$UPDATE tandem.run SET moved_at = clock_timestamp(), hold = '1 hour'; UPDATE tandem.run_activity SET counted_from = (SELECT moved_at FROM tandem.run)$$),
    ('samples', $$SELECT tandem.set_option('w', 'min_samples', '1000')$$),
    ('retention', $$SELECT tandem.set_option('w', 'retention', '1 hour')$$),
    ('rows to copy', $$UPDATE tandem.backfill SET finished_at = NULL, read_at = NULL$$),
    ('a guard', $$SELECT tandem.add_guard('w', 'on the way', 'health_score < 0'); INSERT INTO tandem.guard_progress SELECT id, clock_timestamp(), 0, 0, NULL, '[]' FROM tandem.guard_rule WHERE name = 'on the way'$$),
    ('a check', $$SELECT tandem.add_check('w', 'rows', 'SELECT 1', 'SELECT 1', severity => 'critical')$$),
    ('dirty keys', $$INSERT INTO tandem.dirty_key (mapping_id, key, failures, since, failed_at, next_at, sqlstate, message)
                      SELECT m.id, '{"id": "1"}', 1, clock_timestamp(), clock_timestamp(), clock_timestamp(), '23514', 'refused' FROM tandem.mapping AS m JOIN tandem.run AS r ON r.id = m.run_id WHERE r.stage <> 'off'$$),
    -- copied since, so that it is no dirty key any more; no validation has seen it
    ('refused write', $$INSERT INTO tandem.comparison (run_id, mapping_id, purpose, epoch, snapshot, started_at, elapsed, equal, legacy_rows, new_rows, missing, extra, changed, duplicates, method, scope)
                         SELECT m.run_id, m.id, 'validate', 1, '3:3:', clock_timestamp(), '0', true, 5, 5, 0, 0, 0, 0, 'keys', 'full' FROM tandem.mapping AS m;
                        INSERT INTO tandem.mirror_failure (mapping_id, event, legacy_row, sqlstate, message, legacy_key, taken) SELECT m.id, 'INSERT', '(1)', '23514', 'refused', '{"id": "1"}', true FROM tandem.mapping AS m$$),
    ('a required item', $$SELECT tandem.add_checklist_item('w', 'the auditors agree', required => true)$$),
    ('a domain', $$UPDATE tandem.run_domain SET enabled = false, weight = 0$$),
    ('a proof', $$INSERT INTO tandem.rollback (run_id, strategy, automatic, reason, from_weight, epoch, evidence, elapsed) SELECT id, 'emergency', false, 'x', 0, 1, '{}', '0' FROM tandem.run$$),
    ('a brake', $$WITH b AS (INSERT INTO tandem.rollback (run_id, strategy, automatic, reason, from_weight, epoch, evidence, elapsed, entered) SELECT id, 'emergency', false, 'x', 0, 1, '{}', '0', false FROM tandem.run
                   RETURNING id, run_id) INSERT INTO tandem.brake SELECT b.id, b.run_id FROM b$$);
INSERT INTO obstacle SELECT 'gate before ' || s, format($$SELECT tandem.add_gate('w', %1$L, %1$L)$$, s) FROM unnest('{dualwrite,shadow,live,rampdown,complete}'::text[]) AS s;
INSERT INTO obstacle SELECT 'all', string_agg(o.sql, '; ') FROM obstacle AS o WHERE o.name NOT IN ('nothing', 'a brake');

CREATE TEMP TABLE said (stage text, phase text, weight integer, obstacle text, waiting_for text, blockers text[], promotes boolean);
CREATE FUNCTION pg_temp.look(s state, o obstacle) RETURNS said LANGUAGE plpgsql AS $$
DECLARE
    x said;
    r tandem.run;
    t record;
BEGIN
    PERFORM pg_temp.stands(s.stage, s.phase, s.weight);
    BEGIN
        EXECUTE o.sql;
    EXCEPTION WHEN object_not_in_prerequisite_state THEN -- a run that is over takes no gates
        RETURN NULL;
    END;
    SELECT * INTO r FROM tandem.run;
    t := tandem.next_target(r);
    x := ROW(s.stage, s.phase, s.weight, o.name, (SELECT v.waiting_for FROM tandem.runs AS v), ARRAY(SELECT b.blocker FROM tandem.promotion_blockers(r, t.stage, t.weight) AS b), false);
    x.promotes := coalesce(tandem.step_round(r) LIKE 'promoted%', false);
    RAISE EXCEPTION USING ERRCODE = 'P0042', MESSAGE = to_jsonb(x)::text;
EXCEPTION WHEN SQLSTATE 'P0042' THEN
    RETURN jsonb_populate_record(NULL::said, SQLERRM::jsonb);
END $$;
INSERT INTO said SELECT (x).* FROM state AS s, obstacle AS o, LATERAL pg_temp.look(s, o) AS x WHERE x IS DISTINCT FROM NULL AND (x).stage IS NOT NULL;
SELECT cmp_ok((SELECT count(*) FROM said), '>', 400::bigint, 'looked at all of them');
SELECT is_empty($$SELECT * FROM said WHERE coalesce(waiting_for, '') = ''$$, 'a run always says what it waits for');
SELECT is_empty($$SELECT * FROM said WHERE (waiting_for LIKE 'nothing: %') <> (phase IN ('cancelled', 'succeeded'))$$, 'nothing, only where it is over');

-- Whose turn it is: a verb that must then be legal there, or the machine's.
CREATE TEMP VIEW judged AS
SELECT s.*, CASE WHEN s.waiting_for ~ '^(start|resume|retry|complete)\(\)' THEN substring(s.waiting_for FROM '^[a-z]+') WHEN s.waiting_for LIKE 'sign_off()%' THEN 'approve' END AS verb,
       CASE WHEN s.waiting_for LIKE 'whoever holds%' THEN 'a brake'
            WHEN s.waiting_for LIKE 'the worker:%' THEN 'worker' WHEN s.waiting_for LIKE 'a round that%' THEN 'rounds'
            WHEN s.waiting_for LIKE 'a validation, then%' THEN 'validation' WHEN s.waiting_for LIKE 'the hold until%' THEN 'hold' WHEN s.waiting_for LIKE 'sign_off()%' THEN 'gate'
            ELSE (SELECT t.blocker FROM (VALUES ('rows that the new side refused', 'dirty keys'), ('both sides to be equal', 'differences'), ('another validation', 'refused write'),
                                         ('clean validations', 'consecutive'), ('traffic on the new side', 'samples'), ('a guard', 'guard'), ('a critical check', 'check'),
                                         ('the end of the retention', 'retention'), ('set_domain()', 'domain'), ('tick_item()', 'checklist')) AS t (words, blocker)
                   WHERE starts_with(s.waiting_for, t.words || ': ') AND s.waiting_for ~ ': [A-Z0-9].*, then ') END AS names,
       (SELECT count(*) FROM unnest(s.blockers) AS b WHERE b <> 'worker') AS others
  FROM said AS s WHERE s.phase NOT IN ('cancelled', 'succeeded');
SELECT is_empty($$SELECT * FROM judged AS j WHERE j.verb <> 'approve' AND NOT EXISTS (SELECT FROM tandem.run_law() AS l WHERE l.verb = j.verb AND j.stage = ANY (l.stages) AND j.phase = ANY (l.phases))$$,
                'a verb that is waited for is one that the law has there');
SELECT is_empty($$SELECT * FROM judged WHERE phase = 'paused' AND waiting_for <> 'resume()' AND names IS DISTINCT FROM 'a brake'$$, 'a paused run waits for resume()');
SELECT is_empty($$SELECT * FROM judged WHERE stage = 'off' AND NOT (waiting_for = 'start()' OR verb = 'approve')$$, 'one that is not started, for a signature, or start()');
SELECT is_empty($$SELECT * FROM judged WHERE phase = 'degraded' AND NOT (verb = 'retry' OR names IN ('a brake', 'worker', 'rounds') OR waiting_for = 'the proof of the rollback')$$,
                'one that was rolled back for its proof and then retry()');
SELECT is_empty($$SELECT * FROM judged WHERE phase = 'degraded' AND waiting_for = 'the proof of the rollback' AND obstacle IN ('no worker', 'rounds fail', 'all')$$, '... and not for a proof that nobody makes');
SELECT is_empty($$SELECT * FROM judged WHERE phase IN ('progressing', 'waiting_approval') AND names IN ('validation', 'hold', 'gate', 'differences', 'refused write', 'samples', 'retention', 'guard', 'check', 'domain', 'rounds', 'dirty keys', 'checklist')
                     AND NOT names = ANY (CASE WHEN names = 'validation' THEN blockers || CASE WHEN 'consecutive' = ANY (blockers) THEN '{validation}'::text[] END ELSE blockers END) AND stage <> 'dualwrite' AND NOT (phase = 'waiting_approval' AND blockers = '{}')$$,
                'what stands in the way of the next step is what promotion_blockers() has');
SELECT is_empty($$SELECT * FROM judged WHERE stage IN ('shadow', 'live') AND phase IN ('progressing', 'waiting_approval') AND cardinality(blockers) > 0
                     AND (names IS NULL OR waiting_for LIKE 'the next round%')$$, '... and where it has something, one of it is named');
SELECT is((SELECT count(*) FROM judged AS j WHERE j.obstacle = 'dirty keys' AND j.stage IN ('shadow', 'live') AND j.phase IN ('progressing', 'waiting_approval') AND j.weight < 100
              AND (j.names = 'dirty keys') IS NOT TRUE), 0::bigint, 'rows that new refused and that are not copied are named');
SELECT is((SELECT count(*) FROM judged AS j WHERE j.obstacle = 'refused write' AND j.stage = 'shadow' AND j.phase IN ('progressing', 'waiting_approval') AND (j.names = 'refused write') IS NOT TRUE), 0::bigint,
          '... so is one that no validation has seen');
SELECT is((SELECT count(*) FROM judged AS j WHERE j.obstacle = 'a required item' AND (j.stage = 'rampdown' OR (j.stage = 'live' AND j.weight = 100)) AND j.phase IN ('progressing', 'waiting_approval')
              AND (j.names = 'checklist') IS NOT TRUE), 0::bigint, '... and at the end an item of the checklist that is required');
SELECT is_empty($$SELECT * FROM judged WHERE waiting_for ~ '^[a-z]' AND split_part(waiting_for, ':', 1) IN (SELECT unnest(blockers) FROM said)$$, 'what is waited for is told in words, not by the name of a blocker');
SELECT is((SELECT array_agg(DISTINCT j.names ORDER BY j.names) FROM judged AS j WHERE j.obstacle IN ('successes', 'samples', 'retention', 'a guard', 'a check', 'a domain', 'differences')),
          '{check,consecutive,differences,domain,guard,retention,samples,NULL}', 'every kind of obstacle is told somewhere');
SELECT is((SELECT array_agg(DISTINCT j.names ORDER BY j.names) FROM judged AS j WHERE j.obstacle IN ('dirty keys', 'refused write', 'a required item') AND j.names IN ('dirty keys', 'refused write', 'checklist')),
          '{checklist,"dirty keys","refused write"}', '... each of them somewhere');
SELECT is_empty($$SELECT * FROM judged WHERE (waiting_for LIKE 'the next round, then weight%') <> promotes$$, 'the next round promotes exactly where it is waited for');
SELECT is_empty($$SELECT * FROM judged WHERE stage IN ('live', 'rampdown') AND weight = 100 AND phase = 'progressing' AND blockers = '{}' AND names IS NULL AND waiting_for <> 'complete()'$$,
                'at the end complete() is waited for');
SELECT results_eq($$SELECT DISTINCT obstacle, waiting_for FROM judged WHERE stage = 'dualwrite' AND phase = 'progressing' AND obstacle IN ('nothing', 'rounds fail', 'rows to copy') ORDER BY 1$$,
                  $$VALUES ('nothing', 'a clean comparison'), ('rounds fail', 'a round that does not fail: 22012: division by zero'), ('rows to copy', 'the backfill: its unfinished tables are at 0.0 %')$$, 'rows, and then a comparison');
SELECT is_empty($$SELECT * FROM judged WHERE obstacle = 'no worker' AND stage <> 'off' AND phase IN ('progressing', 'waiting_approval') AND weight < 100 AND names IS DISTINCT FROM 'worker'$$, 'without a worker nothing goes on, and that is said');

-- --- every verb in every state
CREATE TEMP TABLE call AS
SELECT * FROM (VALUES ('start', $$SELECT tandem.start('w')$$), ('promote', $$SELECT tandem.promote('w')$$), ('pause', $$SELECT tandem.pause('w')$$), ('resume', $$SELECT tandem.resume('w')$$),
    ('rollback', $$SELECT tandem.rollback('w', 'why')$$), ('retry', $$SELECT tandem.retry('w')$$), ('cancel', $$SELECT tandem.cancel('w')$$), ('complete', $$SELECT tandem.complete('w', 'w')$$),
    ('set_domain', $$SELECT tandem.set_domain('w', 'default', false)$$),
    ('rollback_domain', $$INSERT INTO tandem.run_domain (run_id, name, weight) SELECT r.id, 'other', r.weight FROM tandem.run AS r; SELECT tandem.rollback('w', 'why', 'default')$$)) AS v (verb, sql);
CREATE FUNCTION pg_temp.say(s state, c call) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
    hint text;
    before_it record;
    left_it text;
BEGIN
    PERFORM pg_temp.stands(s.stage, s.phase, s.weight);
    IF s.stage = 'off' THEN
        PERFORM tandem.drop_mirrors((SELECT r.id FROM tandem.run AS r));
        DELETE FROM tandem.backfill;
    END IF;
    SELECT r.epoch, (SELECT max(e.seq) FROM tandem.event AS e) AS seq, pg_current_wal_insert_lsn() AS lsn INTO before_it FROM tandem.run AS r WHERE r.name = 'w';
    EXECUTE c.sql;
    -- One move, with one event: of the next epoch, with something to go by, and where the log was meanwhile.
    SELECT concat_ws(' ', CASE WHEN count(*) <> 1 THEN count(*) || ' moves' END, CASE WHEN min(e.kind) <> CASE c.verb WHEN 'rollback_domain' THEN 'rollback' ELSE c.verb END THEN 'the event ' || min(e.kind) END,
                     CASE WHEN min(e.epoch) <> before_it.epoch + 1 OR min(e.epoch) <> (SELECT r.epoch FROM tandem.run AS r WHERE r.name = 'w') THEN 'another epoch' END,
                     CASE WHEN bool_or(e.evidence IS NULL OR e.evidence = '{}') THEN 'no evidence' END,
                     CASE WHEN NOT bool_and(e.lsn BETWEEN before_it.lsn AND pg_current_wal_insert_lsn()) THEN 'a place in the log that was not there' END,
                     CASE WHEN bool_or(coalesce((e.evidence ->> 'from_weight')::integer, s.weight) <> s.weight OR coalesce(e.evidence ->> 'from_stage', s.stage) <> s.stage
                                       OR coalesce(e.evidence ->> 'from_phase', s.phase) <> s.phase) THEN 'a place where it did not stand' END) INTO left_it
      FROM tandem.events('w') AS e WHERE e.seq > before_it.seq AND e.kind IN (SELECT l.verb FROM tandem.run_law() AS l);
    RAISE EXCEPTION USING ERRCODE = 'P0042', MESSAGE = concat_ws(', but with ', (SELECT format('%s, %s', r.stage, r.phase) FROM tandem.run AS r), nullif(left_it, ''));
EXCEPTION WHEN SQLSTATE 'P0042' THEN
    RETURN SQLERRM;
WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN CASE WHEN SQLSTATE <> '55000' THEN SQLSTATE WHEN detail = '' OR hint = '' THEN 'without a word: ' ELSE '' END || SQLERRM;
END $$;
INSERT INTO wn.t SELECT * FROM wl.t ON CONFLICT DO NOTHING; -- equal, so that only the law is asked
CREATE TEMP TABLE answer AS
SELECT s.stage, s.phase, s.weight, c.verb, pg_temp.say(s, c) AS answer,
       (SELECT format('%s, %s', coalesce(l.to_stage, s.stage), coalesce(l.to_phase, s.phase)) FROM tandem.run_law() AS l WHERE l.verb = c.verb AND s.stage = ANY (l.stages) AND s.phase = ANY (l.phases)
                  AND NOT (c.verb = 'complete' AND s.weight < 100) AND NOT (c.verb = 'promote' AND s.weight = 100)) AS lawful
  FROM state AS s, call AS c WHERE s.weight > 0 OR c.verb <> 'rollback_domain'; -- where no other domain has keys on new, that is a rollback
SELECT is_empty($$SELECT * FROM answer WHERE lawful IS NULL AND answer !~ '^(cannot [a-z ]+ the run in its present state|the run is (not at 100 %|at its last step))$'$$, 'what the law has not is refused (55000) with a detail and a hint');
SELECT is_empty($$SELECT * FROM answer WHERE lawful <> answer$$, 'what it has is done, and leads where it says');

SELECT * FROM finish();
ROLLBACK;
