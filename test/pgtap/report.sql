-- report(): who may see it, what it says of a run in each of its states, and that no value of anybody's becomes markup. The page is looked
-- at by a browser in test/t/report.pl.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;

-- --- html(): values in, escaped by their type
SELECT is(tandem.html('<p>{}</p>', '<b>&"''')::text, '<p>&lt;b&gt;&amp;&quot;&#39;</p>', 'a value is escaped');
SELECT is(tandem.html('<p title="{}">{}</p>', tandem.html('<i>{}</i>', 'x<y'), tandem.html('z'))::text, '<p title="<i>x&lt;y</i>">z</p>', 'markup is not');
SELECT is(tandem.html('{}', ARRAY[tandem.html('<b>'), NULL, tandem.html('{}', '<')])::text, '<b>&lt;', 'nor is an array of it');
SELECT is(tandem.html('{}|{}|{}', 1.50, NULL::text, '{<,>}'::text[])::text, '1.50||{&lt;,&gt;}', 'values of any type; NULL is nothing; an array of text is text');
SELECT is(tandem.html('{}', '{}{}')::text, '{}{}', 'a value is no template');
SELECT is(tandem.html('{}', E'\x1b[31m' || chr(8238) || chr(252))::text, '&#9243;[31m&#65533;&#252;', 'control characters are shown, all is ASCII');
SELECT is(tandem.html('{}', tandem.html('<b>')::text)::text, '&lt;b&gt;', 'markup that became text is text');
SELECT is(length(tandem.html('{}', repeat('<', 1000000))::text), 4000000, 'a long value');
SELECT throws_ok(format('SELECT %s', call), state, NULL, call)
  FROM (VALUES ('tandem.html(''{}{}'', 1)', '22023'), ('tandem.html(''x'', 1)', '22023'), ('tandem.html(t, 1) FROM (SELECT relname::text AS t FROM pg_class LIMIT 1) AS v', '22023'), ('tandem.html(''{}'' || t) FROM (SELECT relname::text AS t FROM pg_class LIMIT 1) AS v', '22023'),
               ('tandem.html(''{}'', VARIADIC ARRAY[1])', '0A000'), ('''<b>''::tandem.markup', '0A000'), ('''<b>''::text::tandem.markup', '0A000'), ('tandem.report_empty(tandem.html(''x''))', '42883'),
               ('tandem.report_section(''a'', ''b'', ''<b>''::text)', '42883'), ('CASE WHEN true THEN tandem.html(''x'') ELSE ''y''::text END', '42804')) AS v (call, state);
CREATE FUNCTION pg_temp.sneak(value text) RETURNS tandem.markup LANGUAGE plpgsql AS 'BEGIN RETURN value; END';
SELECT throws_ok($$SELECT pg_temp.sneak('<b>')$$, '0A000', NULL, 'a function can''t return text as markup');
SELECT is((SELECT array_agg(p.proname ORDER BY p.proname) FROM pg_proc AS p WHERE p.pronamespace = 'tandem'::regnamespace AND p.prorettype = 'tandem.markup'::regtype
             AND (p.prolang = (SELECT oid FROM pg_language WHERE lanname = 'c') AND p.proname NOT IN ('html', 'markup_in'))), NULL, 'no other function in C makes markup');
SELECT is((SELECT array_agg(p.proname ORDER BY p.proname) FROM pg_proc AS p WHERE p.pronamespace = 'tandem'::regnamespace AND p.prosrc ~ 'tandem\.html\((?!'')'), NULL, 'every template of ours is a literal');
SELECT is(tandem.html(' ')::text, ' ', 'a template alone');

-- --- numbers and axes
SELECT results_eq($$SELECT tandem.report_ms(v) FROM unnest('{NULL,0,0.0123,1.234,12.34,123.4,1234,65000,3600000,999999999,Infinity}'::float8[]) AS v$$,
                  $$VALUES (NULL), ('0 ms'), ('0.0123 ms'), ('1.23 ms'), ('12.3 ms'), ('123 ms'), ('1.23 s'), ('65 s'), ('60 min'), ('11.6 days'), ('Infinity')$$, 'milliseconds as people read them');
SELECT results_eq($$SELECT tandem.report_top(v) FROM unnest('{0,1,1.1,7,10,11,0.0031,NaN,Infinity,NULL}'::float8[]) AS v$$, $$VALUES (1::float8), (1), (1.5), (8), (10), (15), (0.004), (1), (1), (1)$$, 'the top of a scale is round');
SELECT is((SELECT array_agg(DISTINCT n BETWEEN 1 AND 8) FROM unnest('{1 second,7 seconds,1 minute,59 minutes,5 hours,24 hours,3 days,40 days,1 year,30 years}'::interval[]) AS s
            CROSS JOIN LATERAL (SELECT count(*) AS n FROM tandem.report_ticks('2026-03-01 12:34:56+00', '2026-03-01 12:34:56+00'::timestamptz + s)) AS t), '{t}', 'an axis has one to eight times');
SELECT is((SELECT string_agg(x.label, ' ' ORDER BY x.n) FROM tandem.report_ticks('2026-03-01 12:34:56+00', '2026-03-01 12:35:10+00') AS x), '12:35:00 12:35:05 12:35:10', '... and of a short run few: their words are long');
SELECT is((SELECT array_agg(DISTINCT n BETWEEN 1 AND 5) FROM generate_series(1, 119) AS s
            CROSS JOIN LATERAL (SELECT count(*) AS n FROM tandem.report_ticks('2026-03-01 12:34:56+00', '2026-03-01 12:34:56+00'::timestamptz + s * interval '1 second')) AS t), '{t}', '... five at most');
SELECT is(tandem.report_line('{0,10,20,30}', '{0,100,NULL,50}'), 'M0 0h0L100 100M300 50h0', 'a line breaks where nothing was measured');

-- --- runs in each of their states
CREATE ROLE owner_role LOGIN; CREATE ROLE viewer_role; CREATE ROLE stranger;
SELECT tandem.grant_role('owner_role', 'operator'), tandem.grant_role('viewer_role', 'viewer') \g /dev/null
GRANT CREATE ON DATABASE :DBNAME TO owner_role;
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC;
CREATE FUNCTION pg_temp.headline(run text) RETURNS text LANGUAGE sql AS $$ SELECT (regexp_match(tandem.report(run), '<h1>.*?<span>([^<]*)</span></h1>'))[1] $$;
CREATE FUNCTION pg_temp.ticks(n integer) RETURNS void LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..n LOOP PERFORM tandem.tick(); END LOOP; END $$;

SET ROLE owner_role;
CREATE SCHEMA a; CREATE SCHEMA b;
CREATE TABLE a.t (id integer PRIMARY KEY, v text); CREATE TABLE b.t (id integer PRIMARY KEY, v text);
INSERT INTO a.t SELECT i, i FROM generate_series(1, 50) AS i;
SELECT FROM tandem.create_run('r', 'a', 'b', hold => '0');
SELECT is(pg_temp.headline('r'), 'Not known yet: the run was never started.', 'before the start');
SELECT FROM tandem.map_table('r', 'a.t', 'b.t');
SELECT FROM tandem.start('r');
SELECT is(pg_temp.headline('r'), 'Not known yet: the old rows are still being copied.', 'during the backfill');
SELECT pg_temp.ticks(4) \g /dev/null
SELECT matches(pg_temp.headline('r'), '^(Yes: the new side holds the same facts|Not known yet: nothing has been compared)', 'in shadow');
SELECT pg_temp.ticks(4) \g /dev/null
SELECT FROM tandem.validate('r');
SELECT matches(pg_temp.headline('r'), '^Yes: the new side is as good as the old one, at \d+ %\.$', 'live');
SELECT FROM tandem.add_metric('r', 'orders', 'SELECT 1', 'result > 0');
SAVEPOINT good;
RESET ROLE;
UPDATE tandem.metric SET verdict = 'fail', failures = 3, reason = 'result 0 does not meet the success condition: result > 0';
SELECT is(pg_temp.headline('r'), 'No: the facts are the same, but a metric fails.', 'a metric that fails');
SELECT ok(tandem.report('r') ~ 'orders: result 0 does not meet', '... and why');
ROLLBACK TO good;
SELECT tandem.add_operation('r', 'buy') \g /dev/null
SELECT tandem.observe('r', 'buy', side, ms * (1 + n / 1000.0) * interval '1 ms') FROM (VALUES ('legacy', 10), ('new', 20)) AS v (side, ms), generate_series(1, 500) AS n \g /dev/null
SELECT is(pg_temp.headline('r'), 'No: the facts are the same, but the new side is slower, or fails more.', 'a new side that is slower');
SELECT ok(tandem.report('r') ~ '1 of 1 operations of the last hour: buy \(p95: ', '... and why');
SELECT tandem.observe('r', 'buy', 'new', 5 * (1 + n / 100000.0) * interval '1 ms') FROM generate_series(1, 50000) AS n \g /dev/null
SELECT matches(pg_temp.headline('r'), '^Yes: ', 'which it is no longer');
SELECT FROM tandem.pause('r', 'lunch');
SELECT ok(tandem.report('r') ~ 'resume it when', 'paused: what to do');
SELECT FROM tandem.resume('r');
SELECT FROM tandem.rollback('r', 'it smells');
SELECT is(pg_temp.headline('r'), 'No: the new side is not as good as the old one.', 'rolled back');
SELECT ok(tandem.report('r') ~ 'went back from \d+ % to the old side: it smells\. The proof is being made\.', '... why, and that the proof is pending');
SELECT pg_temp.ticks(1) \g /dev/null
SELECT ok(tandem.report('r') ~ 'it smells\. The proof: both sides are equal, nothing was lost\.', '... and proven');
SELECT FROM tandem.cancel('r');
SELECT is(pg_temp.headline('r'), 'The run was cancelled: the old side serves every key.', 'cancelled');
SELECT throws_ok($$SELECT tandem.report('nobody')$$, '42704', NULL, 'no such run');
SELECT throws_ok($$SELECT tandem.report(NULL)$$, '42704', NULL, 'no name');
RESET ROLE;
SET ROLE viewer_role;
SELECT ok(tandem.report('r') LIKE '<!DOCTYPE html>%</html>', 'a viewer may see the report of another''s run');
SELECT throws_ok($$SELECT tandem.html('x')$$, '42501', NULL, '... but its pieces are closed');
RESET ROLE;
SET ROLE stranger;
SELECT throws_ok($$SELECT tandem.report('r')$$, '42501', NULL, 'anybody else may not');
RESET ROLE;

-- --- a script in every text that somebody can choose
SET ROLE owner_role;
CREATE SCHEMA "<script>s"; CREATE SCHEMA "</style>n";
RESET ROLE;
CREATE ROLE "<script>role";
GRANT owner_role TO "<script>role";
SELECT tandem.grant_role('<script>role', 'operator') \g /dev/null
SET ROLE owner_role;
CREATE TABLE "<script>s"."<script>t" ("<script>id" text PRIMARY KEY, "<script>v" text);
CREATE TABLE "</style>n"."<script>t" ("<script>id" text PRIMARY KEY, "<script>v" text);
INSERT INTO "<script>s"."<script>t" VALUES ('<script>key', '<script>value'), (E'\x01\x1b[31m', 'ü中' || chr(8238) || '🐘');
SELECT FROM tandem.create_run('<script>run', '<script>s', '</style>n', hold => '0');
SELECT FROM tandem.map_table('<script>run', '"<script>s"."<script>t"', '"</style>n"."<script>t"', domain => '<script>domain');
SELECT FROM tandem.start('<script>run');
SELECT pg_temp.ticks(6) \g /dev/null
RESET ROLE;
SET ROLE "<script>role";
SELECT FROM tandem.pause('<script>run', '<script>why');
SELECT FROM tandem.resume('<script>run');
SELECT tandem.sla_policy('<script>kind', '*', '0.001 ms', '1 hour') \g /dev/null
SELECT FROM tandem.task_create('<script>kind', '{"<script>": 1}');
RESET ROLE;
ALTER TABLE "</style>n"."<script>t" DISABLE TRIGGER ALL;
UPDATE "</style>n"."<script>t" SET "<script>v" = '<script>wrong';
ALTER TABLE "</style>n"."<script>t" ENABLE TRIGGER ALL;
SET ROLE owner_role;
SELECT FROM tandem.validate('<script>run');
SELECT FROM tandem.accept_difference((SELECT min(id) FROM tandem.differences WHERE run = '<script>run'), '<script>because');
SELECT FROM tandem.rollback('<script>run', '<script>rolled back', domain => '<script>domain');
SELECT tandem.add_operation('<script>run', '<script>operation', '1 ms') \g /dev/null
SELECT tandem.observe('<script>run', '<script>operation', side, '2 ms', false) FROM unnest('{legacy,new}'::text[]) AS side, generate_series(1, 200) \g /dev/null
SELECT FROM tandem.add_metric('<script>run', '<script>metric', 'SELECT 1 AS "<script>"', 'result < 2');
SELECT FROM tandem.batch_end(tandem.batch_begin('<script>run', '<script>job'), 50, 0, 50, note => '<script>note');
RESET ROLE;
SELECT pg_temp.ticks(2) \g /dev/null
UPDATE tandem.run_activity SET error = '<script>error', error_at = now();
INSERT INTO tandem.mirror_failure (mapping_id, event, legacy_row, sqlstate, message) SELECT id, '<script>event', '<script>row', '<scri', '<script>message' FROM tandem.mapping WHERE new_table LIKE '<%';
INSERT INTO tandem.measurement (run_id, metric, at, value, verdict, reason) SELECT r.id, '<script>metric', clock_timestamp() - n * interval '1 s', v, 'fail', '<script>measured' FROM tandem.run AS r, unnest('{1,2,NaN,Infinity,-Infinity,NULL,1e300,-1e-300}'::float8[]) WITH ORDINALITY AS u (v, n) WHERE r.name LIKE '<%';
INSERT INTO tandem.alert (rule_id, run_id, rule, metric, severity, value, threshold, message, fired_at) SELECT 1, r.id, '<script>rule', '<script>metric', '<script>severity', 'NaN', 1, '<script>alert', clock_timestamp() FROM tandem.run AS r WHERE r.name LIKE '<%';
SET application_name = '<script>client';
CREATE TEMP TABLE page AS SELECT tandem.report('<script>run') AS html;
SELECT is((SELECT count(*) FROM page WHERE html ~* '<script'), 0::bigint, 'no value becomes an element');
SELECT is((SELECT count(*) FROM page WHERE html ~ '</style>n'), 0::bigint, '... nor ends one');
SELECT is((SELECT count(*) FROM page WHERE html ~ '[^\x01-\x7e]' OR html ~ '[\x01-\x08\x0b-\x1f]'), 0::bigint, 'the page is ASCII, without control characters');
SELECT is((SELECT array_agg(w) FROM unnest('{run,s,t,id,v,key,value,wrong,domain,why,role,kind,because,rolled back,message,operation,metric,job,rule,alert}'::text[]) AS w, page WHERE strpos(html, '&lt;script&gt;' || w) = 0), NULL, 'all of these were shown, escaped');
SELECT is((SELECT count(*) FROM page, regexp_matches(html, '(?:src|href|action|xlink:href)="([^"#][^"]*)"', 'g') AS m WHERE m[1] <> 'data:,'), 0::bigint, 'nothing is loaded from anywhere');
SELECT is((SELECT count(*) FROM page WHERE html ~* '\son[a-z]+=|javascript:|@import|url\('), 0::bigint, 'no handler, no import');
SELECT is((SELECT count(*) FROM page, regexp_matches(html, '\sid="([^"]*)"', 'g') AS m), (SELECT count(DISTINCT m[1]) FROM page, regexp_matches(html, '\sid="([^"]*)"', 'g') AS m), 'each id stands once');

-- --- it is well-formed XML, too: so its structure can be asked for
CREATE TEMP TABLE doc AS SELECT html::xml AS x FROM page UNION ALL SELECT tandem.report('r')::xml;
CREATE FUNCTION pg_temp.none(path text, what text) RETURNS SETOF text LANGUAGE sql AS $$ SELECT is((SELECT sum(cardinality(xpath(path, x))) FROM doc), 0::bigint, what) $$;
SELECT ok((SELECT min(cardinality(xpath('//figure', x))) > 2 FROM doc), 'charts');
SELECT pg_temp.none('//figure[not(.//table)]', 'each has a table behind it');
SELECT pg_temp.none('//figure/svg[not(@role="img") or not(title) or not(desc) or not(@aria-labelledby)]', 'and says what it is, and what it shows');
SELECT pg_temp.none('//svg[@role="img"][not(@aria-label) and not(title)]', 'so does every small one');
SELECT pg_temp.none('//table[not(caption)]|//th[not(@scope)]|//section[not(h2)]', 'tables have captions, columns scopes, sections titles');
SELECT pg_temp.none('//tbody/tr[count(td) != count(../../thead/tr/th)]', 'every row has a cell for each column');
SELECT pg_temp.none('//a[not(concat("x", substring(@href, 2)) = //section/@id) and not(substring(@href, 2) = //section/@id)]', 'every link leads to a section');
SELECT is((SELECT sum(cardinality(xpath('//h1', x))) FROM doc), 2::bigint, 'one first heading');

SELECT * FROM finish();
ROLLBACK;
