// The sketch: two tables of any size meet in a few thousand cells. Every row of `legacy` is added to four cells that
// its key chooses, every row of `new` is subtracted from its four. Equal rows leave nothing; from what stays, the keys
// that differ are peeled, as long as there are not more of them than the cells can hold (an invertible Bloom lookup
// table).
//
// A cell is 3 + limbs words, all of them sums mod p over its rows: of h, of h·key (a word for each limb), of
// h·check(key) and of a pseudo-random sign. Sums, not XOR: duplicates must not cancel. Only the key chooses the cells,
// so that a changed row is one difference and not two. The signs tell how many rows differ when they are too many to be
// peeled.
//
// A multiset of rows without a key is compared by the same means: hash 1 for each row, and 122 bits of its hash as a
// key of two limbs. hash_sum is then the number of surplus copies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "core/element.hpp"

namespace tandem {

// A key that is not the same on both sides. hash_sum: the sum of its hashes, legacy - new, mod p; never 0.
struct Difference {
    std::uint64_t key[kMaxLimbs];
    std::uint64_t hash_sum;
};

// complete: these are all differences. Otherwise they are true ones, but there are more.
struct Decoded {
    bool complete;
    std::vector<Difference> differences;
};

// A view: the cells lie in the caller's memory (palloc, shared memory), which must be zeroed before the first view of
// it and should begin at a multiple of 64: else cells of 32 bytes straddle cache lines. Views with the same memory,
// limbs, cells and seed are the same sketch. No two threads or processes may write to one sketch: each has its own, and
// merges.
class Sketch {
  public:
    static constexpr int kTables = 4;
    static constexpr std::size_t kMinCells = 4096;
    static constexpr std::size_t kMaxCells = std::size_t{1} << 32;

    // cells: a multiple of 4, up to kMaxCells.
    static std::size_t bytes(int limbs, std::size_t cells) noexcept;
    // The smallest number of cells in which so many differences are at most 60 % load; never above kMaxCells.
    static std::size_t cells_for(std::uint64_t differences) noexcept;

    Sketch(void* zeroed_memory, int limbs, std::size_t cells, std::uint64_t seed) noexcept;

    void add(std::span<const Element> legacy) noexcept;
    void subtract(std::span<const Element> rows_of_new) noexcept;

    // The other sketch must be compatible, and another one.
    void merge(const Sketch& other) noexcept;
    bool compatible(const Sketch& other) const noexcept;

    bool empty() const noexcept;

    // About how many row images differ: missing + extra + 2 · changed, with a relative error of about sqrt(2 / cells).
    // Copies of one row without a key count as the square of their surplus.
    std::uint64_t estimate() const noexcept;

    // Peels up to `limit` differences in place: what they contributed is gone from the cells afterwards. A further call
    // goes on where this one ended; it has no more to tell when fewer than `limit` come. May throw std::bad_alloc.
    Decoded decode(std::size_t limit = SIZE_MAX);

    int limbs() const noexcept { return limbs_; }
    std::size_t cells() const noexcept { return cells_; }
    std::uint64_t seed() const noexcept { return seed_; }
    std::span<const std::uint64_t> words() const noexcept { return {words_, cells_ * cell_words()}; }

  private:
    template <int L>
    friend class Peeler;

    std::size_t cell_words() const noexcept { return static_cast<std::size_t>(limbs_) + 3; }

    static constexpr int kConstants = 11;

    std::uint64_t* words_;
    std::size_t cells_;
    std::uint64_t seed_;
    std::uint64_t constants_[kConstants];
    int limbs_;
};
static_assert(std::is_trivially_copyable_v<Sketch> && std::is_trivially_destructible_v<Sketch>);

} // namespace tandem
