// A bar on a terminal, a line now and then elsewhere.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "scenario.hpp"
#include "statistics.hpp"

namespace stress {

class Progress {
  public:
    // `seconds`: how long all of it will take.
    Progress(std::FILE* stream, double seconds);
    void begin(const std::string& phase, int threads, double seconds);
    void show(double share_of_phase, const Live& live);
    void end();
    void say(const std::string& text); // a line of its own

  private:
    using Clock = std::chrono::steady_clock;
    std::FILE* stream_;
    bool is_terminal_;
    double total_, before_ = 0, phase_ = 0; // seconds
    std::string name_;
    Clock::time_point begun_ = Clock::now(), shown_ = begun_;
    std::uint64_t last_operations_ = 0;
};

} // namespace stress
