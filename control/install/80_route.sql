-- route: which side serves a key. C++ with an invalidated backend cache; the tables are the truth.

CREATE FUNCTION tandem.route(run text, key text, domain text DEFAULT NULL) RETURNS text
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'tandem_route';
COMMENT ON FUNCTION tandem.route IS
    'legacy or new: the side that serves the key now, in any isolation level; without a domain, new only where every domain has the key live';

CREATE FUNCTION tandem.bucket(salt bigint, key text) RETURNS integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'tandem_bucket';
COMMENT ON FUNCTION tandem.bucket IS 'The bucket (0 to 9999) of a routing key; new serves it when it is below weight x 100';
