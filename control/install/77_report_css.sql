-- report_css: how the page of report() looks. Light and dark by the reader's system, always light on paper; no font, image or script from anywhere.
-- test/t/report.pl computes the contrasts of this palette, also as people see it who see no red or no green.

CREATE FUNCTION tandem.report_css() RETURNS tandem.markup
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $css$ SELECT tandem.html('
:root {
  color-scheme: light;
  --page: #ffffff; --panel: #f4f6f8; --ink: #171b20; --soft: #505a64; --line: #d3d9df; --grid: #e3e8ec;
  --new: #0a5fb4; --legacy: #b05a00; --mark: #171b20;
  --good: #067446; --bad: #991b20; --warn: #9e5400; --none: #505a64;
  --good-wash: #e3f3ec; --bad-wash: #fbe6e8; --warn-wash: #fbf0d9; --none-wash: #eceff2; --new-wash: #dceafa; --legacy-wash: #fbe9d5;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    color-scheme: dark;
    --page: #14181c; --panel: #1c2227; --ink: #e8ecef; --soft: #a7b1ba; --line: #38414a; --grid: #2a3138;
    --new: #6db3ff; --legacy: #f0a049; --mark: #e8ecef;
    --good: #4ce6a6; --bad: #ff6666; --warn: #e29d36; --none: #a7b1ba;
    --good-wash: #16332a; --bad-wash: #44202a; --warn-wash: #3a2f14; --none-wash: #2a3138; --new-wash: #17324f; --legacy-wash: #42301a;
  }
}
* { box-sizing: border-box; }
html { font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "DejaVu Sans", sans-serif; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); }
header, main, footer { max-width: 68rem; margin: 0 auto; padding: 0 1.5rem; }
h1, h2, h3, p, ul, dl, dd, figure, table { margin: 0; padding: 0; }
h1, h2, h3 { line-height: 1.25; text-wrap: balance; }
bdi, td, th, dd, code { unicode-bidi: isolate; }
code { font: 0.875em/1.45 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
a { color: inherit; }
:focus-visible { outline: 2px solid var(--new); outline-offset: 2px; }

header { padding-top: 2.25rem; }
.kicker { color: var(--soft); font-size: 0.9375rem; overflow-wrap: anywhere; }
.kicker b { color: var(--ink); }
.verdict { margin: 0.75rem 0 0; padding: 1.5rem 1.75rem; border-radius: 0.75rem; border-left: 0.5rem solid; }
.verdict h1 { font-size: 1.75rem; letter-spacing: -0.01em; display: flex; gap: 0.75rem; align-items: baseline; overflow-wrap: anywhere; }
.verdict p { margin-top: 0.6rem; max-width: 58rem; overflow-wrap: anywhere; }
.verdict .then { font-weight: 600; }
.verdict code { display: inline-block; margin-top: 0.75rem; padding: 0.35rem 0.6rem; background: var(--page); border: 1px solid var(--line); border-radius: 0.375rem; overflow-wrap: anywhere; }
.verdict.yes { background: var(--good-wash); border-color: var(--good); } .verdict.yes .sign { color: var(--good); }
.verdict.no { background: var(--bad-wash); border-color: var(--bad); } .verdict.no .sign { color: var(--bad); }
.verdict.unknown { background: var(--warn-wash); border-color: var(--warn); } .verdict.unknown .sign { color: var(--warn); }
.verdict.over { background: var(--none-wash); border-color: var(--none); } .verdict.over .sign { color: var(--none); }

.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.75rem, 1fr)); margin: 1.25rem 0 0; border: 1px solid var(--line); border-radius: 0.75rem; overflow: hidden; }
.facts div { padding: 0.8rem 0.9rem; box-shadow: 0 0 0 1px var(--line); }
.facts dt { color: var(--soft); font-size: 0.8125rem; }
.facts dd { font-size: 1.375rem; font-weight: 600; line-height: 1.3; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.facts small, td small { display: block; font-size: 0.8125rem; font-weight: 400; color: var(--soft); }
nav ul { display: flex; flex-wrap: wrap; gap: 0.25rem 1.1rem; list-style: none; margin-top: 1.1rem; font-size: 0.9375rem; }
nav a { color: var(--soft); text-decoration-color: var(--line); text-underline-offset: 0.25em; }

section { margin-top: 2.5rem; padding-top: 1.5rem; border-top: 1px solid var(--line); scroll-margin-top: 1rem; }
h2 { font-size: 1.3125rem; }
h3 { font-size: 1rem; overflow-wrap: anywhere; }
.lead { color: var(--soft); max-width: 58rem; margin-top: 0.35rem; overflow-wrap: anywhere; }
.empty { color: var(--soft); margin-top: 0.9rem; padding: 1rem 1.25rem; background: var(--panel); border-radius: 0.5rem; }
figure { margin-top: 1.5rem; }
figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0.15rem 1.5rem; align-items: baseline; margin-bottom: 0.35rem; }
.legend { display: flex; flex-wrap: wrap; gap: 0 1rem; list-style: none; font-size: 0.8125rem; color: var(--soft); }
.legend li { white-space: nowrap; } .legend .prose { white-space: normal; } .legend svg { margin-right: 0.35rem; vertical-align: baseline; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 0 2rem; }
.pair > * { min-width: 0; }

svg { display: block; overflow: visible; } figure > svg > svg { overflow: hidden; } .legend svg { display: inline-block; }
path, line, rect { vector-effect: non-scaling-stroke; }
.grid line { stroke: var(--grid); } .grid .when { stroke-dasharray: 2 3; }
svg text { font-size: 12px; fill: var(--soft); stroke: var(--page); stroke-width: 3px; stroke-linejoin: round; paint-order: stroke; font-variant-numeric: tabular-nums; }
svg text.in { stroke: none; fill: var(--ink); } svg text.strong { fill: var(--ink); font-weight: 600; } svg text.bad { fill: var(--bad); font-weight: 600; }
.l-new, .l-legacy, .l-mark { fill: none; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
.l-new { stroke: var(--new); } .l-legacy { stroke: var(--legacy); stroke-dasharray: 5 4; } .l-mark { stroke: var(--mark); stroke-width: 1.5; }
.l-back { fill: none; stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 2 2; }
.l-new.thin, .l-legacy.thin { stroke-width: 1; }
.r-new, .r-legacy { stroke-width: 2; stroke: var(--new); } .r-legacy { stroke: var(--legacy); stroke-dasharray: 5 3; }
.a-new { fill: var(--new-wash); stroke: none; } .a-band { fill: var(--line); stroke: none; }
path.a-new, path.a-band { stroke-width: 8; } .legend path.a-new { stroke: var(--new-wash); } .legend path.a-band { stroke: var(--line); }
.b-good, .b-bad, .b-warn, .b-none, .b-new, .b-legacy { stroke-width: 8; }
.b-good { fill: var(--good); stroke: var(--good); } .b-bad { fill: var(--bad); stroke: var(--bad); } .b-warn { fill: var(--warn); stroke: var(--warn); }
.b-none { fill: var(--none); stroke: var(--none); } .b-new { fill: var(--new); stroke: var(--new); } .b-legacy { fill: var(--legacy); stroke: var(--legacy); }
rect.b-good, rect.b-bad, rect.b-warn, rect.b-none, rect.b-new, rect.b-legacy { stroke: none; }
.s-off, .s-dualwrite, .s-shadow, .s-live, .s-rampdown, .s-complete { stroke: var(--page); stroke-width: 1; fill: var(--none-wash); }
.s-dualwrite { fill: var(--legacy-wash); } .s-shadow { fill: var(--none-wash); } .s-live, .s-rampdown { fill: var(--new-wash); } .s-complete { fill: var(--good-wash); }
.k-dualwrite, .k-shadow, .k-live { stroke-width: 10; } .k-dualwrite { stroke: var(--legacy-wash); } .k-shadow { stroke: var(--none-wash); } .k-live { stroke: var(--new-wash); }
.p-paused { fill: var(--warn); } .p-degraded { fill: var(--bad); } .p-waiting_approval { fill: var(--none); }
.d-new { fill: var(--new); } .d-legacy { fill: var(--page); stroke: var(--legacy); stroke-width: 2; }

details { margin-top: 0.35rem; font-size: 0.875rem; }
summary { color: var(--soft); cursor: pointer; width: fit-content; font-size: 0.8125rem; }
.scroll { overflow-x: auto; margin-top: 1rem; max-width: 100%; } details .scroll { margin-top: 0.5rem; max-height: 22rem; overflow-y: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.875rem; }
caption { text-align: left; font-weight: 600; padding-bottom: 0.35rem; font-size: 0.9375rem; }
figure caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 0.8125rem; white-space: nowrap; vertical-align: bottom; }
th, td { padding: 0.4rem 0.9rem 0.4rem 0; border-bottom: 1px solid var(--grid); } thead th { border-bottom-color: var(--line); }
th:last-child, td:last-child { padding-right: 0; }
td { vertical-align: top; overflow-wrap: break-word; max-width: 20rem; } td.w { min-width: 13rem; overflow-wrap: anywhere; } td time, td.k { white-space: nowrap; } td.k { max-width: 24rem; overflow: hidden; text-overflow: ellipsis; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td code { overflow-wrap: anywhere; white-space: pre-wrap; } td.k code { white-space: nowrap; } td .was { color: var(--legacy); } td .is { color: var(--new); }
tr.hot td { background: var(--bad-wash); }
.badge { display: inline-flex; gap: 0.35em; align-items: baseline; padding: 0 0.5em; border-radius: 1em; font-size: 0.8125rem; font-weight: 600; white-space: nowrap; background: var(--none-wash); color: var(--none); }
.badge.good { background: var(--good-wash); color: var(--good); } .badge.bad { background: var(--bad-wash); color: var(--bad); } .badge.warn { background: var(--warn-wash); color: var(--warn); }
.range { width: 100%; min-width: 9rem; height: 14px; margin-top: 0.2rem; } .strip { width: 100%; min-width: 7rem; height: 14px; margin-top: 0.2rem; } .meter { margin-top: 0.35rem; }
.meter { width: 100%; min-width: 8rem; height: 10px; } .meter .track { fill: var(--grid); }
.score { margin-top: 0.75rem; }
footer { margin-top: 3rem; padding-top: 1rem; padding-bottom: 3rem; color: var(--soft); font-size: 0.8125rem; border-top: 1px solid var(--line); }

@media (max-width: 40rem) {
  header, main, footer { padding-left: 1rem; padding-right: 1rem; }
  header { padding-top: 1.25rem; }
  .verdict { padding: 1.1rem 1.1rem; border-left-width: 0.375rem; } .verdict h1 { font-size: 1.375rem; }
  .facts { grid-template-columns: repeat(2, minmax(0, 1fr)); } .facts dd { font-size: 1.1875rem; }
  svg text.less { display: none; }
  section { margin-top: 2rem; }
}
@media print {
  html { font-size: 11px; }
  header, main, footer { max-width: none; padding: 0; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  nav, summary { display: none; }
  details { display: block; } details::details-content { display: block; content-visibility: visible; block-size: auto; }
  details .scroll { max-height: none; overflow: visible; margin-top: 0.25rem; } details table { font-size: 0.8rem; } details th, details td { padding-top: 0.1rem; padding-bottom: 0.1rem; }
  figure caption { position: static; width: auto; height: auto; clip-path: none; font-size: 0.8rem; padding: 0; }
  section { margin-top: 1.5rem; padding-top: 1rem; } h2, figcaption, caption { break-after: avoid; } figure > svg, tr, .verdict, .facts { break-inside: avoid; } figcaption + svg { break-before: avoid; }
  .scroll { overflow: visible; }
  @page { margin: 16mm 14mm; }
}
') $css$;
COMMENT ON FUNCTION tandem.report_css IS 'The style sheet of report()';
