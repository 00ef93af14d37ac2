#include "invariants.hpp"

#include <array>

namespace stress {

namespace {

struct Query {
    const char* invariant;
    const char* evidence; // SQL: one text for each violation
};

// All see one snapshot: mine (this run's tasks), recorded (their events), late (tasks that are, and since when),
// acknowledged (the ledgers).
constexpr std::array kQueries{
    Query{"no lost update: the counter is the sum of the acknowledged increments",
          "SELECT format('%s: counter %s, acknowledged %s', m.id, m.payload->>'counter', a.sum)"
          "  FROM mine AS m JOIN (SELECT task_id, sum(increment) FROM acknowledged GROUP BY task_id) AS a ON a.task_id "
          "= m.id"
          " WHERE coalesce((m.payload->>'counter')::bigint, 0) <> a.sum"},
    Query{"one winner: no version was acknowledged to two clients",
          "SELECT format('%s version %s: %s', task_id, version, string_agg(operation, ', ')) FROM acknowledged"
          " WHERE operation <> 'create' OR is_new GROUP BY task_id, version HAVING count(*) > 1"},
    Query{"nothing acknowledged is lost: each change has its event",
          "SELECT format('%s version %s (%s)', a.task_id, a.version, a.operation) FROM acknowledged AS a"
          " WHERE (a.operation <> 'create' OR a.is_new)"
          "   AND NOT EXISTS (SELECT FROM recorded AS r WHERE r.task_id = a.task_id AND r.version = a.version)"},
    Query{"version = number of accepted changes = number of events",
          "SELECT format('%s: version %s, %s events, versions %s to %s (%s different)', m.id, m.version, r.n, r.first, "
          "r.last, r.versions)"
          "  FROM mine AS m LEFT JOIN (SELECT task_id, count(*) AS n, count(DISTINCT version) AS versions, "
          "min(version) AS first,"
          "                                   max(version) AS last FROM recorded WHERE version IS NOT NULL GROUP BY "
          "task_id) AS r"
          "    ON r.task_id = m.id"
          " WHERE (m.version, m.version, 1::bigint, m.version) IS DISTINCT FROM (r.n, r.versions, r.first, r.last)"},
    Query{"the last event tells the state",
          "SELECT format('%s is %s, its last event says %s', m.id, m.state, r.state) FROM mine AS m JOIN recorded AS r"
          "    ON r.task_id = m.id AND r.version = m.version WHERE r.state IS DISTINCT FROM m.state"},
    Query{"every acknowledged task is there, and no other",
          "SELECT format('%s', coalesce(a.task_id, m.id)) FROM (SELECT task_id FROM acknowledged WHERE operation = "
          "'create' AND is_new)"
          " AS a FULL JOIN mine AS m ON m.id = a.task_id WHERE a.task_id IS NULL OR m.id IS NULL"},
    Query{"idempotency: one task for each key, made once",
          "SELECT format('%s: %s tasks, made %s times', idem_key, count(DISTINCT task_id), count(*) FILTER (WHERE "
          "is_new))"
          "  FROM acknowledged WHERE idem_key IS NOT NULL GROUP BY idem_key"
          " HAVING count(DISTINCT task_id) <> 1 OR count(*) FILTER (WHERE is_new) <> 1"
          " UNION ALL SELECT format('%s: %s rows', idem_key, count(*)) FROM mine WHERE idem_key IS NOT NULL"
          " GROUP BY kind, idem_key HAVING count(*) > 1"},
    Query{"no double finish", "SELECT format('%s was finished %s times', task_id, count(*)) FROM acknowledged"
                              " WHERE operation = 'finish' AND state = 'done' GROUP BY task_id HAVING count(*) > 1"
                              " UNION ALL SELECT format('%s became done %s times', task_id, count(DISTINCT version)) "
                              "FROM recorded WHERE state = 'done'"
                              " GROUP BY task_id HAVING count(DISTINCT version) > 1"},
    Query{
        "fencing: only the last claim's lease finishes",
        "SELECT format('%s: finished by lease %s after a claim with %s', f.task_id, f.lease_token, c.lease_token)"
        "  FROM acknowledged AS f LEFT JOIN LATERAL (SELECT c.lease_token FROM acknowledged AS c WHERE c.task_id = "
        "f.task_id"
        "       AND c.operation = 'claim' AND c.version < f.version ORDER BY c.version DESC LIMIT 1) AS c ON true"
        " WHERE f.operation = 'finish' AND f.lease_token IS DISTINCT FROM c.lease_token"
        " UNION ALL SELECT format('%s: lease %s was given %s times', task_id, lease_token, count(*)) FROM acknowledged"
        " WHERE operation = 'claim' GROUP BY task_id, lease_token HAVING count(*) > 1"},
    Query{"breaches = late tasks",
          "SELECT format('%s %s due at %s: %s', coalesce(l.task_id, b.task_id), coalesce(l.which, b.which), "
          "coalesce(l.due_at, b.due_at),"
          "              CASE WHEN b.task_id IS NULL THEN 'late, and no breach' ELSE 'a breach, and not late' END)"
          "  FROM late AS l FULL JOIN breach AS b ON (b.task_id, b.which, b.due_at) = (l.task_id, l.which, l.due_at)"
          " WHERE l.task_id IS NULL OR b.task_id IS NULL"},
    Query{"one breach for each deadline", "SELECT format('%s %s: %s breaches', task_id, which, count(*)) FROM breach "
                                          "GROUP BY task_id, which HAVING count(*) > 1"},
    Query{"no breach is detected before it is due", "SELECT format('%s %s: due at %s, detected at %s', task_id, which, "
                                                    "due_at, detected_at) FROM breach WHERE detected_at < due_at"},
    Query{
        "ready rows = tasks that can be claimed",
        "SELECT format('%s is %s, and %s in task_ready', coalesce(m.id, r.task_id), m.state,"
        "              CASE WHEN r.task_id IS NULL THEN 'not' ELSE 'otherwise' END)"
        "  FROM (SELECT * FROM mine WHERE state = 'pending' OR (state = 'failed' AND attempt < max_attempts)"
        "           OR (state = 'escalated' AND lease_until IS NULL)) AS m"
        "  FULL JOIN (SELECT r.* FROM tandem.task_ready AS r JOIN mine ON mine.id = r.task_id) AS r ON r.task_id = m.id"
        " WHERE (r.tenant, r.kind, r.priority, r.run_at) IS DISTINCT FROM (m.tenant, m.kind, m.priority, m.run_at)"
        " UNION ALL SELECT format('%s has %s rows in task_ready', task_id, count(*)) FROM tandem.task_ready GROUP BY "
        "task_id HAVING count(*) > 1"
        " UNION ALL SELECT format('%s stands in task_ready and nowhere else', task_id) FROM tandem.task_ready AS r"
        " WHERE NOT EXISTS (SELECT FROM tandem.task AS t WHERE t.id = r.task_id)"},
    Query{
        "deadline rows = open deadlines",
        "SELECT format('%s is %s: start %s finish %s lease %s, in task_deadline %s %s %s', coalesce(m.id, d.task_id), "
        "m.state, m.start_open,"
        "              m.finish_open, m.lease_until, d.start_due, d.finish_due, d.lease_due)"
        "  FROM (SELECT * FROM (SELECT id, state, lease_until,"
        "                 CASE WHEN started_at IS NULL AND finished_at IS NULL AND (id, 'start') NOT IN (SELECT "
        "task_id, which FROM breach)"
        "                      THEN start_due END AS start_open,"
        "                 CASE WHEN finished_at IS NULL AND (id, 'finish') NOT IN (SELECT task_id, which FROM breach)"
        "                      THEN finish_due END AS finish_open FROM mine) AS o"
        "         WHERE num_nonnulls(start_open, finish_open, lease_until) > 0) AS m"
        "  FULL JOIN (SELECT d.* FROM tandem.task_deadline AS d JOIN mine ON mine.id = d.task_id) AS d ON d.task_id = "
        "m.id"
        " WHERE (d.start_due, d.finish_due, d.lease_due) IS DISTINCT FROM (m.start_open, m.finish_open, m.lease_until)"
        " UNION ALL SELECT format('%s stands in task_deadline and nowhere else', task_id) FROM tandem.task_deadline AS "
        "d"
        " WHERE NOT EXISTS (SELECT FROM tandem.task AS t WHERE t.id = d.task_id)"},
    Query{"no task in limbo", "SELECT format('%s is %s, attempt %s of %s, lease until %s', id, state, attempt, "
                              "max_attempts, lease_until) FROM mine"
                              " WHERE kind = ANY (current_setting('stress.claimed_kinds')::text[]) AND (finished_at IS "
                              "NULL OR lease_until IS NOT NULL"
                              "        OR state NOT IN ('done', 'dead', 'cancelled'))"},
    Query{"what always fails ends as a dead letter",
          "SELECT format('%s is %s after %s attempts', id, state, attempt) FROM mine WHERE payload ? 'poison' AND "
          "(state <> 'dead' OR attempt <> max_attempts)"},
    Query{"what was rolled back left nothing", "SELECT id::text FROM mine WHERE payload ? 'undone'"},
    Query{"the audit chain is whole",
          "SELECT format('the first bad event is %s', first_bad) FROM tandem.audit_verify() WHERE NOT ok"},
};

void prepare(Connection& connection, const World& world) {
    connection.query("BEGIN ISOLATION LEVEL REPEATABLE READ");
    std::vector<std::string> claimed = world.queue_kinds(), all;
    claimed.insert(claimed.end(), {world.sla, world.alarm});
    all = claimed;
    all.push_back(world.hot);
    connection.query("SET LOCAL statement_timeout = '10min'");
    connection.execute("SELECT set_config('stress.claimed_kinds', $1, true)", {array_literal(claimed)}, false);
    connection.query("CREATE TEMPORARY TABLE mine AS SELECT * FROM tandem.task WHERE kind = ANY ('" +
                     array_literal(all) + "')");
    connection.query(
        "CREATE UNIQUE INDEX ON mine (id); ANALYZE mine;"
        "CREATE TEMPORARY TABLE recorded AS SELECT e.* FROM tandem.event AS e JOIN mine ON mine.id = e.task_id;"
        "CREATE INDEX ON recorded (task_id, version); ANALYZE recorded;"
        "CREATE TEMPORARY TABLE breach AS SELECT b.task_id, b.which, b.due_at, b.detected_at FROM tandem.sla_breaches "
        "AS b"
        "  JOIN mine ON mine.id = b.task_id;"
        "CREATE TEMPORARY TABLE late AS"
        "  SELECT id AS task_id, 'start' AS which, start_due AS due_at FROM mine"
        "   WHERE start_due < coalesce(started_at, finished_at, clock_timestamp())"
        "  UNION ALL SELECT id, 'finish', finish_due FROM mine WHERE finish_due < coalesce(finished_at, "
        "clock_timestamp());");
}

} // namespace

Checked check(Connection& connection, const World& world, const Ledger& ledger, const Statistics& seen) {
    Checked checked;
    upload(connection, ledger);
    prepare(connection, world);
    for (const Query& query : kQueries) {
        const std::string sql =
            std::string("SELECT count(*), coalesce(min(evidence), '') FROM (") + query.evidence + ") AS v (evidence)";
        connection.query("SAVEPOINT invariant");
        try {
            const Result result = connection.query(sql);
            checked.verdicts.push_back({.invariant = query.invariant,
                                        .violations = static_cast<std::uint64_t>(result.number(0, 0)),
                                        .evidence = result.text(0, 1)});
        } catch (const SqlError& error) { // what can't be checked does not hold
            checked.verdicts.push_back({.invariant = query.invariant, .violations = 1, .evidence = error.what()});
            connection.query("ROLLBACK TO SAVEPOINT invariant");
        }
    }
    for (const auto& [invariant, found] : seen.violations()) {
        checked.verdicts.push_back({.invariant = invariant, .violations = found.size(), .evidence = found.front()});
    }
    const Result breaches = connection.query("SELECT count(*), coalesce(percentile_disc(0.5) WITHIN GROUP (ORDER BY "
                                             "ms), 0), coalesce(percentile_disc(0.99) WITHIN GROUP"
                                             " (ORDER BY ms), 0), coalesce(max(ms), 0) FROM (SELECT 1000 * "
                                             "extract(epoch FROM detected_at - due_at) AS ms FROM breach) AS b");
    checked.breaches = {.breaches = static_cast<std::uint64_t>(breaches.number(0, 0)),
                        .p50_ms = breaches.real(0, 1),
                        .p99_ms = breaches.real(0, 2),
                        .max_ms = breaches.real(0, 3)};
    const Result counts = connection.query("SELECT (SELECT count(*) FROM mine), (SELECT count(*) FROM recorded)");
    checked.tasks = static_cast<std::uint64_t>(counts.number(0, 0));
    checked.events = static_cast<std::uint64_t>(counts.number(0, 1));
    connection.query("ROLLBACK");
    return checked;
}

} // namespace stress
