#include "statistics.hpp"

namespace stress {

namespace {

constexpr std::size_t kDifferentErrors = 20; // kept as texts: one cause may have a thousand wordings

} // namespace

void Statistics::answered(Operation operation, std::chrono::nanoseconds latency) {
    at(operation).latency.add(latency);
    if (live_ != nullptr) {
        live_->operations.fetch_add(1, std::memory_order_relaxed);
    }
}

void Statistics::conflict(Operation operation) {
    ++at(operation).conflicts;
    if (live_ != nullptr) {
        live_->conflicts.fetch_add(1, std::memory_order_relaxed);
    }
}

void Statistics::cancelled(Operation operation) {
    ++at(operation).cancelled;
}

void Statistics::error(Operation operation, const std::string& sqlstate, std::string_view message) {
    ++at(operation).errors;
    std::string text(kOperationNames[static_cast<std::size_t>(operation)]);
    text.append(": ").append(sqlstate).append(" ").append(message);
    if (error_texts_.contains(text) || error_texts_.size() < kDifferentErrors) {
        ++error_texts_[text];
    }
    if (live_ != nullptr) {
        live_->errors.fetch_add(1, std::memory_order_relaxed);
    }
}

void Statistics::violation(std::string_view invariant, const std::string& what) {
    violations_[std::string(invariant)].push_back(what);
}

void Statistics::merge(const Statistics& other) {
    for (std::size_t i = 0; i < kOperations; ++i) {
        operations_[i].latency.merge(other.operations_[i].latency);
        operations_[i].conflicts += other.operations_[i].conflicts;
        operations_[i].cancelled += other.operations_[i].cancelled;
        operations_[i].errors += other.operations_[i].errors;
    }
    for (const auto& [text, count] : other.error_texts_) {
        error_texts_[text] += count;
    }
    for (const auto& [invariant, found] : other.violations_) {
        auto& mine = violations_[invariant];
        mine.insert(mine.end(), found.begin(), found.end());
    }
    changes_ += other.changes_;
}

std::uint64_t Statistics::calls() const {
    std::uint64_t sum = 0;
    for (const OperationStatistics& operation : operations_) {
        sum += operation.latency.count();
    }
    return sum;
}

std::uint64_t Statistics::errors() const {
    std::uint64_t sum = 0;
    for (const OperationStatistics& operation : operations_) {
        sum += operation.errors;
    }
    return sum;
}

std::uint64_t Statistics::conflicts() const {
    std::uint64_t sum = 0;
    for (const OperationStatistics& operation : operations_) {
        sum += operation.conflicts;
    }
    return sum;
}

} // namespace stress
