// Three ways to the sketch, by the first byte: any bytes from the wire; a sketch of any words, with header and checksum
// as they should be; and rows added and subtracted, against a map.
#include "core/sketch_wire.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/error.hpp"
#include "input.hpp"

namespace {

using namespace tandem;

using Key = std::array<std::uint64_t, kMaxLimbs>;

Element element(const Difference& found) {
    return {{found.key[0], found.key[1], found.key[2]}, found.hash_sum};
}

// What was told, put into cells again, must be what was there: in every word but those of the signs, which are drawn
// from the hashes of the rows and not from their sum.
void require_same_sums(const OwnedSketch& told, const std::vector<std::uint64_t>& words) {
    const std::size_t stride = static_cast<std::size_t>(told.view.limbs()) + 3;
    for (std::size_t i = 0; i < words.size(); i++) {
        fuzz::require(i % stride == stride - 1 || told.view.words()[i] == words[i]);
    }
}

void decode_any(OwnedSketch& sketch) {
    const std::vector<std::uint64_t> words(sketch.view.words().begin(), sketch.view.words().end());
    sketch.view.estimate();
    const Decoded decoded = sketch.view.decode();
    fuzz::require(decoded.complete == sketch.view.empty());
    fuzz::require(decoded.differences.size() <= sketch.view.cells());
    if (decoded.complete) {
        OwnedSketch told(sketch.view.limbs(), sketch.view.cells(), sketch.view.seed());
        for (const Difference& found : decoded.differences) {
            fuzz::require(found.hash_sum > 0 && found.hash_sum < kPrime);
            const Element row = element(found);
            told.view.add({&row, 1});
        }
        require_same_sums(told, words);
    }
}

void from_wire(std::span<const std::byte> bytes) {
    try {
        OwnedSketch sketch = deserialise(bytes);
        const std::vector<std::byte> again = serialise(sketch.view);
        fuzz::require(std::equal(again.begin(), again.end(), bytes.begin(), bytes.end()));
        decode_any(sketch);
    } catch (const Error& error) {
        fuzz::require(std::strcmp(error.sqlstate(), "22P03") == 0 && !error.detail().empty());
    }
}

// The words are those of one row in some cells, and what the input says in others.
void forged(fuzz::Input& input) {
    const int limbs = 1 + static_cast<int>(input.below(3));
    const std::size_t cells = 4 * (1 + input.below(16));
    OwnedSketch sketch(limbs, cells, input.take<std::uint16_t>());
    for (unsigned rows = input.below(8); rows > 0; rows--) {
        const Element row{{input.take<std::uint32_t>(), 0, 0}, 1 + input.take<std::uint32_t>()};
        sketch.view.add({&row, 1});
    }
    std::vector<std::byte> bytes = serialise(sketch.view);
    constexpr std::size_t kHeader = 40;
    const std::size_t words = sketch.view.words().size();
    for (unsigned changes = input.below(32); changes > 0; changes--) {
        const std::size_t to = input.take<std::uint16_t>() % words;
        const std::size_t from = input.take<std::uint16_t>() % words;
        std::uint64_t value = input.take<std::uint64_t>();
        if (value % 2 == 0) { // cells that look right in the wrong place
            std::memcpy(&value, bytes.data() + kHeader + from * 8, 8);
        }
        std::memcpy(bytes.data() + kHeader + to * 8, &value, 8);
    }
    const std::uint64_t sum = XXH3_64bits(bytes.data(), bytes.size() - 8);
    std::memcpy(bytes.data() + bytes.size() - 8, &sum, 8);
    from_wire(bytes);
}

void against_a_map(fuzz::Input& input) {
    const int limbs = 1 + static_cast<int>(input.below(3));
    const std::size_t cells = 4 * (1 + input.below(64));
    const std::uint64_t seed = input.take<std::uint16_t>();
    OwnedSketch sketch(limbs, cells, seed);
    OwnedSketch other(limbs, cells, seed); // as another worker has one
    std::map<Key, std::uint64_t> sums;
    for (unsigned rows = input.take<std::uint8_t>(); rows > 0; rows--) {
        const unsigned way = input.below(4);
        Element row{{}, field_hash(input.below(4) == 0 ? input.take<std::uint64_t>() : input.below(3))};
        for (int limb = 0; limb < limbs; limb++) {
            row.key[limb] = limb == 0 ? input.take<std::uint8_t>() : kPrime - 1 - input.below(2);
        }
        OwnedSketch& into = way / 2 == 0 ? sketch : other;
        way % 2 == 0 ? into.view.add({&row, 1}) : into.view.subtract({&row, 1});
        auto& sum = sums[{row.key[0], row.key[1], row.key[2]}];
        sum = way % 2 == 0 ? field::add(sum, row.hash) : field::sub(sum, row.hash);
    }
    std::erase_if(sums, [](const auto& entry) { return entry.second == 0; });
    sketch.view.merge(other.view);
    const Decoded decoded = sketch.view.decode();
    fuzz::require(decoded.complete == sketch.view.empty());
    for (const Difference& found : decoded.differences) {
        const auto expected = sums.find({found.key[0], found.key[1], found.key[2]});
        fuzz::require(expected != sums.end() && expected->second == found.hash_sum);
        sums.erase(expected); // told once
    }
    fuzz::require(!decoded.complete || sums.empty());
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    switch (input.below(3)) {
    case 0: {
        const auto rest = input.rest();
        from_wire(std::as_bytes(std::span(rest.data(), rest.size())));
        break;
    }
    case 1:
        forged(input);
        break;
    default:
        against_a_map(input);
    }
    return 0;
}
