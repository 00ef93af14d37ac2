-- schedule: jobs of runs on pg_cron: a comparison of everything at night, the report of the day, rounds where no worker is preloaded.
--
-- pg_cron is another extension and may be absent, in another database, or of another version: nothing here names its objects but as text.
-- Its functions are called by an extension's owner, a superuser, so it must be pg_cron that is called: cron_member() asks the catalogs.
--
-- A job runs as the run's owner, whoever scheduled it. So it can do no more than the run's rounds, and it does not stop when the operator who
-- scheduled it leaves. Its command is run_job(run, job) and nothing that a user wrote.

CREATE FUNCTION tandem.job_command(run text, job text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT format('SELECT tandem.run_job(%L, %L)', $1, $2) $$;
COMMENT ON FUNCTION tandem.job_command IS 'The command that pg_cron is given';

CREATE FUNCTION tandem.require_cron(run text, job text, cron text, role name) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c record;
BEGIN
    SELECT * INTO c FROM tandem.cron_state();
    IF NOT c.loaded THEN
        RAISE EXCEPTION 'pg_cron is not loaded: nothing would run the job' USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = 'It is not in shared_preload_libraries.',
              HINT = format(E'Install pg_cron (Debian: postgresql-%s-cron), add it to shared_preload_libraries, set cron.database_name = %L, restart, CREATE EXTENSION pg_cron.\n'
                            'Without it, let any other scheduler run: psql -c "%s"', current_setting('server_version_num')::integer / 10000, current_database(), tandem.job_command(run, job));
    ELSIF NOT c.here AND c.database IS DISTINCT FROM current_database() THEN
        RAISE EXCEPTION 'pg_cron keeps its jobs in another database' USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = format('cron.database_name is "%s", this is "%s".', c.database, current_database()),
              HINT = format('Connect to "%s" as a superuser and run: SELECT cron.schedule_in_database(%L, %L, %L, %L, %L)', c.database, tandem.job_name(run, job), cron,
                            tandem.job_command(run, job), current_database(), role);
    ELSIF NOT c.here THEN
        RAISE EXCEPTION 'pg_cron is loaded, but this database has not the extension, or one older than 1.4' USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'As a superuser: CREATE EXTENSION pg_cron, or ALTER EXTENSION pg_cron UPDATE.';
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.require_cron IS 'Refuses (55000) where pg_cron can''t be given a job from here, and says what to do instead';

-- SECURITY DEFINER: pg_cron lets only superusers schedule for another role. The role is the run's owner, never one that the caller names.
CREATE FUNCTION tandem.schedule(run text, job text, cron text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    r tandem.run;
    acting name := pg_get_userbyid(tandem.acting_role());
    role name := acting;
    old tandem.schedule;
    kept boolean := false;
    id bigint;
    message text;
BEGIN
    IF job IS NULL OR cron IS NULL THEN
        RAISE EXCEPTION 'a schedule needs a job and a time' USING ERRCODE = 'null_value_not_allowed', HINT = 'SELECT tandem.schedule(''my_run'', ''reconcile'', ''30 3 * * *'')';
    END IF;
    IF job NOT IN ('validate', 'reconcile', 'daily_report', 'tick') THEN
        RAISE EXCEPTION 'unknown job "%"', job USING ERRCODE = 'invalid_parameter_value',
              HINT = 'Jobs are: reconcile (compares everything and makes the checks), validate (compares what changed), daily_report, tick (a round, where no worker is preloaded).';
    END IF;
    IF run IS NULL AND job <> 'tick' THEN
        RAISE EXCEPTION 'job "%" is one of a run', job USING ERRCODE = 'null_value_not_allowed', HINT = 'SELECT run FROM tandem.runs lists them. Without a run there is only job tick.';
    END IF;
    IF run IS NOT NULL THEN
        r := tandem.get_run(run);
        PERFORM tandem.authorize(r, 'schedule');
        role := r.owner;
    ELSIF NOT (tandem.has_level(acting, 'operator') OR tandem.has_level(acting, 'admin')) THEN
        RAISE EXCEPTION 'permission denied to schedule rounds of all runs' USING ERRCODE = 'insufficient_privilege', HINT = format('An admin can run: SELECT tandem.grant_role(%L, ''operator'')', acting);
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles AS o WHERE o.rolname = role AND o.rolcanlogin) THEN
        RAISE EXCEPTION 'role "%" cannot log in, so pg_cron can run nothing as it', role USING ERRCODE = 'invalid_authorization_specification',
              DETAIL = 'A job runs as the owner of its run.', HINT = format('ALTER ROLE %I LOGIN', role);
    END IF;
    PERFORM tandem.require_cron(run, job, cron, role);

    PERFORM tandem.take_lock('tandem.schedule', coalesce(r.id, 0));
    SELECT * INTO old FROM tandem.schedule AS s WHERE s.run_id IS NOT DISTINCT FROM r.id AND s.job = job;
    BEGIN
        IF FOUND THEN -- one that another database or hand made under this number is not ours
            EXECUTE 'SELECT count(*) > 0 FROM cron.job AS j WHERE j.jobid = $1 AND j.jobname = $2' INTO kept USING old.cron_job, tandem.job_name(run, job);
        END IF;
        IF kept THEN
            id := old.cron_job;
            EXECUTE 'SELECT cron.alter_job($1, $2, $3, $4, $5, true)' USING id, cron, tandem.job_command(run, job), current_database()::text, role::text;
        ELSE
            EXECUTE 'SELECT cron.schedule_in_database($1, $2, $3, $4, $5, true)' INTO id USING tandem.job_name(run, job), cron, tandem.job_command(run, job), current_database()::text, role::text;
        END IF;
    EXCEPTION WHEN invalid_parameter_value THEN
        GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
        RAISE EXCEPTION '%', message USING ERRCODE = 'invalid_parameter_value', DETAIL = 'pg_cron does not know what that means.',
              HINT = 'Minute, hour, day of the month, month, day of the week, in GMT unless cron.timezone says otherwise: ''30 3 * * *'' is every night at 3:30. From pg_cron 1.5 on also ''10 seconds''.';
    END;
    DELETE FROM tandem.schedule AS s WHERE s.run_id IS NOT DISTINCT FROM r.id AND s.job = job;
    INSERT INTO tandem.schedule (run_id, job, cron, role, cron_job, scheduled_by) VALUES (r.id, job, cron, role, id, acting);
    IF run IS NULL THEN
        PERFORM tandem.append_event('schedule', NULL, jsonb_build_object('job', job, 'cron', cron, 'role', role, 'cron_job', id));
    ELSE
        PERFORM tandem.record_event(r, 'schedule', NULL, jsonb_build_object('job', job, 'cron', cron, 'role', role, 'cron_job', id));
    END IF;
    RETURN id;
END
$$;
COMMENT ON FUNCTION tandem.schedule IS
    'Lets pg_cron run a job of a run as the run''s owner: reconcile, validate, daily_report or tick (run NULL: of all runs). Again for the same job: changes its time. Returns pg_cron''s jobid';

-- SECURITY DEFINER, as schedule(). A job that pg_cron has no more is forgotten all the same.
CREATE FUNCTION tandem.unschedule(run text, job text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    r tandem.run;
    acting name := pg_get_userbyid(tandem.acting_role());
    old tandem.schedule;
    removed boolean := false;
BEGIN
    IF run IS NOT NULL THEN
        r := tandem.get_run(run);
        PERFORM tandem.authorize(r, 'unschedule');
    ELSIF NOT (tandem.has_level(acting, 'operator') OR tandem.has_level(acting, 'admin')) THEN
        RAISE EXCEPTION 'permission denied to unschedule rounds of all runs' USING ERRCODE = 'insufficient_privilege', HINT = format('An admin can run: SELECT tandem.grant_role(%L, ''operator'')', acting);
    END IF;
    DELETE FROM tandem.schedule AS s WHERE s.run_id IS NOT DISTINCT FROM r.id AND s.job = job RETURNING * INTO old;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'job "%" of % is not scheduled', job, coalesce(format('run "%s"', run), 'all runs') USING ERRCODE = 'undefined_object', HINT = 'SELECT * FROM tandem.schedules lists what is.';
    END IF;
    IF (tandem.cron_state()).here THEN
        EXECUTE 'SELECT bool_or(cron.unschedule(j.jobid)) FROM cron.job AS j WHERE j.jobid = $1 AND j.jobname = $2' INTO removed USING old.cron_job, tandem.job_name(run, job);
    END IF;
    IF run IS NULL THEN
        PERFORM tandem.append_event('unschedule', NULL, jsonb_build_object('job', job, 'cron_job', old.cron_job));
    ELSE
        PERFORM tandem.record_event(r, 'unschedule', NULL, jsonb_build_object('job', job, 'cron_job', old.cron_job));
    END IF;
    RETURN coalesce(removed, false);
END
$$;
COMMENT ON FUNCTION tandem.unschedule IS 'Takes a job of a run back from pg_cron; false where pg_cron had it no more';

-- What it calls asks authorize() for the session's role.
CREATE FUNCTION tandem.do_job(run text, job text) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    r tandem.run;
    d record;
    made record;
    checks text := '';
BEGIN
    IF run IS NULL AND job = 'tick' THEN
        RETURN coalesce((SELECT string_agg(concat_ws(': ', t.run, t.did), '; ') FROM tandem.tick() AS t), 'nothing to do');
    END IF;
    r := tandem.get_run(run);
    PERFORM tandem.authorize(r, 'run_job');
    IF r.home <> tandem.home() AND r.stage <> 'off' THEN
        RETURN 'nothing: this database is a copy, and nobody has moved the run in it';
    ELSIF r.stage IN ('off', 'complete') OR r.phase = 'cancelled' THEN
        RETURN format('nothing: the run is %s', CASE WHEN r.phase = 'cancelled' THEN 'cancelled' WHEN r.stage = 'off' THEN 'not started' ELSE 'complete' END);
    END IF;
    CASE job
        WHEN 'reconcile', 'validate' THEN
            IF r.stage NOT IN ('shadow', 'live', 'rampdown') THEN
                RETURN format('nothing to compare in stage %s', r.stage);
            END IF;
            SELECT count(*) AS tables, coalesce(sum(v.missing + v.extra + v.changed + v.duplicates + v.errors - v.accepted), 0) AS differences INTO d
              FROM tandem.validate(run, changes_only => job = 'validate') AS v;
            IF job = 'reconcile' AND EXISTS (SELECT FROM tandem.check_rule AS c WHERE c.run_id = r.id) THEN
                SELECT count(DISTINCT v.name) AS checks, count(DISTINCT v.name) FILTER (WHERE NOT v.passed) AS failed INTO made FROM tandem.reconcile(run) AS v;
                checks := format('; %s check%s made, %s', made.checks, CASE WHEN made.checks = 1 THEN '' ELSE 's' END, CASE made.failed WHEN 0 THEN 'all passed' ELSE format('%s did not pass', made.failed) END);
            END IF;
            RETURN format('%s table%s compared, %s difference%s%s', d.tables, CASE WHEN d.tables = 1 THEN '' ELSE 's' END, d.differences, CASE WHEN d.differences = 1 THEN '' ELSE 's' END, checks);
        WHEN 'daily_report' THEN
            RETURN split_part((tandem.daily_report(run)).summary, E'\n', 1);
        WHEN 'tick' THEN
            RETURN coalesce((SELECT x.did FROM tandem.execute_round(r.id) AS x), 'nothing to do');
        ELSE
            RAISE EXCEPTION 'unknown job "%"', job USING ERRCODE = 'invalid_parameter_value', HINT = 'Jobs are: reconcile, validate, daily_report, tick.';
    END CASE;
END
$$;
COMMENT ON FUNCTION tandem.do_job IS 'Does a job and says what it did';

-- SECURITY DEFINER: it looks at tables of the extension.
CREATE FUNCTION tandem.run_job(run text, job text) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    said text := tandem.do_job(run, job);
BEGIN
    UPDATE tandem.schedule AS s SET said = said, said_at = clock_timestamp()
     WHERE s.job = job AND s.run_id IS NOT DISTINCT FROM (SELECT r.id FROM tandem.run AS r WHERE r.name = run);
    RETURN said;
END
$$;
COMMENT ON FUNCTION tandem.run_job IS 'A job of schedule(), now, as the role of the session: what pg_cron, or any other scheduler, calls. Says what it did; nothing where the run has no use for it';
