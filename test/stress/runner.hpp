// Runs phases: threads with a connection each, which all begin at once.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "ledger.hpp"
#include "options.hpp"
#include "progress.hpp"
#include "scenario.hpp"
#include "server.hpp"
#include "statistics.hpp"
#include "world.hpp"

namespace stress {

struct PhaseResult {
    std::string name;
    int threads = 0;
    double seconds = 0;
    Statistics statistics;
};

class Runner {
  public:
    Runner(const Options& options, World& world, Progress& progress, const std::atomic<bool>& interrupted);

    void run(const Phase& phase);
    // Until nothing of this run can be claimed, nothing is held and nothing falls due any more; or until patience ends.
    void drain(const Phase& phase);

    const Ledger& ledger() const { return ledger_; }
    const Statistics& total() const { return total_; }
    const std::vector<PhaseResult>& results() const { return results_; }
    ServerWatch& watch() { return watch_; }

  private:
    void run_until(const Phase& phase, const std::function<bool(double seconds)>& is_over,
                   const std::function<double(double seconds, std::int64_t calls_left)>& share);

    const Options* options_;
    World* world_;
    Progress* progress_;
    const std::atomic<bool>* interrupted_;
    ServerWatch watch_;
    Connection control_;
    Ledger ledger_;
    Statistics total_;
    std::vector<PhaseResult> results_;
    std::size_t phase_begun_ = 0; // how long the ledger was then
    std::uint64_t seed_;
};

} // namespace stress
