#include "task_client.hpp"

#include <chrono>

namespace stress {

namespace {

using Clock = std::chrono::steady_clock;

std::string counter_patch(std::int64_t counter) {
    return "{\"counter\": " + std::to_string(counter) + "}";
}
std::string milliseconds(int ms) {
    return std::to_string(ms) + " ms";
}

Connection timed_connection(const std::string& conninfo, const std::string& name, Statistics& statistics) {
    const auto begun = Clock::now();
    try {
        Connection connection(conninfo, name);
        statistics.answered(Operation::connect, Clock::now() - begun);
        return connection;
    } catch (const SqlError& error) {
        statistics.error(Operation::connect, error.sqlstate(), error.what());
        throw;
    }
}

} // namespace

TaskClient::TaskClient(const std::string& conninfo, const std::string& name, Statistics& statistics)
    : statistics_(&statistics), connection_(timed_connection(conninfo, name, statistics)) {
    connection_.prepare("create", "SELECT id, version, created FROM tandem.task_create($1, $2::jsonb, $3, $4)");
    connection_.prepare(
        "read", "SELECT version, state, coalesce((payload->>'counter')::bigint, 0) FROM tandem.task WHERE id = $1");
    connection_.prepare("cas", "SELECT ok, version, state FROM tandem.task_cas($1, $2, $3, $4::jsonb)");
    connection_.prepare("cas_strict", "SELECT tandem.task_cas_strict($1, $2, $3, $4::jsonb)");
    connection_.prepare("cas_many",
                        "SELECT id, ok, version, state FROM tandem.task_cas_many($1::uuid[], $2::bigint[], $3::text[],"
                        " $4::jsonb[], $5)");
    connection_.prepare(
        "claim", "SELECT id, version, lease_token, payload FROM tandem.task_claim($1, $2::text[], $3, $4::interval)");
    connection_.prepare("heartbeat",
                        "SELECT lost FROM tandem.task_heartbeat($1, $2::uuid[], $3::bigint[], $4::interval) AS lost");
    connection_.prepare("finish", "SELECT ok, version FROM tandem.task_finish($1, $2, $3, $4::jsonb)");
}

template <class Call>
Result TaskClient::timed(Operation operation, Call&& call) {
    const auto begun = Clock::now();
    try {
        Result result = call();
        statistics_->answered(operation, Clock::now() - begun);
        return result;
    } catch (const SqlError& error) {
        const std::string& sqlstate = error.sqlstate();
        // The strict variant says no by these: answers, not errors.
        if (operation == Operation::cas_strict && sqlstate.starts_with("PT4")) {
            statistics_->answered(operation, Clock::now() - begun);
            statistics_->conflict(operation);
        } else if (sqlstate == "57014" && operation == Operation::cas) {
            statistics_->cancelled(operation); // cas_interrupted
        } else {
            statistics_->error(operation, sqlstate, error.what());
        }
        throw;
    }
}

void TaskClient::note(Entry entry) {
    statistics_->changed(1);
    ledger_.push_back(std::move(entry));
}

Answer TaskClient::accept(Operation operation, const Result& result, const std::string& id, const char* state,
                          int increment) {
    Answer answer;
    answer.ok = result.rows() == 1 && result.truth(0, 0);
    answer.version = result.rows() == 1 ? result.number(0, 1) : 0;
    if (answer.ok) {
        note({.task_id = id, .version = answer.version, .operation = "cas", .state = state, .increment = increment});
    } else {
        statistics_->conflict(operation);
    }
    return answer;
}

Created TaskClient::create(const std::string& kind, const std::string& payload, const std::string& idem_key,
                           const std::string& severity) {
    const Result result = timed(Operation::create, [&] {
        return connection_.execute("create",
                                   {kind, payload, idem_key.empty() ? Parameter() : Parameter(idem_key), severity});
    });
    Created created{.id = result.text(0, 0), .version = result.number(0, 1), .is_new = result.truth(0, 2)};
    if (created.is_new) {
        statistics_->changed(1);
    } else {
        statistics_->conflict(Operation::create);
    }
    ledger_.push_back({.task_id = created.id,
                       .version = created.version,
                       .operation = "create",
                       .state = "pending",
                       .idem_key = idem_key,
                       .is_new = created.is_new});
    return created;
}

std::optional<Seen> TaskClient::read(const std::string& id) {
    const Result result = timed(Operation::read, [&] { return connection_.execute("read", {id}); });
    if (result.rows() == 0) {
        return std::nullopt;
    }
    return Seen{.version = result.number(0, 0), .state = result.text(0, 1), .counter = result.number(0, 2)};
}

Answer TaskClient::cas(const std::string& id, const Seen& seen, const char* state) {
    const Result result = timed(Operation::cas, [&] {
        return connection_.execute("cas", {id, std::to_string(seen.version), state, counter_patch(seen.counter + 1)});
    });
    Answer answer = accept(Operation::cas, result, id, state, 1);
    answer.state = result.rows() == 1 ? result.text(0, 2) : "";
    return answer;
}

std::optional<Answer> TaskClient::cas_interrupted(const std::string& id, const Seen& seen, const char* state) {
    try {
        const Result result = timed(Operation::cas, [&] {
            return connection_.execute_and_cancel(
                "cas", {id, std::to_string(seen.version), state, counter_patch(seen.counter + 1)});
        });
        return accept(Operation::cas, result, id, state, 1);
    } catch (const SqlError& error) {
        if (error.sqlstate() == "57014") {
            return std::nullopt;
        }
        throw;
    }
}

Answer TaskClient::cas_strict(const std::string& id, const Seen& seen, const char* state) {
    try {
        const Result result = timed(Operation::cas_strict, [&] {
            return connection_.execute("cas_strict",
                                       {id, std::to_string(seen.version), state, counter_patch(seen.counter + 1)});
        });
        const std::int64_t version = result.number(0, 0);
        note({.task_id = id, .version = version, .operation = "cas", .state = state, .increment = 1});
        return {.ok = true, .version = version, .state = state, .sqlstate = ""};
    } catch (const SqlError& error) {
        if (error.sqlstate().starts_with("PT4")) {
            return {.ok = false, .version = 0, .state = "", .sqlstate = error.sqlstate()};
        }
        throw;
    }
}

std::vector<Answer> TaskClient::cas_many(const std::vector<Change>& changes, bool atomic) {
    std::vector<std::string> ids, expected, states, patches;
    for (const Change& change : changes) {
        ids.push_back(change.id);
        expected.push_back(std::to_string(change.expected));
        states.push_back(change.state);
        patches.push_back(counter_patch(change.counter));
    }
    const Result result = timed(Operation::cas_many, [&] {
        return connection_.execute("cas_many", {array_literal(ids), array_literal(expected), array_literal(states),
                                                array_literal(patches), atomic ? "true" : "false"});
    });
    std::vector<Answer> answers(changes.size());
    bool any = false, all = true;
    for (std::size_t i = 0; i < changes.size(); ++i) {
        for (int row = 0; row < result.rows(); ++row) { // found by id: the order of the answers is nobody's promise
            if (result.text(row, 0) != changes[i].id) {
                continue;
            }
            answers[i] = {.ok = result.truth(row, 1),
                          .version = result.number(row, 2),
                          .state = result.text(row, 3),
                          .sqlstate = ""};
            if (answers[i].ok) {
                // The state stands in the caller's changes; the ledger only needs one that lives on.
                note({.task_id = changes[i].id, .version = answers[i].version, .operation = "cas", .increment = 1});
            }
        }
        any = any || answers[i].ok;
        all = all && answers[i].ok;
    }
    if (!all) {
        statistics_->conflict(Operation::cas_many);
    }
    if (static_cast<std::size_t>(result.rows()) != changes.size()) {
        statistics_->violation("cas_many answers for each id",
                               std::to_string(changes.size()) + " ids, " + std::to_string(result.rows()) + " rows");
    }
    if (atomic && any && !all) {
        statistics_->violation("an atomic task_cas_many does all or nothing",
                               "some of its rows were accepted, some were not");
    }
    return answers;
}

std::vector<Claimed> TaskClient::claim(const std::string& worker, const std::vector<std::string>& kinds, int count,
                                       int lease_ms) {
    const Result result = timed(Operation::claim, [&] {
        return connection_.execute("claim",
                                   {worker, array_literal(kinds), std::to_string(count), milliseconds(lease_ms)});
    });
    std::vector<Claimed> claimed;
    for (int row = 0; row < result.rows(); ++row) {
        claimed.push_back({.id = result.text(row, 0),
                           .version = result.number(row, 1),
                           .lease_token = result.number(row, 2),
                           .payload = result.text(row, 3)});
        note({.task_id = claimed.back().id,
              .version = claimed.back().version,
              .operation = "claim",
              .state = "claimed",
              .lease_token = claimed.back().lease_token});
    }
    return claimed;
}

std::vector<std::string> TaskClient::heartbeat(const std::string& worker, const std::vector<Claimed>& held,
                                               int lease_ms) {
    std::vector<std::string> ids, tokens, lost;
    for (const Claimed& task : held) {
        ids.push_back(task.id);
        tokens.push_back(std::to_string(task.lease_token));
    }
    const Result result = timed(Operation::heartbeat, [&] {
        return connection_.execute("heartbeat",
                                   {worker, array_literal(ids), array_literal(tokens), milliseconds(lease_ms)});
    });
    for (int row = 0; row < result.rows(); ++row) {
        lost.push_back(result.text(row, 0));
    }
    if (!lost.empty()) {
        statistics_->conflict(Operation::heartbeat);
    }
    return lost;
}

Answer TaskClient::finish(const Claimed& task, const char* state) {
    const Result result = timed(Operation::finish, [&] {
        return connection_.execute("finish",
                                   {task.id, std::to_string(task.lease_token), state, "{\"by\": \"stress\"}"});
    });
    Answer answer;
    answer.ok = result.rows() == 1 && result.truth(0, 0);
    answer.version = result.rows() == 1 ? result.number(0, 1) : 0;
    if (answer.ok) {
        note({.task_id = task.id,
              .version = answer.version,
              .operation = "finish",
              .state = state,
              .lease_token = task.lease_token});
    } else {
        statistics_->conflict(Operation::finish);
    }
    return answer;
}

void TaskClient::begin() {
    connection_.query("BEGIN");
    begun_at_ = ledger_.size();
    in_transaction_ = true;
}

void TaskClient::savepoint() {
    connection_.query("SAVEPOINT s");
    savepoint_at_ = ledger_.size();
}

void TaskClient::rollback_to_savepoint() {
    connection_.query("ROLLBACK TO SAVEPOINT s");
    ledger_.resize(savepoint_at_);
}

void TaskClient::commit() {
    connection_.query("COMMIT");
    in_transaction_ = false;
}

void TaskClient::rollback() {
    ledger_.resize(begun_at_);
    in_transaction_ = false;
    connection_.query("ROLLBACK");
}

void TaskClient::recover() {
    if (in_transaction_) {
        rollback();
    }
}

} // namespace stress
