// XXH3 is stable across releases and machines, so a bucket computed today is the bucket of tomorrow's server.
#include "core/bucket.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace tandem {

std::uint32_t bucket_of(std::uint64_t salt, std::string_view key) noexcept {
    const std::uint64_t hash = XXH3_64bits_withSeed(key.data(), key.size(), salt);
    // The high half of a 128-bit product: uniform without the bias and the cost of a modulo.
    return static_cast<std::uint32_t>((static_cast<unsigned __int128>(hash) * kBuckets) >> 64);
}

} // namespace tandem
