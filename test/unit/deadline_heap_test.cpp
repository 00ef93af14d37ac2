// The deadline heap against std::multimap.
#include "core/deadline_heap.hpp"

#include <map>

#include <gtest/gtest.h>

#include "random.hpp"

namespace tandem {
namespace {

using Oracle = std::multimap<std::int64_t, std::pair<std::uint64_t, std::uint64_t>>;

// Takes the entry out of the oracle; false where it does not stand there.
bool take(Oracle& oracle, const Deadline& deadline) {
    const auto [begin, end] = oracle.equal_range(deadline.time);
    for (auto it = begin; it != end; ++it) {
        if (it->second == std::pair{deadline.id_high, deadline.id_low}) {
            oracle.erase(it);
            return true;
        }
    }
    return false;
}

TEST(deadline_heap, gives_what_a_multimap_gives) {
    test::Random random;
    for (int round = 0; round < 50; round++) {
        DeadlineHeap heap;
        Oracle oracle;
        const std::uint64_t times = 1 + random.below(round % 2 == 0 ? 20 : 1'000'000); // with and without equal ones
        const double growth = 0.3 + 0.5 * static_cast<double>(random.below(1000)) / 1000;
        for (int step = 0; step < 3000; step++) {
            if (heap.empty() || random.chance(growth)) {
                const Deadline deadline{static_cast<std::int64_t>(random.below(times)) - 500, random(), random()};
                heap.push(deadline);
                oracle.emplace(deadline.time, std::pair{deadline.id_high, deadline.id_low});
            } else {
                const Deadline first = heap.first();
                ASSERT_EQ(first.time, oracle.begin()->first);
                ASSERT_TRUE(take(oracle, first)) << "an entry that was never put in, or twice out";
                heap.pop();
            }
            ASSERT_EQ(heap.size(), oracle.size());
        }
        while (!heap.empty()) {
            ASSERT_EQ(heap.first().time, oracle.begin()->first);
            ASSERT_TRUE(take(oracle, heap.first()));
            heap.pop();
        }
        EXPECT_TRUE(oracle.empty());
    }
}

TEST(deadline_heap, holds_the_ends_of_time) {
    DeadlineHeap heap;
    heap.push({INT64_MAX, 1, 1});
    heap.push({INT64_MIN, 2, 2});
    heap.push({0, 3, 3});
    EXPECT_EQ(heap.first(), (Deadline{INT64_MIN, 2, 2}));
    heap.pop();
    EXPECT_EQ(heap.first(), (Deadline{0, 3, 3}));
    heap.pop();
    EXPECT_EQ(heap.first(), (Deadline{INT64_MAX, 1, 1}));
}

TEST(deadline_heap, a_million_take_no_more_than_forty_megabytes) {
    test::Random random;
    DeadlineHeap heap;
    for (int i = 0; i < 1'000'000; i++) {
        heap.push({static_cast<std::int64_t>(random()), random(), random()});
    }
    EXPECT_LE(heap.bytes(), 40'000'000u);
    while (heap.size() > 10) {
        heap.pop();
    }
    heap.shrink();
    EXPECT_LE(heap.bytes(), 100'000u);
    EXPECT_EQ(heap.size(), 10u);
}

} // namespace
} // namespace tandem
