-- lock: locks of our own, which nobody else can hold (src/pg/lock.cpp says why they are not advisory locks).

CREATE FUNCTION tandem.take_lock(what regclass, id integer, shared boolean DEFAULT false) RETURNS void
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'tandem_take_lock';
COMMENT ON FUNCTION tandem.take_lock IS 'Takes a lock that belongs to a row''s number of one of our tables, until the transaction ends; waits for it';

CREATE FUNCTION tandem.try_lock(what regclass, id integer, shared boolean DEFAULT false) RETURNS boolean
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'tandem_try_lock';
COMMENT ON FUNCTION tandem.try_lock IS 'As take_lock(), but does not wait: false where another session has it';

CREATE FUNCTION tandem.is_locked(what regclass, id integer) RETURNS boolean
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM pg_locks AS l
                    WHERE l.locktype = 'object' AND l.granted AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
                      AND l.classid = what::oid AND l.objid = id::oid AND l.objsubid = 0)
$$;
COMMENT ON FUNCTION tandem.is_locked IS 'Does any session have the lock of take_lock() now?';

CREATE FUNCTION tandem.is_left_locked(what regclass, id integer) RETURNS boolean
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
                    WHERE l.locktype = 'object' AND l.granted AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
                      AND l.classid = what::oid AND l.objid = id::oid AND l.objsubid = 0 AND a.state = 'idle in transaction')
$$;
COMMENT ON FUNCTION tandem.is_left_locked IS 'Does a session have the lock of take_lock() that does nothing, in a transaction that it left open?';
