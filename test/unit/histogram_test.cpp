// Percentiles of a histogram against exact ones, its buckets against their definition, its bytes against any others.
#include "core/histogram.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include <gtest/gtest.h>

#include "core/error.hpp"
#include "random.hpp"

namespace tandem {
namespace {

// A duration of any magnitude: as many in each octave.
std::uint64_t some_duration(test::Random& random) {
    const auto octave = random.below(37);
    return octave == 0 ? 0 : (std::uint64_t{1} << (octave - 1)) + random.below(std::uint64_t{1} << (octave - 1));
}

// As percentile_disc() has it.
std::uint64_t exact(const std::vector<std::uint64_t>& sorted, double share) {
    const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(sorted.size())));
    return sorted[std::max<std::size_t>(rank, 1) - 1];
}

std::string refusal(std::span<const std::byte> bytes) {
    Histogram histogram;
    histogram.add(7);
    try {
        merge_serialised(histogram, bytes);
        return {};
    } catch (const Error& error) {
        EXPECT_STREQ(error.sqlstate(), "22P03");
        EXPECT_EQ(histogram.count(), 1u) << "what is refused changes nothing";
        return error.detail();
    }
}

template <class... T>
std::vector<std::byte> make_bytes(T... values) {
    return {std::byte(values)...};
}

TEST(histogram, buckets_follow_one_another_without_gap) {
    std::uint64_t next = 0;
    for (unsigned i = 0; i < kHistogramBuckets; i++) {
        const HistogramRange range = histogram_range(i);
        ASSERT_EQ(range.first, next) << i;
        ASSERT_EQ(histogram_bucket(range.first), i);
        ASSERT_EQ(histogram_bucket(range.last), i);
        const double middle = static_cast<double>(range.first + range.last) / 2;
        ASSERT_LE(middle - static_cast<double>(range.first), static_cast<double>(range.first) / 64) << i;
        next = range.last + 1;
    }
    EXPECT_EQ(next, kHistogramLargest + 1);
    EXPECT_EQ(histogram_bucket(UINT64_MAX), kHistogramBuckets - 1);
    EXPECT_GE(kHistogramLargest, std::uint64_t{19} * 3600 * 1'000'000);
}

TEST(histogram, percentiles_are_near_the_exact_ones) {
    test::Random random;
    double worst = 0;
    for (int round = 0; round < 300; round++) {
        std::vector<std::uint64_t> sample(1 + random.below(2000));
        const std::uint64_t narrow = random.chance(0.5) ? 1 + some_duration(random) : 0;
        Histogram histogram;
        for (auto& us : sample) {
            us = narrow == 0 ? some_duration(random) : narrow + random.below(narrow);
            us = std::min(us, kHistogramLargest);
            histogram.add(us);
        }
        std::sort(sample.begin(), sample.end());
        ASSERT_EQ(histogram.count(), sample.size());
        for (const double share : {0.0, 0.001, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0}) {
            const auto wanted = static_cast<double>(exact(sample, share));
            const double got = histogram.percentile(share).value();
            const double error = wanted == 0 ? got : std::abs(got - wanted) / wanted;
            ASSERT_LE(error, 1.0 / 64) << share << " of " << sample.size() << ": " << got << ", not " << wanted;
            worst = std::max(worst, error);
        }
    }
    RecordProperty("worst_error_percent", std::to_string(100 * worst));
}

TEST(histogram, of_nothing_tells_nothing) {
    Histogram histogram;
    EXPECT_FALSE(histogram.percentile(0.5).has_value());
    histogram.add(5);
    EXPECT_FALSE(histogram.percentile(-0.1).has_value());
    EXPECT_FALSE(histogram.percentile(1.1).has_value());
    EXPECT_FALSE(histogram.percentile(std::nan("")).has_value());
    EXPECT_EQ(histogram.percentile(0), 5.0);
}

TEST(histogram, merging_is_counting_together) {
    test::Random random;
    for (int round = 0; round < 100; round++) {
        Histogram all;
        Histogram sum;
        for (auto parts = 1 + random.below(5); parts > 0; parts--) {
            Histogram part;
            for (auto n = random.below(300); n > 0; n--) {
                const std::uint64_t us = some_duration(random);
                const std::uint64_t times = 1 + random.below(1000);
                part.add(us, times);
                all.add(us, times);
            }
            random.chance(0.5) ? sum.merge(part) : merge_serialised(sum, serialise(part));
        }
        ASSERT_EQ(sum.count(), all.count());
        ASSERT_EQ(serialise(sum), serialise(all));
    }
}

// The form is a promise: it stands in tables.
TEST(histogram, the_form_is_stable) {
    Histogram histogram;
    EXPECT_EQ(serialise(histogram), make_bytes(1));
    histogram.add(0);
    histogram.add(3, 300);
    histogram.add(UINT64_MAX);
    EXPECT_EQ(serialise(histogram), make_bytes(1, 0, 1, 2, 0xac, 2, 0xfb, 7, 1));
    for (unsigned i = 0; i < kHistogramBuckets; i++) {
        histogram.add_bucket(i, UINT64_MAX >> 24);
    }
    EXPECT_LE(serialise(histogram).size(), kHistogramBytes);
    EXPECT_EQ(refusal(serialise(histogram)), "");
}

TEST(histogram, what_is_none_is_refused) {
    EXPECT_NE(refusal({}), "");
    EXPECT_NE(refusal(make_bytes(2)).find("version 2"), std::string::npos);
    EXPECT_NE(refusal(make_bytes(1, 5)).find("ends within"), std::string::npos) << "a bucket without its count";
    EXPECT_NE(refusal(make_bytes(1, 5, 0x80)).find("ends within"), std::string::npos);
    EXPECT_NE(refusal(make_bytes(1, 5, 0x80, 0)).find("longer"), std::string::npos);
    EXPECT_NE(refusal(make_bytes(1, 5, 0)).find("counts 0"), std::string::npos);
    EXPECT_NE(refusal(make_bytes(1, 0x80, 8, 1)).find("bucket 1024"), std::string::npos);
    EXPECT_NE(refusal(make_bytes(1, 0xff, 7, 1, 0, 1)).find("bucket 1024"), std::string::npos) << "one after the last";
    EXPECT_NE(refusal(make_bytes(1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f)).find("counts"), std::string::npos);
    EXPECT_NE(refusal(make_bytes(1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1)).find("too large"), std::string::npos);
    EXPECT_EQ(refusal(make_bytes(1, 0xff, 7, 1)), "");
}

} // namespace
} // namespace tandem
