// The set of keys against std::set, at sizes with and without the bitmap in front.
#include "core/key_set.hpp"

#include <array>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "core/error.hpp"
#include "random.hpp"

namespace tandem {
namespace {

using Key = std::array<std::uint64_t, kMaxLimbs>;

Key random_key(test::Random& random, int limbs, std::uint64_t limit) {
    Key key{};
    for (int limb = 0; limb < limbs; limb++) {
        key[static_cast<std::size_t>(limb)] = random.below(limit);
    }
    return key;
}

TEST(key_set, holds_what_a_set_holds) {
    test::Random random;
    for (int round = 0; round < 60; round++) {
        const int limbs = 1 + round % 3;
        const std::size_t capacity = random.below(2000);
        const std::uint64_t limit = round % 2 == 0 ? kPrime : 2 + random.below(1000); // few values: many repeat
        const std::uint64_t seed = random();
        std::vector<std::uint64_t> memory(KeySet::bytes(capacity, limbs) / 8);
        KeySet keys(memory.data(), limbs, capacity, seed);
        std::set<Key> oracle;
        for (int i = 0; i < 4000 && oracle.size() < capacity; i++) {
            const Key key = random_key(random, limbs, limit);
            ASSERT_EQ(keys.insert(key.data()), oracle.insert(key).second);
            ASSERT_EQ(keys.size(), oracle.size());
        }
        const KeySet other_view(memory.data(), limbs, capacity, seed); // as another process has one
        for (const Key& key : oracle) {
            other_view.prefetch(key.data());
            ASSERT_TRUE(other_view.contains(key.data()));
        }
        for (int i = 0; i < 4000; i++) {
            const Key key = random_key(random, limbs, limit);
            ASSERT_EQ(other_view.contains(key.data()), oracle.contains(key));
        }
        EXPECT_EQ(other_view.size(), oracle.size());
    }
}

TEST(key_set, of_no_keys) {
    std::vector<std::uint64_t> memory(KeySet::bytes(0, 3) / 8);
    KeySet keys(memory.data(), 3, 0, 1);
    const Key key{};
    EXPECT_FALSE(keys.contains(key.data()));
    EXPECT_EQ(keys.size(), 0u);
    EXPECT_THROW(keys.insert(key.data()), Error);
}

TEST(key_set, a_full_set_says_so) {
    std::vector<std::uint64_t> memory(KeySet::bytes(2, 1) / 8);
    KeySet keys(memory.data(), 1, 2, 1);
    const Key all[] = {{0, 0, 0}, {kPrime - 1, 0, 0}, {1, 0, 0}};
    EXPECT_TRUE(keys.insert(all[0].data()));
    EXPECT_TRUE(keys.insert(all[1].data()));
    EXPECT_FALSE(keys.insert(all[1].data())) << "it was there";
    try {
        keys.insert(all[2].data());
        ADD_FAILURE() << "a key was dropped";
    } catch (const Error& error) {
        EXPECT_STREQ(error.sqlstate(), "XX000");
    }
    EXPECT_TRUE(keys.contains(all[0].data()));
    EXPECT_FALSE(keys.contains(all[2].data()));
}

// The last limb counts, and so does the order of limbs.
TEST(key_set, near_keys_are_other_keys) {
    std::vector<std::uint64_t> memory(KeySet::bytes(10, 3) / 8);
    KeySet keys(memory.data(), 3, 10, 1);
    const Key key{1, 2, 3};
    keys.insert(key.data());
    for (const Key& near : {Key{1, 2, 4}, Key{1, 3, 2}, Key{2, 1, 3}, Key{3, 2, 1}, Key{0, 0, 0}, Key{1, 2, 0}}) {
        EXPECT_FALSE(keys.contains(near.data()));
    }
}

// More keys than the bitmap is for; and ascending ones, which must not crowd.
TEST(key_set, a_million_keys) {
    test::Random random;
    constexpr std::size_t kKeys = 1'000'000;
    std::vector<std::uint64_t> memory(KeySet::bytes(kKeys, 1) / 8);
    EXPECT_LE(memory.size(), kKeys * 2 + 100);
    KeySet keys(memory.data(), 1, kKeys, random());
    for (std::uint64_t i = 0; i < kKeys; i++) {
        const Key key{i * 2, 0, 0};
        keys.insert(key.data());
    }
    ASSERT_EQ(keys.size(), kKeys);
    for (std::uint64_t i = 0; i < 2 * kKeys; i += 1 + random.below(10)) {
        const Key key{i, 0, 0};
        ASSERT_EQ(keys.contains(key.data()), i % 2 == 0);
    }
}

} // namespace
} // namespace tandem
