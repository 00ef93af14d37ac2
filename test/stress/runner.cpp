#include "runner.hpp"

#include <barrier>
#include <chrono>
#include <cstddef>
#include <limits>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string_view>
#include <thread>

namespace stress {

namespace {

using Clock = std::chrono::steady_clock;
constexpr double kPatience = 60; // seconds for what is left at the end
constexpr std::chrono::milliseconds kTick{100};

double seconds_since(Clock::time_point begun) {
    return std::chrono::duration<double>(Clock::now() - begun).count();
}

struct Shared { // by the threads of a phase
    std::barrier<> start;
    std::atomic<bool> stop{false};
    std::atomic<std::int64_t> calls_left;
    std::atomic<int> at_work;
    std::mutex mutex; // ledger and statistics
    Ledger* ledger;
    Statistics statistics;
    Live live;
};

void work(const Phase& phase, const World& world, const std::string& conninfo, std::uint64_t seed, int index,
          Shared& shared) {
    Statistics mine(&shared.live);
    Ledger ledger;
    std::unique_ptr<Session> session;
    const auto connect = [&] {
        try {
            session = std::make_unique<Session>(world, conninfo, seed, index, mine);
        } catch (const SqlError&) { // counted
            session.reset();
        }
    };
    connect();
    shared.start.arrive_and_wait();
    while (!shared.stop.load(std::memory_order_relaxed)) {
        if (session == nullptr || session->is_lost()) {
            if (session != nullptr) {
                Ledger part = session->take_ledger();
                ledger.insert(ledger.end(), std::make_move_iterator(part.begin()), std::make_move_iterator(part.end()));
            }
            std::this_thread::sleep_for(kTick);
            connect();
            continue;
        }
        if (shared.calls_left.fetch_sub(1) <= 0) {
            break;
        }
        try {
            session->act(session->choose(phase.mix));
            if (!session->was_busy()) {
                std::this_thread::sleep_for(
                    std::chrono::milliseconds(5)); // nothing to claim: no reason to ask a thousand times
            }
        } catch (const SqlError&) { // counted
            try {
                session->recover();
            } catch (const SqlError&) { // the connection is lost: seen above
            }
        }
    }
    if (session != nullptr) {
        Ledger part = session->take_ledger();
        ledger.insert(ledger.end(), std::make_move_iterator(part.begin()), std::make_move_iterator(part.end()));
    }
    {
        const std::scoped_lock lock(shared.mutex);
        shared.ledger->insert(shared.ledger->end(), std::make_move_iterator(ledger.begin()),
                              std::make_move_iterator(ledger.end()));
        shared.statistics.merge(mine);
    }
    shared.at_work.fetch_sub(1);
}

} // namespace

Runner::Runner(const Options& options, World& world, Progress& progress, const std::atomic<bool>& interrupted)
    : options_(&options), world_(&world), progress_(&progress), interrupted_(&interrupted), watch_(options.connection),
      control_(options.connection, "tandem_stress control"), seed_(options.seed) {}

void Runner::run_until(const Phase& phase, const std::function<bool(double)>& is_over,
                       const std::function<double(double, std::int64_t)>& share) {
    ++seed_;
    if (phase.hot_tasks > 0) {
        Statistics setup;
        TaskClient client(options_->connection, "tandem_stress setup", setup);
        make_hot_tasks(*world_, client, phase.hot_tasks);
        ledger_.insert(ledger_.end(), client.ledger().begin(), client.ledger().end());
        total_.merge(setup);
    }
    if (phase.hot_are_created) {
        world_->hot_ids.clear();
        world_->keeps_pending = true;
        for (std::size_t i = phase_begun_; i < ledger_.size(); ++i) {
            if (ledger_[i].operation == std::string_view("create") && ledger_[i].is_new) {
                world_->hot_ids.push_back(ledger_[i].task_id);
            }
        }
        if (world_->hot_ids.empty()) {
            throw std::runtime_error("no task could be created");
        }
    }
    phase_begun_ = ledger_.size();
    Shared shared{.start = std::barrier<>(phase.threads + 1),
                  .calls_left = phase.calls > 0 ? phase.calls : std::numeric_limits<std::int64_t>::max(),
                  .at_work = phase.threads,
                  .mutex = {},
                  .ledger = &ledger_,
                  .statistics = Statistics(),
                  .live = {}};
    progress_->begin(phase.name, phase.threads, phase.seconds);
    const std::unique_ptr<OldSnapshot> snapshot =
        phase.hold_snapshot ? std::make_unique<OldSnapshot>(options_->connection) : nullptr;
    std::vector<std::jthread> threads;
    threads.reserve(static_cast<std::size_t>(phase.threads));
    for (int index = 0; index < phase.threads; ++index) {
        threads.emplace_back(work, std::cref(phase), std::cref(*world_), std::cref(options_->connection), seed_ * 1000,
                             index, std::ref(shared));
    }
    shared.start.arrive_and_wait();
    const auto begun = Clock::now();
    try {
        while (shared.at_work.load() > 0 && !interrupted_->load() && !is_over(seconds_since(begun))) {
            std::this_thread::sleep_for(kTick);
            watch_.sample();
            progress_->show(share(seconds_since(begun), shared.calls_left.load()), shared.live);
        }
    } catch (...) {
        shared.stop.store(true); // else the threads would never be joined
        throw;
    }
    shared.stop.store(true);
    threads.clear(); // joins them
    const double seconds = seconds_since(begun);
    progress_->end();
    total_.merge(shared.statistics);
    results_.push_back(
        {.name = phase.name, .threads = phase.threads, .seconds = seconds, .statistics = shared.statistics});
}

void Runner::run(const Phase& phase) {
    const bool counted = phase.calls > 0;
    run_until(
        phase, [&](double seconds) { return counted ? seconds > 600 : seconds >= phase.seconds; },
        [&](double seconds, std::int64_t left) {
            return counted ? 1 - static_cast<double>(left) / static_cast<double>(phase.calls) : seconds / phase.seconds;
        });
}

void Runner::drain(const Phase& phase) {
    std::vector<std::string> kinds = world_->queue_kinds();
    kinds.insert(kinds.end(), {world_->sla, world_->alarm});
    const std::string literal = array_literal(kinds);
    run_until(
        phase,
        [&](double seconds) {
            return seconds > kPatience || control_
                                              .execute("SELECT NOT EXISTS (SELECT FROM tandem.task WHERE kind = ANY "
                                                       "($1::text[]) AND finished_at IS NULL)",
                                                       {literal}, false)
                                              .truth(0, 0);
        },
        [&](double seconds, std::int64_t) { return seconds / phase.seconds; });
}

} // namespace stress
