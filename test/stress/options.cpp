#include "options.hpp"

#include <charconv>
#include <cstdio>
#include <cstring>
#include <random>
#include <string_view>

#include <getopt.h>

namespace stress {

namespace {

constexpr const char* kHelp =
    R"(tandem_stress: many clients on pg_tandem's tasks at once; says whether anything was lost, doubled or forged.

Usage: tandem_stress [COMMAND] [OPTION]…

Commands:
  quick        about 10 seconds: everything once (the default)
  full         about 5 minutes: contention, dying workers, dead letters, cancelled statements, late tasks,
               120 connections at once, an old snapshot held open for 60 seconds
  emergency    critical tasks with windows of half a second, some of them late on purpose
  load         creates tasks, changes each ten times and finishes all

Options:
  --tasks N              tasks of `load` (default 200)
  --threads N            connections at once (`load`: 20; elsewhere in place of each phase's own number)
  --connection STRING    as libpq takes it; default: PGHOST, PGDATABASE and the like. A superuser, or the owner of the
                         extension: it sets up kinds of its own and reads every event. max_connections must allow for
                         the threads and 5 more
  --seed N               of the random choices; printed by each run
  --hold-snapshot N      keep a transaction with an old snapshot open for N seconds
  --json                 the results as one JSON document on standard output, the progress on standard error
  --before-check SQL     run before the invariants are checked, for tests of the program itself
  --help                 this

Exit status: 0 when there was no error and every invariant holds; 1 when not; 2 for a mistake in the call.
It adds tasks of kinds 'stress.*' to the database and leaves them there, with their events: use a database of its own.
)";

bool number(const char* text, int least, int& value) {
    const char* end = text + std::strlen(text);
    const auto [stopped, error] = std::from_chars(text, end, value);
    return error == std::errc() && stopped == end && value >= least;
}

bool command(std::string_view word, Command& command) {
    for (const Command candidate : {Command::quick, Command::full, Command::emergency, Command::load}) {
        if (word == name_of(candidate)) {
            command = candidate;
            return true;
        }
    }
    return false;
}

std::nullopt_t refuse(const char* what, const char* which) {
    std::fprintf(stderr, "tandem_stress: %s%s\nTry: tandem_stress --help\n", what, which);
    return std::nullopt;
}

} // namespace

const char* name_of(Command command) {
    switch (command) {
    case Command::quick:
        return "quick";
    case Command::full:
        return "full";
    case Command::emergency:
        return "emergency";
    case Command::load:
        return "load";
    }
    return "";
}

std::optional<Options> parse(int argc, char** argv, int& status) {
    static constexpr option kOptions[] = {
        {"tasks", required_argument, nullptr, 't'},
        {"threads", required_argument, nullptr, 'n'},
        {"connection", required_argument, nullptr, 'd'},
        {"seed", required_argument, nullptr, 's'},
        {"hold-snapshot", required_argument, nullptr, 'o'},
        {"json", no_argument, nullptr, 'j'},
        {"before-check", required_argument, nullptr, 'b'},
        {"help", no_argument, nullptr, 'h'},
        {nullptr, 0, nullptr, 0},
    };
    Options options;
    options.seed = std::random_device{}();
    status = 2;
    for (int letter = 0; (letter = getopt_long(argc, argv, "h", kOptions, nullptr)) != -1;) {
        switch (letter) {
        case 't':
            if (!number(optarg, 1, options.tasks)) {
                return refuse("--tasks wants a number from 1, not ", optarg);
            }
            break;
        case 'n':
            if (!number(optarg, 1, options.threads)) {
                return refuse("--threads wants a number from 1, not ", optarg);
            }
            break;
        case 'o':
            if (!number(optarg, 0, options.hold_snapshot)) {
                return refuse("--hold-snapshot wants seconds, not ", optarg);
            }
            break;
        case 's': {
            const char* end = optarg + std::strlen(optarg);
            if (const auto [stopped, error] = std::from_chars(optarg, end, options.seed);
                error != std::errc() || stopped != end) {
                return refuse("--seed wants a number, not ", optarg);
            }
            break;
        }
        case 'd':
            options.connection = optarg;
            break;
        case 'j':
            options.json = true;
            break;
        case 'b':
            options.before_check = optarg;
            break;
        case 'h':
            std::fputs(kHelp, stdout);
            status = 0;
            return std::nullopt;
        default:
            return refuse("an option that it does not know, or one without its value", "");
        }
    }
    if (optind < argc && !command(argv[optind], options.command)) {
        return refuse("a command that it does not know: ", argv[optind]);
    }
    if (optind + 1 < argc) {
        return refuse("one command at a time: ", argv[optind + 1]);
    }
    return options;
}

} // namespace stress
