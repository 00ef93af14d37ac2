#include "core/histogram.hpp"

#include <cmath>
#include <string>

#include "core/error.hpp"

namespace tandem {
namespace {

constexpr std::byte kVersion{1};
// More than anybody counts, and sums of some millions of histograms stay far from an overflow.
constexpr std::uint64_t kMostCount = std::uint64_t{1} << 40;

[[noreturn]] void refuse(const std::string& why) {
    throw Error("22P03", "invalid histogram", why,
                "Histograms are made by tandem.observe() and tandem.histogram_sum().");
}

std::size_t put(std::byte* bytes, std::uint64_t value) {
    std::size_t size = 0;
    for (; value >= 0x80; value >>= 7) {
        bytes[size++] = std::byte(value | 0x80);
    }
    bytes[size++] = std::byte(value);
    return size;
}

// Only the shortest form of a number is one: else the same histogram could be written in several ways.
std::uint64_t get(std::span<const std::byte> bytes, std::size_t& at) {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 42; shift += 7) {
        if (at == bytes.size()) {
            refuse("It ends within a number.");
        }
        const auto byte = std::to_integer<std::uint64_t>(bytes[at++]);
        value |= (byte & 0x7f) << shift;
        if (byte < 0x80) {
            if (byte == 0 && shift > 0) {
                refuse("The number that ends at byte " + std::to_string(at) + " is longer than it need be.");
            }
            return value;
        }
    }
    refuse("The number at byte " + std::to_string(at) + " is too large.");
}

// Calls f(bucket, count) for all of them.
template <class F>
void read(std::span<const std::byte> bytes, F&& f) {
    if (bytes.empty() || bytes[0] != kVersion) {
        refuse(bytes.empty() ? "It has no bytes."
                             : "It has version " + std::to_string(std::to_integer<int>(bytes[0])) + ", not 1.");
    }
    std::uint64_t next = 0; // the first bucket that may come
    for (std::size_t at = 1; at < bytes.size();) {
        const std::uint64_t bucket = next + get(bytes, at);
        const std::uint64_t count = get(bytes, at);
        if (bucket >= kHistogramBuckets) {
            refuse("It has a bucket " + std::to_string(bucket) + ", the last one being " +
                   std::to_string(kHistogramBuckets - 1) + ".");
        }
        if (count == 0 || count > kMostCount) {
            refuse("It counts " + std::to_string(count) + " in bucket " + std::to_string(bucket) + ".");
        }
        f(static_cast<unsigned>(bucket), count);
        next = bucket + 1;
    }
}

} // namespace

std::optional<double> Histogram::percentile(double share) const {
    if (count_ == 0 || !(share >= 0.0 && share <= 1.0)) {
        return std::nullopt;
    }
    const double rank = std::ceil(share * static_cast<double>(count_));
    std::uint64_t seen = 0;
    for (unsigned i = 0; i < kHistogramBuckets; i++) {
        seen += counts_[i];
        if (counts_[i] > 0 && static_cast<double>(seen) >= rank) {
            const HistogramRange range = histogram_range(i);
            return static_cast<double>(range.first + range.last) / 2;
        }
    }
    return static_cast<double>(kHistogramLargest); // only where rounding made the rank too large
}

std::size_t serialise(const Histogram& histogram, std::byte* bytes) {
    std::size_t size = 0;
    bytes[size++] = kVersion;
    unsigned next = 0;
    for (unsigned i = 0; i < kHistogramBuckets; i++) {
        if (const std::uint64_t count = histogram.count_in(i); count > 0) {
            size += put(bytes + size, i - next);
            size += put(bytes + size, count < kMostCount ? count : kMostCount);
            next = i + 1;
        }
    }
    return size;
}

std::vector<std::byte> serialise(const Histogram& histogram) {
    std::vector<std::byte> bytes(kHistogramBytes);
    bytes.resize(serialise(histogram, bytes.data()));
    return bytes;
}

void merge_serialised(Histogram& histogram, std::span<const std::byte> bytes) {
    read(bytes, [](unsigned, std::uint64_t) {});
    read(bytes, [&](unsigned bucket, std::uint64_t count) { histogram.add_bucket(bucket, count); });
}

} // namespace tandem
