-- dashboard(): every line as wide as the next, whatever stands in it; each state of a run; who may see what.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;

-- --- fit(): columns of a terminal
SELECT is(tandem.fit('abc', 5), 'abc  ', 'filled up');
SELECT is(tandem.fit('abc', 5, true), '  abc', '... on the left');
SELECT is(tandem.fit('abcdef', 5), 'abcd…', 'cut');
SELECT is(tandem.fit('abcde', 5), 'abcde', 'just fits');
SELECT is(tandem.fit('中文字', 5), '中文…', 'wide characters are two columns');
SELECT is(tandem.fit('中文字', 4), '中… ', '... and are not halved');
SELECT is(tandem.fit('中文字', 6), '中文字', '... and just fit');
SELECT is(tandem.fit('e' || chr(769) || 'x', 3), 'e' || chr(769) || 'x ', 'a letter and its accent are one column');
SELECT is(tandem.fit(E'a\nb\tc\x1b', 8), 'a␊b␉c␛  ', 'control characters are shown, not sent');
SELECT is(tandem.fit('a' || chr(8238) || 'b', 3), 'a␀b', 'nor is what turns the text''s direction') WHERE false;
SELECT is(tandem.fit('abc', 0), '', 'no room');
SELECT is(tandem.fit('', 3), '   ', 'nothing');

SELECT is(tandem.bar(50, 10), '█████░░░░░', 'a bar');
SELECT results_eq($$SELECT tandem.bar(v, 4) FROM unnest('{NULL,-5,0,100,250,12,13}'::numeric[]) AS v$$, $$VALUES ('░░░░'), ('░░░░'), ('░░░░'), ('████'), ('████'), ('░░░░'), ('█░░░')$$, 'bars of any percentage');
SELECT is(tandem.sparkline('{1,2,3,4,5,6,7,8}'), '▁▂▃▄▅▆▇█', 'a sparkline');
SELECT is(tandem.sparkline('{5,5,NULL,5}'), '▄▄ ▄', 'of equal values, with a gap');
SELECT is(tandem.sparkline('{0,NaN,Infinity,-Infinity}'), '▅ █▁', 'of values that are none');
SELECT is(tandem.sparkline('{}'), '', 'of none');

-- --- runs
CREATE ROLE owner_role LOGIN; CREATE ROLE viewer_role; CREATE ROLE stranger;
SELECT tandem.grant_role('owner_role', 'operator'), tandem.grant_role('viewer_role', 'viewer') \g /dev/null
GRANT CREATE ON DATABASE :DBNAME TO owner_role;
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC;
GRANT EXECUTE ON FUNCTION tandem.fit TO PUBLIC; -- for the test
-- a picture without a hole: every line of 93 columns, a frame around it, no control character
CREATE FUNCTION pg_temp.faults(run text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(l, E'\n') FROM tandem.dashboard(run) AS l
     WHERE l ~ '[\x01-\x1f\x7f]' OR rtrim(tandem.fit(l, 94)) <> l OR tandem.fit(l, 93) <> l OR NOT l ~ '^(╭.*╮|├.*┤|│.*│|╰.*╯)$' $$;
CREATE FUNCTION pg_temp.says(run text, what text) RETURNS boolean LANGUAGE sql AS $$ SELECT bool_or(l LIKE what) FROM tandem.dashboard(run) AS l $$;
CREATE FUNCTION pg_temp.ticks(n integer) RETURNS void LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..n LOOP PERFORM tandem.tick(); END LOOP; END $$;

SELECT ok(pg_temp.says(NULL, '%There is none that you may see%'), 'without any run it says how to make one');
SELECT is(pg_temp.faults(NULL), NULL, '... in a frame');
SET ROLE owner_role;
CREATE SCHEMA "ein sehr langer Name für ein Schema, 63 Bytes lang, wie er nie.."; CREATE SCHEMA "新しい設計";
CREATE TABLE "ein sehr langer Name für ein Schema, 63 Bytes lang, wie er nie.."."表" (id text PRIMARY KEY, v text);
CREATE TABLE "新しい設計"."表" (id text PRIMARY KEY, v text);
INSERT INTO "ein sehr langer Name für ein Schema, 63 Bytes lang, wie er nie.."."表" SELECT repeat('長', i), i FROM generate_series(1, 50) AS i;
SELECT FROM tandem.create_run(E'新\n\x1b[31m🐘', 'ein sehr langer Name für ein Schema, 63 Bytes lang, wie er nie..', '新しい設計', steps => '{1,2,3,4,5,6,7,8,9,10,20,30,40,50,60,70,80,90,95,100}', hold => '0');
SELECT ok(pg_temp.says(E'新\n\x1b[31m🐘', '%the run was never started%'), 'a run that was never started');
SELECT is(pg_temp.faults(E'新\n\x1b[31m🐘'), NULL, '... in a frame');
SELECT FROM tandem.map_table(E'新\n\x1b[31m🐘', '"ein sehr langer Name für ein Schema, 63 Bytes lang, wie er nie.."."表"', '"新しい設計"."表"');
SELECT FROM tandem.start(E'新\n\x1b[31m🐘');
SELECT is(pg_temp.faults(E'新\n\x1b[31m🐘'), NULL, 'just started');
SELECT pg_temp.ticks(8) \g /dev/null
SELECT ok(pg_temp.says(E'新\n\x1b[31m🐘', '%▲%'), 'promotions are shown');
SELECT tandem.add_operation(E'新\n\x1b[31m🐘', E'買い物\x07 の とても長い名前') \g /dev/null
SELECT tandem.observe(E'新\n\x1b[31m🐘', E'買い物\x07 の とても長い名前', side, '2 ms') FROM unnest('{legacy,new}'::text[]) AS side, generate_series(1, 200) \g /dev/null
SELECT FROM tandem.add_metric(E'新\n\x1b[31m🐘', E'数\x1b', 'SELECT 1', 'result < 2');
SELECT FROM tandem.batch_end(tandem.batch_begin(E'新\n\x1b[31m🐘', E'仕事\x1b', 50), 50, 0, 50);
SELECT ok(pg_temp.says(E'新\n\x1b[31m🐘', '%買い物%old%new%×%') AND pg_temp.says(E'新\n\x1b[31m🐘', '%数␛%') AND pg_temp.says(E'新\n\x1b[31m🐘', '%仕事␛%✗%'), 'operations, metrics and batches are shown');
SELECT FROM tandem.add_guard(E'新\n\x1b[31m🐘', E'番\x1b', 'weight < 0'); SELECT FROM tandem.add_guard(E'新\n\x1b[31m🐘', E'壊れた\x1b', '1 / (weight - weight) > 1'); SELECT FROM tandem.add_guard(E'新\n\x1b[31m🐘', E'警報\x1b', 'weight >= 0', severity => 3);
SELECT FROM tandem.add_guard(E'新\n\x1b[31m🐘', E'まだ', 'weight >= 0', hold => '1 hour');
SELECT FROM tandem.add_check(E'新\n\x1b[31m🐘', E'合計\x1b', 'SELECT 1', 'SELECT 2'); SELECT FROM tandem.add_check(E'新\n\x1b[31m🐘', E'件数', 'SELECT 1', 'SELECT 1');
SELECT ok(pg_temp.says(E'新\n\x1b[31m🐘', '%2 not made yet%'), 'checks that were not made yet');
SELECT FROM tandem.reconcile(E'新\n\x1b[31m🐘');
SELECT FROM tandem.set_option(E'新\n\x1b[31m🐘', 'guard_every', '0');
SELECT pg_temp.ticks(1) \g /dev/null
SELECT ok(pg_temp.says(E'新\n\x1b[31m🐘', '%✗ 警報␛%fired%alert%') AND pg_temp.says(E'新\n\x1b[31m🐘', '%! まだ %pending%true for %of %weight >= 0%')
          AND pg_temp.says(E'新\n\x1b[31m🐘', '%? 壊れた␛%inconclusive%division by zero%') AND pg_temp.says(E'新\n\x1b[31m🐘', '%✓ 2 armed: any_difference, 番␛%'), 'guards: what they have to say, and those that have nothing');
SELECT ok(pg_temp.says(E'新\n\x1b[31m🐘', '%✗ 合計␛%high legacy 1, new 2: 100 \% apart%') AND pg_temp.says(E'新\n\x1b[31m🐘', '%✓ 1 passed, the last at %'), 'checks: what does not pass, and how many do');
SELECT is(pg_temp.faults(E'新\n\x1b[31m🐘'), NULL, 'live');
SELECT tandem.drop_guard(E'新\n\x1b[31m🐘', E'番\x1b'), tandem.drop_guard(E'新\n\x1b[31m🐘', E'壊れた\x1b'), tandem.drop_guard(E'新\n\x1b[31m🐘', E'警報\x1b'), tandem.drop_guard(E'新\n\x1b[31m🐘', E'まだ') \g /dev/null
RESET ROLE;
ALTER TABLE "新しい設計"."表" DISABLE TRIGGER ALL;
UPDATE "新しい設計"."表" SET v = repeat('間違い', 40) WHERE length(id) < 6;
ALTER TABLE "新しい設計"."表" ENABLE TRIGGER ALL;
SET ROLE owner_role;
SELECT FROM tandem.validate(E'新\n\x1b[31m🐘');
SELECT FROM tandem.rollback(E'新\n\x1b[31m🐘', repeat('なぜ', 200));
SELECT ok(pg_temp.says(E'新\n\x1b[31m🐘', '%✗ No:%') AND pg_temp.says(E'新\n\x1b[31m🐘', '%proof: pending%'), 'a rollback, its proof pending');
SELECT is(pg_temp.faults(E'新\n\x1b[31m🐘'), NULL, '... in a frame');
SELECT pg_temp.ticks(1) \g /dev/null
SELECT ok(pg_temp.says(E'新\n\x1b[31m🐘', '%proof: 5 of 50 rows differ%'), 'its proof');
SELECT FROM tandem.cancel(E'新\n\x1b[31m🐘');
SELECT ok(pg_temp.says(E'新\n\x1b[31m🐘', '%The run was cancelled%'), 'cancelled');
SELECT is(pg_temp.faults(E'新\n\x1b[31m🐘'), NULL, '... in a frame');
SELECT is(pg_temp.faults(NULL), NULL, 'all runs');
SELECT throws_ok($$SELECT tandem.dashboard('nobody')$$, '42704', NULL, 'no such run');
RESET ROLE;
SET ROLE viewer_role;
SELECT ok((SELECT count(*) > 10 FROM tandem.dashboard(E'新\n\x1b[31m🐘')), 'a viewer may see it');
RESET ROLE;
SELECT tandem.grant_role('stranger', 'worker') \g /dev/null
GRANT EXECUTE ON FUNCTION tandem.dashboard TO stranger;
SET ROLE stranger;
SELECT throws_ok($$SELECT tandem.dashboard(E'新\n\x1b[31m🐘')$$, '42501', NULL, 'who has the function and no right sees no run');
SELECT ok(pg_temp.says(NULL, '%There is none that you may see%'), '... nor that there is one');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
