-- role: acting for another role, so that a user's SQL never runs with more rights than that user has.

CREATE FUNCTION tandem.query_as(role name, query text) RETURNS SETOF record
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'tandem_query_as';
COMMENT ON FUNCTION tandem.query_as IS
    'Reads as another role: pinned search_path and formats, SECURITY_RESTRICTED_OPERATION, the caller''s snapshot. For our own SECURITY DEFINER functions only';

CREATE FUNCTION tandem.execute_as(role name, query text) RETURNS bigint
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'tandem_execute_as';
COMMENT ON FUNCTION tandem.execute_as IS
    'Writes as another role, as query_as reads; returns the rows processed. For our own SECURITY DEFINER functions only';

CREATE FUNCTION tandem.acting_role() RETURNS oid
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'tandem_acting_role';
COMMENT ON FUNCTION tandem.acting_role IS
    'The role in whose name the session acts (SET ROLE counts), also inside a SECURITY DEFINER function';
