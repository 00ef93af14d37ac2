-- throttle, the verb: faster or slower, while the backfill runs.

CREATE FUNCTION tandem.throttle(
    run text, batch_size integer DEFAULT NULL, delay interval DEFAULT NULL, lag text DEFAULT NULL, load text DEFAULT NULL, batch_time interval DEFAULT NULL, reason text DEFAULT NULL,
    dry_run boolean DEFAULT false)
RETURNS tandem.runs
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    r tandem.run := tandem.get_run(run);
    wanted record;
    changes jsonb := '{}';
BEGIN
    PERFORM tandem.authorize(r, 'throttle'), tandem.check_dry_run('throttle', dry_run);
    FOR wanted IN SELECT x.option, x.value
                    FROM (VALUES ('batch_size', batch_size::text), ('throttle_delay', delay::text), ('throttle_lag', lag), ('throttle_load', load), ('batch_time', batch_time::text)) AS x (option, value)
                   WHERE x.value IS NOT NULL LOOP
        PERFORM tandem.check_option(wanted.option, wanted.value);
        changes := changes || jsonb_build_object(wanted.option, jsonb_build_object('before', tandem.option(r.id, wanted.option), 'after', wanted.value));
        IF NOT dry_run THEN
            INSERT INTO tandem.run_option AS o (run_id, name, value) VALUES (r.id, wanted.option, wanted.value) ON CONFLICT ON CONSTRAINT run_option_pkey DO UPDATE SET value = EXCLUDED.value;
        END IF;
    END LOOP;
    IF changes = '{}' THEN
        RAISE EXCEPTION 'throttle() needs something to change' USING ERRCODE = 'null_value_not_allowed',
              HINT = format('SELECT tandem.throttle(%L, delay => ''100 ms''), or batch_size, lag, load, batch_time; set lag or load to ''off'' to be held back no more.', run);
    END IF;
    IF dry_run THEN -- the status has no options
        RAISE NOTICE 'run "%" would be throttled: %', r.name, (SELECT string_agg(format('%s %s, now %s', c.key, c.value ->> 'after', c.value ->> 'before'), '; ' ORDER BY c.key) FROM jsonb_each(changes) AS c);
        RETURN tandem.status(run);
    END IF;
    PERFORM tandem.record_event(r, 'throttle', reason, changes), tandem.worker_wake();
    RETURN tandem.status(run);
END
$$;
COMMENT ON FUNCTION tandem.throttle IS
    'Changes how fast the backfill goes, from the next batch on: most rows of a batch, pause between batches, limits of replication lag (''5 seconds'', ''64 MB'', off) and load (0.8 per processor, ''20 backends'', off), time of a batch. NULL leaves as it is; dry_run only checks, and says (NOTICE) what would be';
