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
           AND c.relname NOT IN ('option_default', 'role_level', 'worker', 'captured', 'sibling_wait', 'capture_state', 'capture_slot', 'audit_progress', 'log_mark', 'backfill_statement',
                               'metric_reading', 'alert_watch', 'guard_progress', 'guard_view', 'builtin_metric', 'alert_template', 'guard_template')
    LOOP
        PERFORM pg_catalog.pg_extension_config_dump(relation, CASE WHEN relation = 'tandem.transition'::regclass THEN 'WHERE kind <> ''*'''
                                                                            WHEN relation = ANY ('{tandem.sla_policy,tandem.health_threshold,tandem.health_weight,tandem.run_template}'::regclass[]) THEN 'WHERE NOT shipped' ELSE '' END);
    END LOOP;
END
$$;

-- pg_restore --jobs loads tables in any order: what pg_dump knows of their foreign keys is lost there. Rows that refer to others are written by
-- our functions only, which make the others first; so the keys go without the check of the row that refers, and keep the cascades.
DO $$
DECLARE
    t record;
BEGIN
    FOR t IN
        SELECT g.tgrelid::regclass AS relation, g.tgname FROM pg_catalog.pg_trigger AS g JOIN pg_catalog.pg_class AS c ON c.oid = g.tgrelid
         WHERE c.relnamespace = 'tandem'::regnamespace AND g.tgisinternal AND g.tgfoid IN ('"RI_FKey_check_ins"'::regproc, '"RI_FKey_check_upd"'::regproc)
    LOOP
        EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', t.relation, t.tgname);
    END LOOP;
END
$$;

-- The sequences behind identity columns, which have no statement of their own to be documented by.
DO $$
DECLARE
    owned record;
BEGIN
    FOR owned IN
        SELECT d.objid::regclass AS sequence, c.relname, a.attname FROM pg_catalog.pg_depend AS d
          JOIN pg_catalog.pg_class AS c ON c.oid = d.refobjid JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
         WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'i' AND c.relnamespace = 'tandem'::regnamespace
           AND d.objid IN (SELECT s.seqrelid FROM pg_catalog.pg_sequence AS s)
    LOOP
        EXECUTE format('COMMENT ON SEQUENCE %s IS %L', owned.sequence, format('Numbers of tandem.%s.%s', owned.relname, owned.attname));
    END LOOP;
END
$$;
