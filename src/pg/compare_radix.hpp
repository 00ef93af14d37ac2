// Elements in partitions on disk: for keys that are not known to be unique, and where more rows differ than a sketch in
// memory can tell. Each partition is then matched by itself.
#pragma once

#include "pg/compare_scan.hpp"

extern "C" {
#include "storage/buffile.h"
}

namespace pg::compare {

// The keys that have to be looked at. More than `limit` are not kept: then most rows differ, and a join is the better
// way.
struct Candidates {
    std::vector<tandem::Difference> keys;
    std::size_t limit;
    bool too_many;
    bool only_counts; // partitions need not keep keys: they have seen all rows of each
    Kinds kinds;
};

class RadixFiles {
  public:
    // In the current memory context. The files go with the transaction at the latest.
    static RadixFiles* create(int limbs, std::uint64_t seed);

    void write(int side, std::span<const tandem::Element> rows);

    // Reads everything back, partition by partition, each in no more memory than `memory` bytes.
    void match(bool keyed, std::size_t memory, Candidates& candidates);

    void close();

  private:
    static constexpr int kBits = 6;
    static constexpr int kPartitions = 1 << kBits;

    static RadixFiles* create(int limbs, std::uint64_t seed, int shift);
    void match_partition(int partition, bool keyed, std::size_t memory, Candidates& candidates);
    void split(int partition, RadixFiles* into);
    std::size_t read(int side, int partition, std::span<tandem::Element> rows);
    std::uint64_t largest() const;
    std::size_t record_size() const { return sizeof(std::uint64_t) * static_cast<std::size_t>(limbs_ + 1); }

    int limbs_;
    int shift_;
    std::uint64_t seed_;
    MemoryContext context_; // a pass calls from memory that is gone with the row
    BufFile* files_[kSides][kPartitions];
    std::uint64_t rows_[kSides][kPartitions];
};
static_assert(std::is_trivially_destructible_v<RadixFiles>);

} // namespace pg::compare
