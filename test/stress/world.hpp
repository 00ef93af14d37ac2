// What one run of the program works on: kinds, policies and tasks of its own, so that it can be run beside others and
// beside real work.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "connection.hpp"
#include "task_client.hpp"

namespace stress {

struct World {
    std::string run; // "stress.<hex>": all kinds begin with it
    std::string hot, queue, sla,
        alarm; // contended for; claimed and finished; with deadlines; with deadlines that escalate
    std::vector<std::string> hot_ids; // of the phase
    bool keeps_pending = false;       // these are claimed later: their state stays as it is
    std::string finished_id;          // done: nothing may change it any more

    std::vector<std::string> queue_kinds() const { return {queue}; }
    std::vector<std::string> sla_kinds() const { return {sla, alarm}; }
};

// How long a task of the emergency may take, in milliseconds.
inline constexpr int kStartWithinMs = 250;
inline constexpr int kFinishWithinMs = 600;

// Kinds with their retries and policies. Needs a superuser, or the owner of tandem's tables.
World make_world(Connection& connection, std::uint64_t seed);

// New tasks for a phase to contend for, and one that is done.
void make_hot_tasks(World& world, TaskClient& client, int count);

} // namespace stress
