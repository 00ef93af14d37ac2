#include "progress.hpp"

#include <algorithm>

#include <unistd.h>

namespace stress {

namespace {

constexpr int kWidth = 30;
constexpr std::chrono::seconds kBetweenLines{5};

} // namespace

Progress::Progress(std::FILE* stream, double seconds)
    : stream_(stream), is_terminal_(isatty(fileno(stream)) == 1), total_(std::max(seconds, 0.1)) {}

void Progress::begin(const std::string& phase, int threads, double seconds) {
    name_ = phase;
    phase_ = seconds;
    begun_ = shown_ = Clock::now();
    last_operations_ = 0;
    if (!is_terminal_) {
        say(phase + ": " + std::to_string(threads) + (threads == 1 ? " connection" : " connections"));
    }
}

void Progress::show(double share_of_phase, const Live& live) {
    const auto now = Clock::now();
    if (!is_terminal_ && now - shown_ < kBetweenLines) {
        return;
    }
    const std::uint64_t operations = live.operations.load(std::memory_order_relaxed);
    const double since = std::chrono::duration<double>(now - shown_).count();
    const double rate = since > 0 ? static_cast<double>(operations - last_operations_) / since : 0;
    last_operations_ = operations;
    shown_ = now;
    const double share = std::clamp((before_ + phase_ * std::clamp(share_of_phase, 0.0, 1.0)) / total_, 0.0, 1.0);
    const auto conflicts = static_cast<unsigned long long>(live.conflicts.load(std::memory_order_relaxed));
    const auto errors = static_cast<unsigned long long>(live.errors.load(std::memory_order_relaxed));
    if (is_terminal_) {
        std::string bar(static_cast<std::size_t>(share * kWidth), '#');
        bar.resize(kWidth, '.');
        std::fprintf(stream_, "\r[%s] %3.0f %%  %-20s %8.0f/s  %llu conflicts  %llu errors\033[K", bar.c_str(),
                     share * 100, name_.c_str(), rate, conflicts, errors);
    } else {
        std::fprintf(stream_, "  %3.0f %%  %8.0f operations/s  %llu conflicts  %llu errors\n", share * 100, rate,
                     conflicts, errors);
    }
    std::fflush(stream_);
}

void Progress::end() {
    before_ += phase_;
    phase_ = 0;
    if (is_terminal_) {
        std::fputs("\r\033[K", stream_);
    }
}

void Progress::say(const std::string& text) {
    std::fprintf(stream_, "%s\n", text.c_str());
    std::fflush(stream_);
}

} // namespace stress
