-- The law of runs in four places: the two tables in docs/runs.md, the state machine (run_law(), run_next()), and the levels of people.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
\set page `cat docs/runs.md`
CREATE TEMP TABLE page (text text);
INSERT INTO page VALUES (:'page');

-- | `verb` | stages | phases | leads to | who | what else must hold |
CREATE TEMP TABLE told AS
SELECT trim(c[1], ' `') AS verb, string_to_array(trim(c[2]), ', ') AS stages, string_to_array(trim(c[3]), ', ') AS phases,
       nullif(split_part(trim(c[4]), ', ', 1), 'the same') AS to_stage, nullif(split_part(trim(c[4]), ', ', 2), 'the same') AS to_phase,
       string_to_array(trim(c[5]), ', ') AS who, trim(c[6]) AS guard
  FROM page, regexp_matches(substring(page.text FROM '## The law.*?(?=\n## )'), '^\|( `[^|]+)\|([^|]+)\|([^|]+)\|([^|]+)\|([^|]+)\|([^|]+)\|$', 'gn') AS m (c);

SELECT ok((SELECT count(*) >= 12 FROM told), 'the page has the table');
SELECT bag_eq('SELECT verb, stages, phases, to_stage, to_phase, who, guard FROM told', 'SELECT verb, stages, phases, to_stage, to_phase, who, guard FROM tandem.run_law()', 'the page tells the law as it is');

-- Every stage, phase and verb: what the page tells is what run_next() does, at a weight that does not stand in the way.
CREATE FUNCTION pg_temp.moved(stage text, phase text, weight integer, verb text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
    hint text;
BEGIN
    RETURN (SELECT n.to_stage || ', ' || n.to_phase FROM tandem.run_next(stage, phase, weight, verb, '{50,100}', NULL) AS n);
EXCEPTION WHEN object_not_in_prerequisite_state THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN CASE WHEN detail = '' OR hint = '' THEN 'refused without a word' ELSE 'refused' END;
END $$;
CREATE TEMP TABLE every AS
SELECT s AS stage, p AS phase, v AS verb, coalesce((SELECT coalesce(t.to_stage, s) || ', ' || coalesce(t.to_phase, p) FROM told AS t WHERE t.verb = v AND s = ANY (t.stages) AND p = ANY (t.phases)), 'refused') AS expected,
       pg_temp.moved(s, p, CASE WHEN v IN ('rampdown', 'complete') THEN 100 WHEN s IN ('live', 'rampdown') THEN 50 WHEN s = 'complete' THEN 100 ELSE 0 END, v) AS found
  FROM unnest('{off,dualwrite,shadow,live,rampdown,complete}'::text[]) AS s, unnest('{pending,progressing,paused,waiting_approval,degraded,succeeded,cancelled}'::text[]) AS p,
       (SELECT DISTINCT verb FROM told) AS v (v);
SELECT is((SELECT count(*) FROM every), 6 * 7 * 15::bigint, 'all moves');
SELECT is_empty('SELECT * FROM every WHERE expected <> found', 'each leads where the page says, or is refused with a detail and a hint');
SELECT ok((SELECT count(*) FROM every WHERE found = 'refused') > 500, 'most are refused');

-- What people call, and where, and what it leads to: | `verb(arguments)` words | stages | phases | stage, phase; words |. As sets of moves, so that a place too many,
-- one too few and a wrong target are all seen.
CREATE TEMP TABLE called AS
SELECT c[1] AS function, c[2] AS arguments, trim(c[3]) AS stages, string_to_array(trim(c[4]), ', ') AS phases,
       split_part(split_part(trim(c[5]), ';', 1), ', ', 1) AS to_stage, split_part(split_part(trim(c[5]), ';', 1), ', ', 2) AS to_phase
  FROM page, regexp_matches(substring(page.text FROM '## Stages and verbs.*?(?=\n## )'), '^\| `([a-z_]+)\(([^)]*)\)`[^|]*\|([^|]+)\|([^|]+)\|([^|]+)\|$', 'gn') AS m (c);
SELECT ok((SELECT count(*) >= 14 FROM called), 'the page has a table of verbs');
SELECT is_empty($$SELECT c.* FROM called AS c WHERE NOT EXISTS (SELECT FROM pg_proc AS p WHERE p.pronamespace = 'tandem'::regnamespace AND p.proname = c.function
                                                                AND array_to_string(p.proargnames[1:p.pronargs], ', ') = c.arguments)$$, 'they are called as it says');
CREATE TEMP VIEW called_move AS
SELECT c.function, s.name AS stage, p AS phase, CASE c.to_stage WHEN 'the same' THEN s.name ELSE c.to_stage END AS to_stage, CASE c.to_phase WHEN 'the same' THEN p ELSE c.to_phase END AS to_phase
  FROM called AS c, unnest('{off,dualwrite,shadow,live,rampdown,complete}'::text[]) WITH ORDINALITY AS s (name, n), unnest(c.phases) AS p
 WHERE s.name = ANY (string_to_array(c.stages, ', ')) OR s.n BETWEEN array_position('{off,dualwrite,shadow,live,rampdown,complete}', split_part(c.stages, ' to ', 1))
                                                              AND array_position('{off,dualwrite,shadow,live,rampdown,complete}', split_part(c.stages, ' to ', 2));
CREATE TEMP VIEW lawful_move AS
SELECT l.verb, s AS stage, p AS phase, coalesce(l.to_stage, s) AS to_stage, coalesce(l.to_phase, p) AS to_phase FROM tandem.run_law() AS l, unnest(l.stages) AS s, unnest(l.phases) AS p WHERE l.who <> '{worker}';
SELECT bag_eq('TABLE called_move', $$
    SELECT CASE verb WHEN 'approve' THEN 'sign_off' WHEN 'rampdown' THEN 'complete' WHEN 'rollback_domain' THEN 'rollback' ELSE verb END, stage, phase, to_stage, to_phase FROM lawful_move
    UNION SELECT 'sign_off', stage, phase, to_stage, to_phase FROM lawful_move WHERE verb = 'pause' -- a no_go
    UNION SELECT 'resume_from', r.stage, r.phase, p.to_stage, p.to_phase FROM lawful_move AS r JOIN lawful_move AS p ON (p.stage, p.phase) = (r.to_stage, r.to_phase) WHERE (r.verb, p.verb) = ('retry', 'promote')
    UNION SELECT 'resume_from', stage, phase, to_stage, to_phase FROM lawful_move WHERE verb = 'promote'$$, 'each is legal where it says, and leads where it says');

-- Nothing moves a run beside the law: one function writes the row, and it asks run_next(). The trigger of a restore has a row that is not in the table yet, and asks, too.
SELECT is((SELECT array_agg(p.proname::text ORDER BY p.proname) FROM pg_proc AS p WHERE p.pronamespace = 'tandem'::regnamespace AND p.prosrc ~* '(UPDATE|MERGE INTO)\s+(ONLY\s+)?tandem\.run\M'),
          '{move_run}', 'one function updates runs');
SELECT is((SELECT array_agg(t.tgfoid::regproc::text) FROM pg_trigger AS t WHERE t.tgrelid = 'tandem.run'::regclass AND t.tgtype & 2 <> 0), '{tandem.run_restored}', 'one trigger may change what is written');
SELECT is((SELECT count(*) FROM pg_proc AS p WHERE p.oid IN ('tandem.move_run'::regproc, 'tandem.run_restored'::regproc) AND p.prosrc LIKE '%tandem.run_next(%'), 2::bigint, 'both by the law');
\set in_c `grep -rliE '(update|merge into)[[:space:]]+(only[[:space:]]+)?tandem[.]run([^_[:alnum:]]|$)' --include=*.cpp --include=*.hpp src | tr '\n' ' '`
SELECT is(:'in_c'::text, '', '... and nothing in C++');

-- Levels: the function that a person calls for a verb is granted to those who may ask for it.
CREATE TEMP VIEW granted AS
SELECT l.verb, CASE l.verb WHEN 'approve' THEN 'sign_off' WHEN 'rampdown' THEN 'complete' WHEN 'rollback_domain' THEN 'rollback' ELSE l.verb END AS function, l.who
  FROM tandem.run_law() AS l WHERE l.who <> '{worker}';
SELECT is_empty($$SELECT g.verb, x.level FROM granted AS g, unnest('{viewer,operator,approver,oncall,admin}'::text[]) AS x (level)
                   WHERE (x.level = ANY (g.who)) <> EXISTS (SELECT FROM tandem.role_level AS l WHERE l.level = x.level AND l.function = g.function)$$, 'the levels are those of the law');
SELECT is_empty($$SELECT l.verb FROM tandem.run_law() AS l JOIN pg_proc AS p ON p.proname = l.verb AND p.pronamespace = 'tandem'::regnamespace WHERE l.who = '{worker}'$$,
                'nobody calls by hand what only the worker does');

SELECT * FROM finish();
ROLLBACK;
