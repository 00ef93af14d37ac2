// A thread's own record of what the server acknowledged. At the end all of them are copied into a temporary table of
// the server, where they are compared with what is stored.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "connection.hpp"

namespace stress {

struct Entry {
    std::string task_id;
    std::int64_t version = 0;     // after the change
    const char* operation = "";   // create, cas, claim, finish
    const char* state = "";       // after the change
    std::int64_t lease_token = 0; // 0: none
    int increment = 0;            // of payload.counter
    std::string idem_key{};
    bool is_new = false; // created: true
};

using Ledger = std::vector<Entry>;

// The temporary table "acknowledged" of this session.
void upload(Connection& connection, const Ledger& ledger);

} // namespace stress
