#include "world.hpp"

#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <thread>

namespace stress {

namespace {

// Rescue and breaches are the coordinator's: without it every run would end in limbo.
void require_worker(Connection& connection) {
    if (connection.query("SELECT FROM pg_extension WHERE extname = 'pg_tandem'").rows() == 0) {
        throw std::runtime_error("pg_tandem is not installed in this database: CREATE EXTENSION pg_tandem");
    }
    for (int i = 0; i < 100; ++i) {
        if (connection
                .query("SELECT FROM pg_stat_activity WHERE backend_type = 'pg_tandem coordinator' AND datname = "
                       "current_database()")
                .rows() > 0) {
            return;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    throw std::runtime_error(
        "pg_tandem's coordinator does not run in this database: is pg_tandem in shared_preload_libraries?");
}

} // namespace

World make_world(Connection& connection, std::uint64_t seed) {
    require_worker(connection);
    World world;
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    char name[64];
    std::snprintf(name, sizeof name, "stress.%llx_%llx", static_cast<unsigned long long>(seed),
                  static_cast<unsigned long long>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count()));
    world.run = name;
    world.hot = world.run + ".hot";
    world.queue = world.run + ".queue";
    world.sla = world.run + ".sla";
    world.alarm = world.run + ".alarm";

    for (const std::string& kind : {world.hot, world.queue, world.sla, world.alarm}) {
        connection.execute(
            "INSERT INTO tandem.task_kind (kind, max_attempts, backoff, backoff_max) VALUES ($1, 3, '20 ms', '100 ms')",
            {kind}, false);
    }
    const auto policy = [&](const std::string& kind, const Parameter& escalate_to) {
        connection.execute(
            "SELECT FROM tandem.sla_policy($1, 'critical', $2::interval, $3::interval, 0.8, $4)",
            {kind, std::to_string(kStartWithinMs) + " ms", std::to_string(kFinishWithinMs) + " ms", escalate_to},
            false);
    };
    policy(world.sla, std::nullopt);
    policy(world.alarm, "escalated");
    return world;
}

void make_hot_tasks(World& world, TaskClient& client, int count) {
    world.hot_ids.clear();
    for (int i = 0; i < count; ++i) {
        world.hot_ids.push_back(client.create(world.hot, "{\"counter\": 0}").id);
    }
    const Created done = client.create(world.hot, "{\"counter\": 0}");
    client.cas(done.id, {.version = done.version, .state = "pending", .counter = 0}, "running");
    client.cas(done.id, {.version = done.version + 1, .state = "running", .counter = 1}, "done");
    world.finished_id = done.id;
}

} // namespace stress
