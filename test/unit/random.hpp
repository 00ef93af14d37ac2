// The random numbers of a test, whose seed is told with every failure. TANDEM_SEED repeats one.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>

#include <gtest/gtest.h>

namespace tandem::test {

class Random {
  public:
    Random()
        : seed_(given() != nullptr ? std::strtoul(given(), nullptr, 10) : std::random_device{}()), engine_(seed_),
          trace_(__FILE__, __LINE__, "TANDEM_SEED=" + std::to_string(seed_)) {}

    std::uint64_t operator()() { return engine_(); }
    std::uint64_t below(std::uint64_t limit) { return engine_() % limit; }
    bool chance(double share) { return static_cast<double>(engine_() >> 11) * 0x1p-53 < share; }

  private:
    static const char* given() { return std::getenv("TANDEM_SEED"); }

    unsigned long seed_;
    std::mt19937_64 engine_;
    ::testing::ScopedTrace trace_;
};

} // namespace tandem::test
