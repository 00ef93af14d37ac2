// A histogram of durations: log-linear, 32 buckets an octave, from 1 µs to 19 hours.
//
// Whole microseconds below 64 µs have a bucket each, so they are exact. Above, a bucket is 1/32 of its octave wide and
// is told by its middle: a percentile is never further than 1/64 (1.57 %) from the exact one. All 1024 counters of 32
// bits are 4 KiB; shared memory keeps only the octaves that occur (src/pg/observe_memory.cpp), tables a few bytes a
// bucket.
#pragma once

#ifdef POSTGRES_H
#error "src/core includes no PostgreSQL header"
#endif

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace tandem {

inline constexpr unsigned kHistogramSubBits = 5;
inline constexpr unsigned kHistogramOctave = 1U << kHistogramSubBits; // buckets
inline constexpr unsigned kHistogramOctaves = 32;
inline constexpr unsigned kHistogramBuckets = kHistogramOctave * kHistogramOctaves;
inline constexpr std::uint64_t kHistogramLargest = (std::uint64_t{1} << 36) - 1; // µs; what is longer counts there

constexpr unsigned histogram_bucket(std::uint64_t us) {
    us = us < kHistogramLargest ? us : kHistogramLargest;
    if (us < kHistogramOctave) {
        return static_cast<unsigned>(us);
    }
    const auto shift = static_cast<unsigned>(std::bit_width(us)) - kHistogramSubBits - 1;
    return shift * kHistogramOctave + static_cast<unsigned>(us >> shift);
}

struct HistogramRange {
    std::uint64_t first, last; // µs, both in the bucket
};
constexpr HistogramRange histogram_range(unsigned bucket) {
    if (bucket < 2 * kHistogramOctave) {
        return {bucket, bucket};
    }
    const unsigned shift = bucket / kHistogramOctave - 1;
    const std::uint64_t first = std::uint64_t{kHistogramOctave + bucket % kHistogramOctave} << shift;
    return {first, first + (std::uint64_t{1} << shift) - 1};
}

// Plain data: it may live in memory that somebody else gives back.
class Histogram {
  public:
    void add(std::uint64_t us, std::uint64_t count = 1) { add_bucket(histogram_bucket(us), count); }
    void add_bucket(unsigned bucket, std::uint64_t count) {
        counts_[bucket] += count;
        count_ += count;
    }
    void merge(const Histogram& other) {
        for (unsigned i = 0; i < kHistogramBuckets; i++) {
            counts_[i] += other.counts_[i];
        }
        count_ += other.count_;
    }

    std::uint64_t count() const { return count_; }
    std::uint64_t count_in(unsigned bucket) const { return counts_[bucket]; }

    // In µs: the duration that a share of all do not exceed, as percentile_disc() has it. nullopt: there is none.
    std::optional<double> percentile(double share) const;

  private:
    std::array<std::uint64_t, kHistogramBuckets> counts_{};
    std::uint64_t count_ = 0;
};

// As bytes: a version, then for each bucket that is not empty how far it is from the last one, and its count, each as a
// varint. One histogram has one form.
std::vector<std::byte> serialise(const Histogram& histogram);
// How many bytes that takes at most.
inline constexpr std::size_t kHistogramBytes = 1 + kHistogramBuckets * (2 + 10);
// The same without allocating; `bytes` has room for kHistogramBytes. How many were written.
std::size_t serialise(const Histogram& histogram, std::byte* bytes);

// Adds what the bytes say; any bytes may be given. Throws tandem::Error 22P03, the histogram being as before.
void merge_serialised(Histogram& histogram, std::span<const std::byte> bytes);

} // namespace tandem
