// What was asked for on the command line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace stress {

enum class Command { quick, full, emergency, load };

struct Options {
    Command command = Command::quick;
    std::string connection; // libpq's; empty: the environment
    std::uint64_t seed = 0;
    int tasks = 200;
    int threads = 0;        // 0: as the command pleases
    int hold_snapshot = -1; // seconds; -1: as the command pleases
    bool json = false;
    std::string before_check; // SQL
};

// Nothing where the program has only to end with `status`: --help, or a mistake that has been told.
std::optional<Options> parse(int argc, char** argv, int& status);

const char* name_of(Command command);

} // namespace stress
