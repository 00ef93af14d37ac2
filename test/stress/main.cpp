// tandem_stress: many clients on pg_tandem's tasks at once, each with its own ledger of what the server acknowledged;
// at the end the ledgers are compared with what is stored. docs/stress.md
//
//   options     what was asked for                scenario    the phases of each command
//   world       kinds and tasks of this run       session     what one thread does
//   task_client the functions, timed              ledger      what was acknowledged
//   runner      threads                           invariants  what must be true at the end
//   server      WAL, dead tuples, locks           report      for people, or JSON
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <memory>

#include "invariants.hpp"
#include "options.hpp"
#include "progress.hpp"
#include "report.hpp"
#include "runner.hpp"
#include "scenario.hpp"

namespace {

std::atomic<bool> interrupted{false};

double seconds_of(const std::vector<stress::Phase>& phases) {
    double seconds = 0;
    for (const stress::Phase& phase : phases) {
        seconds += phase.seconds;
    }
    return seconds;
}

int run(const stress::Options& options) {
    using Clock = std::chrono::steady_clock;
    std::FILE* stream = options.json ? stderr : stdout;
    const std::vector<stress::Phase> phases = stress::phases(options);
    const stress::Phase drain = stress::drain_phase(options);
    stress::Progress progress(stream, seconds_of(phases) + drain.seconds);
    progress.say("seed: " + std::to_string(options.seed));

    stress::Connection setup(options.connection, "tandem_stress setup");
    stress::World world = stress::make_world(setup, options.seed);
    stress::Runner runner(options, world, progress, interrupted);
    // For the commands that have no phase of their own with an old snapshot.
    std::unique_ptr<stress::OldSnapshot> snapshot;
    if (options.hold_snapshot > 0 && options.command != stress::Command::full) {
        snapshot = std::make_unique<stress::OldSnapshot>(options.connection);
    }
    const auto begun = Clock::now();
    for (const stress::Phase& phase : phases) {
        if (snapshot != nullptr && Clock::now() - begun > std::chrono::seconds(options.hold_snapshot)) {
            snapshot.reset();
        }
        if (!interrupted) {
            runner.run(phase);
        }
    }
    snapshot.reset();
    if (!interrupted) {
        runner.drain(drain);
    }
    if (interrupted) {
        progress.say("interrupted: nothing was checked");
        return 130;
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - begun).count();

    if (!options.before_check.empty()) {
        setup.query(options.before_check);
    }
    progress.say("comparing the ledgers with what is stored");
    stress::Report report{.options = options,
                          .run = world.run,
                          .seconds = seconds,
                          .total = runner.total(),
                          .phases = runner.results(),
                          .server = runner.watch().figures(),
                          .checked = stress::check(setup, world, runner.ledger(), runner.total())};
    std::fputs((options.json ? report.json() : report.text()).c_str(), stdout);
    return report.reasons().empty() ? 0 : 1;
}

} // namespace

int main(int argc, char** argv) {
    int status = 0;
    const std::optional<stress::Options> options = stress::parse(argc, argv, status);
    if (!options) {
        return status;
    }
    std::signal(SIGINT, [](int) { interrupted = true; });
    std::signal(SIGTERM, [](int) { interrupted = true; });
    try {
        return run(*options);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "tandem_stress: %s\n", error.what());
        return 1;
    }
}
