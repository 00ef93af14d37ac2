-- schedule_table: the jobs that schedule() gave to pg_cron, and what became of them there. What gives them to it is in 75_schedule.sql; health
-- reads them before.

CREATE TABLE tandem.schedule (
    run_id       integer REFERENCES tandem.run ON DELETE CASCADE,
    job          text NOT NULL CHECK (job IN ('validate', 'reconcile', 'daily_report', 'tick')),
    cron         text NOT NULL,
    role         name NOT NULL,
    cron_job     bigint NOT NULL,
    scheduled_by name NOT NULL,
    scheduled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    said         text,
    said_at      timestamptz,
    UNIQUE NULLS NOT DISTINCT (run_id, job),
    CHECK (run_id IS NOT NULL OR job = 'tick')
);
COMMENT ON TABLE tandem.schedule IS 'Jobs that schedule() gave to pg_cron; view schedules shows them with what became of them';
COMMENT ON COLUMN tandem.schedule.run_id IS 'NULL: all runs of the database';
COMMENT ON COLUMN tandem.schedule.cron_job IS 'jobid in cron.job';
COMMENT ON COLUMN tandem.schedule.said IS 'What run_job() last answered: pg_cron keeps no results';

-- An extension's schema may be anybody's once the extension is gone, and functions in it, too.
CREATE FUNCTION tandem.cron_member(class regclass, member oid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
                    WHERE d.classid = $1 AND d.objid = $2 AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'pg_cron')
$$;
COMMENT ON FUNCTION tandem.cron_member IS 'Does the object belong to the extension pg_cron?';

-- A setting that nobody defined is a placeholder of context user; pg_cron's own needs a restart. SECURITY DEFINER: who reads schedules may not look
-- into schema cron.
CREATE FUNCTION tandem.cron_state(OUT loaded boolean, OUT database text, OUT here boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.setting IS NOT NULL, s.setting,
           s.setting IS NOT NULL AND tandem.cron_member('pg_proc', to_regprocedure('cron.schedule_in_database(text,text,text,text,text,boolean)'))
                                 AND tandem.cron_member('pg_class', to_regclass('cron.job'))
      FROM (SELECT) AS one LEFT JOIN pg_settings AS s ON s.name = 'cron.database_name' AND s.context = 'postmaster'
$$;
COMMENT ON FUNCTION tandem.cron_state IS 'pg_cron: is it loaded, in which database does it keep its jobs, can we schedule here?';

-- pg_cron keeps jobs of all databases under (name, role), and before 1.5 cuts names at 63 bytes: so the part that tells jobs apart comes first.
CREATE FUNCTION tandem.job_name(run text, job text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT format('tandem %s %s %s', left(md5(format('%s/%L/%s', current_database(), $1, $2)), 8), $2, coalesce($1, 'all runs'))::name::text $$;
COMMENT ON FUNCTION tandem.job_name IS 'The name of a job in cron.job';

-- SECURITY DEFINER: cron.job shows each role its own jobs only. Ours, by their names, and what became of their last run.
CREATE FUNCTION tandem.cron_jobs()
RETURNS TABLE (jobid bigint, jobname text, schedule text, role text, active boolean, last_status text, last_message text, last_start timestamptz, last_end timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF tandem.cron_member('pg_class', to_regclass('cron.job')) AND tandem.cron_member('pg_class', to_regclass('cron.job_run_details')) THEN
        RETURN QUERY EXECUTE $query$
            SELECT j.jobid, j.jobname::text, j.schedule, j.username, j.active, d.status, d.return_message, d.start_time, d.end_time
              FROM tandem.schedule AS s JOIN cron.job AS j ON j.jobid = s.cron_job
              LEFT JOIN LATERAL (SELECT * FROM cron.job_run_details AS x WHERE x.jobid = j.jobid ORDER BY x.runid DESC LIMIT 1) AS d ON true
             WHERE j.jobname LIKE 'tandem %' AND j.database = current_database() $query$;
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.cron_jobs IS 'Our jobs as pg_cron has them; none where it is not in this database';

CREATE VIEW tandem.schedules AS
SELECT r.name AS run, s.job, s.cron, s.role, s.cron_job,
       CASE WHEN j.jobid IS NULL THEN 'missing' WHEN NOT c.loaded THEN 'asleep' WHEN NOT j.active THEN 'inactive'
            WHEN j.schedule <> s.cron OR j.role <> s.role THEN 'changed' ELSE 'active' END AS state,
       j.last_status, j.last_message, j.last_start, j.last_end, s.said, s.said_at, s.scheduled_by, s.scheduled_at
  FROM tandem.schedule AS s LEFT JOIN tandem.run AS r ON r.id = s.run_id
  LEFT JOIN tandem.cron_jobs() AS j ON j.jobid = s.cron_job AND j.jobname = tandem.job_name(r.name, s.job)
 CROSS JOIN tandem.cron_state() AS c;
COMMENT ON VIEW tandem.schedules IS
    'Jobs given to pg_cron, and how their last run ended. state: active; inactive or changed by hand in cron.job; asleep: pg_cron is not loaded; missing: pg_cron has it not, as after a restore';
