// The field against plain 128-bit remainders, at its edges and at random.
#include "core/mersenne.hpp"

#include <vector>

#include <gtest/gtest.h>

#include "core/element.hpp"
#include "random.hpp"

namespace tandem {
namespace {

// Values at which a carry or a borrow happens, and others.
std::vector<std::uint64_t> values(test::Random& random) {
    std::vector<std::uint64_t> some{0, 1, 2, 7, 8, 9, kPrime / 2, kPrime / 2 + 1, kPrime - 2, kPrime - 1, 1ull << 60};
    for (int i = 0; i < 200; i++) {
        some.push_back(random.below(kPrime) >> random.below(61));
    }
    return some;
}

TEST(mersenne, is_arithmetic_mod_p) {
    test::Random random;
    const auto some = values(random);
    for (const auto a : some) {
        for (const auto b : some) {
            ASSERT_EQ(field::add(a, b), (a + b) % kPrime) << a << ' ' << b;
            ASSERT_EQ(field::sub(a, b), (a + kPrime - b) % kPrime) << a << ' ' << b;
            const auto product = static_cast<std::uint64_t>(static_cast<field::Wide>(a) * b % kPrime);
            ASSERT_EQ(field::mul(a, b), product) << a << ' ' << b;
        }
        ASSERT_EQ(field::negate(a), (kPrime - a) % kPrime);
        ASSERT_EQ(field::mul(a, kPrime), 0u) << "p is 0 as a factor";
    }
}

TEST(mersenne, reduces_any_word) {
    for (const std::uint64_t value : {std::uint64_t{0}, kPrime - 1, kPrime, kPrime + 1, 2 * kPrime - 1, 2 * kPrime,
                                      7 * kPrime, 8 * kPrime, 8 * kPrime + 6, UINT64_MAX}) {
        EXPECT_EQ(field::reduce(value), value % kPrime) << value;
    }
    test::Random random;
    for (int i = 0; i < 100'000; i++) {
        const std::uint64_t value = random();
        ASSERT_EQ(field::reduce(value), value % kPrime) << value;
    }
}

TEST(mersenne, inverse_times_value_is_one) {
    test::Random random;
    for (const auto value : values(random)) {
        ASSERT_EQ(field::mul(field::inverse(value), value), value == 0 ? 0u : 1u) << value;
    }
    static_assert(field::inverse(1) == 1 && field::inverse(kPrime - 1) == kPrime - 1);
}

TEST(element, a_hash_is_never_zero) {
    EXPECT_EQ(field_hash(0), 1u);
    EXPECT_EQ(field_hash(kPrime), 1u);
    EXPECT_EQ(field_hash(2 * kPrime), 1u);
    EXPECT_EQ(field_hash(kPrime - 1), kPrime - 1);
    EXPECT_EQ(field_hash(UINT64_MAX), UINT64_MAX % kPrime);
}

// Limbs hold every value of their type, and no two values alike.
TEST(element, limbs_are_below_p_and_hold_all_bits) {
    test::Random random;
    for (int i = 0; i < 10'000; i++) {
        const std::uint64_t high = i < 4 ? 0 - static_cast<std::uint64_t>(i % 2) : random();
        const std::uint64_t low = i < 4 ? 0 - static_cast<std::uint64_t>(i / 2) : random();
        std::uint64_t two[2];
        limbs_of(low, two);
        ASSERT_TRUE(two[0] < kPrime && two[1] < kPrime);
        ASSERT_EQ(two[0] | two[1] << kLimbBits, low);
        std::uint64_t three[3];
        limbs_of(high, low, three);
        ASSERT_TRUE(three[0] < kPrime && three[1] < kPrime && three[2] < kPrime);
        ASSERT_EQ(three[0] | three[1] << 60, low);
        ASSERT_EQ(three[1] >> 4 | three[2] << 56, high);
    }
}

} // namespace
} // namespace tandem
