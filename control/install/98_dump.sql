-- dump: pg_dump carries what users made: every table and sequence of the extension, but for those that the install script fills,
-- the worker's heartbeat, and the captured keys: a restored database compares everything first. A new table is carried unless it is
-- named here. Of the transitions, '*' is the extension's.

DO $$
DECLARE
    relation regclass;
BEGIN
    FOR relation IN
        SELECT c.oid FROM pg_catalog.pg_class AS c
         WHERE c.relnamespace = 'tandem'::regnamespace AND c.relkind IN ('r', 'S')
           AND c.relname NOT IN ('option_default', 'role_level', 'worker', 'captured', 'capture_state', 'capture_slot', 'audit_progress')
    LOOP
        PERFORM pg_catalog.pg_extension_config_dump(relation, CASE relation WHEN 'tandem.transition'::regclass THEN 'WHERE kind <> ''*'''
                                                                            WHEN 'tandem.sla_policy'::regclass THEN 'WHERE NOT shipped' ELSE '' END);
    END LOOP;
END
$$;
