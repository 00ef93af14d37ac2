// The readiness report, for people or as JSON.
#pragma once

#include <string>
#include <vector>

#include "invariants.hpp"
#include "options.hpp"
#include "runner.hpp"
#include "server.hpp"

namespace stress {

struct Report {
    Options options;
    std::string run;
    double seconds = 0;
    Statistics total;
    std::vector<PhaseResult> phases;
    ServerFigures server;
    Checked checked;

    // Why it is not ready; empty: it is.
    std::vector<std::string> reasons() const;
    std::string text() const;
    std::string json() const;
};

} // namespace stress
