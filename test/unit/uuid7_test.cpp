// Ids by RFC 9562: version, variant, the time in front; strictly ascending also when the clock is not.
#include "core/uuid7.hpp"

#include <algorithm>
#include <array>
#include <cstdint>

#include <gtest/gtest.h>

namespace tandem {
namespace {

using Id = std::array<unsigned char, 16>;

Id make(Uuid7& maker, std::uint64_t microseconds, unsigned char random_byte = 0xff) {
    unsigned char random[8];
    std::fill_n(random, 8, random_byte);
    Id id{};
    maker.make(microseconds, random, id.data());
    return id;
}

std::uint64_t milliseconds(const Id& id) {
    std::uint64_t result = 0;
    for (int i = 0; i < 6; i++) {
        result = result << 8 | id[static_cast<std::size_t>(i)];
    }
    return result;
}

TEST(uuid7, has_its_version_variant_and_time) {
    for (const unsigned char random : {0x00, 0xff, 0x5a}) {
        Uuid7 maker;
        const Id id = make(maker, 1'700'000'000'123'456, random);
        EXPECT_EQ(id[6] >> 4, 7);
        EXPECT_EQ(id[8] >> 6, 2);
        EXPECT_EQ(milliseconds(id), 1'700'000'000'123U);
        EXPECT_EQ(((id[6] & 0x0f) << 8 | id[7]), 456 * 4096 / 1000);
    }
}

TEST(uuid7, ascends_whatever_the_clock_does) {
    Uuid7 maker;
    std::uint64_t clock = 1'700'000'000'000'000;
    Id last = make(maker, clock);
    std::uint64_t random = 1;
    for (int i = 0; i < 200'000; i++) {
        random = random * 6364136223846793005U + 1442695040888963407U;
        switch (random >> 62) {
        case 0:
            break; // stands still
        case 1:
            clock += random >> 40 & 0xff;
            break;
        case 2:
            clock -= random >> 40 & 0xfffff; // is set back
            break;
        default:
            clock += 1;
        }
        const Id id = make(maker, clock, static_cast<unsigned char>(random >> 32));
        ASSERT_LT(last, id) << "id " << i;
        ASSERT_EQ(id[6] >> 4, 7);
        ASSERT_EQ(id[8] >> 6, 2);
        last = id;
    }
}

TEST(uuid7, survives_the_ends_of_time) {
    Uuid7 maker;
    EXPECT_EQ(milliseconds(make(maker, 0)), 0U);
    const Id late = make(maker, (std::uint64_t{1} << 48) * 1000 - 1);
    EXPECT_EQ(milliseconds(late), (std::uint64_t{1} << 48) - 1);
}

} // namespace
} // namespace tandem
