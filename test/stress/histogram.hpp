// Latencies in buckets that grow by 1/32: any percentile to within 3 %, in 8 kB, added up over threads without loss.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstdint>

namespace stress {

class Histogram {
  public:
    void add(std::chrono::nanoseconds latency) {
        const auto ns = static_cast<std::uint64_t>(std::max<std::int64_t>(latency.count(), 0));
        ++counts_[bucket(ns)];
        ++count_;
        max_ = std::max(max_, ns);
    }

    void merge(const Histogram& other) {
        for (std::size_t i = 0; i < counts_.size(); ++i) {
            counts_[i] += other.counts_[i];
        }
        count_ += other.count_;
        max_ = std::max(max_, other.max_);
    }

    std::uint64_t count() const { return count_; }
    double max_ms() const { return static_cast<double>(max_) / 1e6; }

    // The smallest bucket's end that `share` of all latencies do not exceed, but never more than the largest of them.
    double percentile_ms(double share) const {
        const auto wanted = static_cast<std::uint64_t>(share * static_cast<double>(count_));
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < counts_.size(); ++i) {
            seen += counts_[i];
            if (seen > wanted) {
                return static_cast<double>(std::min(upper_end(i), max_)) / 1e6;
            }
        }
        return max_ms();
    }

  private:
    static constexpr unsigned kBits = 5; // 32 buckets for each power of two
    static constexpr std::uint64_t kSteps = std::uint64_t{1} << kBits;

    static std::size_t bucket(std::uint64_t ns) {
        if (ns < kSteps) {
            return ns;
        }
        const auto shift = static_cast<unsigned>(std::bit_width(ns)) - kBits - 1;
        return (shift + 1) * kSteps + ((ns >> shift) - kSteps);
    }
    static std::uint64_t upper_end(std::size_t bucket) {
        if (bucket < kSteps) {
            return bucket;
        }
        const std::uint64_t shift = bucket / kSteps - 1;
        return ((kSteps + bucket % kSteps + 1) << shift) - 1;
    }

    std::array<std::uint32_t, (64 - kBits + 1) * kSteps> counts_{};
    std::uint64_t count_ = 0;
    std::uint64_t max_ = 0;
};

} // namespace stress
