// Service hours against a walk minute by minute, in a zone that changes its clocks; and what must be refused.
#include "core/service_hours.hpp"

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "core/error.hpp"
#include "random.hpp"

namespace tandem {
namespace {

// Moves its clocks at given moments: from each on, it is ahead by the minutes beside it.
struct Clocks {
    std::vector<std::pair<std::int64_t, std::int64_t>> changes; // ascending; the first counts from ever
};

ZoneOffset offset_at(const void* zone, std::int64_t utc) {
    const auto& changes = static_cast<const Clocks*>(zone)->changes;
    std::size_t i = 0;
    while (i + 1 < changes.size() && changes[i + 1].first <= utc) {
        i++;
    }
    return {changes[i].second * kMicrosPerMinute, i + 1 < changes.size() ? changes[i + 1].first : INT64_MAX};
}

constexpr std::int64_t kFar = std::int64_t{400} * kMicrosPerDay;

// The same question, asked of every minute. Minutes are open or closed as a whole: all that is given here is whole
// minutes.
std::int64_t walk(const std::vector<OpenHours>& hours, const std::set<std::int32_t>& holidays, std::int32_t monday,
                  const Clocks& clocks, std::int64_t start, std::int64_t open_time) {
    std::int64_t now = start;
    for (; open_time > 0 && now < kFar; now += kMicrosPerMinute) {
        const std::int64_t local = now + offset_at(&clocks, now).ahead;
        const auto day = static_cast<std::int32_t>(local / kMicrosPerDay);
        const auto minute =
            static_cast<std::int32_t>(local % kMicrosPerDay / kMicrosPerMinute) + (day - monday + 7) % 7 * 1440;
        const bool open = !holidays.contains(day) && std::any_of(hours.begin(), hours.end(), [&](OpenHours o) {
            return o.from <= minute && minute < o.to;
        });
        open_time -= open ? kMicrosPerMinute : 0;
    }
    return now;
}

TEST(service_hours, agree_with_a_walk_minute_by_minute) {
    test::Random random;
    for (int round = 0; round < 300; round++) {
        std::set<std::int32_t> edges;
        for (std::uint64_t n = 2 + 2 * random.below(6); edges.size() < n;) {
            edges.insert(static_cast<std::int32_t>(random.below(kMinutesPerWeek + 1)));
        }
        std::vector<OpenHours> hours;
        for (auto it = edges.begin(); it != edges.end();) {
            const std::int32_t from = *it++;
            hours.push_back({from, *it++});
        }
        std::set<std::int32_t> holidays;
        for (int i = 0; i < 4; i++) {
            holidays.insert(static_cast<std::int32_t>(100 + random.below(20)));
        }
        Clocks clocks{{{INT64_MIN, 60}}};
        std::int64_t change = std::int64_t{100} * kMicrosPerDay;
        for (int i = 0; i < 3; i++) {
            change += static_cast<std::int64_t>(1 + random.below(5 * 1440)) * kMicrosPerMinute;
            clocks.changes.emplace_back(change, static_cast<std::int64_t>(random.below(300)) - 120);
        }
        const std::int32_t monday = 98 + static_cast<std::int32_t>(random.below(7));
        const ServiceHours service(hours, std::vector<std::int32_t>(holidays.begin(), holidays.end()), monday);
        for (int i = 0; i < 5; i++) {
            const std::int64_t start =
                (100 * 1440 + static_cast<std::int64_t>(random.below(14 * 1440))) * kMicrosPerMinute;
            const std::int64_t open_time =
                static_cast<std::int64_t>(1 + random.below(random.chance(0.5) ? 600 : 6000)) * kMicrosPerMinute;
            ASSERT_EQ(service.add_open_time(start, open_time, kFar, {offset_at, &clocks}),
                      walk(hours, holidays, monday, clocks, start, open_time));
        }
    }
}

constexpr std::int32_t kNine = 9 * 60;
constexpr std::int32_t kFive = 17 * 60;

TEST(service_hours, count_seconds_and_end_with_the_hour) {
    const Clocks utc{{{INT64_MIN, 0}}};
    const std::vector<OpenHours> hours = {{kNine, kFive}}; // Mondays
    const ServiceHours service(hours, {}, 0);
    const TimeZone zone{offset_at, &utc};
    const std::int64_t nine = kNine * kMicrosPerMinute;
    EXPECT_EQ(service.add_open_time(5, 0, kFar, zone), 5) << "nothing to wait for";
    EXPECT_EQ(service.add_open_time(0, 1, kFar, zone), nine + 1) << "the clock stands until nine";
    EXPECT_EQ(service.add_open_time(0, 8 * 60 * kMicrosPerMinute, kFar, zone), kFive * kMicrosPerMinute)
        << "due when it closes, not when it opens again";
    EXPECT_EQ(service.add_open_time(0, 8 * 60 * kMicrosPerMinute + 1, kFar, zone), 7 * kMicrosPerDay + nine + 1);
    EXPECT_EQ(service.add_open_time(-3 * kMicrosPerDay, 7, kFar, zone), nine + 7) << "before the epoch";
    EXPECT_EQ(service.add_open_time(0, kFar, kFar, zone), kFar) << "beyond the horizon";
}

TEST(service_hours, that_are_none_are_refused) {
    const auto refused = [](std::vector<OpenHours> hours) {
        try {
            const ServiceHours service(hours, {}, 0);
            return false;
        } catch (const Error& error) {
            return std::string_view(error.sqlstate()) == "22023";
        }
    };
    EXPECT_TRUE(refused({}));
    EXPECT_TRUE(refused({{10, 10}}));
    EXPECT_TRUE(refused({{20, 10}}));
    EXPECT_TRUE(refused({{-1, 10}}));
    EXPECT_TRUE(refused({{0, 20}, {19, 30}}));
    EXPECT_TRUE(refused({{100, 200}, {10, 20}}));
    EXPECT_TRUE(refused({{0, kMinutesPerWeek + 1}}));
    EXPECT_FALSE(refused({{0, 20}, {20, 30}, {30, kMinutesPerWeek}}));
}

} // namespace
} // namespace tandem
