// Guards: cases by hand, and random series against an oracle that looks at the whole history each time.
#include "core/guard_state.hpp"

#include <algorithm>
#include <limits>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "random.hpp"

namespace tandem {
namespace {

constexpr std::int64_t kMinute = 60;

GuardLook at(std::int64_t time, std::optional<bool> truth, std::optional<std::int64_t> samples = {}) {
    return {time, truth, samples, time};
}

TEST(GuardState, FiresAtOnceWithoutAHold) {
    const GuardRule rule{0, 0, kMinute};
    GuardState state;
    EXPECT_EQ(look(rule, state, at(1, false)), GuardAnswer::clear);
    EXPECT_EQ(look(rule, state, at(2, true)), GuardAnswer::fire);
}

TEST(GuardState, HoldsWithoutAGap) {
    for (const std::optional<bool> dip : {std::optional(false), std::optional<bool>{}}) {
        const GuardRule rule{3, 0, kMinute};
        GuardState state;
        for (const int time : {1, 2, 3}) {
            EXPECT_EQ(look(rule, state, at(time, true)), GuardAnswer::pending);
        }
        EXPECT_EQ(look(rule, state, at(4, dip)), dip ? GuardAnswer::clear : GuardAnswer::inconclusive);
        for (const int time : {5, 6, 7}) {
            EXPECT_EQ(look(rule, state, at(time, true)), GuardAnswer::pending);
        }
        EXPECT_EQ(look(rule, state, at(8, true)), GuardAnswer::fire);
    }
}

TEST(GuardState, TooFewSamplesAreInconclusiveAndBeginAnew) {
    const GuardRule rule{2, 10, kMinute};
    GuardState state;
    EXPECT_EQ(look(rule, state, at(1, true, 9)), GuardAnswer::inconclusive);
    EXPECT_EQ(look(rule, state, at(2, true, 10)), GuardAnswer::pending);
    EXPECT_EQ(look(rule, state, at(3, true, 9)), GuardAnswer::inconclusive);
    EXPECT_EQ(look(rule, state, at(4, true, 10)), GuardAnswer::pending);
    EXPECT_EQ(look(rule, state, at(5, false, 9)), GuardAnswer::clear);
    EXPECT_EQ(look(rule, state, at(6, true, 10)), GuardAnswer::pending);
    EXPECT_EQ(look(rule, state, at(8, true, 11)), GuardAnswer::fire);
}

TEST(GuardState, MeasurementsAreCountedWhereNoMetricTellsItsSamples) {
    const GuardRule rule{0, 3, kMinute};
    GuardState state;
    EXPECT_EQ(look(rule, state, {1, true, {}, 1}), GuardAnswer::pending);
    EXPECT_EQ(look(rule, state, {2, true, {}, 2}), GuardAnswer::pending);
    EXPECT_EQ(look(rule, state, {3, true, {}, 2}), GuardAnswer::pending); // the same measurement
    EXPECT_EQ(look(rule, state, {4, true, {}, 4}), GuardAnswer::fire);
}

TEST(GuardState, AClockThatIsSetBackTakesNothingAwayAndAddsNothing) {
    const GuardRule rule{3, 0, kMinute};
    GuardState state;
    EXPECT_EQ(look(rule, state, at(1000, true)), GuardAnswer::pending);
    EXPECT_EQ(look(rule, state, at(1002, true)), GuardAnswer::pending);
    EXPECT_EQ(look(rule, state, at(10, true)), GuardAnswer::pending);
    EXPECT_EQ(look(rule, state, at(11, true)), GuardAnswer::fire);
}

TEST(GuardState, TimeInWhichNobodyLookedCountsOnlySoMuch) {
    const GuardRule rule{100, 0, kMinute};
    GuardState state;
    EXPECT_EQ(look(rule, state, at(0, true)), GuardAnswer::pending);
    EXPECT_EQ(look(rule, state, at(10'000, true)), GuardAnswer::pending);
    EXPECT_EQ(state.held, kMinute);
    EXPECT_EQ(look(rule, state, at(20'000, true)), GuardAnswer::fire);
}

TEST(GuardState, AnyTimesAreSurvived) {
    constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();
    constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
    const GuardRule rule{kMost, 1, kMost};
    GuardState state;
    for (const std::int64_t now : {kLeast, kMost, kLeast, kMost, kMost - 1, std::int64_t{0}, kMost}) {
        look(rule, state, at(now, true));
        EXPECT_GE(state.held, 0);
    }
    EXPECT_EQ(look(rule, state, at(kLeast, true)), GuardAnswer::fire); // more than any hold has passed by now
}

// The oracle: all looks since the last firing. From the newest back, it finds those at which the condition was true
// over enough samples, and adds up what was seen to pass between them.
class Oracle {
  public:
    explicit Oracle(const GuardRule& rule) : rule_(rule) {}

    GuardAnswer look(const GuardLook& now) {
        looks_.push_back(now);
        if (!holds(now)) {
            const bool unknown = !now.truth || (*now.truth && now.samples && *now.samples < rule_.min_samples);
            return unknown ? GuardAnswer::inconclusive : GuardAnswer::clear;
        }
        std::size_t first = looks_.size() - 1;
        while (first > since_ && holds(looks_[first - 1])) {
            first--;
        }
        std::int64_t held = 0;
        std::int64_t measurements = 0;
        for (std::size_t i = first; i < looks_.size(); i++) {
            const std::int64_t gap = i == first ? 0 : looks_[i].at - looks_[i - 1].at;
            held += std::clamp<std::int64_t>(gap, 0, rule_.longest_gap);
            measurements += i == first || looks_[i].measured_at != looks_[i - 1].measured_at ? 1 : 0;
        }
        if (held < rule_.hold || (!now.samples && measurements < rule_.min_samples)) {
            return GuardAnswer::pending;
        }
        since_ = looks_.size();
        return GuardAnswer::fire;
    }

  private:
    bool holds(const GuardLook& l) const {
        return l.truth.value_or(false) && (!l.samples || *l.samples >= rule_.min_samples);
    }

    GuardRule rule_;
    std::vector<GuardLook> looks_;
    std::size_t since_ = 0;
};

TEST(GuardState, RandomSeriesAsTheOracleHasIt) {
    test::Random random;
    int fired = 0;
    std::set<GuardAnswer> seen;
    for (int round = 0; round < 3000; round++) {
        const GuardRule rule{static_cast<std::int64_t>(random.below(5)) * 5, static_cast<std::int64_t>(random.below(4)),
                             static_cast<std::int64_t>(random.below(12))};
        Oracle oracle(rule);
        GuardState state;
        std::int64_t now = 1000;
        std::int64_t measured_at = now;
        const bool counts = random.chance(0.5);
        for (int step = 0; step < 100; step++) {
            now += random.chance(0.03) ? -static_cast<std::int64_t>(random.below(50))
                                       : static_cast<std::int64_t>(random.below(random.chance(0.05) ? 100 : 6));
            measured_at = random.chance(0.7) ? now : measured_at;
            GuardLook l{now, {}, {}, measured_at};
            if (!random.chance(0.05)) {
                l.truth = random.chance(0.85);
            }
            if (counts && !random.chance(0.1)) {
                l.samples = static_cast<std::int64_t>(random.below(20));
            }
            const GuardAnswer expected = oracle.look(l);
            const GuardAnswer answer = look(rule, state, l);
            ASSERT_EQ(answer, expected) << "round " << round << ", step " << step << ": " << name(answer) << ", not "
                                        << name(expected);
            seen.insert(answer);
            if (answer == GuardAnswer::fire) {
                fired++;
                state = GuardState{}; // armed again
                state.looked_at = now;
            }
        }
    }
    EXPECT_GT(fired, 1000);
    EXPECT_EQ(seen.size(), 4u);
}

} // namespace
} // namespace tandem
