#include "ledger.hpp"

namespace stress {

void upload(Connection& connection, const Ledger& ledger) {
    connection.query(
        "CREATE TEMPORARY TABLE acknowledged (task_id uuid NOT NULL, version bigint, operation text NOT NULL,"
        " state text, lease_token bigint, increment integer NOT NULL, idem_key text, is_new boolean NOT NULL)");
    std::vector<std::string> lines;
    lines.reserve(ledger.size());
    for (const Entry& entry : ledger) { // ids, numbers and our own words: nothing that COPY would need escaped
        lines.push_back(entry.task_id + '\t' + std::to_string(entry.version) + '\t' + entry.operation + '\t' +
                        entry.state + '\t' + (entry.lease_token == 0 ? "\\N" : std::to_string(entry.lease_token)) +
                        '\t' + std::to_string(entry.increment) + '\t' +
                        (entry.idem_key.empty() ? "\\N" : entry.idem_key) + '\t' + (entry.is_new ? "t" : "f") + '\n');
    }
    connection.copy_in("COPY acknowledged FROM STDIN", lines);
    connection.query("CREATE INDEX ON acknowledged (task_id, version); ANALYZE acknowledged");
}

} // namespace stress
