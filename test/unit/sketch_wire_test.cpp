// A sketch that comes over the wire is what was sent, or is refused with a reason; whatever the bytes are.
#include "core/sketch_wire.hpp"

#include <cstring>
#include <string>

#include <gtest/gtest.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/error.hpp"
#include "random.hpp"

namespace tandem {
namespace {

using Bytes = std::vector<std::byte>;

OwnedSketch some_sketch(test::Random& random, int limbs, std::size_t cells) {
    OwnedSketch sketch(limbs, cells, random());
    for (int i = 0; i < 20; i++) {
        Element row{{}, field_hash(random())};
        for (int limb = 0; limb < limbs; limb++) {
            row.key[limb] = random.below(kPrime);
        }
        sketch.view.add({&row, 1});
    }
    return sketch;
}

// Why the bytes were refused; empty: they were not.
std::string refusal(std::span<const std::byte> bytes) {
    try {
        deserialise(bytes);
        return {};
    } catch (const Error& error) {
        EXPECT_STREQ(error.sqlstate(), "22P03");
        EXPECT_STREQ(error.what(), "invalid sketch");
        EXPECT_NE(error.detail(), "");
        return error.detail();
    }
}

void put(Bytes& bytes, std::size_t word, std::uint64_t value) {
    std::memcpy(bytes.data() + word * 8, &value, 8);
}

// As somebody would who knows how checksums are made.
void sum_up(Bytes& bytes) {
    put(bytes, bytes.size() / 8 - 1, XXH3_64bits(bytes.data(), bytes.size() - 8));
}

TEST(sketch_wire, arrives_as_it_was_sent) {
    test::Random random;
    for (int limbs = 1; limbs <= 3; limbs++) {
        for (const std::size_t cells : {4u, 8u, 4096u, 4100u}) {
            const OwnedSketch sent = some_sketch(random, limbs, cells);
            OwnedSketch got = deserialise(serialise(sent.view));
            ASSERT_TRUE(got.view.compatible(sent.view));
            ASSERT_TRUE(std::equal(got.view.words().begin(), got.view.words().end(), sent.view.words().begin(),
                                   sent.view.words().end()));
            EXPECT_EQ(reinterpret_cast<std::uintptr_t>(got.view.words().data()) % 64, 0u);
            const OwnedSketch moved = std::move(got);
            EXPECT_EQ(moved.view.estimate(), sent.view.estimate());
        }
    }
}

// The form is a promise between servers of different releases.
TEST(sketch_wire, the_form_is_stable) {
    OwnedSketch sketch(1, 4, 42);
    const Bytes bytes = serialise(sketch.view);
    ASSERT_EQ(bytes.size(), 5 * 8 + 4 * 4 * 8 + 8u);
    EXPECT_EQ(
        std::memcmp(bytes.data(), "tandemSK\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0\x2a\0\0\0\0\0\0\0", 40), 0);
    // So are the cells that a key chooses: both sides must choose the same.
    const Element rows[] = {{{1, 0, 0}, 1}, {{123456789, 0, 0}, kPrime - 1}};
    sketch.view.add(rows);
    EXPECT_EQ(XXH3_64bits(sketch.view.words().data(), Sketch::bytes(1, 4)), 8238274133074473517u)
        << "change kVersion with this value";
}

TEST(sketch_wire, a_cut_or_changed_sketch_is_refused) {
    test::Random random;
    for (int limbs = 1; limbs <= 3; limbs++) {
        const Bytes bytes = serialise(some_sketch(random, limbs, 8).view);
        EXPECT_EQ(refusal(bytes), "");
        for (std::size_t size = 0; size < bytes.size(); size++) {
            ASSERT_NE(refusal({bytes.data(), size}), "") << size;
        }
        Bytes longer = bytes;
        longer.push_back(std::byte{0});
        EXPECT_NE(refusal(longer), "");
        for (std::size_t i = 0; i < bytes.size(); i++) {
            for (const unsigned flip : {1u, 128u, 255u}) {
                Bytes changed = bytes;
                changed[i] ^= std::byte(flip);
                ASSERT_NE(refusal(changed), "") << "byte " << i;
            }
        }
    }
}

TEST(sketch_wire, lies_with_a_right_checksum_are_refused) {
    test::Random random;
    const Bytes good = serialise(some_sketch(random, 1, 8).view);
    const auto with = [&](std::size_t word, std::uint64_t value) {
        Bytes bytes = good;
        put(bytes, word, value);
        sum_up(bytes);
        return refusal(bytes);
    };
    EXPECT_NE(with(0, 0).find("begin"), std::string::npos);
    EXPECT_NE(with(1, 2).find("version 2"), std::string::npos);
    for (const std::uint64_t limbs : {std::uint64_t{0}, std::uint64_t{4}, std::uint64_t{1} << 32 | 1, UINT64_MAX}) {
        EXPECT_NE(with(2, limbs).find("limbs"), std::string::npos) << limbs;
    }
    EXPECT_NE(with(2, 2).find("take"), std::string::npos) << "cells of two limbs are larger";
    // Sizes at which a product would overflow, or that somebody might allocate first.
    for (const std::uint64_t cells :
         {std::uint64_t{0}, std::uint64_t{2}, std::uint64_t{9}, std::uint64_t{12}, Sketch::kMaxCells,
          Sketch::kMaxCells + 4, std::uint64_t{1} << 59, (std::uint64_t{1} << 59) + 8, UINT64_MAX - 3}) {
        EXPECT_NE(with(3, cells).find(std::to_string(cells) + " cells"), std::string::npos) << cells;
    }
    EXPECT_EQ(with(4, 99), "") << "any seed is one";
    EXPECT_NE(with(5, kPrime).find("Word 0"), std::string::npos);
    EXPECT_NE(with(5 + 31, UINT64_MAX).find("Word 31"), std::string::npos);
    EXPECT_EQ(with(5 + 31, kPrime - 1), "");
}

TEST(sketch_wire, any_bytes_are_refused) {
    test::Random random;
    for (int round = 0; round < 2000; round++) {
        Bytes bytes(random.below(400));
        for (auto& byte : bytes) {
            byte = std::byte(random());
        }
        ASSERT_NE(refusal(bytes), "");
    }
}

} // namespace
} // namespace tandem
