// The memo against std::map: it never gives a result that is not the argument's own.
#include "core/memo.hpp"

#include <map>
#include <string>

#include <gtest/gtest.h>

#include "random.hpp"

namespace tandem {
namespace {

Argument make(const std::string& bytes) {
    Argument argument;
    argument.append(bytes.data(), bytes.size());
    return argument;
}

TEST(memo, holds_the_last_argument_of_each_place) {
    test::Random random;
    Memo memo;
    std::map<int, std::string> kept;
    int found = 0;
    for (int i = 0; i < 50'000; i++) {
        std::string bytes(1 + random.below(Argument::kLongest), '\0');
        for (char& byte : bytes) {
            byte = static_cast<char>(random.below(2)); // prefixes of each other, and zeros at the end
        }
        const Argument argument = make(bytes);
        const int place = Memo::place_of(argument);
        ASSERT_GE(place, 0);
        ASSERT_LT(place, Memo::kPlaces);
        const auto known = kept.find(place);
        const bool same = known != kept.end() && known->second == bytes;
        ASSERT_EQ(memo.holds(place, argument), same);
        found += same ? 1 : 0;
        if (random.below(10) == 0) {
            memo.forget(place);
            kept.erase(place);
            ASSERT_FALSE(memo.holds(place, argument));
        } else {
            memo.keep(place, argument);
            kept[place] = bytes;
            ASSERT_TRUE(memo.holds(place, argument));
        }
    }
    EXPECT_GT(found, 100);
}

TEST(memo, an_argument_may_come_in_pieces) {
    Argument pieces;
    for (const char* piece : {"a", "bcde", "", "fghijklmnopqrstuvw"}) {
        ASSERT_LE(std::strlen(piece), pieces.room());
        pieces.append(piece, std::strlen(piece));
    }
    EXPECT_EQ(pieces.room(), Argument::kLongest - 23);
    const Argument whole = make("abcdefghijklmnopqrstuvw");
    EXPECT_EQ(Memo::place_of(pieces), Memo::place_of(whole));
    Memo memo;
    memo.keep(Memo::place_of(whole), whole);
    EXPECT_TRUE(memo.holds(Memo::place_of(pieces), pieces));
}

// How many of `count` lookups it is asked for.
int ask(Memo& memo, int count, int different) {
    int asked = 0;
    for (int i = 0; i < count; i++) {
        if (memo.is_awake()) {
            const int number = i % different;
            Argument argument;
            argument.append(&number, sizeof(number));
            const int place = Memo::place_of(argument);
            if (!memo.holds(place, argument)) {
                memo.keep(place, argument);
            }
            asked++;
        }
    }
    return asked;
}

TEST(memo, rests_where_arguments_do_not_come_again) {
    Memo memo;
    EXPECT_EQ(ask(memo, 1'000'000, 10), 1'000'000);
    EXPECT_LT(ask(memo, 1'000'000, 1'000'000), 1'000'000 / 30);
    EXPECT_GT(ask(memo, 1'000'000, 10), 1'000'000 * 9 / 10); // and looks again
}

TEST(memo, distinct_arguments_have_places_of_their_own) {
    std::map<int, int> places;
    for (int i = 0; i < Memo::kPlaces; i++) {
        const std::string bytes = "\2\17status " + std::to_string(i);
        places[Memo::place_of(make(bytes))]++;
    }
    EXPECT_GT(places.size(), Memo::kPlaces / 2U); // 63 % by chance
}

} // namespace
} // namespace tandem
