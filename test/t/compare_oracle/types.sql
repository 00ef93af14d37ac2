-- What columns may be made of. A family is a set of types that go together, with values that each of them takes: literals, SQL expressions
-- of type text, and `many`, an expression of another value for each integer i.
CREATE SCHEMA kinds;
CREATE SCHEMA oracle;
SET client_min_messages = warning;
CREATE EXTENSION citext SCHEMA kinds;
CREATE EXTENSION hstore SCHEMA kinds;
CREATE EXTENSION file_fdw;
CREATE EXTENSION postgres_fdw;
CREATE EXTENSION pg_tandem;

CREATE TYPE kinds.mood AS ENUM ('sad', 'ok', 'happy', 'Sad', '');
ALTER TYPE kinds.mood ADD VALUE 'in between' BEFORE 'happy';
CREATE TYPE kinds.other_mood AS ENUM ('sad', 'ok');
CREATE TYPE kinds.pair AS (a integer, b text);
CREATE TYPE kinds.couple AS (x integer, y text);
CREATE TYPE kinds.nest AS (p kinds.pair, n numeric, l integer[]);
CREATE TYPE kinds.place AS (label text, at point);
CREATE TYPE kinds.worn AS (a integer, gone text, b text);
ALTER TYPE kinds.worn DROP ATTRIBUTE gone;
CREATE DOMAIN kinds.amount AS numeric(12,2) CHECK (VALUE > -1000000);
CREATE DOMAIN kinds.price AS kinds.amount;
CREATE DOMAIN kinds.document AS json;
CREATE DOMAIN kinds.email AS kinds.citext;
CREATE DOMAIN kinds.code AS char(4);
CREATE DOMAIN kinds.numbers AS integer[];
CREATE COLLATION kinds.ignoring_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE COLLATION kinds.ignoring_accents (provider = icu, locale = 'und-u-ks-level1-kc-true', deterministic = false);
CREATE COLLATION kinds.german (provider = icu, locale = 'de');

CREATE TABLE oracle.family (
    name text PRIMARY KEY, types text[] NOT NULL, new_types text[], literals text[] NOT NULL DEFAULT '{}', expressions text[] NOT NULL DEFAULT '{}',
    many text NOT NULL, rules text[] NOT NULL DEFAULT '{}', computed text[] NOT NULL DEFAULT '{}', is_text boolean NOT NULL DEFAULT false,
    may_be_key boolean NOT NULL DEFAULT true, weight integer NOT NULL DEFAULT 2);

INSERT INTO oracle.family (name, types, new_types, literals, many, rules, computed, weight) VALUES
('integers', '{int2,int4,int8,numeric,"numeric(8,2)"}', '{int4,int8,numeric,float8}', '{0,1,2,3,-1,7,100,32767,-32767}', 'i % 32000',
 '{"{\"tolerance\": 1}","{\"relative_tolerance\": 0.5}","{\"tolerance\": 0, \"relative_tolerance\": 0.01}"}', '{%1$s + 0,-(-%1$s),%1$s * 1.0,abs(%1$s)}', 8),
('int4', '{int4}', '{int4,int8}', '{0,1,-1,2147483647,-2147483648,256,65536}', 'i', '{"{\"tolerance\": 1}"}', '{%1$s + 0}', 5),
('int8', '{int8,numeric}', '{int8,numeric,float8}', '{0,1,9223372036854775807,-9223372036854775808,9007199254740993,9007199254740992,4294967296}', 'i * 4294967296 + 1', '{"{\"tolerance\": 1}"}', '{%1$s::numeric + 0}', 4),
('numeric', '{numeric,"numeric(20,4)","numeric(30,10)"}', NULL, '{0,-0.0,1.0,1.00,1.5,1.5000,NaN,-0.0001,1000000000000000,0.0001,10000,9999,99990000,1234567.8901,1e4,100}', 'i / 8.0',
 '{"{\"tolerance\": 0.01}","{\"relative_tolerance\": 1e-6, \"tolerance\": 0.001}","{\"relative_tolerance\": 1}"}', '{%1$s + 0,%1$s * 1.000,%1$s / 1,round(%1$s\, 4)}', 6),
('numeric wide', '{numeric}', NULL, '{0,0.000,Infinity,-Infinity,NaN,1e130,1e-130,1e-131,-1e130,12345678901234567890123456789012345678901234567890,12345678901234567890123456789012345678901234567891,1e20,100000000000000000000.00}',
 'i::numeric * 100000000000000000003', '{"{\"relative_tolerance\": 0.1}"}', '{%1$s + 0.0,-(-%1$s)}', 3),
('float4', '{float4}', '{float4,float8,numeric}', '{0,-0,1,1.5,0.1,0.3,NaN,Infinity,-Infinity,1e-30,3e38,16777216}', 'i / 4.0', '{"{\"tolerance\": 0.01}"}', '{%1$s + 0,%1$s * 1}', 4),
('float8', '{float8}', '{float8}', '{0,-0,1,1.5,0.1,NaN,Infinity,-Infinity,1e-300,1e300,5e-324,0.30000000000000004,0.3,9007199254740993}', 'i / 4.0', '{"{\"tolerance\": 0.01}","{\"relative_tolerance\": 0.1}"}', '{%1$s + 0,%1$s * 1.0,-%1$s}', 4),
('float8 to numeric', '{float8,numeric}', '{float8,numeric}', '{0,1,1.5,0.1,-2.25,NaN,1e10,0.30000000000000004,0.3}', 'i / 4.0', '{"{\"tolerance\": 0.01}"}', '{%1$s + 0}', 2),
('oid', '{oid,int4,int8}', '{oid,int8}', '{0,1,2,2147483647}', 'i', '{}', '{}', 1),
('money', '{money}', NULL, '{0,1,1.00,-1,12.34,100000}', 'i / 4.0', '{}', '{%1$s + ''0''::money}', 2);

INSERT INTO oracle.family (name, types, new_types, literals, expressions, many, rules, computed, is_text, weight) VALUES
('text', '{text,varchar,varchar(40)}', '{text,varchar,varchar(60)}', ARRAY['', ' ', 'a', 'A', 'a ', ' a', 'NULL', 'null', 'a|b', 'b|c', '\N', E'a\tb', E'a\nb', U&'\00E9', U&'\00C9', U&'e\0301', U&'\00DF', 'ss', U&'\+01F600', 'b', '{}', '"'],
 '{"repeat(''x'', 126)","repeat(''x'', 127)","repeat(''x'', 128)"}', '''k'' || i',
 '{"{\"trim\": true}","{\"ignore_case\": true}","{\"empty_is_null\": true}","{\"trim\": true, \"ignore_case\": true, \"empty_is_null\": true}"}', '{%1$s || '''',substr(%1$s\, 1)}', true, 8),
('long text', '{text}', '{text,varchar}', '{a}', '{"repeat(''long '', 60)","repeat(''long '', 60) || ''~''","repeat(''z'', 3000)","repeat(''z'', 2999) || ''y''","repeat(''0123456789'', 2000)","repeat(''0123456789'', 2000) || ''~''","(SELECT string_agg(md5(g::text), '''') FROM generate_series(1, 90) AS g)","(SELECT string_agg(md5(g::text), '''') FROM generate_series(1, 90) AS g) || ''~''"}',
 '''k'' || i || repeat(md5(i::text), 20)', '{"{\"trim\": true}","{\"ignore_case\": true}"}', '{%1$s || ''''}', true, 4),
('bpchar', '{char(4),kinds.code,char(10)}', '{char(4),char(6),text,varchar}', ARRAY['', 'a', 'a ', 'A', '  ', 'b', ' b', 'abcd', U&'\00E9'], '{}', '(i % 9000)::text',
 '{"{\"trim\": true}","{\"ignore_case\": true, \"empty_is_null\": true}"}', '{}', true, 4),
('text to bpchar', '{text,varchar(4)}', '{char(4)}', ARRAY['', 'a', 'a ', 'A', 'b', ' b', 'abcd'], '{}', '(i % 9000)::text', '{"{\"trim\": true}"}', '{}', true, 2),
('name', '{name,text}', '{name,text}', '{"",a,A,"NULL",abcdefghijklmnopqrstuvwxyz}', '{}', '''k'' || i', '{"{\"trim\": true}"}', '{}', false, 2),
('"char"', '{"\"char\""}', NULL, '{"",a,b,A," "}', '{}', 'chr(33 + (i % 90)::integer)', '{}', '{}', false, 1),
('citext', '{kinds.citext,kinds.email}', '{kinds.citext}', '{"",a,A,"a ",b,B,"NULL"}', '{}', '''K'' || i', '{"{\"trim\": true}","{\"empty_is_null\": true}"}', '{}', true, 3);

INSERT INTO oracle.family (name, types, new_types, literals, many, rules, computed, weight) VALUES
('bool', '{bool}', NULL, '{t,f}', '(i % 2 = 0)', '{}', '{NOT NOT %1$s,%1$s IS TRUE}', 2),
('bytea', '{bytea}', NULL, '{"\\x","\\x00","\\x0000","\\xff","\\x00ff","\\xff00","\\x5c78"}', '''\x'' || lpad(to_hex(i), 8, ''0'')', '{}', '{%1$s || ''''::bytea}', 3),
('uuid', '{uuid}', NULL, '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A12,00000000-0000-0000-0000-000000000000}', 'md5(i::text)', '{}', '{}', 3),
('date', '{date}', '{date,timestamp}', '{2024-01-01,2024-01-02,2024-02-29,infinity,-infinity,0001-01-01 BC,9999-12-31}', 'date ''2000-01-01'' + i::integer', '{"{\"time_tolerance\": \"1 day\"}"}', '{%1$s + 0}', 3),
('time', '{time,time(0)}', '{time}', '{00:00,24:00,12:00:00.000001,12:00:00,12:00:01}', 'time ''00:00'' + i * interval ''7 s''', '{"{\"time_tolerance\": \"1 second\"}"}', '{}', 2),
('timetz', '{timetz}', NULL, '{12:00+00,13:00+01,12:00+01,24:00+00,00:00-12}', '(time ''00:00'' + i * interval ''7 s'')::text || ''+00''', '{}', '{}', 2),
('timestamp', '{timestamp,timestamp(0)}', '{timestamp,timestamp(3)}', '{2024-01-01 00:00:00,2024-01-01 00:00:00.1,2024-01-01 00:00:00.000001,2024-01-01 00:00:01,-infinity,infinity,1900-01-01}', 'timestamp ''2000-01-01'' + i * interval ''1 h''',
 '{"{\"time_tolerance\": \"1 second\"}"}', '{%1$s + interval ''0''}', 3),
('timestamptz', '{timestamptz}', NULL, '{2024-01-01 00:00:00Z,2024-01-01 02:00:00+02,2024-01-01 00:00:00.000001Z,2024-07-01 00:00:00Z,infinity,-infinity}', 'timestamp ''2000-01-01'' + i * interval ''1 h''', '{"{\"time_tolerance\": \"1 microsecond\"}"}', '{%1$s AT TIME ZONE ''UTC'' AT TIME ZONE ''UTC''}', 3),
('interval', '{interval}', NULL, '{1 day,24 hours,1 month,30 days,1 second,00:00:00.000001,-1 day,1 month -30 days,0}', '(i || '' seconds'')', '{"{\"time_tolerance\": \"1 day\"}"}', '{%1$s + interval ''0'',justify_days(%1$s)}', 3),
('json', '{json,jsonb,kinds.document}', '{json,jsonb}', '{"{\"a\":1}","{\"a\": 1.0}","{\"a\":1,\"b\":[2]}","{\"b\":[2],\"a\":1}","{}","[]","\"a\"","null","1","1.00","[1,2]","[2,1]","\"\"","{\"a\":null}","{\"a\": 1, \"a\": 2}"}', 'to_json(i)', '{}', '{}', 4),
('jsonb', '{jsonb}', NULL, '{"{\"a\":{\"b\":[1,2,{\"c\":null}]}}","1.0","1.00","1","[[]]","[{}]","{}","true","false","null","[null]","\"true\"","\"\\\\u00e9\""}', '''{"n":'' || i || ''}''', '{}', '{"%1$s || ''{}''::jsonb"}', 3),
('inet', '{inet,cidr}', '{inet}', '{10.0.0.0/8,10.0.0.0,192.168.1.0/24,::,::/0,0.0.0.0/0,2001:db8::/32}', '''10.'' || i / 65536 % 256 || ''.'' || i / 256 % 256 || ''.'' || i % 256', '{}', '{}', 2),
('inet host', '{inet}', NULL, '{1.2.3.4/24,1.2.3.0/24,1.2.3.4,1.2.3.4/32,::1,::ffff:1.2.3.4}', '''10.'' || i / 65536 % 256 || ''.'' || i / 256 % 256 || ''.'' || i % 256 || ''/9''', '{}', '{}', 2),
('cidr', '{cidr}', NULL, '{10.0.0.0/8,10.0.0.0/9,10.0.0.0/32,::/0}', '''10.'' || i / 65536 % 256 || ''.'' || i / 256 % 256 || ''.'' || i % 256', '{}', '{}', 1),
('macaddr', '{macaddr}', NULL, '{08:00:2b:01:02:03,08-00-2b-01-02-04,00:00:00:00:00:00}', 'lpad(to_hex(i), 12, ''0'')', '{}', '{}', 1),
('macaddr8', '{macaddr8}', NULL, '{08:00:2b:01:02:03:04:05,08:00:2b:01:02:03:04:06,00:00:00:00:00:00:00:00}', 'lpad(to_hex(i), 16, ''0'')', '{}', '{}', 1),
('bit', '{bit(3)}', '{bit(3),varbit}', '{000,101,111,001}', 'i::bit(3)', '{}', '{}', 1),
('varbit', '{varbit,varbit(40)}', '{varbit}', '{"",0,00,1,10,100,00000000,000000000,1000000010000000}', 'i::bit(32)', '{}', '{}', 2),
('enum', '{kinds.mood}', NULL, '{sad,ok,happy,Sad,"","in between"}', '(ARRAY[''sad'',''ok'',''happy''])[1 + i % 3]', '{}', '{}', 3),
('domain', '{kinds.price,kinds.amount}', '{kinds.price,kinds.amount,numeric,int8,float8}', '{0,1,2,100,-5}', 'i % 100000', '{"{\"tolerance\": 1}"}', '{%1$s + 0}', 2);

INSERT INTO oracle.family (name, types, new_types, literals, many, computed, weight) VALUES
('pair', '{kinds.pair}', '{kinds.pair,kinds.couple}', '{"(1,a)","(1,)","(,)","(1,\"\")","(,a)","(1,NULL)","(2,a)"}', '''('' || i || '',x)''', '{"ROW((%1$s).a\, (%1$s).b)::kinds.pair"}', 3),
('worn', '{kinds.worn}', '{kinds.worn,kinds.pair}', '{"(1,a)","(1,)","(,)","(1,\"\")"}', '''('' || i || '',x)''', '{}', 1),
('nest', '{kinds.nest}', NULL, '{"(\"(1,a)\",1.0,\"{1,2}\")","(\"(1,a)\",1.00,\"{1,2}\")","(,,)","(\"(,)\",,{})","(\"(1,a)\",NaN,\"[0:1]={1,2}\")"}', '''("('' || i || '',x)",'' || i || '',"{1}")''', '{}', 2),
('int4[]', '{int4[],kinds.numbers}', '{int4[]}', '{"{}","{1}","{1,2}","{NULL}","{2,1}","[0:1]={1,2}","{{1,2}}","{1,NULL}","{{1,2},{3,4}}","{1,2,3,4}","{0}"}', 'ARRAY[i, i % 3]', '{"%1$s || ''{}''::integer[]"}', 3),
('text[]', '{text[]}', NULL, '{"{}","{a}","{a,b}","{NULL}","{\"NULL\"}","{\"\"}","{\"a,b\"}","[2:3]={a,b}","{{a},{b}}"}', 'ARRAY[''k'' || i, NULL]', '{}', 3),
('numeric[]', '{numeric[]}', NULL, '{"{1.0,2}","{1.00,2.0}","{{1.0},{2.000}}","{NaN}","{NaN,NULL}","{}","{Infinity}","{{1,2},{3,4}}"}', 'ARRAY[ARRAY[i / 2.0], ARRAY[1.50]]', '{}', 2),
('float8[]', '{float8[]}', NULL, '{"{0}","{-0}","{NaN}","{0,-0}","{-0,0}"}', 'ARRAY[i / 2.0]', '{}', 1),
('jsonb[]', '{jsonb[]}', NULL, '{"{1,2}","{1.0,2}","{NULL}","{null}","{}"}', 'ARRAY[to_jsonb(i)]', '{}', 1),
('pair[]', '{kinds.pair[]}', NULL, '{"{}","{\"(1,a)\"}","{\"(1,)\"}","{\"(1,\\\"\\\")\"}","{NULL}","{\"(,)\"}","{\"(1,a)\",\"(2,b)\"}"}', '''{"('' || i || '',x)"}''', '{}', 2),
('int4range', '{int4range}', NULL, '{"[1,2)","[1,2]","[1,3)","(0,3)",empty,"[1,1)","(,)","[1,)","(,5]"}', 'int4range((i % 100000)::integer, (i % 100000 + 5)::integer)', '{%1$s + ''empty''::int4range}', 2),
('numrange', '{numrange}', NULL, '{"[1,2)","[1.0,2.00)","[1,2]",empty,"(,)","[NaN,NaN]","[1,Infinity]","[1,)"}', 'numrange(i, i + 5.50)', '{}', 2),
('tsrange', '{tsrange}', NULL, '{"[2024-01-01,2024-01-02)","[2024-01-01,2024-01-02]","(,infinity)","(,)",empty}', 'tsrange(timestamp ''2000-01-01'' + i * interval ''1 h'', NULL)', '{}', 1),
('daterange', '{daterange}', NULL, '{"[2024-01-01,2024-01-02)","[2024-01-01,2024-01-01]","(,infinity)","(,)",empty}', 'daterange(date ''2000-01-01'' + i::integer, NULL)', '{}', 1),
('int4multirange', '{int4multirange}', NULL, '{"{}","{[1,2],[3,4]}","{[1,5)}","{[1,2),[3,4)}","{(,)}","{empty}"}', '''{['' || i || '','' || i + 5 || ''),['' || i + 9 || '',)}''', '{}', 2),
('nummultirange', '{nummultirange}', NULL, '{"{}","{[1,2]}","{[1.0,2.0]}","{[1,2],(2,3]}"}', '''{['' || i || '','' || i + 5 || '')}''', '{}', 1),
('tsvector', '{tsvector}', NULL, '{"","a b","b a","a:1 b:2","a:1A b:2","a:2 b:1"}', '''word'' || i', '{}', 2),
('tsquery', '{tsquery}', NULL, '{"a & b","b & a","a | b","!a","a <-> b"}', '''word'' || i', '{}', 1),
('pg_lsn', '{pg_lsn}', NULL, '{0/1,0/01,1/0,FFFFFFFF/FFFFFFFF}', '''1/'' || to_hex(i)', '{}', 1),
('tid', '{tid}', NULL, '{"(0,0)","(0,1)","(1,0)"}', '''('' || i || '',1)''', '{}', 1),
('xid8', '{xid8}', NULL, '{0,1,18446744073709551615}', 'i', '{}', 1),
('oidvector', '{oidvector}', NULL, '{"","1","1 2","2 1"}', 'i || '' 5''', '{}', 1),
('hstore', '{kinds.hstore}', NULL, '{"","a=>1","a=>1,b=>2","b=>2,a=>1","a=>NULL","a=>\"NULL\"","a=>\"\""}', '''k=>'' || i', '{}', 2),
-- without = of their own: by their text
('point', '{point}', NULL, '{"(0,0)","(-0,0)","(0,1)","(1,0)","(1,0.0000000001)","(NaN,1)","(Infinity,0)"}', '''('' || i || '',1)''', '{}', 2),
('box', '{box}', NULL, '{"(1,1),(0,0)","(0,0),(1,1)","(3,3),(2,2)","(2,1),(1,0)"}', '''('' || i || '',1),(0,0)''', '{}', 1),
('circle', '{circle}', NULL, '{"<(0,0),1>","<(5,5),1>","<(0,0),2>"}', '''<('' || i || '',1),1>''', '{}', 1),
('lseg', '{lseg}', NULL, '{"[(0,0),(1,1)]","[(1,1),(0,0)]"}', '''[('' || i || '',1),(0,0)]''', '{}', 1),
('path', '{path}', NULL, '{"((0,0),(1,1))","[(0,0),(1,1)]","[(0,0),(1,1),(2,2)]"}', '''(('' || i || '',1),(0,0))''', '{}', 1),
('polygon', '{polygon}', NULL, '{"((0,0),(1,1))","((1,1),(0,0))","((0,0),(1,1),(2,0))"}', '''(('' || i || '',1),(0,0))''', '{}', 1),
('line', '{line}', NULL, '{"{1,1,0}","{2,2,0}","{0,1,0}"}', '''{'' || i + 1 || '',1,0}''', '{}', 1),
('place', '{kinds.place}', NULL, '{"(home,\"(0,0)\")","(home,\"(-0,0)\")","(,)","(\"\",\"(1,1)\")"}', '''(home,"('' || i || '',1)")''', '{}', 1),
('point[]', '{point[]}', NULL, '{"{}","{\"(1,2)\"}","{\"(1, 2)\"}","{NULL}"}', '''{"('' || i || '',1)"}''', '{}', 1),
('json[]', '{json[]}', NULL, '{"{}","{\"{\\\"a\\\":1}\"}","{\"{\\\"a\\\": 1}\"}"}', 'ARRAY[to_json(i)]', '{}', 1),
('jsonpath', '{jsonpath}', NULL, '{$.a,"$.\"a\"",$.b}', '''$.k'' || i', '{}', 1);

INSERT INTO oracle.family (name, types, literals, many, may_be_key, weight)
VALUES ('xid', '{xid}', '{0,1,4294967295}', 'i', false, 1); -- has = and a hash, but no order

INSERT INTO oracle.family (name, types, new_types, literals, many, weight) VALUES
('refused: times', '{timestamp,date}', '{timestamptz}', '{2024-01-01}', 'timestamp ''2000-01-01'' + i * interval ''1 h''', 1),
('refused: enums', '{kinds.mood}', '{kinds.other_mood,text}', '{sad,ok}', '(ARRAY[''sad'',''ok''])[1 + i % 2]', 1),
('refused: arrays', '{int4[]}', '{int8[]}', '{"{1}"}', 'ARRAY[i]', 1),
('refused: addresses', '{macaddr}', '{macaddr8}', '{08:00:2b:01:02:03}', 'lpad(to_hex(i), 12, ''0'')', 1);

-- What this server was not built with, or is too old for, is left out.
DO $$
BEGIN
    INSERT INTO oracle.family (name, types, literals, many, weight)
    VALUES ('xml', '{xml}', '{<a/>,<a></a>,<a>1</a>,x}', '''<k>'' || i || ''</k>''', 1);
    PERFORM '<a/>'::xml;
EXCEPTION WHEN feature_not_supported THEN
    DELETE FROM oracle.family WHERE name = 'xml';
END
$$;
