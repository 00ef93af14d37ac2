// What the threads met: latencies, conflicts and errors per operation, and answers that no order of events can explain.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "histogram.hpp"

namespace stress {

enum class Operation : std::uint8_t { connect, create, read, cas, cas_many, cas_strict, claim, heartbeat, finish };
inline constexpr std::array<std::string_view, 9> kOperationNames{"connect",    "task_create",    "read",
                                                                 "task_cas",   "task_cas_many",  "task_cas_strict",
                                                                 "task_claim", "task_heartbeat", "task_finish"};
inline constexpr std::size_t kOperations = kOperationNames.size();

struct OperationStatistics {
    Histogram latency;
    std::uint64_t conflicts = 0; // answered: no, somebody was there before
    std::uint64_t cancelled = 0; // statements that were interrupted on purpose
    std::uint64_t errors = 0;
};

// Seen by the progress bar while threads are at work.
struct Live {
    std::atomic<std::uint64_t> operations{0}, conflicts{0}, errors{0};
};

class Statistics {
  public:
    explicit Statistics(Live* live = nullptr) : live_(live) {}

    void answered(Operation operation, std::chrono::nanoseconds latency);
    void conflict(Operation operation);
    void cancelled(Operation operation);
    void error(Operation operation, const std::string& sqlstate, std::string_view message);
    // `invariant`: what it breaks; `what`: the evidence.
    void violation(std::string_view invariant, const std::string& what);
    void changed(std::uint64_t rows) { changes_ += rows; } // accepted changes: what WAL and dead tuples are divided by
    void merge(const Statistics& other);

    const OperationStatistics& of(Operation operation) const {
        return operations_[static_cast<std::size_t>(operation)];
    }
    std::uint64_t calls() const;
    std::uint64_t errors() const;
    std::uint64_t conflicts() const;
    std::uint64_t changes() const { return changes_; }
    const std::map<std::string, std::uint64_t>& error_texts() const { return error_texts_; }
    const std::map<std::string, std::vector<std::string>, std::less<>>& violations() const { return violations_; }

  private:
    OperationStatistics& at(Operation operation) { return operations_[static_cast<std::size_t>(operation)]; }

    std::array<OperationStatistics, kOperations> operations_{};
    std::map<std::string, std::uint64_t> error_texts_;
    std::map<std::string, std::vector<std::string>, std::less<>> violations_;
    std::uint64_t changes_ = 0;
    Live* live_;
};

} // namespace stress
