// The match table against a map: duplicates, skew, growth; and the partitions that feed it.
#include "core/match_table.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include <gtest/gtest.h>

#include "random.hpp"

namespace tandem {
namespace {

using Key = std::array<std::uint64_t, kMaxLimbs>;

struct Counts {
    std::uint64_t hash_sum = 0;
    std::uint32_t legacy_copies = 0;
    std::uint32_t new_copies = 0;
    bool operator==(const Counts&) const = default;
};
using Oracle = std::map<Key, Counts>;

Oracle differences_of(const MatchTable& table, bool keyed) {
    Oracle found;
    table.differences(keyed, [&](const MatchTable::Entry& entry) {
        const Key key{entry.key[0], entry.key[1], entry.key[2]};
        EXPECT_TRUE(found.emplace(key, Counts{entry.hash_sum, entry.legacy_copies, entry.new_copies}).second);
    });
    return found;
}

Oracle expected(const Oracle& all, bool keyed) {
    Oracle found;
    for (const auto& [key, counts] : all) {
        const bool repeated = counts.legacy_copies > 1 || counts.new_copies > 1;
        if (counts.hash_sum != 0 || counts.legacy_copies != counts.new_copies || (keyed && repeated)) {
            found[key] = counts;
        }
    }
    return found;
}

TEST(match_table, counts_as_a_map_does) {
    test::Random random;
    for (int round = 0; round < 60; round++) {
        const int limbs = 1 + round % 3;
        const std::uint64_t keys = 1 + random.below(3000);
        MatchTable table(limbs, random.below(2) == 0 ? 0 : keys, random());
        Oracle all;
        std::vector<Element> batch;
        for (std::uint64_t rows = random.below(6000); rows > 0;) {
            const bool legacy = random.below(2) == 0;
            batch.clear();
            for (std::uint64_t i = random.below(90); i > 0 && rows > 0; i--, rows--) {
                Element row{{}, field_hash(random.below(3))}; // few hashes, so that many rows are equal
                for (int limb = 0; limb < limbs; limb++) {
                    row.key[limb] = limb == 0 ? random.below(keys) : random.below(2);
                }
                batch.push_back(row);
                Counts& counts = all[{row.key[0], row.key[1], row.key[2]}];
                counts.hash_sum = field::add(counts.hash_sum, legacy ? row.hash : kPrime - row.hash);
                (legacy ? counts.legacy_copies : counts.new_copies)++;
            }
            legacy ? table.add_legacy(batch) : table.add_new(batch);
        }
        ASSERT_EQ(table.entries(), all.size());
        ASSERT_EQ(differences_of(table, true), expected(all, true));
        ASSERT_EQ(differences_of(table, false), expected(all, false));
    }
}

TEST(match_table, one_key_a_million_times) {
    MatchTable table(2, 1000);
    const std::vector<Element> rows(1000, Element{{7, 8, 0}, 3});
    for (int i = 0; i < 1000; i++) {
        table.add_legacy(rows);
    }
    const std::size_t bytes = table.bytes();
    table.add_new(rows);
    EXPECT_EQ(table.entries(), 1u);
    EXPECT_EQ(table.bytes(), bytes);
    const Oracle found = differences_of(table, false);
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found.begin()->second, (Counts{3 * 999'000, 1'000'000, 1000}));
}

TEST(match_table, equal_sides_differ_only_where_keys_repeat) {
    MatchTable table(1, 0);
    const Element rows[] = {{{0, 0, 0}, 1}, {{1, 0, 0}, 5}, {{1, 0, 0}, 5}, {{kPrime - 1, 0, 0}, kPrime - 1}};
    table.add_legacy(rows);
    table.add_new(rows);
    EXPECT_TRUE(differences_of(table, false).empty());
    EXPECT_EQ(differences_of(table, true), (Oracle{{{1, 0, 0}, Counts{0, 2, 2}}}));
}

// The hashes cancel, the copies do not.
TEST(match_table, copies_count_where_hashes_cancel) {
    MatchTable table(1, 0);
    const Element two[] = {{{1, 0, 0}, 2}, {{1, 0, 0}, 3}};
    const Element one[] = {{{1, 0, 0}, 5}};
    table.add_legacy(two);
    table.add_new(one);
    EXPECT_EQ(differences_of(table, false), (Oracle{{{1, 0, 0}, Counts{0, 2, 1}}}));
}

TEST(match_table, grows_and_is_used_again) {
    test::Random random;
    MatchTable table(3, 10);
    EXPECT_EQ(table.bytes(), MatchTable::bytes_for(3, 10));
    for (int use = 0; use < 3; use++) {
        std::vector<Element> rows;
        for (int i = 0; i < 50'000; i++) {
            rows.push_back({{random.below(kPrime), random.below(kPrime), random.below(kPrime)}, field_hash(random())});
        }
        table.add_legacy(rows);
        std::shuffle(rows.begin(), rows.end(), std::mt19937_64(random()));
        const Element odd = rows.back();
        rows.pop_back();
        table.add_new(rows);
        EXPECT_EQ(table.entries(), 50'000u);
        const Oracle found = differences_of(table, true);
        ASSERT_EQ(found.size(), 1u);
        EXPECT_EQ(found.begin()->second, (Counts{odd.hash, 1, 0}));
        const std::size_t bytes = table.bytes();
        table.clear();
        EXPECT_EQ(table.entries(), 0u);
        EXPECT_EQ(table.bytes(), bytes);
        EXPECT_TRUE(differences_of(table, true).empty());
    }
}

TEST(match_table, has_room_for_what_is_expected) {
    test::Random random;
    for (const std::size_t keys : {0u, 1u, 31u, 32u, 33u, 1000u, 4096u, 65'537u}) {
        MatchTable table(2, keys);
        const std::size_t bytes = table.bytes();
        EXPECT_EQ(bytes, MatchTable::bytes_for(2, keys));
        for (std::size_t i = 0; i < keys; i++) {
            const Element row{{i, random.below(kPrime), 0}, 1};
            table.add_legacy({&row, 1});
        }
        EXPECT_EQ(table.bytes(), bytes) << keys;
    }
}

// Partitions of ascending and of random keys are as even as chance makes them, at every level.
TEST(radix_of, partitions_are_even_and_levels_independent) {
    test::Random random;
    const std::uint64_t seed = random();
    constexpr int kBits = 6;
    constexpr int kPartitions = 1 << kBits;
    constexpr int kRows = 200'000;
    for (const int kind : {0, 1, 2, 3}) {
        std::vector<int> first(kPartitions);
        std::vector<int> both(kPartitions * kPartitions);
        for (std::uint64_t i = 0; i < kRows; i++) {
            Element row{{i, 0, 0}, 1};
            if (kind == 1) {
                row = {{random.below(kPrime), random.below(kPrime), 0}, 1};
            } else if (kind == 2) {
                row = {{i % 100, i / 100, 0}, 1};
            } else if (kind == 3) {
                row = {{1, 1, i << 20}, 1};
            }
            const int one = radix_of(row, kBits, seed);
            const int two = radix_of(row, kBits, kBits, seed);
            ASSERT_TRUE(one >= 0 && one < kPartitions && two >= 0 && two < kPartitions);
            ASSERT_EQ(radix_of(row, 0, 2 * kBits, seed), two << kBits | one);
            first[static_cast<std::size_t>(one)]++;
            both[static_cast<std::size_t>(two << kBits | one)]++;
        }
        for (const auto* counts : {&first, &both}) { // chi-square: d ± sqrt(2d)
            const double mean = static_cast<double>(kRows) / static_cast<double>(counts->size());
            double sum = 0;
            for (const int count : *counts) {
                sum += (count - mean) * (count - mean) / mean;
            }
            const double freedom = static_cast<double>(counts->size()) - 1;
            EXPECT_LT(sum, freedom + 7 * std::sqrt(2 * freedom)) << "kind " << kind;
        }
    }
}

TEST(radix_of, a_hash_of_the_key_alone) {
    const Element one{{1, 2, 3}, 4};
    const Element other{{1, 2, 3}, 5};
    EXPECT_EQ(radix_of(one, 12, 9), radix_of(other, 12, 9));
    EXPECT_EQ(radix_of(one, 0, 9), 0) << "no bits: one partition";
}

} // namespace
} // namespace tandem
