-- The law of runs in three places: the table in docs/runs.md, the state machine (run_law(), run_next()), and the levels of people.
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
SELECT is((SELECT count(*) FROM every), 6 * 7 * 12::bigint, 'all moves');
SELECT is_empty('SELECT * FROM every WHERE expected <> found', 'each leads where the page says, or is refused with a detail and a hint');
SELECT ok((SELECT count(*) FROM every WHERE found = 'refused') > 400, 'most are refused');

-- Levels: the function that a person calls for a verb is granted to those who may ask for it.
CREATE TEMP VIEW granted AS
SELECT l.verb, CASE l.verb WHEN 'approve' THEN 'sign_off' WHEN 'rampdown' THEN 'complete' ELSE l.verb END AS function, l.who
  FROM tandem.run_law() AS l WHERE l.who <> '{worker}';
SELECT is_empty($$SELECT g.verb, x.level FROM granted AS g, unnest('{viewer,operator,approver,oncall,admin}'::text[]) AS x (level)
                   WHERE (x.level = ANY (g.who)) <> EXISTS (SELECT FROM tandem.role_level AS l WHERE l.level = x.level AND l.function = g.function)$$, 'the levels are those of the law');
SELECT is_empty($$SELECT l.verb FROM tandem.run_law() AS l JOIN pg_proc AS p ON p.proname = l.verb AND p.pronamespace = 'tandem'::regnamespace WHERE l.who = '{worker}'$$,
                'nobody calls by hand what only the worker does');

SELECT * FROM finish();
ROLLBACK;
