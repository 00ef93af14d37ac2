// Buckets decide for ever who is a canary: monotone, uniform, stable, whatever the key is made of.
#include "core/bucket.hpp"

#include <climits>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace tandem {
namespace {

TEST(bucket, is_in_range) {
    std::mt19937_64 random(1);
    for (int i = 0; i < 20'000; i++) {
        ASSERT_LT(bucket_of(random(), std::to_string(random())), kBuckets);
    }
}

// A key that is new at a weight is new at every higher one: a promotion never moves a key back.
TEST(bucket, weights_are_monotone) {
    for (std::uint32_t bucket = 0; bucket < kBuckets; bucket++) {
        EXPECT_FALSE(bucket_is_new(bucket, 0)) << "nobody at 0 %";
        EXPECT_TRUE(bucket_is_new(bucket, 100)) << "everybody at 100 %";
        for (int weight = 1; weight <= 100; weight++) {
            ASSERT_GE(bucket_is_new(bucket, weight), bucket_is_new(bucket, weight - 1)) << bucket << " at " << weight;
        }
    }
}

TEST(bucket, weight_is_the_share_of_buckets) {
    for (int weight = 0; weight <= 100; weight++) {
        std::uint32_t count = 0;
        for (std::uint32_t bucket = 0; bucket < kBuckets; bucket++) {
            count += bucket_is_new(bucket, weight) ? 1 : 0;
        }
        EXPECT_EQ(count, static_cast<std::uint32_t>(weight) * kBuckets / 100);
    }
}

// A weight that cannot be must not send traffic to the side that is not proven.
TEST(bucket, impossible_weights) {
    for (const std::uint32_t bucket : {0u, 1u, 5'000u, kBuckets - 1}) {
        EXPECT_FALSE(bucket_is_new(bucket, -1));
        EXPECT_FALSE(bucket_is_new(bucket, INT_MIN));
        EXPECT_TRUE(bucket_is_new(bucket, 101));
        EXPECT_TRUE(bucket_is_new(bucket, INT_MAX));
    }
}

// Pearson's chi-square over all buckets; for d degrees of freedom it is d ± sqrt(2d). Fixed keys, so that it
// never fails by chance.
double chi_square(const std::vector<int>& counts, double expected) {
    double sum = 0;
    for (const int count : counts) {
        sum += (count - expected) * (count - expected) / expected;
    }
    return sum;
}

void expect_uniform(const std::vector<int>& counts, int keys) {
    const double freedom = static_cast<double>(counts.size()) - 1;
    const double found = chi_square(counts, static_cast<double>(keys) / static_cast<double>(counts.size()));
    EXPECT_NEAR(found, freedom, 5 * std::sqrt(2 * freedom));
}

TEST(bucket, keys_are_spread_evenly) {
    constexpr int kKeys = 200'000;
    std::vector<int> ascending(kBuckets);
    std::vector<int> random_bytes(kBuckets);
    std::mt19937_64 random(20'240'229);
    for (int i = 0; i < kKeys; i++) {
        ascending[bucket_of(42, std::to_string(i))]++; // what a serial key looks like
        const std::uint64_t words[2] = {random(), random()};
        random_bytes[bucket_of(42, {reinterpret_cast<const char*>(words), sizeof(words)})]++; // a uuid
    }
    expect_uniform(ascending, kKeys);
    expect_uniform(random_bytes, kKeys);
}

// One key under many salts is spread just as evenly: no customer is always the canary.
TEST(bucket, salts_are_spread_evenly) {
    constexpr int kSalts = 200'000;
    std::vector<int> counts(kBuckets);
    for (int salt = 0; salt < kSalts; salt++) {
        counts[bucket_of(static_cast<std::uint64_t>(salt), "customer-1")]++;
    }
    expect_uniform(counts, kSalts);
}

TEST(bucket, another_salt_chooses_other_keys) {
    int first = 0;
    int both = 0;
    for (int i = 0; i < 100'000; i++) {
        const std::string key = std::to_string(i);
        if (bucket_is_new(bucket_of(1, key), 5)) {
            first++;
            both += bucket_is_new(bucket_of(2, key), 5) ? 1 : 0;
        }
    }
    EXPECT_NEAR(first, 5'000, 350);
    EXPECT_NEAR(both, first * 0.05, 80) << "the two choices are independent";
}

// These values are a promise: a server of another year or another architecture must give the same ones. XXH3
// of nothing with seed 0 is 2d06800538d394c2 in xxHash's own tests: 0x2d06… / 2^64 · 10000 = 1758.
TEST(bucket, values_are_stable) {
    EXPECT_EQ(bucket_of(0, ""), 1758u);
    EXPECT_EQ(bucket_of(0, "1"), 3976u);
    EXPECT_EQ(bucket_of(0, "2"), 9827u);
    EXPECT_EQ(bucket_of(42, "1"), 8500u);
    EXPECT_EQ(bucket_of(42, "customer-1"), 5890u);
    EXPECT_EQ(bucket_of(UINT64_MAX, "customer-1"), 3300u);
    EXPECT_EQ(bucket_of(42, "9f0d1c52-6b7e-4b8e-9d38-0a1b2c3d4e5f"), 9990u);
    EXPECT_EQ(bucket_of(42, "\xff\xfe\x80"), 4047u);
    EXPECT_EQ(bucket_of(42, "K\xc3\xb6ln"), 9393u);
    EXPECT_EQ(bucket_of(42, std::string(200, 'k')), 1964u);
    EXPECT_EQ(bucket_of(42, std::string(1'000'000, 'k')), 3618u);
}

TEST(bucket, every_byte_counts) {
    const std::string nul("a\0b", 3);
    EXPECT_NE(bucket_of(7, nul), bucket_of(7, "a"));
    EXPECT_NE(bucket_of(7, nul), bucket_of(7, "ab"));
    for (std::size_t size : {1u, 8u, 16u, 17u, 36u, 128u, 129u, 200u, 240u, 241u, 1'000u, 1'000'000u}) {
        std::string key(size, 'k');
        const std::uint32_t before = bucket_of(7, key);
        int changed = 0;
        for (const char last : {'\x01', '\x7f', '\x80', '\xff'}) {
            key.back() = last;
            changed += bucket_of(7, key) != before ? 1 : 0;
        }
        EXPECT_GE(changed, 3) << size; // one may fall into the same bucket by chance
    }
}

// The same bytes give the same bucket wherever they lie.
TEST(bucket, alignment_does_not_matter) {
    const std::string key = "9f0d1c52-6b7e-4b8e-9d38-0a1b2c3d4e5f";
    for (std::size_t offset = 0; offset < 32; offset++) {
        const std::string padded = std::string(offset, '.') + key;
        EXPECT_EQ(bucket_of(3, std::string_view(padded).substr(offset)), bucket_of(3, key));
    }
    EXPECT_EQ(bucket_of(3, std::string_view{}), bucket_of(3, ""));
}

} // namespace
} // namespace tandem
