// What must be true at the end, each as a query over what is stored and what the server acknowledged.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "connection.hpp"
#include "ledger.hpp"
#include "statistics.hpp"
#include "world.hpp"

namespace stress {

struct Verdict {
    std::string invariant;
    std::uint64_t violations = 0;
    std::string evidence; // the first of them
};

struct BreachFigures { // detected_at - due_at
    std::uint64_t breaches = 0;
    double p50_ms = 0, p99_ms = 0, max_ms = 0;
};

struct Checked {
    std::vector<Verdict> verdicts;
    BreachFigures breaches;
    std::uint64_t tasks = 0, events = 0;
};

// `seen`: what threads saw while they were at work; each is a verdict too.
Checked check(Connection& connection, const World& world, const Ledger& ledger, const Statistics& seen);

} // namespace stress
