// The phases of each command.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "options.hpp"
#include "session.hpp"

namespace stress {

struct Phase {
    std::string name;
    int threads = 1;
    double seconds = 0;     // as long as that, or
    std::int64_t calls = 0; // until so many actions are done (`seconds`: a guess, for the progress bar)
    Mix mix{};
    int hot_tasks = 0;            // made for the phase to contend for;
    bool hot_are_created = false; // or those that the phase before it has created
    bool hold_snapshot = false;
};

std::vector<Phase> phases(const Options& options);

// At the end of each command: all that can be claimed is done.
Phase drain_phase(const Options& options);

} // namespace stress
