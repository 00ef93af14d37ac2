-- report: checks, the days of the run, and what people agreed on, decided, did and learned; and the page that looks back on all of it.

CREATE FUNCTION tandem.report_checks(run tandem.run) RETURNS tandem.markup
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH c AS MATERIALIZED (
        SELECT x.*, count(*) OVER () AS total, row_number() OVER (ORDER BY array_position('{failed,unknown,passed}', x.status), array_position('{critical,high,medium,low}', x.severity), x.name) AS rank
          FROM tandem.checks AS x WHERE x.run = run.name
    ), last AS MATERIALIZED (
        -- the last 40 times that each was made, the oldest first
        SELECT c.rank, m.status, row_number() OVER (PARTITION BY c.rank ORDER BY m.at) AS n
          FROM c CROSS JOIN LATERAL (SELECT y.at, CASE WHEN bool_or(y.status = 'failed') THEN 'failed' WHEN bool_or(y.status = 'unknown') THEN 'unknown' ELSE 'passed' END AS status
                                       FROM tandem.check_result AS y WHERE y.run_id = run.id AND y.name = c.name GROUP BY y.at ORDER BY y.at DESC LIMIT 40) AS m WHERE c.rank <= 40
    ), part AS MATERIALIZED (
        SELECT p.*, count(*) OVER () AS total FROM tandem.parallel_run_metrics AS p
         WHERE p.run = run.name AND p.group_key IS NOT NULL AND NOT p.within_tolerance ORDER BY array_position('{critical,high,medium,low}', p.severity), p.difference_percent DESC NULLS LAST LIMIT 20
    )
    SELECT tandem.report_section('checks', 'Reconciliation', CASE WHEN NOT EXISTS (SELECT FROM c) THEN tandem.report_empty('The run has no check: tandem.add_check() adds one.') ELSE
        tandem.html('<figure id="made"><figcaption><h3>Checks, and the last 40 times each was made</h3><ul class="legend">{}{}{}</ul></figcaption>{}</figure>',
            tandem.report_key('b-good', 'passed'), tandem.report_key('b-warn', 'unknown'), tandem.report_key('b-bad', 'failed'),
            tandem.report_table(format('Checks: %s of %s', (SELECT count(*) FROM c WHERE c.rank <= 40), (SELECT max(c.total) FROM c)), '{check,last,over time,#old side,#new side,#apart,on failure,made,why}',
                ARRAY(SELECT tandem.html('<tr><td>{}</td><td>{}</td><td><svg class="strip" role="img" aria-label="{} of the last {} passed">{}</svg></td><td class="n">{}</td><td class="n">{}</td><td class="n">{}<small>up to {} %</small></td><td>{}</td><td>{}</td><td class="w">{}</td></tr>',
                             c.name, CASE WHEN c.status IS NULL THEN tandem.report_badge('none', 'not yet') ELSE tandem.report_badge(tandem.report_tone(c.status), c.status) END,
                             (SELECT count(*) FROM last AS l WHERE l.rank = c.rank AND l.status = 'passed'), (SELECT count(*) FROM last AS l WHERE l.rank = c.rank),
                             ARRAY(SELECT tandem.html('<rect class="b-{}" x="{}%" y="{}" width="2%" height="{}"/>', CASE l.status WHEN 'passed' THEN 'good' WHEN 'failed' THEN 'bad' ELSE 'warn' END,
                                                      round((l.n - 1) * 100 / 40.0, 2), CASE l.status WHEN 'passed' THEN 6 ELSE 0 END, CASE l.status WHEN 'passed' THEN 8 ELSE 14 END) FROM last AS l WHERE l.rank = c.rank ORDER BY l.n),
                             tandem.report_figure(tandem.as_double(c.legacy_value)), tandem.report_figure(tandem.as_double(c.new_value)), tandem.report_figure(tandem.as_double(c.difference_percent)) || ' %',
                             tandem.report_figure(tandem.as_double(c.tolerance_percent)), c.severity || ': ' || c.on_fail, tandem.report_time(c.checked_at, 'MM-DD HH24:MI'), tandem.report_clip(c.reason, 240))
                        FROM c WHERE c.rank <= 40 ORDER BY c.rank))) END,
        CASE WHEN EXISTS (SELECT FROM part) THEN
        tandem.report_table(format('Groups that do not pass: %s of %s', (SELECT count(*) FROM part), (SELECT max(p.total) FROM part AS p)), '{check,group,status,#in the old side,#in the new side,#apart,#tolerated}',
            ARRAY(SELECT tandem.html('<tr><td>{}</td><td class="k"><code>{}</code></td><td>{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{} %</td></tr>',
                         p.metric, tandem.report_clip(p.group_key::text, 120), tandem.report_badge(tandem.report_tone(p.status), p.status), tandem.report_figure(tandem.as_double(p.legacy_value)),
                         tandem.report_figure(tandem.as_double(p.new_value)), tandem.report_figure(tandem.as_double(p.difference_percent)) || ' %', tandem.report_figure(tandem.as_double(p.tolerance_percent))) FROM part AS p)) END)
$$;
COMMENT ON FUNCTION tandem.report_checks IS 'Section of report(): checks, how they went over time, and the groups that do not pass';

CREATE FUNCTION tandem.report_days(run tandem.run) RETURNS tandem.markup
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH d AS MATERIALIZED (
        SELECT x.*, count(*) OVER () AS total FROM tandem.daily_report AS x WHERE x.run = run.name ORDER BY x.day DESC LIMIT 100
    ), total AS (
        SELECT count(*) AS days, count(*) FILTER (WHERE x.status = 'OK') AS good FROM tandem.daily_report AS x WHERE x.run = run.name
    )
    SELECT tandem.report_section('days', 'Day by day', CASE WHEN NOT EXISTS (SELECT FROM d) THEN tandem.report_empty('No day has a report yet: the worker makes it when the day is over, tandem.daily_report() at once.') ELSE
        tandem.html('<p class="lead">{} of {} days were well.</p>{}', t.good, t.days,
            tandem.report_table(format('Daily reports: %s of %s', (SELECT count(*) FROM d), t.days), '{day,status,#weight,#compared,#differ,#checks failed,#rollbacks,#alerts,#p95 new,#health,what happened}',
                ARRAY(SELECT tandem.html('<tr><td class="k">{}</td><td>{}</td><td class="n">{} %</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="w">{}</td></tr>',
                             d.day, tandem.report_badge(tandem.report_tone(d.status), d.status || CASE WHEN d.complete THEN '' ELSE ' so far' END), d.weight, tandem.report_number(d.validations), tandem.report_number(d.differences),
                             CASE WHEN d.checks > 0 THEN format('%s of %s', d.failed_checks, d.checks) END, d.rollbacks, d.alerts_fired, tandem.report_ms(d.new_p95_ms::double precision), d.health_score, tandem.report_clip(array_to_string(d.moves, '; '), 240))
                        FROM d ORDER BY d.day DESC))) END)
      FROM total AS t
$$;
COMMENT ON FUNCTION tandem.report_days IS 'Section of report(): the daily reports, the last 100 of them';

-- The parts of it that there are.
CREATE FUNCTION tandem.report_playbook(run tandem.run) RETURNS tandem.markup
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH s AS MATERIALIZED (
        SELECT x.*, count(*) OVER () AS total FROM tandem.success_metrics AS x WHERE x.run = run.name ORDER BY array_position('{missed,unknown,met}', x.status), x.name LIMIT 60
    ), c AS MATERIALIZED (
        SELECT x.*, count(*) OVER () AS total, count(*) FILTER (WHERE x.ticked_at IS NOT NULL) OVER () AS done FROM tandem.checklist AS x WHERE x.run = run.name ORDER BY x.position, x.item LIMIT 200
    ), d AS MATERIALIZED (
        SELECT x.*, count(*) OVER () AS total FROM tandem.decisions AS x WHERE x.run = run.name ORDER BY x.decided_at DESC LIMIT 40
    ), l AS MATERIALIZED (
        SELECT x.*, count(*) OVER () AS total FROM tandem.lessons AS x WHERE x.run = run.name ORDER BY array_position('{change,puzzle,keep}', x.kind), x.id LIMIT 100
    )
    SELECT tandem.report_section('playbook', 'Playbook',
        CASE WHEN EXISTS (SELECT FROM s) THEN
        tandem.report_table(format('Success metrics: %s of %s met', (SELECT count(*) FROM s WHERE s.status = 'met'), (SELECT max(s.total) FROM s)), '{what,status,#target,#actual,of,#measurements,measured,about}',
            ARRAY(SELECT tandem.html('<tr><td>{}</td><td>{}</td><td class="n">{}</td><td class="n">{}</td><td>{}</td><td class="n">{}</td><td>{}</td><td class="w">{}</td></tr>',
                         s.name, tandem.report_badge(tandem.report_tone(s.status), s.status), s.target, tandem.report_figure(s.actual), s.aggregate || ' of ' || s.metric, tandem.report_number(s.measurements),
                         tandem.report_time(s.measured_at, 'YYYY-MM-DD HH24:MI'), tandem.report_clip(s.description, 240)) FROM s)) ELSE tandem.report_empty('No success metric: tandem.add_success_metric() says what the run is to reach.') END,
        CASE WHEN EXISTS (SELECT FROM c) THEN
        tandem.report_table(format('Checklist: %s of %s done', (SELECT max(c.done) FROM c), (SELECT max(c.total) FROM c)), '{#,status,item,required,owner,planned,done,#late by,by,comment}',
            ARRAY(SELECT tandem.html('<tr><td class="n">{}</td><td>{}</td><td class="w">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class="n">{}</td><td>{}</td><td class="w">{}</td></tr>',
                         c.position, tandem.report_badge(tandem.report_tone(c.status), c.status), c.item, CASE WHEN c.required THEN 'to complete' END, c.owner, tandem.report_time(c.planned_at, 'YYYY-MM-DD HH24:MI'), tandem.report_time(c.ticked_at, 'YYYY-MM-DD HH24:MI'),
                         CASE WHEN c.delay > interval '0' THEN tandem.report_span(c.delay) END, c.ticked_by, tandem.report_clip(c.comment, 240)) FROM c)) END,
        CASE WHEN EXISTS (SELECT FROM d) THEN
        tandem.report_table(format('Decisions: %s of %s', (SELECT count(*) FROM d), (SELECT max(d.total) FROM d)), '{when,gate,decision,who,why,options considered,counts until,evidence}',
            ARRAY(SELECT tandem.html('<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class="w">{}</td><td class="w">{}</td><td>{}</td><td><code>{}</code></td></tr>',
                         tandem.report_time(d.decided_at, 'YYYY-MM-DD HH24:MI'), d.gate, tandem.report_badge(tandem.report_tone(d.decision), replace(d.decision, '_', ' ')), d.role, tandem.report_clip(d.comment, 300), tandem.report_clip(d.options::text, 300),
                         coalesce(tandem.html('{}', d.void), tandem.report_time(d.expires_at, 'YYYY-MM-DD HH24:MI')), left(d.digest, 12)) FROM d ORDER BY d.decided_at DESC)) END,
        CASE WHEN EXISTS (SELECT FROM l) THEN
        tandem.report_table(format('Lessons: %s of %s', (SELECT count(*) FROM l), (SELECT max(l.total) FROM l)), '{kind,lesson,what follows,who sees to it,written down}',
            ARRAY(SELECT tandem.html('<tr><td>{}</td><td class="w">{}</td><td class="w">{}</td><td>{}</td><td>{}</td></tr>',
                         tandem.report_badge(CASE l.kind WHEN 'keep' THEN 'good' WHEN 'change' THEN 'warn' ELSE 'none' END, l.kind), tandem.report_clip(l.lesson, 1000), tandem.report_clip(l.action, 500), l.owner,
                         tandem.html('{}, {}', l.added_by, tandem.report_time(l.added_at, 'YYYY-MM-DD HH24:MI'))) FROM l)) END)
$$;
COMMENT ON FUNCTION tandem.report_playbook IS 'Section of report(): success metrics, checklist, decisions, lessons';

-- --- looking back

CREATE FUNCTION tandem.retrospective_facts(
    run tandem.run, OUT since timestamptz, OUT until timestamptz, OUT answer text, OUT headline text, OUT rollbacks bigint, OUT unexplained bigint, OUT alerts bigint, OUT validations bigint, OUT rows_compared numeric,
    OUT differences bigint, OUT met bigint, OUT metrics bigint, OUT done bigint, OUT items bigint, OUT lessons bigint, OUT checks bigint, OUT checks_failed bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    story text;
BEGIN
    SELECT min(e.at) FILTER (WHERE e.kind = 'start') INTO since FROM tandem.event AS e WHERE e.run = run.name;
    since := coalesce(since, run.created_at);
    until := greatest(CASE WHEN run.stage = 'complete' OR run.phase = 'cancelled' THEN run.moved_at ELSE statement_timestamp() END, since + interval '1 second');
    SELECT count(*), count(*) FILTER (WHERE p.verdict = 'unexplained') INTO rollbacks, unexplained FROM tandem.rollback_proofs AS p WHERE p.run = run.name;
    SELECT count(*) INTO alerts FROM tandem.alerts AS a WHERE a.run = run.name;
    -- Clean validations are thinned out: days that are over are told by their reports, the rest by what is kept.
    SELECT coalesce(sum(d.validations), 0), coalesce(sum(d.rows_compared), 0), coalesce(max(d.differences), 0) INTO validations, rows_compared, differences
      FROM tandem.daily_report AS d WHERE d.run = run.name AND d.complete;
    SELECT validations + count(*), rows_compared + coalesce(sum(v.looked_at), 0), greatest(differences, coalesce(max(v.found), 0)) INTO validations, rows_compared, differences
      FROM (SELECT sum(greatest(c.legacy_rows, c.new_rows)) AS looked_at, sum(c.missing + c.extra + c.changed + c.duplicates + c.errors - c.accepted) AS found
              FROM tandem.comparison AS c WHERE c.run_id = run.id AND c.purpose = 'validate'
               AND c.started_at >= coalesce((SELECT max((d.day + 1)::timestamp AT TIME ZONE d.timezone) FROM tandem.daily_report AS d WHERE d.run = run.name AND d.complete), '-infinity') GROUP BY c.started_at) AS v;
    SELECT count(*) FILTER (WHERE s.status = 'met'), count(*) INTO met, metrics FROM tandem.success_metrics AS s WHERE s.run = run.name;
    SELECT count(*) FILTER (WHERE c.ticked_at IS NOT NULL), count(*) INTO done, items FROM tandem.checklist AS c WHERE c.run = run.name;
    SELECT count(*) INTO lessons FROM tandem.lessons AS l WHERE l.run = run.name;
    SELECT count(*), count(*) FILTER (WHERE c.failures > 0 OR c.status = 'failed') INTO checks, checks_failed FROM tandem.checks AS c WHERE c.run = run.name;

    story := concat_ws(', ', CASE rollbacks WHEN 0 THEN 'never rolled back' WHEN 1 THEN 'rolled back once' ELSE format('rolled back %s times', rollbacks) END,
                       CASE WHEN metrics > 0 THEN format('%s of %s success metrics met', met, metrics) END);
    IF run.stage = 'complete' THEN
        headline := format('Complete after %s: %s.', tandem.report_span(until - since), story);
        answer := CASE WHEN unexplained > 0 OR met < metrics THEN 'unknown' ELSE 'yes' END;
    ELSIF run.phase = 'cancelled' THEN
        headline := format('Cancelled after %s: %s.', tandem.report_span(until - since), story);
        answer := 'no';
    ELSE
        headline := format('Under way for %s, at %s %%: %s.', tandem.report_span(until - since), run.weight, story);
        answer := 'over';
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.retrospective_facts IS 'The numbers of a retrospective, all computed from what is on record';

-- SECURITY DEFINER, as report().
CREATE FUNCTION tandem.retrospective(run text) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET extra_float_digits = 1 SET jit = off
AS $$
DECLARE
    r tandem.run := tandem.get_run(run);
    f record;
BEGIN
    PERFORM tandem.authorize(r, 'retrospective');
    f := tandem.retrospective_facts(r);
    RETURN tandem.html('<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"/><title>Retrospective of run {}</title><meta name="viewport" content="width=device-width, initial-scale=1"/>'
        '<meta http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;; style-src &#39;unsafe-inline&#39;; img-src data:; base-uri &#39;none&#39;; form-action &#39;none&#39;"/>'
        '<meta name="generator" content="pg_tandem {}"/><link rel="icon" href="data:,"/><style>{}</style></head><body><header>'
        '<p class="kicker">Retrospective of run <b><bdi>{}</bdi></b> &#183; schema <b><bdi>{}</bdi></b> &#8594; schema <b><bdi>{}</bdi></b> &#183; {} to {}</p>'
        '<div class="verdict {}"><h1><span class="sign" aria-hidden="true">{}</span><span>{}</span></h1><p>{}</p></div><dl class="facts">{}{}{}{}{}{}</dl>'
        '<nav aria-label="Sections"><ul><li><a href="#playbook">Playbook</a></li><li><a href="#course">Stages and weight</a></li><li><a href="#days">Day by day</a></li><li><a href="#checks">Reconciliation</a></li>'
        '<li><a href="#rollbacks">Rollbacks</a></li><li><a href="#alerts">Alerts</a></li></ul></nav></header><main>{}{}{}{}{}{}</main>'
        '<footer><p>Made by pg_tandem at {}, in time zone {}, for role <bdi>{}</bdi>. Every number is computed from the record of the run; what people wrote is theirs.</p></footer></body></html>',
        r.name, (SELECT e.extversion FROM pg_extension AS e WHERE e.extname = 'pg_tandem'), tandem.report_css(), r.name, r.legacy_schema, r.new_schema,
        tandem.report_time(f.since, 'YYYY-MM-DD HH24:MI'), tandem.report_time(f.until, 'YYYY-MM-DD HH24:MI'),
        f.answer, CASE f.answer WHEN 'yes' THEN tandem.html('&#10003;') WHEN 'no' THEN tandem.html('&#10007;') WHEN 'over' THEN tandem.html('&#8211;') ELSE tandem.html('!') END, f.headline,
        format('%s comparisons looked at %s rows and found %s.', tandem.report_number(f.validations), tandem.report_number(f.rows_compared),
               CASE f.differences WHEN 0 THEN 'no difference that nobody accepted' ELSE format('%s differences at most', tandem.report_number(f.differences)) END),
        tandem.html('<div><dt>Took</dt><dd>{}<small>from the start</small></dd></div>', tandem.report_span(f.until - f.since)),
        tandem.html('<div><dt>Success metrics</dt><dd>{}<small>of {} met</small></dd></div>', f.met, f.metrics),
        tandem.html('<div><dt>Rollbacks</dt><dd>{}<small>{}</small></dd></div>', f.rollbacks, CASE WHEN f.rollbacks = 0 THEN 'none' WHEN f.unexplained > 0 THEN 'one is unexplained' ELSE 'each proven' END),
        tandem.html('<div><dt>Alerts</dt><dd>{}<small>{}</small></dd></div>', f.alerts, 'of the run'),
        tandem.html('<div><dt>Checks</dt><dd>{}<small>{}</small></dd></div>', f.checks, CASE WHEN f.checks = 0 THEN 'none' WHEN f.checks_failed = 0 THEN 'none fails' ELSE format('%s fail', f.checks_failed) END),
        tandem.html('<div><dt>Checklist</dt><dd>{}<small>of {} done</small></dd></div>', f.done, f.items),
        tandem.report_playbook(r), tandem.report_course(r, f.since, f.until), tandem.report_days(r), tandem.report_checks(r), tandem.report_rollbacks(r), tandem.report_alerts(r, f.since, f.until),
        tandem.report_time(statement_timestamp()), current_setting('TimeZone'), pg_get_userbyid(tandem.acting_role()));
END
$$;
COMMENT ON FUNCTION tandem.retrospective IS 'Looks back on a run, as one self-contained HTML page: what was to be reached and was, what people decided, did and learned, and how it went. psql -qAtc "SELECT tandem.retrospective(''my_run'')" > retrospective.html';
