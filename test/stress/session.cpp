#include "session.hpp"

#include <algorithm>
#include <numeric>
#include <thread>

namespace stress {

namespace {

constexpr int kRetries = 20; // of one increment; a thread that loses more often than that gives way
constexpr int kLeaseMs = 20'000;
constexpr int kShortLeaseMs = 150;

void sleep_ms(int ms) {
    std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

bool is_poison(const Claimed& task) {
    return task.payload.find("poison") != std::string::npos;
}

} // namespace

Session::Session(const World& world, const std::string& conninfo, std::uint64_t seed, int index, Statistics& statistics)
    : world_(&world), random_(seed + 0x9e3779b97f4a7c15U * static_cast<std::uint64_t>(index + 1)),
      worker_("worker " + std::to_string(index)),
      client_(conninfo, "tandem_stress " + std::to_string(index), statistics) {}

Action Session::choose(const Mix& mix) {
    int at = number(0, std::accumulate(mix.begin(), mix.end(), 0) - 1);
    for (std::size_t i = 0; i < mix.size(); ++i) {
        at -= mix[i];
        if (at < 0) {
            return static_cast<Action>(i);
        }
    }
    return Action::increment;
}

void Session::act(Action action) {
    busy_ = true;
    if (!late_.empty() && late_.front().at <= std::chrono::steady_clock::now()) {
        finish_late();
    }
    switch (action) {
    case Action::increment:
        return increment();
    case Action::stale:
        return stale();
    case Action::increment_many:
        return increment_many();
    case Action::strict:
        return strict();
    case Action::interrupted:
        return interrupted();
    case Action::undone:
        return undone();
    case Action::savepoint:
        return savepoint();
    case Action::create:
        return create();
    case Action::create_load:
        return create_load();
    case Action::create_poison:
        return create_poison();
    case Action::cancel:
        return cancel();
    case Action::work:
        return work(world_->queue_kinds(), number(1, 5));
    case Action::die:
        return die();
    case Action::alarm:
        return alarm();
    case Action::respond:
        return respond();
    case Action::drain:
        std::vector<std::string> kinds = world_->queue_kinds();
        kinds.insert(kinds.end(), {world_->sla, world_->alarm});
        return work(kinds, 10);
    }
}

void Session::increment() {
    const std::string& id = hot_id();
    for (int attempt = 0; attempt < kRetries; ++attempt) {
        const std::optional<Seen> seen = client_.read(id);
        if (!seen) {
            client_.statistics().violation("every acknowledged task is there", id + " was not found");
            return;
        }
        const Answer answer = client_.cas(id, *seen, other_state());
        if (answer.ok) {
            if (answer.version != seen->version + 1) {
                client_.statistics().violation("an accepted change makes the next version",
                                               id + ": " + std::to_string(answer.version) + " after " +
                                                   std::to_string(seen->version));
            }
            return;
        }
        if (answer.version <=
            seen->version) { // nobody cancels or finishes these tasks: only a newer version is a reason
            client_.statistics().violation("only a newer version is a conflict",
                                           id + ": expected " + std::to_string(seen->version) + ", found " +
                                               std::to_string(answer.version));
            return;
        }
    }
}

void Session::stale() {
    const std::string& id = hot_id();
    std::optional<Seen> seen = client_.read(id);
    if (!seen) {
        return;
    }
    // Older than what is committed, or so new that nobody can have made it since.
    seen->version = percent(50) ? seen->version - 1 : seen->version + 1'000'000'000;
    if (seen->version >= 1 && client_.cas(id, *seen, "pending").ok) {
        client_.statistics().violation("a version that is not current is refused", id);
    }
}

void Session::increment_many() {
    std::vector<std::string> ids = world_->hot_ids;
    std::shuffle(ids.begin(), ids.end(), random_);
    ids.resize(std::min<std::size_t>(ids.size(), static_cast<std::size_t>(number(2, 10))));
    std::vector<Change> changes;
    for (const std::string& id : ids) {
        const std::optional<Seen> seen = client_.read(id);
        if (seen) {
            changes.push_back(
                {.id = id, .expected = seen->version, .state = other_state(), .counter = seen->counter + 1});
        }
    }
    if (!changes.empty()) {
        client_.cas_many(changes, percent(50));
    }
}

void Session::strict() {
    const auto expect = [&](const Answer& answer, const char* sqlstate, const char* what) {
        if (answer.ok || answer.sqlstate != sqlstate) {
            client_.statistics().violation("task_cas_strict refuses by its SQLSTATE",
                                           std::string(what) + ": " + (answer.ok ? "accepted" : answer.sqlstate));
        }
    };
    const std::string& id = hot_id();
    std::optional<Seen> seen = client_.read(id);
    if (!seen) {
        return;
    }
    switch (number(1, 4)) {
    case 1:
        seen->version += 1'000'000'000;
        expect(client_.cas_strict(id, *seen, "pending"), "PT409", "a stale version");
        break;
    case 2:
        seen->version = 1;
        expect(client_.cas_strict("00000000-0000-7000-8000-000000000000", *seen, "pending"), "PT404", "no such task");
        break;
    case 3:
        seen = client_.read(world_->finished_id);
        expect(client_.cas_strict(world_->finished_id, *seen, "pending"), "PT422", "from done to pending");
        break;
    default:
        const Answer answer = client_.cas_strict(id, *seen, other_state());
        if (!answer.ok) {
            expect(answer, "PT409", "somebody was faster");
        }
    }
}

void Session::interrupted() {
    const std::string& id = hot_id();
    if (const std::optional<Seen> seen = client_.read(id)) {
        client_.cas_interrupted(id, *seen, other_state());
    }
}

// The hot task is locked first and everything after it skips or is new: threads that do the same can't wait for one
// another in a ring.
void Session::undone() {
    const std::string& id = hot_id();
    client_.begin();
    if (const std::optional<Seen> seen = client_.read(id)) {
        client_.cas(id, *seen, "running");
    }
    const Created created = client_.create(world_->queue, "{\"undone\": true}");
    client_.cas(created.id, {.version = created.version, .state = "pending", .counter = 0}, "running");
    client_.claim(worker_, world_->queue_kinds(), 2, kLeaseMs);
    client_.rollback();
}

void Session::savepoint() {
    const std::string& id = hot_id();
    client_.begin();
    std::optional<Seen> seen = client_.read(id);
    client_.cas(id, *seen, "running");
    client_.savepoint();
    seen = client_.read(id);
    client_.cas(id, *seen, "pending");
    client_.create(world_->queue, "{\"undone\": true}");
    client_.rollback_to_savepoint();
    seen = client_.read(id);
    client_.cas(id, *seen, "pending");
    client_.commit();
}

void Session::create() {
    // Threads make about as many each: the keys go on, and threads meet on new ones all the time.
    const std::string key = percent(60) ? "" : "key " + std::to_string(++made_ / 2 + number(0, 5));
    const Created created = client_.create(world_->queue, "{\"counter\": 0}", key);
    if (!key.empty() && percent(50)) { // a client that got no answer asks again
        const Created again = client_.create(world_->queue, "{\"counter\": 0}", key);
        if (again.id != created.id || again.is_new) {
            client_.statistics().violation("one task for each idempotency key",
                                           key + ": " + created.id + " and " + again.id);
        }
    }
}

void Session::create_load() {
    const std::string key = worker_ + " task " + std::to_string(++made_);
    const Created created = client_.create(world_->queue, "{\"counter\": 0}", key);
    if (percent(20)) {
        const Created again = client_.create(world_->queue, "{\"counter\": 0}", key);
        if (again.id != created.id || again.is_new || !created.is_new) {
            client_.statistics().violation("one task for each idempotency key",
                                           key + ": " + created.id + " and " + again.id);
        }
    }
}

void Session::create_poison() {
    client_.create(world_->queue, "{\"poison\": true}");
}

void Session::cancel() {
    const Created created = client_.create(world_->queue, "{\"cancel\": true}");
    client_.cas(created.id, {.version = created.version, .state = "pending", .counter = 0}, "cancelled");
}

void Session::work(const std::vector<std::string>& kinds, int count) {
    std::vector<Claimed> held = client_.claim(worker_, kinds, count, kLeaseMs);
    busy_ = !held.empty();
    if (held.empty()) {
        return;
    }
    if (percent(20)) {
        const std::vector<std::string> lost = client_.heartbeat(worker_, held, kLeaseMs);
        if (!lost.empty()) {
            client_.statistics().violation("a lease that has not expired is kept", lost.front() + " was lost");
        }
    }
    for (const Claimed& task : held) {
        const Answer answer = client_.finish(task, is_poison(task) || percent(5) ? "failed" : "done");
        if (!answer.ok) {
            client_.statistics().violation("who holds the lease can finish", task.id + " was refused to its worker");
        } else if (percent(5) && client_.finish(task, "done").ok) { // the answer was lost, and the client asks again
            client_.statistics().violation("no double finish", task.id + " was finished twice with one lease");
        }
    }
}

void Session::die() {
    const auto late = std::chrono::steady_clock::now() + std::chrono::milliseconds(kShortLeaseMs + number(10, 400));
    for (const Claimed& task : client_.claim(worker_, world_->queue_kinds(), number(1, 3), kShortLeaseMs)) {
        late_.push_back({.task = task, .at = late});
    }
}

// Refused, if anybody else has it by now; whether that was so the ledgers of all threads tell together.
void Session::finish_late() {
    const Claimed task = late_.front().task;
    late_.pop_front();
    if (percent(50)) {
        client_.heartbeat(worker_, {task}, kShortLeaseMs);
    }
    client_.finish(task, is_poison(task) ? "failed" : "done");
}

void Session::alarm() {
    client_.create(percent(50) ? world_->sla : world_->alarm, "{\"counter\": 0}", "", "critical");
    sleep_ms(number(0, 60)); // as many as can be responded to
}

void Session::respond() {
    if (percent(10)) {
        sleep_ms(kStartWithinMs); // nobody is awake: tasks begin late
    }
    const std::vector<Claimed> held = client_.claim(worker_, world_->sla_kinds(), 2, kLeaseMs);
    sleep_ms(percent(20) ? kFinishWithinMs : number(0, 30)); // some end late
    for (const Claimed& task : held) {
        if (!client_.finish(task, "done").ok) {
            client_.statistics().violation("a late result still lands", task.id + " was refused to its worker");
        }
    }
}

} // namespace stress
