// Which of 10,000 buckets a routing key falls into, and which side a weight gives it to. Monotone: the keys of 5 % are
// among those of 25 %, so a promotion never moves a key back and a rollback never moves one forward.
#pragma once

#include <cstdint>
#include <string_view>

namespace tandem {

inline constexpr std::uint32_t kBuckets = 10'000;
inline constexpr int kMaxWeight = 100;

// 0 .. kBuckets-1; salt makes the canaries of one run other people than those of the next.
std::uint32_t bucket_of(std::uint64_t salt, std::string_view key) noexcept;

// Is `new` authoritative for the bucket at this weight (percent, 0..100)? Never at a weight below that.
constexpr bool bucket_is_new(std::uint32_t bucket, int weight) noexcept {
    return std::int64_t{bucket} < std::int64_t{weight} * (kBuckets / kMaxWeight);
}

} // namespace tandem
