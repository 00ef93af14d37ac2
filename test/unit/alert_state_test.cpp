// Alert rules: cases by hand, and random series against an oracle that looks at the whole history each time.
#include "core/alert_state.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "core/error.hpp"
#include "random.hpp"

namespace tandem {
namespace {

constexpr std::int64_t kSecond = 1'000'000;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

AlertRule over(double threshold, double clear, std::int64_t hold, std::int64_t clear_hold) {
    return {Comparator::more, threshold, clear, hold * kSecond, clear_hold * kSecond, 60 * kSecond, NoData::keep};
}

AlertLook at(std::int64_t second, std::optional<double> value) {
    return {second * kSecond, value, second * kSecond};
}

TEST(AlertState, FiresAtOnceWithoutAHold) {
    const AlertRule rule = over(10, 10, 0, 0);
    AlertState state;
    EXPECT_EQ(look(rule, state, at(1, 10)), AlertAction::none);
    EXPECT_EQ(look(rule, state, at(2, 11)), AlertAction::fire);
    EXPECT_EQ(look(rule, state, at(3, 12)), AlertAction::repeat);
    EXPECT_EQ(look(rule, state, at(4, 10)), AlertAction::resolve);
    EXPECT_EQ(state.phase, AlertPhase::idle);
}

TEST(AlertState, HoldsAndBeginsAnewAfterADip) {
    const AlertRule rule = over(10, 10, 3, 0);
    AlertState state;
    for (const int second : {1, 2, 3}) {
        EXPECT_EQ(look(rule, state, at(second, 11)), AlertAction::none);
    }
    EXPECT_EQ(look(rule, state, at(4, 9)), AlertAction::none);
    for (const int second : {5, 6, 7}) {
        EXPECT_EQ(look(rule, state, at(second, 11)), AlertAction::none);
    }
    EXPECT_EQ(look(rule, state, at(8, 11)), AlertAction::fire);
}

TEST(AlertState, BetweenTheThresholdsNothingBeginsAndNothingEnds) {
    const AlertRule rule = over(10, 5, 0, 0);
    AlertState state;
    EXPECT_EQ(look(rule, state, at(1, 7)), AlertAction::none);
    EXPECT_EQ(look(rule, state, at(2, 11)), AlertAction::fire);
    EXPECT_EQ(look(rule, state, at(3, 7)), AlertAction::none);
    EXPECT_EQ(state.phase, AlertPhase::firing);
    EXPECT_EQ(look(rule, state, at(4, 5)), AlertAction::resolve);
}

TEST(AlertState, ClearMustHold) {
    const AlertRule rule = over(10, 10, 0, 2);
    AlertState state;
    EXPECT_EQ(look(rule, state, at(1, 11)), AlertAction::fire);
    EXPECT_EQ(look(rule, state, at(2, 1)), AlertAction::none);
    EXPECT_EQ(look(rule, state, at(3, 1)), AlertAction::none);
    EXPECT_EQ(look(rule, state, at(4, 11)), AlertAction::repeat);
    EXPECT_EQ(look(rule, state, at(5, 1)), AlertAction::none);
    EXPECT_EQ(look(rule, state, at(6, 1)), AlertAction::none);
    EXPECT_EQ(look(rule, state, at(7, 1)), AlertAction::resolve);
}

TEST(AlertState, AClockThatIsSetBackTakesNothingAwayAndAddsNothing) {
    const AlertRule rule = over(10, 10, 3, 0);
    AlertState state;
    EXPECT_EQ(look(rule, state, at(1000, 11)), AlertAction::none);
    EXPECT_EQ(look(rule, state, at(1002, 11)), AlertAction::none);
    EXPECT_EQ(look(rule, state, at(10, 11)), AlertAction::none); // set back by a quarter of an hour
    EXPECT_EQ(look(rule, state, at(11, 11)), AlertAction::fire); // 2 seconds before, 1 after
}

TEST(AlertState, NoDataKeepsFiresOrResolves) {
    AlertRule rule = over(10, 10, 2, 0);
    for (const std::optional<double> nothing : {std::optional<double>{}, std::optional(kNan)}) {
        AlertState state;
        rule.no_data = NoData::keep;
        EXPECT_EQ(look(rule, state, at(1, 11)), AlertAction::none);
        EXPECT_EQ(look(rule, state, at(2, nothing)), AlertAction::none);
        EXPECT_EQ(state.phase, AlertPhase::idle); // not held all the time
        EXPECT_EQ(look(rule, state, at(3, 11)), AlertAction::none);
        EXPECT_EQ(look(rule, state, at(5, 11)), AlertAction::fire);
        EXPECT_EQ(look(rule, state, at(6, nothing)), AlertAction::none);
        EXPECT_EQ(state.phase, AlertPhase::firing);
        rule.no_data = NoData::resolve;
        EXPECT_EQ(look(rule, state, at(7, nothing)), AlertAction::resolve);
        rule.no_data = NoData::fire;
        EXPECT_EQ(look(rule, state, at(8, nothing)), AlertAction::none);
        EXPECT_EQ(look(rule, state, at(10, nothing)), AlertAction::fire);
        EXPECT_EQ(look(rule, state, at(11, nothing)), AlertAction::none); // no repetition: nothing was measured
    }
}

TEST(AlertState, AStaleMeasurementIsNoData) {
    AlertRule rule = over(10, 10, 0, 0);
    AlertState state;
    EXPECT_EQ(look(rule, state, {100 * kSecond, 11, 39 * kSecond}), AlertAction::none);
    EXPECT_EQ(look(rule, state, {100 * kSecond, 11, 161 * kSecond}),
              AlertAction::none); // of a clock that was set back since
    EXPECT_EQ(look(rule, state, {100 * kSecond, 11, 40 * kSecond}), AlertAction::fire);
    EXPECT_EQ(look(rule, state, {101 * kSecond, 11, 40 * kSecond}), AlertAction::none); // the same measurement
}

TEST(AlertState, AnyTimesAreSurvived) {
    constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();
    constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
    const AlertRule rule = {Comparator::more, 1, 1, kMost, kMost, kMost, NoData::keep};
    AlertState state;
    for (const std::int64_t now : {kLeast, kMost, kLeast, kMost, kMost - 1, std::int64_t{0}, kMost}) {
        EXPECT_NE(look(rule, state, {now, 2, now}), AlertAction::resolve);
        EXPECT_GE(state.held, 0);
    }
}

TEST(AlertState, RefusesRulesThatContradictThemselves) {
    EXPECT_NO_THROW(check_alert_rule(over(10, 5, 0, 0)));
    EXPECT_THROW(check_alert_rule(over(10, 11, 0, 0)), Error);
    EXPECT_THROW(check_alert_rule(over(kNan, 11, 0, 0)), Error);
    EXPECT_THROW(check_alert_rule(over(10, -std::numeric_limits<double>::infinity(), 0, 0)), Error);
    EXPECT_THROW(check_alert_rule(over(10, 10, -1, 0)), Error);
    EXPECT_THROW(check_alert_rule({Comparator::less, 10, 9, 0, 0, 1, NoData::keep}), Error);
    EXPECT_THROW(check_alert_rule({Comparator::equal, 10, 9, 0, 0, 1, NoData::keep}), Error);
    EXPECT_THROW(check_alert_rule({Comparator::more, 10, 9, 0, 0, 0, NoData::keep}), Error);
    EXPECT_THROW(parse_comparator("=>"), Error);
    EXPECT_THROW(parse_no_data("panic"), Error);
}

// The oracle: all looks so far, and when it last fired or resolved. It asks the whole history each time how long the
// condition has held without a break.
class Oracle {
  public:
    explicit Oracle(const AlertRule& rule) : rule_(rule) {}

    AlertAction look(const AlertLook& now) {
        looks_.push_back(now);
        if (!firing_) {
            if (unbroken([&](const AlertLook& l) { return bad(l); }) >= rule_.hold) {
                firing_ = true;
                since_ = looks_.size();
                counted_ = now.measured_at;
                return AlertAction::fire;
            }
            return AlertAction::none;
        }
        if (unbroken([&](const AlertLook& l) { return clear(l); }) >= rule_.clear_hold) {
            firing_ = false;
            since_ = looks_.size();
            return AlertAction::resolve;
        }
        if (bad(now) && known(now) && counted_ != now.measured_at) {
            counted_ = now.measured_at;
            return AlertAction::repeat;
        }
        return AlertAction::none;
    }

  private:
    bool known(const AlertLook& l) const {
        return l.value && *l.value == *l.value && l.at - l.measured_at <= rule_.stale &&
               l.measured_at - l.at <= rule_.stale;
    }
    bool compare(double value, double threshold) const {
        switch (rule_.comparator) {
        case Comparator::more:
            return value > threshold;
        case Comparator::more_or_equal:
            return value >= threshold;
        case Comparator::less:
            return value < threshold;
        case Comparator::less_or_equal:
            return value <= threshold;
        case Comparator::equal:
            return value == threshold;
        default:
            return value != threshold;
        }
    }
    bool bad(const AlertLook& l) const {
        return known(l) ? compare(*l.value, rule_.threshold) : rule_.no_data == NoData::fire;
    }
    bool clear(const AlertLook& l) const {
        return known(l) ? !compare(*l.value, rule_.clear_threshold) : rule_.no_data == NoData::resolve;
    }
    // Time that passed over the last looks for which it is true; -1 where it is not true now.
    template <class Test>
    std::int64_t unbroken(Test test) const {
        std::int64_t sum = -1;
        for (std::size_t i = looks_.size(); i > since_ && test(looks_[i - 1]); i--) {
            sum = sum < 0 ? 0 : sum + std::max<std::int64_t>(0, looks_[i].at - looks_[i - 1].at);
        }
        return sum;
    }

    AlertRule rule_;
    std::vector<AlertLook> looks_;
    std::size_t since_ = 0;
    bool firing_ = false;
    std::int64_t counted_ = 0;
};

TEST(AlertState, RandomSeriesAsTheOracleHasIt) {
    test::Random random;
    int fired = 0;
    int resolved = 0;
    for (int round = 0; round < 2000; round++) {
        AlertRule rule{};
        rule.comparator = static_cast<Comparator>(random.below(6));
        rule.threshold = static_cast<double>(random.below(5));
        const double apart = static_cast<double>(random.below(3));
        const bool up = rule.comparator == Comparator::more || rule.comparator == Comparator::more_or_equal;
        const bool down = rule.comparator == Comparator::less || rule.comparator == Comparator::less_or_equal;
        rule.clear_threshold = rule.threshold + (up ? -apart : down ? apart : 0);
        rule.hold = static_cast<std::int64_t>(random.below(4)) * 5;
        rule.clear_hold = static_cast<std::int64_t>(random.below(4)) * 5;
        rule.stale = static_cast<std::int64_t>(1 + random.below(20));
        rule.no_data = static_cast<NoData>(random.below(3));
        ASSERT_NO_THROW(check_alert_rule(rule));
        Oracle oracle(rule);
        AlertState state;
        std::int64_t now = 1000;
        std::int64_t measured_at = now;
        std::optional<double> value = 0;
        for (int step = 0; step < 100; step++) {
            now += random.chance(0.03) ? -static_cast<std::int64_t>(random.below(50))
                                       : static_cast<std::int64_t>(random.below(6));
            if (random.chance(0.8)) {
                measured_at = now;
                value =
                    random.chance(0.05) ? std::optional<double>{}
                    : random.chance(0.05)
                        ? std::optional(kNan)
                        : std::optional(random.chance(0.6) && value ? *value : static_cast<double>(random.below(5)));
            }
            const AlertLook l{now, value, measured_at};
            const AlertAction expected = oracle.look(l);
            const AlertAction action = look(rule, state, l);
            ASSERT_EQ(action, expected) << "round " << round << ", step " << step << ": " << name(action) << ", not "
                                        << name(expected);
            fired += action == AlertAction::fire ? 1 : 0;
            resolved += action == AlertAction::resolve ? 1 : 0;
        }
    }
    EXPECT_GT(fired, 1000);
    EXPECT_GT(resolved, 1000);
}

} // namespace
} // namespace tandem
