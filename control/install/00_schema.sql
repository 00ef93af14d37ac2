-- schema: who may see what, before anything is in it.
--
-- Functions are SECURITY INVOKER unless their file says why not, and 99_privileges.sql lists what PUBLIC may execute: it reads only.

DO $$
BEGIN
    -- CREATE EXTENSION takes a schema that is there already, whoever made it: its owner could replace our functions later.
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace AS n
                    WHERE n.nspname = 'tandem' AND pg_catalog.pg_get_userbyid(n.nspowner) = current_user) THEN
        RAISE EXCEPTION 'schema tandem exists already and belongs to another role'
              USING ERRCODE = 'duplicate_schema',
                    DETAIL = 'Its owner could replace the functions of the extension.',
                    HINT = 'Drop or rename that schema, then CREATE EXTENSION pg_tandem again.';
    END IF;
END
$$;

COMMENT ON SCHEMA tandem IS
    'pg_tandem: runs a legacy schema and its replacement in tandem: compares, mirrors, routes, rolls back';

GRANT USAGE ON SCHEMA tandem TO PUBLIC;
