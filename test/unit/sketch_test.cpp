// The sketch against a map: what differs is told exactly, with whatever limbs, sizes and copies; and what is too much
// for it is never called complete.
#include "core/sketch.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "core/sketch_wire.hpp"
#include "random.hpp"

namespace tandem {
namespace {

using Key = std::array<std::uint64_t, kMaxLimbs>;
using Sums = std::map<Key, std::uint64_t>; // key → sum of hashes, legacy - new

Key random_key(test::Random& random, int limbs) {
    Key key{};
    for (int limb = 0; limb < limbs; limb++) {
        key[static_cast<std::size_t>(limb)] = random.below(4) == 0 ? random.below(1'000'000) : random.below(kPrime);
    }
    return key;
}

Element element(const Key& key, std::uint64_t hash) {
    return {{key[0], key[1], key[2]}, hash};
}

std::uint64_t random_hash(test::Random& random) {
    return field_hash(random());
}

// Two sides with all kinds of differences, and what they are.
struct Sides {
    std::vector<Element> legacy;
    std::vector<Element> of_new;
    Sums sums;
    std::size_t images = 0; // missing + extra + 2 · changed

    void add(const Element& row) {
        legacy.push_back(row);
        count({row.key[0], row.key[1], row.key[2]}, row.hash);
    }
    void subtract(const Element& row) {
        of_new.push_back(row);
        count({row.key[0], row.key[1], row.key[2]}, kPrime - row.hash);
    }
    void count(const Key& key, std::uint64_t hash) {
        auto& sum = sums[key];
        sum = field::add(sum, hash);
        if (sum == 0) {
            sums.erase(key);
        }
    }
};

Sides random_sides(test::Random& random, int limbs, std::size_t equal, std::size_t different) {
    Sides sides;
    for (std::size_t i = 0; i < equal; i++) {
        const Element row = element(random_key(random, limbs), random_hash(random));
        sides.add(row);
        sides.subtract(row);
    }
    for (std::size_t i = 0; i < different; i++) {
        const Key key = random_key(random, limbs);
        const std::uint64_t kind = random.below(3);
        if (kind != 0) {
            sides.add(element(key, random_hash(random)));
        }
        if (kind != 1) {
            sides.subtract(element(key, random_hash(random)));
        }
        sides.images += kind == 2 ? 2 : 1;
    }
    std::shuffle(sides.legacy.begin(), sides.legacy.end(), std::mt19937_64(random()));
    std::shuffle(sides.of_new.begin(), sides.of_new.end(), std::mt19937_64(random()));
    return sides;
}

// In slices of any length, as scans come.
void feed(Sketch& sketch, const std::vector<Element>& rows, test::Random& random, bool subtract) {
    for (std::size_t i = 0; i < rows.size();) {
        const std::size_t size = std::min<std::size_t>(rows.size() - i, random.below(100));
        const std::span slice(rows.data() + i, size);
        subtract ? sketch.subtract(slice) : sketch.add(slice);
        i += size;
    }
}

OwnedSketch sketch_of(const Sides& sides, int limbs, std::size_t cells, test::Random& random) {
    OwnedSketch sketch(limbs, cells, random());
    feed(sketch.view, sides.legacy, random, false);
    feed(sketch.view, sides.of_new, random, true);
    return sketch;
}

Sums sums_of(const Decoded& decoded) {
    Sums sums;
    for (const Difference& found : decoded.differences) {
        EXPECT_TRUE(sums.emplace(Key{found.key[0], found.key[1], found.key[2]}, found.hash_sum).second) << "told twice";
    }
    return sums;
}

// Two keys that share all four cells cannot be told apart: one sketch of 300,000 at full load is not complete, by
// chance.
constexpr int kByChance = 1;

TEST(sketch, tells_what_differs) {
    test::Random random;
    int incomplete = 0;
    for (int round = 0; round < 60; round++) {
        const int limbs = 1 + round % 3;
        const Sides sides = random_sides(random, limbs, random.below(5000), random.below(2400));
        OwnedSketch sketch = sketch_of(sides, limbs, Sketch::kMinCells, random);
        EXPECT_EQ(sketch.view.empty(), sides.sums.empty());
        const Decoded decoded = sketch.view.decode();
        EXPECT_EQ(decoded.complete, sketch.view.empty());
        if (!decoded.complete) {
            incomplete++;
            continue;
        }
        ASSERT_EQ(sums_of(decoded), sides.sums);
    }
    EXPECT_LE(incomplete, kByChance);
}

// Rows without a key: the row itself is the key, and its sum the surplus of copies.
TEST(sketch, tells_copies_of_a_multiset) {
    test::Random random;
    for (int round = 0; round < 30; round++) {
        Sides sides;
        std::map<Key, std::int64_t> surplus;
        for (std::uint64_t i = random.below(1000); i > 0; i--) {
            const Key key{random.below(kPrime), random.below(kPrime), 0};
            const std::uint64_t legacy = random.below(5);
            const std::uint64_t of_new = random.below(3) == 0 ? random.below(5) : legacy;
            for (std::uint64_t copy = 0; copy < legacy; copy++) {
                sides.add(element(key, 1));
            }
            for (std::uint64_t copy = 0; copy < of_new; copy++) {
                sides.subtract(element(key, 1));
            }
            if (legacy != of_new) {
                surplus[key] = static_cast<std::int64_t>(legacy) - static_cast<std::int64_t>(of_new);
            }
        }
        OwnedSketch sketch = sketch_of(sides, 2, Sketch::kMinCells, random);
        const Decoded decoded = sketch.view.decode();
        ASSERT_TRUE(decoded.complete);
        ASSERT_EQ(decoded.differences.size(), surplus.size());
        for (const Difference& found : decoded.differences) {
            const auto sum = static_cast<std::int64_t>(found.hash_sum);
            const std::int64_t copies = found.hash_sum > kPrime / 2 ? sum - static_cast<std::int64_t>(kPrime) : sum;
            ASSERT_EQ(copies, surplus.at({found.key[0], found.key[1], found.key[2]}));
        }
    }
}

TEST(sketch, large_tables_are_exact_too) {
    test::Random random;
    for (const int limbs : {1, 2, 3}) {
        const Sides sides = random_sides(random, limbs, 50'000, 39'000);
        OwnedSketch sketch = sketch_of(sides, limbs, 65'536, random);
        const Decoded decoded = sketch.view.decode();
        ASSERT_TRUE(decoded.complete);
        ASSERT_EQ(sums_of(decoded), sides.sums);
    }
}

// Ascending keys, as sequences give them, must be spread like any others.
TEST(sketch, ascending_keys_peel_at_full_load) {
    test::Random random;
    int incomplete = 0;
    for (int round = 0; round < 50; round++) {
        const std::uint64_t step = std::uint64_t{1} << random.below(40);
        std::vector<Element> rows;
        for (std::uint64_t i = 0; i < 2457; i++) { // 60 % of 4096
            rows.push_back(element({1 + i * step, round % 2 == 0 ? 0 : i, 0}, random_hash(random)));
        }
        OwnedSketch sketch(round % 2 == 0 ? 1 : 2, Sketch::kMinCells, random());
        sketch.view.add(rows);
        const Decoded decoded = sketch.view.decode();
        incomplete += decoded.complete ? 0 : 1;
        ASSERT_TRUE(!decoded.complete || decoded.differences.size() == rows.size());
    }
    EXPECT_LE(incomplete, kByChance);
}

TEST(sketch, too_many_differences_are_never_complete) {
    test::Random random;
    for (int round = 0; round < 60; round++) {
        const int limbs = 1 + round % 3;
        // From just over what can be peeled to many times more than there are cells.
        const Sides sides = random_sides(random, limbs, 100, 3600 + random.below(20'000) * random.below(3));
        OwnedSketch sketch = sketch_of(sides, limbs, Sketch::kMinCells, random);
        const Decoded decoded = sketch.view.decode();
        ASSERT_FALSE(decoded.complete);
        for (const auto& [key, sum] : sums_of(decoded)) { // what was told is true
            const auto found = sides.sums.find(key);
            ASSERT_TRUE(found != sides.sums.end() && found->second == sum);
        }
    }
}

TEST(sketch, what_a_limit_left_is_told_later) {
    test::Random random;
    const Sides sides = random_sides(random, 2, 1000, 2000);
    OwnedSketch sketch = sketch_of(sides, 2, Sketch::kMinCells, random);
    EXPECT_TRUE(sketch.view.decode(0).differences.empty());
    Decoded all{false, {}};
    while (!all.complete) {
        const Decoded some = sketch.view.decode(300);
        ASSERT_LE(some.differences.size(), 300u);
        ASSERT_TRUE(some.complete || some.differences.size() == 300u);
        all.complete = some.complete;
        all.differences.insert(all.differences.end(), some.differences.begin(), some.differences.end());
    }
    EXPECT_EQ(sums_of(all), sides.sums);
}

// The estimate is what a second pass is sized by: unbiased, and off by no more than sqrt(2 / cells) in most rounds.
TEST(sketch, estimate_keeps_its_error) {
    test::Random random;
    double sum = 0;
    double squares = 0;
    constexpr int kRounds = 30;
    for (int round = 0; round < kRounds; round++) {
        const int limbs = 1 + round % 3;
        const Sides sides = random_sides(random, limbs, 500, 20'000 + random.below(20'000));
        const OwnedSketch sketch = sketch_of(sides, limbs, Sketch::kMinCells, random);
        const double error = static_cast<double>(sketch.view.estimate()) / static_cast<double>(sides.images) - 1;
        const double errors = error / std::sqrt(2.0 / Sketch::kMinCells);
        EXPECT_LT(std::abs(errors), 6);
        sum += errors;
        squares += errors * errors;
    }
    EXPECT_LT(std::abs(sum / kRounds), 6 / std::sqrt(kRounds)) << "it is biased";
    EXPECT_LT(squares / kRounds, 2.5) << "it is wider than said";
}

// A multiset of different rows, where nothing but the key gives a sign.
TEST(sketch, estimate_of_a_multiset) {
    test::Random random;
    std::vector<Element> rows;
    for (std::uint64_t i = 0; i < 100'000; i++) {
        rows.push_back(element({random.below(kPrime), random.below(kPrime), 0}, 1));
    }
    OwnedSketch sketch(2, Sketch::kMinCells, random());
    sketch.view.subtract(rows);
    EXPECT_NEAR(static_cast<double>(sketch.view.estimate()), 100'000, 6 * 100'000 * std::sqrt(2.0 / 4096));
}

TEST(sketch, an_empty_sketch) {
    OwnedSketch sketch(1, Sketch::kMinCells, 1);
    EXPECT_TRUE(sketch.view.empty());
    EXPECT_EQ(sketch.view.estimate(), 0u);
    sketch.view.add({});
    const Decoded decoded = sketch.view.decode();
    EXPECT_TRUE(decoded.complete);
    EXPECT_TRUE(decoded.differences.empty());
}

TEST(sketch, added_and_subtracted_is_nothing) {
    test::Random random;
    for (int limbs = 1; limbs <= 3; limbs++) {
        for (const std::size_t cells : {std::size_t{4}, Sketch::kMinCells, std::size_t{65'536}}) {
            const Sides sides = random_sides(random, limbs, 0, 3000);
            OwnedSketch sketch(limbs, cells, random());
            feed(sketch.view, sides.legacy, random, false);
            EXPECT_FALSE(sketch.view.empty());
            auto rows = sides.legacy;
            std::shuffle(rows.begin(), rows.end(), std::mt19937_64(random()));
            feed(sketch.view, rows, random, true);
            EXPECT_TRUE(sketch.view.empty());
            EXPECT_EQ(sketch.view.estimate(), 0u);
        }
    }
}

std::vector<std::uint64_t> words_of(const Sketch& sketch) {
    return {sketch.words().begin(), sketch.words().end()};
}

TEST(sketch, merged_is_as_if_one) {
    test::Random random;
    for (int limbs = 1; limbs <= 3; limbs++) {
        const Sides sides = random_sides(random, limbs, 2000, 2000);
        OwnedSketch whole(limbs, Sketch::kMinCells, 77);
        whole.view.add(sides.legacy);
        whole.view.subtract(sides.of_new);

        std::vector<OwnedSketch> workers;
        for (int worker = 0; worker < 3; worker++) {
            workers.emplace_back(limbs, Sketch::kMinCells, 77);
        }
        for (const Element& row : sides.legacy) {
            workers[random.below(3)].view.add({&row, 1});
        }
        for (const Element& row : sides.of_new) {
            workers[random.below(3)].view.subtract({&row, 1});
        }
        ASSERT_TRUE(workers[0].view.compatible(workers[1].view));
        workers[0].view.merge(workers[1].view);
        workers[0].view.merge(workers[2].view);
        EXPECT_EQ(words_of(workers[0].view), words_of(whole.view)) << "to the bit, in whatever order";
    }
}

TEST(sketch, others_do_not_fit) {
    const OwnedSketch sketch(2, 4096, 1);
    EXPECT_FALSE(sketch.view.compatible(OwnedSketch(1, 4096, 1).view));
    EXPECT_FALSE(sketch.view.compatible(OwnedSketch(2, 8192, 1).view));
    EXPECT_FALSE(sketch.view.compatible(OwnedSketch(2, 4096, 2).view));
}

// What XOR and sums of linear hashes miss: the values of two rows exchanged, and one change made to an even number of
// rows.
TEST(sketch, exchanged_values_and_even_changes_are_seen) {
    test::Random random;
    for (int round = 0; round < 200; round++) {
        const std::uint64_t one = random_hash(random);
        const std::uint64_t other = random_hash(random);
        const Element legacy[] = {{{1, 0, 0}, one}, {{2, 0, 0}, other}};
        const Element exchanged[] = {{{1, 0, 0}, other}, {{2, 0, 0}, one}};
        OwnedSketch sketch(1, Sketch::kMinCells, random());
        sketch.view.add(legacy);
        sketch.view.subtract(exchanged);
        ASSERT_EQ(sketch.view.decode().differences.size(), 2u);

        // Rows without a key: the same row twice more.
        const Element twice[] = {{{one, other, 0}, 1}, {{one, other, 0}, 1}};
        OwnedSketch multiset(2, Sketch::kMinCells, random());
        multiset.view.add(twice);
        ASSERT_FALSE(multiset.view.empty());
        const Decoded decoded = multiset.view.decode();
        ASSERT_TRUE(decoded.complete && decoded.differences.size() == 1 && decoded.differences[0].hash_sum == 2);
    }
}

TEST(sketch, keys_and_hashes_at_their_edges) {
    const std::uint64_t edges[] = {0, 1, kPrime / 2, kPrime - 2, kPrime - 1};
    Sides sides;
    for (const auto first : edges) {
        for (const auto second : edges) {
            for (const auto third : edges) {
                sides.add(element({first, second, third}, first == 0 ? 1 : first));
            }
        }
    }
    test::Random random;
    OwnedSketch sketch = sketch_of(sides, 3, Sketch::kMinCells, random);
    const Decoded decoded = sketch.view.decode();
    EXPECT_TRUE(decoded.complete);
    EXPECT_EQ(sums_of(decoded), sides.sums);
}

TEST(sketch, cells_for_so_many_differences) {
    EXPECT_EQ(Sketch::cells_for(0), 4096u);
    EXPECT_EQ(Sketch::cells_for(2457), 4096u);
    EXPECT_EQ(Sketch::cells_for(2458), 4100u);
    EXPECT_EQ(Sketch::cells_for(600'000), 1'000'000u);
    EXPECT_EQ(Sketch::cells_for(UINT64_MAX), Sketch::kMaxCells);
    EXPECT_EQ(Sketch::cells_for(Sketch::kMaxCells), Sketch::kMaxCells);
    EXPECT_EQ(Sketch::cells_for(Sketch::kMaxCells / 5 * 3), Sketch::kMaxCells);
    test::Random random;
    for (int i = 0; i < 10'000; i++) {
        const std::uint64_t differences = random.below(std::uint64_t{1} << random.below(31));
        const std::size_t cells = Sketch::cells_for(differences);
        ASSERT_EQ(cells % 4, 0u);
        ASSERT_LE(static_cast<double>(differences), 0.6 * static_cast<double>(cells) + 1e-6);
        ASSERT_TRUE(cells == 4096 || static_cast<double>(differences) > 0.6 * static_cast<double>(cells - 4))
            << differences;
    }
    EXPECT_EQ(Sketch::bytes(1, 4096), 4096u * 32);
    EXPECT_EQ(Sketch::bytes(2, Sketch::kMaxCells), Sketch::kMaxCells * 40);
}

// Words that no rows have made: decode() ends, in a time that its size bounds, and what it leaves is not called
// complete.
TEST(sketch, forged_words_end) {
    test::Random random;
    for (int round = 0; round < 200; round++) {
        const int limbs = 1 + round % 3;
        OwnedSketch sketch(limbs, 64, random());
        auto* words = const_cast<std::uint64_t*>(sketch.view.words().data());
        const std::size_t count = sketch.view.words().size();
        const Element row = element(random_key(random, limbs), random_hash(random));
        sketch.view.add({&row, 1}); // true cells, some of them spoilt
        for (std::size_t i = 0; i < count; i++) {
            if (random.chance(round % 5 * 0.1)) {
                words[i] = random.below(4) == 0 ? kPrime - 1 : random.below(kPrime);
            }
        }
        const bool spoilt = std::any_of(words, words + count, [&](auto& word) {
            OwnedSketch pure(limbs, 64, sketch.view.seed());
            pure.view.add({&row, 1});
            return word != pure.view.words()[static_cast<std::size_t>(&word - words)];
        });
        const Decoded decoded = sketch.view.decode();
        EXPECT_LE(decoded.differences.size(), 64u);
        EXPECT_EQ(decoded.complete, !spoilt);
    }
}

// One pure cell of a key whose other cells are empty: peeling writes the key's negative into them, and they would peel
// it back, and so on.
TEST(sketch, a_key_in_one_cell_only_does_not_peel_for_ever) {
    OwnedSketch sketch(1, 4096, 5);
    const Element row = element({42, 0, 0}, 7);
    sketch.view.add({&row, 1});
    auto* words = const_cast<std::uint64_t*>(sketch.view.words().data());
    bool kept = false;
    for (std::size_t cell = 0; cell < 4096; cell++) {
        if (words[cell * 4] != 0 && !std::exchange(kept, true)) {
            continue;
        }
        std::memset(words + cell * 4, 0, 32);
    }
    ASSERT_TRUE(kept);
    const Decoded decoded = sketch.view.decode();
    EXPECT_FALSE(decoded.complete);
    EXPECT_LE(decoded.differences.size(), 4096u);
}

} // namespace
} // namespace tandem
