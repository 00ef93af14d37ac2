#include "core/error.hpp"

#include <gtest/gtest.h>

namespace tandem {
namespace {

TEST(error, carries_all_that_a_user_is_told) {
    try {
        throw Error("22023", "what happened", "why", "what to type next");
    } catch (const std::exception& error) { // as pg::entry may meet it
        EXPECT_STREQ(error.what(), "what happened");
        const auto* ours = dynamic_cast<const Error*>(&error);
        ASSERT_NE(ours, nullptr);
        EXPECT_STREQ(ours->sqlstate(), "22023");
        EXPECT_EQ(ours->detail(), "why");
        EXPECT_EQ(ours->hint(), "what to type next");
    }
}

TEST(error, detail_and_hint_may_be_absent) {
    const Error error("55000", "message");
    EXPECT_EQ(error.detail(), "");
    EXPECT_EQ(error.hint(), "");
    const Error copy = error;
    EXPECT_STREQ(copy.what(), "message");
    EXPECT_STREQ(copy.sqlstate(), "55000");
}

TEST(error, text_is_kept_whole) {
    const std::string huge(100'000, 'x');
    EXPECT_EQ(std::string(Error("22023", huge, huge, huge).what()), huge);
    EXPECT_EQ(Error("22023", "100%s %n", "50 %", "%d").detail(), "50 %");
}

} // namespace
} // namespace tandem
