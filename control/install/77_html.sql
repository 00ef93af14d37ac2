-- html: pages without a way to forget escaping, and the pieces that the sections of a report are made of.
--
-- Every template is a literal and every value goes in by {}: src/pg/html.cpp says how, and refuses anything else. Templates are ASCII, so the
-- page is: it shows the same whatever encoding it is saved in.

-- A type of its own, not a domain: text becomes a domain over text without a word, but never this.
CREATE TYPE tandem.markup;
CREATE FUNCTION tandem.markup_in(cstring) RETURNS tandem.markup
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_markup_in';
COMMENT ON FUNCTION tandem.markup_in IS 'Refuses: only html() makes markup';
CREATE FUNCTION tandem.markup_out(tandem.markup) RETURNS cstring
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_markup_out';
COMMENT ON FUNCTION tandem.markup_out IS 'Markup as text';
CREATE TYPE tandem.markup (INPUT = tandem.markup_in, OUTPUT = tandem.markup_out, LIKE = text);
COMMENT ON TYPE tandem.markup IS 'HTML made by html(), which escapes every value of any other type';

CREATE FUNCTION tandem.html(template text, VARIADIC "values" "any") RETURNS tandem.markup
LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_html';
COMMENT ON FUNCTION tandem.html(text, "any") IS 'The template, a literal, with values in the place of {}: escaped, but for markup and arrays of it';
CREATE FUNCTION tandem.html(template text) RETURNS tandem.markup
LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_html';
COMMENT ON FUNCTION tandem.html(text) IS 'A literal that is HTML already';

-- --- values as people read them. PL/pgSQL keeps its plans: a function in SQL that is called by another one is planned again at each call.

CREATE FUNCTION tandem.report_number(value numeric, digits integer DEFAULT 0) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN CASE WHEN value IN ('NaN', 'Infinity', '-Infinity') THEN value::text
                  ELSE to_char(round(value, digits), 'FM999,999,999,999,999,990' || CASE WHEN digits > 0 THEN '.' || repeat('0', digits) ELSE '' END) END; END $$;
COMMENT ON FUNCTION tandem.report_number IS 'A number with commas';

-- Three digits that count, whatever the size.
CREATE FUNCTION tandem.report_figure(value double precision) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN CASE WHEN value IN ('NaN', 'Infinity', '-Infinity') THEN value::text WHEN value = 0 THEN '0'
                  WHEN abs(value) >= 1e15 OR abs(value) < 1e-6 THEN to_char(value, '9.99EEEE')
                  WHEN abs(value) >= 100 THEN tandem.report_number(value::numeric)
                  ELSE trim_scale(round(value::numeric, greatest(0, 2 - floor(log(abs(value)))::integer)))::text END; END $$;
COMMENT ON FUNCTION tandem.report_figure IS 'A measured number with three digits that count';

CREATE FUNCTION tandem.report_ms(ms double precision) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN CASE WHEN ms IS NULL THEN NULL WHEN ms IN ('NaN', 'Infinity', '-Infinity') THEN ms::text
                  WHEN abs(ms) < 1000 THEN tandem.report_figure(ms) || ' ms'
                  WHEN abs(ms) < 120000 THEN tandem.report_figure(ms / 1000) || ' s'
                  WHEN abs(ms) < 7200000 THEN tandem.report_figure(ms / 60000) || ' min'
                  WHEN abs(ms) < 172800000 THEN tandem.report_figure(ms / 3600000) || ' h'
                  ELSE tandem.report_figure(ms / 86400000) || ' days' END; END $$;
COMMENT ON FUNCTION tandem.report_ms IS 'Milliseconds in the unit that suits them';

CREATE FUNCTION tandem.report_span(span interval) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN tandem.report_ms((extract(epoch FROM span) * 1000)::double precision); END $$;
COMMENT ON FUNCTION tandem.report_span IS 'A length of time in the unit that suits it';

CREATE FUNCTION tandem.report_time(at timestamptz, form text DEFAULT 'YYYY-MM-DD HH24:MI:SS') RETURNS tandem.markup
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN CASE WHEN at IS NOT NULL AND isfinite(at)
                  THEN tandem.html('<time datetime="{}">{}</time>', to_char(at, 'YYYY-MM-DD"T"HH24:MI:SSTZH:TZM'), to_char(at, form)) ELSE tandem.html('{}', at) END; END $$;
COMMENT ON FUNCTION tandem.report_time IS 'A time, in the session''s time zone';

CREATE FUNCTION tandem.report_clip(value text, most integer) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN CASE WHEN length(value) > most THEN left(value, most - 3) || '...' ELSE value END; END $$;
COMMENT ON FUNCTION tandem.report_clip IS 'The beginning of a text that may be long';

-- A status is a word with a sign before it, and a colour: never a colour alone.
CREATE FUNCTION tandem.report_badge(tone text, word text) RETURNS tandem.markup
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN tandem.html('<span class="badge {}"><span class="sign" aria-hidden="true">{}</span>{}</span>', tone,
                         CASE tone WHEN 'good' THEN tandem.html('&#10003;') WHEN 'bad' THEN tandem.html('&#10007;')
                                   WHEN 'warn' THEN tandem.html('!') ELSE tandem.html('&#8211;') END, word); END $$;
COMMENT ON FUNCTION tandem.report_badge IS 'A word with a sign and a colour: good, bad, warn, or none';

CREATE FUNCTION tandem.report_tone(status text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN CASE WHEN lower(status) IN ('ok', 'pass', 'yes', 'clean', 'explained', 'equal', 'met', 'resolved', 'finished', 'passed', 'done', 'go') THEN 'good'
                  WHEN lower(status) IN ('critical', 'fail', 'no', 'unexplained', 'differs', 'breached', 'firing', 'degraded', 'failed', 'missed', 'overdue', 'no go', 'no_go') THEN 'bad'
                  WHEN lower(status) IN ('warning', 'inconclusive', 'unknown', 'pending', 'paused', 'acknowledged', 'at risk', 'late') THEN 'warn' ELSE 'none' END; END $$;
COMMENT ON FUNCTION tandem.report_tone IS 'Which colour a status has';

-- --- pieces of a page

CREATE FUNCTION tandem.report_empty(sentence text) RETURNS tandem.markup
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT tandem.html('<p class="empty">{}</p>', sentence) $$;
COMMENT ON FUNCTION tandem.report_empty IS 'What stands where there is nothing to show';

-- Columns of numbers begin with a #.
CREATE FUNCTION tandem.report_table(caption text, columns text[], rows tandem.markup[]) RETURNS tandem.markup
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT tandem.html('<div class="scroll" tabindex="0" role="region" aria-label="{}"><table><caption>{}</caption><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>',
           caption, caption,
           ARRAY(SELECT CASE WHEN c LIKE '#%' THEN tandem.html('<th scope="col" class="n">{}</th>', substr(c, 2)) ELSE tandem.html('<th scope="col">{}</th>', c) END
                   FROM unnest(columns) WITH ORDINALITY AS x (c, n) ORDER BY n), rows)
$$;
COMMENT ON FUNCTION tandem.report_table IS 'A table of rows that are markup already';

CREATE FUNCTION tandem.report_section(id text, title text, VARIADIC parts tandem.markup[]) RETURNS tandem.markup
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT tandem.html('<section id="{}" aria-labelledby="{}-title"><h2 id="{}-title">{}</h2>{}</section>', id, id, id, title, parts) $$;
COMMENT ON FUNCTION tandem.report_section IS 'A section of the page';

-- --- charts
--
-- Marks are drawn in an inner SVG of 1000 by 100 units that is stretched to the width there is; words stand in the outer one, placed in percent, and
-- so keep their size on a phone. Heights are in pixels.

CREATE FUNCTION tandem.report_x(at timestamptz, since timestamptz, until timestamptz) RETURNS numeric
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN round(least(100, greatest(0, 100 * extract(epoch FROM at - since) / nullif(extract(epoch FROM until - since), 0))), 2); END $$;
COMMENT ON FUNCTION tandem.report_x IS 'Where a time stands between two others, in percent';

-- A line through points; it breaks where y is NULL, and a point alone is a dot. y counts from the top, 0 to 100.
CREATE FUNCTION tandem.report_line(x numeric[], y numeric[]) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(string_agg(CASE WHEN p.y IS NULL THEN '' WHEN p.last IS NULL THEN format('M%s %sh0', p.x, p.y) ELSE format('L%s %s', p.x, p.y) END, '' ORDER BY p.n), '')
      FROM (SELECT trim_scale(round(u.x * 10, 1)) AS x, trim_scale(round(u.y, 1)) AS y, u.n, lag(u.y) OVER (ORDER BY u.n) AS last
              FROM unnest(report_line.x, report_line.y) WITH ORDINALITY AS u (x, y, n)) AS p
$$;
COMMENT ON FUNCTION tandem.report_line IS 'The path of a line through points in percent';

-- The least of 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8 times a power of ten that is not below a value.
CREATE FUNCTION tandem.report_top(value double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT min(f * p) FROM unnest('{1,1.5,2,2.5,3,4,5,6,8,10}'::double precision[]) AS f WHERE f * p >= value * 0.999999), 1)
      FROM (SELECT CASE WHEN value > 0 AND value < 'Infinity' THEN power(10::double precision, floor(log(value))) END AS p) AS x
$$;
COMMENT ON FUNCTION tandem.report_top IS 'The end of a scale: a round number that is not below the largest value';

-- Times that a reader would put on an axis: whole minutes, hours, days, at seven steps at most. Times with seconds are long words, of which no more than
-- every fourth part of a narrow chart takes one.
CREATE FUNCTION tandem.report_ticks(since timestamptz, until timestamptz) RETURNS TABLE (n bigint, at timestamptz, label text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH step AS (
        SELECT coalesce((SELECT min(s) FROM unnest('{1 s,2 s,5 s,10 s,15 s,30 s,1 min,2 min,5 min,10 min,15 min,30 min,1 h,2 h,3 h,6 h,12 h,1 day,2 days,7 days,14 days,28 days}'::interval[]) AS s
                          WHERE s * CASE WHEN s < interval '1 min' THEN 4 ELSE 7 END >= until - since), (until - since) / 6) AS step
    )
    SELECT row_number() OVER (ORDER BY t.at), t.at,
           CASE WHEN s.step >= interval '1 day' OR (t.at = date_trunc('day', t.at) AND until - since > interval '1 day') THEN to_char(t.at, 'FMDD Mon')
                WHEN s.step >= interval '1 minute' THEN to_char(t.at, 'HH24:MI') ELSE to_char(t.at, 'HH24:MI:SS') END
      FROM step AS s CROSS JOIN LATERAL generate_series(date_bin(s.step, since, date_trunc('day', since)), until, s.step) AS t (at)
     WHERE t.at >= since AND until > since
$$;
COMMENT ON FUNCTION tandem.report_ticks IS 'Round times for an axis';

-- What a line or a colour stands for; a class of the style sheet draws it.
CREATE FUNCTION tandem.report_key(class text, word text) RETURNS tandem.markup
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT tandem.html('<li><svg width="22" height="10" aria-hidden="true"><path class="{}" d="M1 5h20"/></svg>{}</li>', class, word) $$;
COMMENT ON FUNCTION tandem.report_key IS 'One entry of a legend';

-- labels stand at lines of equal distance, from the foot of the chart to its top.
CREATE FUNCTION tandem.report_chart(
    id text, title text, about text, legend tandem.markup[], height integer, labels text[], since timestamptz, until timestamptz,
    marks tandem.markup, words tandem.markup, behind tandem.markup) RETURNS tandem.markup
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH level AS (
        SELECT round(10 + height - height * (l.n - 1.0) / greatest(cardinality(labels) - 1, 1), 1) AS y, l.label, l.n = cardinality(labels) AS top
          FROM unnest(labels) WITH ORDINALITY AS l (label, n)
    ), tick AS (
        SELECT t.n, t.label, tandem.report_x(t.at, since, until) AS x FROM tandem.report_ticks(since, until) AS t
    )
    SELECT tandem.html('<figure id="{}"><figcaption><h3>{}</h3><ul class="legend">{}</ul></figcaption>'
        '<svg role="img" aria-labelledby="{}-t {}-d" width="100%" height="{}"><title id="{}-t">{}</title><desc id="{}-d">{}</desc>'
        '<g class="grid">{}{}</g><svg y="10" width="100%" height="{}" viewBox="0 0 1000 100" preserveAspectRatio="none">{}</svg>{}'
        '<g class="axis">{}{}</g></svg><details><summary>The numbers behind this chart</summary>{}</details></figure>',
        id, title, legend, id, id, height + 34, id, title, id, about,
        ARRAY(SELECT tandem.html('<line x1="0" x2="100%" y1="{}" y2="{}"/>', l.y, l.y) FROM level AS l),
        ARRAY(SELECT tandem.html('<line class="when" x1="{}%" x2="{}%" y1="10" y2="{}"/>', t.x, t.x, height + 10) FROM tick AS t),
        height, marks, words,
        ARRAY(SELECT tandem.html('<text x="2" y="{}">{}</text>', CASE WHEN l.top THEN l.y + 13 ELSE l.y - 4 END, l.label) FROM level AS l WHERE l.label <> ''),
        ARRAY(SELECT tandem.html('<text class="{}" x="{}%" y="{}" text-anchor="{}">{}</text>', CASE WHEN t.n % 2 = 0 THEN 'less' ELSE 'at' END, t.x, height + 27,
                                 CASE WHEN t.x < 1.2 * length(t.label) THEN 'start' WHEN t.x > 100 - 1.2 * length(t.label) THEN 'end' ELSE 'middle' END, t.label) FROM tick AS t),
        behind)
$$;
COMMENT ON FUNCTION tandem.report_chart IS 'A chart over time, with its scale, its times, its legend, and the table behind it';
