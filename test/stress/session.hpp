// One thread's behaviour: what it does next by chance, and what it must be answered.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <random>
#include <string>

#include "task_client.hpp"
#include "world.hpp"

namespace stress {

enum class Action : std::uint8_t {
    increment,      // read, then cas on what was read; again where somebody was faster
    stale,          // a version that is not the current one must be refused
    increment_many, // the same for several tasks in one call
    strict,         // refusals by SQLSTATE
    interrupted,    // a cas whose statement is cancelled: done, or nothing
    undone,         // a transaction that is rolled back leaves nothing
    savepoint,      // nor does what was rolled back to a savepoint
    create,         // some keys twice
    create_load,    // a task of its own for `load`, by a key that is nobody else's
    create_poison,  // fails on every attempt: ends as a dead letter
    cancel,         // a task that nobody shall do any more
    work,           // claim, heartbeat, finish
    die,            // claim, let the lease expire, and finish late
    alarm,          // create a critical task with short deadlines
    respond,        // work on such tasks, some of them too late
    drain,          // work until nothing is left
};
inline constexpr std::size_t kActions = 16;
using Mix = std::array<int, kActions>; // weights

class Session {
  public:
    Session(const World& world, const std::string& conninfo, std::uint64_t seed, int index, Statistics& statistics);

    void act(Action action);
    Action choose(const Mix& mix);
    Ledger take_ledger() { return std::move(client_.ledger()); }
    bool is_lost() const { return client_.is_lost(); }
    void recover() { client_.recover(); } // after an error: out of the transaction that it broke
    // False when there was nothing left to do.
    bool was_busy() const { return busy_; }

  private:
    void increment();
    void stale();
    void increment_many();
    void strict();
    void interrupted();
    void undone();
    void savepoint();
    void create();
    void create_load();
    void create_poison();
    void cancel();
    void work(const std::vector<std::string>& kinds, int count);
    void die();
    void finish_late();
    void alarm();
    void respond();

    const std::string& hot_id() { return world_->hot_ids[number(0, static_cast<int>(world_->hot_ids.size()) - 1)]; }
    int number(int from, int to) { return std::uniform_int_distribution<int>(from, to)(random_); }
    bool percent(int share) { return number(1, 100) <= share; }
    const char* other_state() { return world_->keeps_pending || percent(50) ? "pending" : "running"; }

    struct Late {
        Claimed task;
        std::chrono::steady_clock::time_point at;
    };
    const World* world_;
    std::mt19937_64 random_;
    std::string worker_;
    TaskClient client_;
    std::deque<Late> late_; // leases that this worker lets expire
    bool busy_ = true;
    int made_ = 0; // tasks with a key
};

} // namespace stress
