-- rest: the verbs and views for a web server that turns schemas into HTTP, as PostgREST does. A schema of its own is made for it, so that nothing but these is
-- exposed, and so that errors come with the HTTP status that they mean: PostgREST answers SQLSTATE PT409 with status 409.
--
-- What is made there belongs to whoever asks for it and has the rights of whoever calls it: SECURITY INVOKER functions, security_invoker views. The extension
-- does not know of them any more.

CREATE FUNCTION tandem.rest_sqlstate(sqlstate text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN $1 IN ('42501', '28000') THEN 'PT403' -- insufficient_privilege; a role that cannot do it for whoever asks
                WHEN $1 IN ('42704', '42P01', '3F000', '42883') THEN 'PT404' -- no such run, alert, table, schema, function
                WHEN $1 IN ('42710', '42P06', '23505', '25001', '25006', '27000', '2BP01') OR $1 LIKE '40%' OR $1 LIKE '55%' THEN 'PT409' -- there already; not in this state, or in use; in somebody's way; not here
                WHEN $1 LIKE '54%' THEN 'PT413' -- more than there may be
                WHEN $1 LIKE '22%' OR $1 LIKE '23%' OR $1 LIKE '42%' OR $1 = '0A000' THEN 'PT400' -- arguments that make no sense
                WHEN $1 LIKE '53%' OR $1 LIKE '57%' THEN 'PT503' -- out of resources, cancelled, shutting down
                WHEN $1 LIKE 'PT%' THEN $1 ELSE 'PT500' END
$$;
COMMENT ON FUNCTION tandem.rest_sqlstate IS 'The SQLSTATE that PostgREST answers with the HTTP status which an error means: PT403, PT404, PT409, ...';

-- What people and their programs call: the functions of levels, but for those of the executor and those that views and exporters call.
CREATE FUNCTION tandem.rest_functions() RETURNS TABLE (function regprocedure, name name)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.oid::regprocedure, p.proname
      FROM pg_proc AS p
     WHERE p.pronamespace = 'tandem'::regnamespace AND p.prokind = 'f' AND p.provariadic = 0
       AND (p.proname IN (SELECT l.function FROM tandem.role_level AS l) OR p.proname = 'route')
       AND p.proname NOT IN ('begin_step', 'execute_batch', 'execute_checks', 'execute_guards', 'execute_round', 'execute_sampling', 'executor_failed', 'run_health', 'health_checks', 'status_rank', 'perfdata', 'sees_tenant',
                             'cron_jobs', 'cron_state', 'job_name', 'task_states', 'breach_counts', 'latency_rows', 'latency_baselines', 'observed_totals', 'observe_state', 'create_rest_api', 'rest_functions')
       AND NOT EXISTS (SELECT FROM unnest(p.proargtypes::oid[]) AS t (type) JOIN pg_type AS y ON y.oid = t.type WHERE y.typtype IN ('c', 'p')) -- a row of our tables is nothing that one sends
$$;
COMMENT ON FUNCTION tandem.rest_functions IS 'The functions that create_rest_api() makes callable';

CREATE FUNCTION tandem.create_rest_api(schema name) RETURNS TABLE (kind text, object text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    f record;
    v record;
BEGIN
    IF schema IS NULL OR schema = 'tandem' OR EXISTS (SELECT FROM pg_namespace AS n WHERE n.nspname = schema) THEN
        RAISE EXCEPTION 'schema "%" cannot be made', coalesce(schema, 'NULL') USING ERRCODE = CASE WHEN schema IS NULL THEN 'null_value_not_allowed' ELSE 'duplicate_schema' END,
              HINT = 'The schema of the API is made anew: choose a name that is free, or DROP SCHEMA ... CASCADE it before.';
    END IF;
    EXECUTE format('CREATE SCHEMA %I', schema);
    EXECUTE format('COMMENT ON SCHEMA %I IS %L', schema, 'pg_tandem: runs from a legacy schema to its replacement, steered and watched by HTTP');
    FOR f IN SELECT x.function, x.name, p.provolatile, p.proretset, p.prorettype,
                    pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result, pg_get_function_identity_arguments(p.oid) AS identity, obj_description(p.oid, 'pg_proc') AS comment,
                    (SELECT string_agg(format('%I => $%s', a.name, a.n), ', ' ORDER BY a.n) FROM unnest(p.proargnames[1:p.pronargs]) WITH ORDINALITY AS a (name, n)) AS call,
                    (SELECT string_agg(format('%I', a.name), ', ' ORDER BY a.n) FROM unnest(p.proargnames, p.proargmodes) WITH ORDINALITY AS a (name, mode, n) WHERE a.mode = 'o') AS outs
               FROM tandem.rest_functions() AS x JOIN pg_proc AS p ON p.oid = x.function ORDER BY x.name LOOP
        -- PL/pgSQL takes no result column that is called like an argument: the columns become a type.
        IF f.result LIKE 'TABLE(%' THEN
            EXECUTE format('CREATE TYPE %I.%I AS %s', schema, f.name || '_row', substr(f.result, 6));
            EXECUTE format('COMMENT ON TYPE %I.%I IS %L', schema, f.name || '_row', format('A row of /rpc/%s', f.name));
            f.result := format('SETOF %I.%I', schema, f.name || '_row');
        END IF;
        EXECUTE format($make$
            CREATE FUNCTION %1$I.%2$I(%3$s) RETURNS %4$s LANGUAGE plpgsql %5$s SECURITY INVOKER AS $body$
            #variable_conflict use_column
            DECLARE
                tandem_state text; tandem_message text; tandem_detail text; tandem_hint text;
            BEGIN
                %6$s;
            EXCEPTION WHEN OTHERS THEN
                GET STACKED DIAGNOSTICS tandem_state = RETURNED_SQLSTATE, tandem_message = MESSAGE_TEXT, tandem_detail = PG_EXCEPTION_DETAIL, tandem_hint = PG_EXCEPTION_HINT;
                RAISE EXCEPTION USING ERRCODE = tandem.rest_sqlstate(tandem_state), MESSAGE = tandem_message,
                      DETAIL = concat_ws(E'\n', nullif(tandem_detail, ''), 'SQLSTATE ' || tandem_state), HINT = tandem_hint;
            END $body$ $make$,
            schema, f.name, f.arguments, f.result, CASE f.provolatile WHEN 'v' THEN 'VOLATILE' ELSE 'STABLE' END,
            CASE WHEN f.proretset THEN format('RETURN QUERY SELECT * FROM tandem.%I(%s)', f.name, f.call)
                 WHEN f.outs IS NOT NULL THEN format('SELECT * INTO %s FROM tandem.%I(%s)', f.outs, f.name, f.call)
                 WHEN f.prorettype = 'void'::regtype THEN format('PERFORM tandem.%I(%s)', f.name, f.call)
                 -- a query, whose rights are looked at each time: those of a bare expression are, once in a transaction
                 ELSE format('RETURN (SELECT tandem.%I(%s))', f.name, f.call) END);
        EXECUTE format('REVOKE ALL ON FUNCTION %I.%I(%s) FROM PUBLIC', schema, f.name, f.identity);
        EXECUTE format('COMMENT ON FUNCTION %I.%I(%s) IS %L', schema, f.name, f.identity, f.comment);
        kind := 'function';
        object := format('/rpc/%s', f.name);
        RETURN NEXT;
    END LOOP;
    FOR v IN SELECT c.relname, obj_description(c.oid, 'pg_class') AS comment FROM pg_class AS c
              WHERE c.relnamespace = 'tandem'::regnamespace AND c.relkind = 'v' AND c.relname NOT IN ('series', 'own_mappings', 'batch_job_known', 'success_values') ORDER BY c.relname LOOP
        EXECUTE format('CREATE VIEW %I.%I WITH (security_invoker = true) AS SELECT * FROM tandem.%2$I', schema, v.relname);
        EXECUTE format('COMMENT ON VIEW %I.%I IS %L', schema, v.relname, v.comment);
        kind := 'view';
        object := format('/%s', v.relname);
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.create_rest_api IS
    'Makes a schema with the verbs and views for PostgREST and its like: the same names and arguments, the caller''s rights, errors with the SQLSTATE of their HTTP status. Again after an update of the extension';
