#include "core/sketch_wire.hpp"

#include <bit>
#include <cstring>
#include <string>

#include "core/error.hpp"

#ifndef XXH_INLINE_ALL
#define XXH_INLINE_ALL
#endif
#include <xxhash.h>

namespace tandem {
namespace {

constexpr char kMagic[8] = {'t', 'a', 'n', 'd', 'e', 'm', 'S', 'K'};
constexpr std::uint64_t kVersion = 1;

// magic, version, limbs, cells, seed; then the words; then XXH3 of all that stands before it.
constexpr std::size_t kHeaderWords = 5;
constexpr std::size_t kCacheLine = 64;

std::uint64_t little_endian(std::uint64_t value) {
    return std::endian::native == std::endian::little ? value : __builtin_bswap64(value);
}
void put(std::vector<std::byte>& bytes, std::size_t word, std::uint64_t value) {
    value = little_endian(value);
    std::memcpy(bytes.data() + word * sizeof(value), &value, sizeof(value));
}
std::uint64_t get(std::span<const std::byte> bytes, std::size_t word) {
    std::uint64_t value;
    std::memcpy(&value, bytes.data() + word * sizeof(value), sizeof(value));
    return little_endian(value);
}

[[noreturn]] void refuse(const std::string& why) {
    throw Error("22P03", "invalid sketch", why, "Both servers must run a release of pg_tandem that knows this form.");
}

void* aligned(std::vector<std::uint64_t>& memory) {
    const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
    return memory.data() + (kCacheLine - address % kCacheLine) % kCacheLine / sizeof(std::uint64_t);
}

} // namespace

OwnedSketch::OwnedSketch(int limbs, std::size_t cells, std::uint64_t seed)
    : memory((Sketch::bytes(limbs, cells) + kCacheLine) / sizeof(std::uint64_t)),
      view(aligned(memory), limbs, cells, seed) {}

std::vector<std::byte> serialise(const Sketch& sketch) {
    const auto words = sketch.words();
    std::vector<std::byte> bytes((kHeaderWords + words.size() + 1) * sizeof(std::uint64_t));
    std::memcpy(bytes.data(), kMagic, sizeof(kMagic));
    put(bytes, 1, kVersion);
    put(bytes, 2, static_cast<std::uint64_t>(sketch.limbs()));
    put(bytes, 3, sketch.cells());
    put(bytes, 4, sketch.seed());
    for (std::size_t i = 0; i < words.size(); i++) {
        put(bytes, kHeaderWords + i, words[i]);
    }
    const std::size_t summed = bytes.size() - sizeof(std::uint64_t);
    put(bytes, summed / sizeof(std::uint64_t), XXH3_64bits(bytes.data(), summed));
    return bytes;
}

OwnedSketch deserialise(std::span<const std::byte> bytes) {
    if (bytes.size() < (kHeaderWords + 1) * sizeof(std::uint64_t)) {
        refuse("It has " + std::to_string(bytes.size()) + " bytes, less than a header.");
    }
    if (std::memcmp(bytes.data(), kMagic, sizeof(kMagic)) != 0) {
        refuse("It does not begin as a sketch does.");
    }
    if (get(bytes, 1) != kVersion) {
        refuse("It has version " + std::to_string(get(bytes, 1)) + ", not " + std::to_string(kVersion) + ".");
    }
    const std::uint64_t limbs = get(bytes, 2);
    const std::uint64_t cells = get(bytes, 3);
    if (limbs < 1 || limbs > kMaxLimbs) {
        refuse("It has keys of " + std::to_string(limbs) + " limbs, not 1 to " + std::to_string(kMaxLimbs) + ".");
    }
    if (cells < Sketch::kTables || cells > Sketch::kMaxCells || cells % Sketch::kTables != 0) {
        refuse("It has " + std::to_string(cells) + " cells.");
    }
    const std::size_t size = Sketch::bytes(static_cast<int>(limbs), cells) + (kHeaderWords + 1) * sizeof(std::uint64_t);
    if (bytes.size() != size) {
        refuse("It has " + std::to_string(bytes.size()) + " bytes; its " + std::to_string(cells) + " cells take " +
               std::to_string(size) + ".");
    }
    const std::size_t summed = size - sizeof(std::uint64_t);
    if (get(bytes, summed / sizeof(std::uint64_t)) != XXH3_64bits(bytes.data(), summed)) {
        refuse("Its checksum does not fit its bytes.");
    }
    OwnedSketch sketch(static_cast<int>(limbs), cells, get(bytes, 4));
    auto* const words = static_cast<std::uint64_t*>(aligned(sketch.memory));
    for (std::size_t i = 0; i < sketch.view.words().size(); i++) {
        words[i] = get(bytes, kHeaderWords + i);
        if (words[i] >= kPrime) {
            refuse("Word " + std::to_string(i) + " is not below 2^61-1.");
        }
    }
    return sketch;
}

} // namespace tandem
