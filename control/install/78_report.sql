-- report: the whole page. Its sections are in the files 77_report_*.sql, its pieces in 77_html.sql.

-- SECURITY DEFINER, as status(): it reads the tables of the run for whoever may see it.
CREATE FUNCTION tandem.report(run text) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET extra_float_digits = 1 SET jit = off
AS $$
DECLARE
    r tandem.run := tandem.get_run(run);
    status tandem.runs;
    v record;
    since timestamptz;
    until timestamptz;
    facts tandem.markup[];
BEGIN
    PERFORM tandem.authorize(r, 'report');
    SELECT * INTO status FROM tandem.runs AS x WHERE x.run = r.name;
    v := tandem.run_verdict(r);
    -- From the start to the end, or to now. The clock may have been set back, and a run may be a millisecond old.
    SELECT min(e.at) INTO since FROM tandem.event AS e WHERE e.run = r.name AND e.kind = 'start';
    since := coalesce(since, r.created_at);
    until := CASE WHEN r.stage = 'complete' OR r.phase = 'cancelled' THEN r.moved_at ELSE statement_timestamp() END;
    until := greatest(until, since + interval '1 second');

    facts := ARRAY[
        tandem.html('<div><dt>On the new side</dt><dd>{} %<small>of the keys</small></dd></div>', r.weight),
        tandem.html('<div><dt>Stage</dt><dd>{}<small>{}</small></dd></div>', r.stage, replace(r.phase, '_', ' ')),
        tandem.html('<div><dt>Health</dt><dd>{}<small>of 100</small></dd></div>', status.health_score),
        tandem.html('<div><dt>Differences</dt><dd>{}<small>{}</small></dd></div>', coalesce(tandem.report_number(status.differences), '?'),
                    CASE WHEN status.validated_at IS NULL THEN tandem.html('not compared yet') ELSE tandem.html('at {}', tandem.report_time(status.validated_at, 'HH24:MI:SS')) END),
        (SELECT tandem.html('<div><dt>p95, new to old</dt><dd>{}<small>{}</small></dd></div>', CASE WHEN max(x.ratio) IS NULL THEN '?' ELSE tandem.report_figure(max(x.ratio)) END,
                            CASE WHEN max(x.ratio) IS NULL THEN 'not observed' ELSE format('times, the worst of %s', count(x.ratio)) END)
           FROM (SELECT (max(l.p95_ms) FILTER (WHERE l.side = 'new') / nullif(max(l.p95_ms) FILTER (WHERE l.side = 'legacy'), 0))::double precision AS ratio
                   FROM tandem.latency(r.name, span => tandem.report_latency_span(since, until)) AS l GROUP BY l.operation) AS x),
        (SELECT tandem.html('<div><dt>Open alerts</dt><dd>{}<small>{}</small></dd></div>', count(*) FILTER (WHERE a.resolved_at IS NULL), CASE WHEN count(*) = 0 THEN 'none fired' ELSE format('%s fired', count(*)) END)
           FROM tandem.alerts AS a WHERE (a.run = r.name OR a.run IS NULL) AND a.fired_at <= until AND coalesce(a.resolved_at, 'infinity') >= since),
        (SELECT tandem.html('<div><dt>Rollbacks</dt><dd>{}<small>{}</small></dd></div>', count(*), CASE WHEN count(*) = 0 THEN 'none' WHEN bool_or(p.verdict = 'unexplained') THEN 'one is unexplained'
                                     WHEN bool_or(p.verdict = 'pending') THEN 'a proof is pending' WHEN bool_or(p.verdict = 'none') THEN 'one has no proof' ELSE 'each proven' END) FROM tandem.rollback_proofs AS p WHERE p.run = r.name)];

    RETURN tandem.html('<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"/><title>Run {}: {}</title><meta name="viewport" content="width=device-width, initial-scale=1"/>'
        '<meta http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;; style-src &#39;unsafe-inline&#39;; img-src data:; base-uri &#39;none&#39;; form-action &#39;none&#39;"/>'
        '<meta name="generator" content="pg_tandem {}"/><link rel="icon" href="data:,"/><style>{}</style></head><body><header>'
        '<p class="kicker">Run <b><bdi>{}</bdi></b> &#183; schema <b><bdi>{}</bdi></b> &#8594; schema <b><bdi>{}</bdi></b> &#183; database <bdi>{}</bdi> &#183; {} to {}</p>'
        '<div class="verdict {}"><h1><span class="sign" aria-hidden="true">{}</span><span>{}</span></h1><p>{}</p><p class="then">{}</p>{}</div><dl class="facts">{}</dl>'
        '<nav aria-label="Sections"><ul>{}</ul></nav></header><main>{}{}{}{}{}{}{}{}{}{}{}{}{}{}{}{}</main>'
        '<footer><p>Made by pg_tandem at {}, in time zone {}, for role <bdi>{}</bdi>. One snapshot; no script; nothing is loaded from anywhere.</p></footer></body></html>',
        r.name, v.headline, (SELECT e.extversion FROM pg_extension AS e WHERE e.extname = 'pg_tandem'), tandem.report_css(),
        r.name, r.legacy_schema, r.new_schema, current_database(), tandem.report_time(since, 'YYYY-MM-DD HH24:MI'), tandem.report_time(until, 'YYYY-MM-DD HH24:MI'),
        v.answer, CASE v.answer WHEN 'yes' THEN tandem.html('&#10003;') WHEN 'no' THEN tandem.html('&#10007;') WHEN 'over' THEN tandem.html('&#8211;') ELSE tandem.html('?') END,
        v.headline, tandem.report_clip(v.why, 600), tandem.report_clip(v.next, 600), CASE WHEN v.command IS NOT NULL THEN tandem.html('<code>{}</code>', v.command) END, facts,
        ARRAY(SELECT tandem.html('<li><a href="#{}">{}</a></li>', s.id, s.title)
                FROM (VALUES (1, 'course', 'Stages and weight'), (2, 'latency', 'Latency'), (3, 'comparisons', 'Comparisons'), (4, 'differences', 'Differences'), (5, 'checks', 'Reconciliation'), (6, 'metrics', 'Metrics'), (7, 'guards', 'Guards'), (8, 'sla', 'SLA windows'), (9, 'batches', 'Batches'),
                             (10, 'health', 'Health'), (11, 'alerts', 'Alerts'), (12, 'rollbacks', 'Rollbacks'), (13, 'playbook', 'Playbook'), (14, 'days', 'Day by day'), (15, 'backfill', 'Backfill'), (16, 'events', 'Events')) AS s (n, id, title) ORDER BY s.n),
        tandem.report_course(r, since, until), tandem.report_latency(r, since, until), tandem.report_comparisons(r, since, until), tandem.report_differences(r), tandem.report_checks(r), tandem.report_metrics(r, since, until), tandem.report_guards(r),
        tandem.report_sla(since, until), tandem.report_batches(r), tandem.report_health(r), tandem.report_alerts(r, since, until), tandem.report_rollbacks(r), tandem.report_playbook(r), tandem.report_days(r), tandem.report_backfill(r), tandem.report_events(r),
        tandem.report_time(statement_timestamp()), current_setting('TimeZone'), pg_get_userbyid(tandem.acting_role()));
END
$$;
COMMENT ON FUNCTION tandem.report IS 'The run as one self-contained HTML page: the verdict first, then what it rests on. psql -qAtc "SELECT tandem.report(''my_run'')" > run.html';
