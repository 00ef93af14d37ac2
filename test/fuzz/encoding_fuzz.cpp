// Two rows made from the bytes of one input: they are encoded alike if and only if their values are alike, whatever
// lengths, classes and folds there are; and the match table and the key set agree with maps.
#include "core/row_encoding.hpp"

#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/key_set.hpp"
#include "core/match_table.hpp"
#include "input.hpp"

namespace {

using namespace tandem;

struct Value {
    unsigned kind;
    std::string bytes;
    bool operator==(const Value&) const = default;
};

std::vector<Value> take_row(fuzz::Input& input) {
    std::vector<Value> row(input.below(64));
    for (Value& value : row) {
        value.kind = input.below(5);
        if (value.kind == 0) {
            continue;
        }
        // Short ones of the input's bytes, and long ones; a few of many sizes.
        const std::size_t size = input.below(8) == 0 ? input.take<std::uint16_t>() % 700 : input.below(12);
        value.bytes.resize(value.kind == 1 ? 8 : size);
        for (std::size_t i = 0; i < value.bytes.size() && i < 16; i++) {
            value.bytes[i] = static_cast<char>(input.take<std::uint8_t>());
        }
    }
    return row;
}

struct Encoded {
    std::string bytes;
    std::uint64_t hash;
    bool operator==(const Encoded&) const = default;
};

Encoded encode(RowEncoder& encoder, const std::vector<Value>& row) {
    encoder.reset();
    for (const Value& value : row) {
        switch (value.kind) {
        case 0:
            encoder.null();
            break;
        case 1: {
            std::int64_t number = 0;
            std::memcpy(&number, value.bytes.data(), sizeof(number));
            encoder.int64(TypeClass::integer, number);
            break;
        }
        case 2:
            encoder.fixed(TypeClass::bytes, value.bytes.data(), value.bytes.size());
            break;
        case 3:
            encoder.begin_group(TypeClass::array, static_cast<std::uint32_t>(value.bytes.size()));
            encoder.bytes(TypeClass::text, value.bytes.data(), value.bytes.size());
            encoder.end_group();
            break;
        default:
            encoder.bytes(TypeClass::text, value.bytes.data(), value.bytes.size());
        }
        fuzz::require(encoder.size() <= RowEncoder::kCapacity);
    }
    return {{reinterpret_cast<const char*>(encoder.data()), encoder.size()}, encoder.hash()};
}

void encode_two(fuzz::Input& input) {
    const HashSecret secret = make_secret(input.take<std::uint16_t>());
    RowEncoder encoder(secret);
    std::vector<Value> one = take_row(input);
    std::vector<Value> other = input.below(2) == 0 ? take_row(input) : one;
    if (!other.empty() && input.below(2) == 0) { // a small change
        Value& value = other[input.below(static_cast<unsigned>(other.size()))];
        if (value.bytes.empty()) {
            value.kind = value.kind == 1 ? 1 : input.below(2) * 4;
        } else {
            value.bytes[input.take<std::uint16_t>() % value.bytes.size()] ^= static_cast<char>(input.below(3));
        }
    }
    const Encoded first = encode(encoder, one);
    fuzz::require(first == encode(encoder, one));
    fuzz::require((first == encode(encoder, other)) == (one == other));
}

void tables(fuzz::Input& input) {
    struct Counts {
        std::uint64_t sum = 0;
        std::uint32_t legacy = 0;
        std::uint32_t of_new = 0;
    };
    const std::uint64_t seed = input.take<std::uint16_t>();
    MatchTable table(2, input.below(64), seed);
    std::map<std::pair<std::uint64_t, std::uint64_t>, Counts> all;
    for (unsigned rows = input.take<std::uint16_t>() % 1000; rows > 0; rows--) {
        const Element row{{input.take<std::uint8_t>(), input.below(3), 0},
                          1 + input.take<std::uint64_t>() % (kPrime - 1)};
        Counts& counts = all[{row.key[0], row.key[1]}];
        if (input.below(2) == 0) {
            table.add_legacy({&row, 1});
            counts.sum = field::add(counts.sum, row.hash);
            counts.legacy++;
        } else {
            table.add_new({&row, 1});
            counts.sum = field::sub(counts.sum, row.hash);
            counts.of_new++;
        }
    }
    fuzz::require(table.entries() == all.size());

    std::vector<std::uint64_t> memory(KeySet::bytes(all.size(), 2) / sizeof(std::uint64_t));
    KeySet keys(memory.data(), 2, all.size(), seed);
    table.differences(true, [&](const MatchTable::Entry& entry) {
        const Counts& counts = all.at({entry.key[0], entry.key[1]});
        fuzz::require(entry.hash_sum == counts.sum && entry.legacy_copies == counts.legacy &&
                      entry.new_copies == counts.of_new);
        fuzz::require(keys.insert(entry.key));
    });
    for (const auto& [key, counts] : all) {
        const std::uint64_t limbs[] = {key.first, key.second, 0};
        const bool differs =
            counts.sum != 0 || counts.legacy != counts.of_new || counts.legacy > 1 || counts.of_new > 1;
        fuzz::require(keys.contains(limbs) == differs);
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    if (input.below(4) == 0) {
        tables(input);
    } else {
        encode_two(input);
    }
    return 0;
}
