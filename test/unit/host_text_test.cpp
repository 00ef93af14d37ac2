// What is read of the host: texts of real systems, and any bytes.
#include "core/host_text.hpp"

#include <string>

#include <gtest/gtest.h>

#include "random.hpp"

namespace tandem::host {
namespace {

TEST(HostText, Load) {
    EXPECT_EQ(read_load("0.52 0.58 0.59 1/467 12345\n"), 0.52);
    for (const char* text : {"", "\n", "busy 1 2", "-1 0 0", "nan 0 0", "inf 0 0"}) {
        EXPECT_EQ(read_load(text), std::nullopt) << text;
    }
}

TEST(HostText, Meminfo) {
    constexpr std::string_view kText = "MemTotal:       16303428 kB\nMemFree:          300 kB\nMemAvailable:    "
                                       "9000000 kB\nHugePages_Total:       0\n";
    EXPECT_EQ(read_meminfo(kText, "MemTotal"), 16303428LL * 1024);
    EXPECT_EQ(read_meminfo(kText, "MemAvailable"), 9000000LL * 1024);
    EXPECT_EQ(read_meminfo(kText, "MemAvail"), std::nullopt);
    EXPECT_EQ(read_meminfo("MemTotal: lots\n", "MemTotal"), std::nullopt);
    EXPECT_EQ(read_meminfo("MemTotal: 99999999999999999999 kB\n", "MemTotal"), std::nullopt);
    EXPECT_EQ(read_meminfo("MemTotal: 9999999999999999 kB\n", "MemTotal"), std::nullopt);
}

TEST(HostText, ControlGroups) {
    EXPECT_EQ(read_limit("max\n"), std::nullopt);
    EXPECT_EQ(read_limit("1073741824\n"), 1073741824);
    EXPECT_EQ(read_limit("9223372036854771712\n"), std::nullopt);
    EXPECT_EQ(read_limit("-1\n"), std::nullopt);
    EXPECT_EQ(read_cpu_max("200000 100000\n"), 2.0);
    EXPECT_EQ(read_cpu_max("max 100000\n"), std::nullopt);
    EXPECT_EQ(read_cpu_max("100000 0\n"), std::nullopt);
    EXPECT_EQ(read_stat("cache 1\ninactive_file 4096\n", "inactive_file"), 4096);
    EXPECT_EQ(read_stat("total_inactive_file 4096\n", "inactive_file"), std::nullopt);
    EXPECT_EQ(find_group("0::/system.slice/postgresql.service\n", ""), "/system.slice/postgresql.service");
    constexpr std::string_view kOne = "9:name=systemd:/\n4:memory:/docker/abc\n3:cpu,cpuacct:/docker/cpu\n0::/\n";
    EXPECT_EQ(find_group(kOne, "memory"), "/docker/abc");
    EXPECT_EQ(find_group(kOne, "cpu"), "/docker/cpu");
    EXPECT_EQ(find_group(kOne, "cpuacct"), "/docker/cpu");
    EXPECT_EQ(find_group(kOne, ""), "/");
    EXPECT_EQ(find_group(kOne, "blkio"), std::nullopt);
    EXPECT_EQ(find_group("0::/../outside\n", ""), std::nullopt);
    EXPECT_EQ(find_group("0::relative\n", ""), std::nullopt);
    EXPECT_EQ(find_group("no colons\n:\n", ""), std::nullopt);
}

TEST(HostText, AnyBytesAreSurvived) {
    test::Random random;
    constexpr std::string_view kAlphabet = "0:19 .\n\t/maxMT,\xff";
    for (int i = 0; i < 100'000; i++) {
        std::string text;
        for (std::uint64_t n = random.below(24); n > 0; n--) {
            text += kAlphabet[random.below(kAlphabet.size())];
        }
        EXPECT_GE(read_load(text).value_or(0), 0);
        EXPECT_GE(read_meminfo(text, "M").value_or(0), 0);
        EXPECT_GE(read_stat(text, "M").value_or(0), 0);
        EXPECT_GE(read_limit(text).value_or(0), 0);
        EXPECT_GE(read_cpu_max(text).value_or(1), 0);
        const auto group = find_group(text, random.chance(0.5) ? "" : "m");
        EXPECT_TRUE(!group || group->front() == '/');
    }
}

} // namespace
} // namespace tandem::host
