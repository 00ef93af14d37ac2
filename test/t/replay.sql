-- Replays the events of all runs: each move must follow by the law from the one before, no epoch is missing, and the last leads to where the run is.
-- Wants a snapshot, as the worker may move runs meanwhile: BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM test.replay(); COMMIT

CREATE SCHEMA IF NOT EXISTS test;

-- What does not follow from what went before.
CREATE FUNCTION test.replay() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	r record;
	e record;
	stage text; phase text; weight integer; epoch bigint; to_stage text; to_phase text; to_weight integer;
	roles text[];
BEGIN
	FOR r IN SELECT * FROM tandem.run ORDER BY id LOOP
		stage := NULL;
		roles := '{}';
		CREATE TEMP TABLE IF NOT EXISTS stood (epoch bigint, place text);
		TRUNCATE stood;
		FOR e IN SELECT * FROM tandem.event AS x WHERE x.run = r.name AND x.stage IS NOT NULL AND x.kind <> 'brake' ORDER BY x.seq LOOP -- a brake is called beside the run
			IF e.kind = 'create_run' THEN
				stage := e.stage; phase := e.phase; weight := e.weight; epoch := e.epoch;
				IF (stage, phase, weight, epoch) IS DISTINCT FROM ('off', 'pending', 0, 0) THEN
					RETURN NEXT format('%s begins at %s', r.name, e);
				END IF;
			ELSIF e.kind IN (SELECT l.verb FROM tandem.run_law() AS l) AND NOT coalesce(e.evidence ? 'already_rolled_back_by', false) THEN
				BEGIN
					SELECT n.to_stage, n.to_phase, n.new_weight INTO to_stage, to_phase, to_weight
					  FROM tandem.run_next(stage, phase, weight, CASE WHEN e.kind = 'rollback' AND e.evidence ? 'domain' THEN 'rollback_domain' ELSE e.kind END, r.steps, CASE e.kind WHEN 'promote' THEN e.weight END) AS n;
					IF (e.stage, e.phase, e.weight, e.epoch) IS DISTINCT FROM (to_stage, to_phase, to_weight, epoch + 1) THEN
						RETURN NEXT format('%s: %s leads from %s/%s/%s/%s to %s/%s/%s/%s', r.name, e.kind, stage, phase, weight, epoch, e.stage, e.phase, e.weight, e.epoch);
					END IF;
					IF e.kind = 'promote' AND weight < 50 AND e.weight >= 50
					   AND (SELECT count(DISTINCT x) FROM unnest(roles) AS x) < (SELECT g.approvals FROM tandem.gate AS g WHERE g.run_id = r.id) THEN
						RETURN NEXT format('%s: passed its gate at event %s with %s', r.name, e.seq, roles);
					END IF;
				EXCEPTION WHEN object_not_in_prerequisite_state OR invalid_parameter_value THEN
					RETURN NEXT format('%s: illegal %s from %s/%s/%s: %s', r.name, e.kind, stage, phase, weight, SQLERRM);
				END;
				stage := e.stage; phase := e.phase; weight := e.weight; epoch := e.epoch;
				IF e.lsn IS NULL OR e.actor IS NULL THEN
					RETURN NEXT format('%s: event %s does not say where or who', r.name, e.seq);
				END IF;
			END IF;
			IF e.kind = 'rollback' AND NOT coalesce(e.evidence ? 'already_rolled_back_by', false) OR e.kind = 'sign_off' AND e.evidence ->> 'decision' = 'no_go' THEN
				roles := '{}';
			ELSIF e.kind = 'sign_off' THEN
				roles := roles || e.role;
			END IF;
			INSERT INTO stood VALUES (epoch, format('%s/%s/%s', stage, phase, weight));
			IF NOT EXISTS (SELECT FROM stood AS s WHERE s.epoch = e.epoch AND s.place = format('%s/%s/%s', e.stage, e.phase, e.weight)) THEN
				RETURN NEXT format('%s: event %s %s tells of %s/%s/%s in epoch %s', r.name, e.seq, e.kind, e.stage, e.phase, e.weight, e.epoch);
			END IF;
		END LOOP;
		IF (r.stage, r.phase, r.weight, r.epoch) IS DISTINCT FROM (stage, phase, weight, epoch) THEN
			RETURN NEXT format('%s is in %s/%s/%s/%s, its events end in %s/%s/%s/%s', r.name, r.stage, r.phase, r.weight, r.epoch, stage, phase, weight, epoch);
		END IF;
	END LOOP;
END $$;
