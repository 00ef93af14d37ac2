-- Does diff_schema() count the rows that a change of type really harms? The judge puts each value into a column of the new type, as an INSERT
-- does, and takes it back: refused or changed is harmed. All pairs of types between which PostgreSQL assigns, values at their edges.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
SET timezone = 'Asia/Tokyo';

CREATE TEMP TABLE family (types text[], sample text[]);
INSERT INTO family VALUES
    ('{smallint,integer,bigint,real,double precision,numeric,"numeric(5,2)","numeric(7,0)","numeric(10,4)"}',
     '{0,1,-1,1.5,-1.5,2.5,0.1,0.3,99.99,999.995,999.99,-999.996,1000,12345,32767,-32768,32768,-32769,32767.4,-32768.4,-32768.6,65536,99999,100000,9999999,10000000,
       16777216,16777217,2147483647,-2147483648,2147483648,2147483647.4,2147483647.6,9007199254740993,9223372036854775807,-9223372036854775808,9223372036854775808,
       1e10,1e15,123456789.123,0.30000000000000004,1e-7,3e38,1e39,1e300,1e-50,NaN,Infinity,-Infinity}'),
    ('{text,varchar,varchar(5),varchar(3),char(5),char(3),name}', ARRAY['', 'a', 'a ', ' ', 'abc', 'abcd', 'abc  ', 'abcde', 'abcdef', 'äöü', 'äöüß', 'NULL', repeat('x', 63), repeat('é', 32), repeat('y', 64)]),
    ('{date,timestamp,timestamp(0),timestamp(3),time,time(0)}', '{2024-02-29,2024-02-29 00:00:00,2024-02-29 12:00:00,2024-02-29 12:00:00.5,2024-02-29 12:00:00.123,2024-02-29 12:00:00.123456,infinity,-infinity,0044-03-15 BC}'),
    ('{timestamptz,timestamptz(0),timestamptz(3)}', '{2024-02-29 00:00:00Z,2024-02-29 12:00:00.5Z,2024-02-29 12:00:00.123Z,infinity}'),
    ('{interval,interval(0),interval year to month,interval day to second(3)}', '{1 year,1 month 3 days,3 days,04:05:06,04:05:06.7,04:05:06.789012,-1 day}'),
    ('{bit(3),bit(4),varbit,varbit(2),varbit(4)}', '{0,1,101,1010,10101}'),
    ('{int4[],int2[],int8[],numeric[],float8[]}', '{"{}","{1,2}","{NULL}","{40000}","{3000000000,1}","{1.5}","{1,2.25,NULL}"}'),
    ('{inet,cidr}', '{10.0.0.0/8,10.1.2.3/8,10.1.2.3,::1}'),
    ('{json,jsonb}', ARRAY['{}', '{"a": 1}', '{"a": 1, "b": 2}', '{"a": 1, "a": 2}', '"\u0000"', '[1,2]', 'null']);

CREATE SCHEMA l; CREATE SCHEMA n;
CREATE FUNCTION pg_temp.harmed(old text, new text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    r record;
    total bigint := 0;
    was boolean;
BEGIN
    FOR r IN SELECT t.id FROM l.t LOOP
        BEGIN
            EXECUTE format('INSERT INTO n.t SELECT id, v FROM l.t WHERE id = %s', r.id);
            -- A float's text is its value, exactly; PostgreSQL's own cast to numeric stops at 15 digits. json has no equality.
            EXECUTE format(CASE WHEN old = 'json' THEN 'SELECT (SELECT count(*) FROM json_object_keys(CASE WHEN json_typeof(o.v) = ''object'' THEN o.v ELSE ''{}'' END)) <> (SELECT count(*) FROM jsonb_object_keys(CASE WHEN jsonb_typeof(x.v::jsonb) = ''object'' THEN x.v::jsonb ELSE ''{}'' END))'
                                WHEN old LIKE 'numeric%%' AND new IN ('real', 'double precision') THEN 'SELECT x.v::text::numeric <> o.v'
                                WHEN old = 'bigint' AND new IN ('real', 'double precision') THEN 'SELECT CASE WHEN x.v::float8 >= 9223372036854775808 THEN true ELSE x.v::float8::int8 <> o.v END'
                                ELSE 'SELECT x.v::%1$s IS DISTINCT FROM o.v' END || ' FROM l.t AS o JOIN n.t AS x USING (id) WHERE id = %2$s', old, r.id) INTO was;
            total := total + was::integer;
        EXCEPTION WHEN data_exception OR feature_not_supported THEN
            total := total + 1;
        END;
    END LOOP;
    RETURN total;
END
$$;
CREATE FUNCTION pg_temp.pair(f family, old text, new text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    v text;
    d record;
    truth bigint;
BEGIN
    EXECUTE format('CREATE TABLE l.t (id serial PRIMARY KEY, v %s); CREATE TABLE n.t (id integer PRIMARY KEY, v %s)', old, new);
    FOREACH v IN ARRAY f.sample || NULL::text LOOP
        BEGIN
            EXECUTE format('INSERT INTO l.t (v) VALUES (%L)', v);
        EXCEPTION WHEN data_exception OR feature_not_supported THEN NULL;
        END;
    END LOOP;
    BEGIN
        truth := pg_temp.harmed(old, new);
    EXCEPTION WHEN datatype_mismatch OR cannot_coerce THEN truth := NULL; -- no assignment
    END;
    SELECT * INTO d FROM tandem.diff_schema('l', 'n') AS x WHERE x.property = 'type' AND x.object = 't.v';
    IF truth IS NOT NULL THEN
        RETURN NEXT is(CASE WHEN d.severity = 'lossy' THEN d.rows_harmed ELSE 0 END, truth, format('%s to %s: %s, %s of %s', old, new, d.severity, truth, (SELECT count(*) FROM l.t)));
    END IF;
    EXECUTE 'DROP TABLE l.t, n.t';
END
$$;
SELECT t.* FROM family AS f CROSS JOIN unnest(f.types) AS o CROSS JOIN unnest(f.types) AS n CROSS JOIN LATERAL pg_temp.pair(f, o, n) AS t WHERE o <> n;

SELECT * FROM finish();
ROLLBACK;
