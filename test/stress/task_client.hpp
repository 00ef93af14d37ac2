// The functions of the task surface, called through libpq, timed, and written into the thread's ledger when they were
// acknowledged.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "connection.hpp"
#include "ledger.hpp"
#include "statistics.hpp"

namespace stress {

struct Seen { // a task as it was read
    std::int64_t version = 0;
    std::string state;
    std::int64_t counter = 0;
};

struct Answer {
    bool ok = false;
    std::int64_t version = 0;
    std::string state;    // where the function tells it
    std::string sqlstate; // of task_cas_strict, where it refused
};

struct Created {
    std::string id;
    std::int64_t version = 0;
    bool is_new = false;
};

struct Claimed {
    std::string id;
    std::int64_t version = 0;
    std::int64_t lease_token = 0;
    std::string payload;
};

struct Change { // one element of task_cas_many
    std::string id;
    std::int64_t expected = 0;
    std::string state;
    std::int64_t counter = 0; // to be written
};

class TaskClient {
  public:
    TaskClient(const std::string& conninfo, const std::string& name, Statistics& statistics);

    Created create(const std::string& kind, const std::string& payload, const std::string& idem_key = "",
                   const std::string& severity = "normal");
    std::optional<Seen> read(const std::string& id);
    // Writes counter + 1 where the version is still what was seen.
    Answer cas(const std::string& id, const Seen& seen, const char* state);
    Answer cas_strict(const std::string& id, const Seen& seen, const char* state);
    std::vector<Answer> cas_many(const std::vector<Change>& changes, bool atomic);
    std::vector<Claimed> claim(const std::string& worker, const std::vector<std::string>& kinds, int count,
                               int lease_ms);
    // The ids that the worker holds no more.
    std::vector<std::string> heartbeat(const std::string& worker, const std::vector<Claimed>& held, int lease_ms);
    Answer finish(const Claimed& task, const char* state);
    // As cas(), but the statement is interrupted at once: done, or nothing. An answer where it was done.
    std::optional<Answer> cas_interrupted(const std::string& id, const Seen& seen, const char* state);

    // Several calls as one transaction: the ledger keeps them when it commits.
    void begin();
    void savepoint();
    void rollback_to_savepoint();
    void commit();
    void rollback();
    void recover(); // out of a transaction that an error broke

    Ledger& ledger() { return ledger_; }
    Statistics& statistics() { return *statistics_; }
    bool is_lost() const { return connection_.is_lost(); }

  private:
    template <class Call>
    Result timed(Operation operation, Call&& call);
    Answer accept(Operation operation, const Result& result, const std::string& id, const char* state, int increment);
    void note(Entry entry);

    Statistics* statistics_;
    Connection connection_;
    Ledger ledger_;
    std::size_t begun_at_ = 0, savepoint_at_ = 0; // how long the ledger was then
    bool in_transaction_ = false;
};

} // namespace stress
