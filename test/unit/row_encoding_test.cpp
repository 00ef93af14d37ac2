// The encoding of rows: different rows give different bytes, wherever peers say EQUAL; equal rows give the same ones,
// however long they are.
#include "core/row_encoding.hpp"

#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "random.hpp"

namespace tandem {
namespace {

using Fill = std::function<void(RowEncoder&)>;

struct Encoded {
    std::string bytes;
    std::uint64_t hash;
    std::uint64_t key[2];
    bool operator==(const Encoded& other) const {
        return bytes == other.bytes && hash == other.hash && key[0] == other.key[0] && key[1] == other.key[1];
    }
};

const HashSecret kSecret = make_secret(42);

Encoded encode(const Fill& fill, const HashSecret& secret = kSecret) {
    RowEncoder encoder(secret);
    encoder.reset();
    fill(encoder);
    Encoded encoded{{reinterpret_cast<const char*>(encoder.data()), encoder.size()}, encoder.hash(), {}};
    encoder.key(encoded.key);
    EXPECT_LE(encoder.size(), RowEncoder::kCapacity);
    EXPECT_TRUE(encoded.hash > 0 && encoded.hash < kPrime);
    EXPECT_TRUE(encoded.key[0] < kPrime && encoded.key[1] < kPrime);
    return encoded;
}

void text(RowEncoder& encoder, std::string_view value) {
    encoder.bytes(TypeClass::text, value.data(), value.size());
}
Fill texts(std::vector<std::string> values) {
    return [values = std::move(values)](RowEncoder& encoder) {
        for (const auto& value : values) {
            text(encoder, value);
        }
    };
}

void expect_differ(const Fill& one, const Fill& other) {
    const Encoded a = encode(one);
    const Encoded b = encode(other);
    EXPECT_NE(a.bytes, b.bytes);
    EXPECT_NE(a.hash, b.hash);
    EXPECT_TRUE(a.key[0] != b.key[0] && a.key[1] != b.key[1]);
}
void expect_same(const Fill& one, const Fill& other) {
    EXPECT_EQ(encode(one), encode(other));
}

TEST(row_encoding, null_is_no_text) {
    const Fill null = [](RowEncoder& encoder) { encoder.null(); };
    expect_differ(null, texts({""}));
    expect_differ(null, texts({"NULL"}));
    expect_differ(texts({""}), texts({"NULL"}));
    expect_differ(null, [](RowEncoder&) {});
    expect_differ(null, [](RowEncoder& encoder) { encoder.int64(TypeClass::integer, 0); });
    expect_differ([](RowEncoder& encoder) { encoder.null(), text(encoder, "a"); },
                  [](RowEncoder& encoder) { text(encoder, "a"), encoder.null(); });
}

TEST(row_encoding, no_byte_moves_to_the_next_column) {
    expect_differ(texts({"a|b", "c"}), texts({"a", "b|c"}));
    expect_differ(texts({"ab", ""}), texts({"a", "b"}));
    expect_differ(texts({"", "ab"}), texts({"ab", ""}));
    expect_differ(texts({"ab"}), texts({"a", "b"}));
    expect_differ(texts({"a"}), texts({"a", ""}));
    // A value that holds what an item looks like.
    const char item[] = {static_cast<char>(TypeClass::text), 1, 'b'};
    expect_differ(texts({std::string("a") + std::string(item, 3)}), texts({"a", "b"}));
    expect_differ(texts({"a", "b", "c"}), texts({"a", "c", "b"}));
    expect_differ(texts({std::string("a\0b", 3)}), texts({"a"}));
    expect_differ(texts({"a "}), texts({"a"}));
}

TEST(row_encoding, classes_are_kept_apart) {
    const std::int64_t value = 7;
    const auto as = [&](TypeClass type) { return [=](RowEncoder& encoder) { encoder.int64(type, value); }; };
    expect_differ(as(TypeClass::integer), as(TypeClass::date_time));
    expect_differ(as(TypeClass::integer), [](RowEncoder& encoder) { encoder.floating(7); });
    expect_differ(texts({"7"}), [](RowEncoder& encoder) { encoder.bytes(TypeClass::numeric, "7", 1); });
}

TEST(row_encoding, one_value_has_one_form) {
    const std::uint64_t value = 0x0807060504030201;
    const char bytes[] = {1, 2, 3, 4, 5, 6, 7, 8};
    const Fill by_int64 = [=](RowEncoder& encoder) {
        encoder.int64(TypeClass::integer, static_cast<std::int64_t>(value));
    };
    expect_same(by_int64, [&](RowEncoder& encoder) { encoder.fixed(TypeClass::integer, bytes, 8); });
    expect_same(by_int64, [&](RowEncoder& encoder) { encoder.bytes(TypeClass::integer, bytes, 8); });
    for (std::size_t size = 0; size < 600; size++) {
        const std::string value_of_size(size, 'x');
        expect_same([&](RowEncoder& encoder) { encoder.fixed(TypeClass::uuid, value_of_size.data(), size); },
                    [&](RowEncoder& encoder) { encoder.bytes(TypeClass::uuid, value_of_size.data(), size); });
    }
}

TEST(row_encoding, floats_as_postgres_compares_them) {
    const auto of = [](double value) { return [=](RowEncoder& encoder) { encoder.floating(value); }; };
    expect_same(of(0.0), of(-0.0));
    const double nan = std::numeric_limits<double>::quiet_NaN();
    expect_same(of(nan), of(-nan));
    expect_same(of(nan), of(std::bit_cast<double>(0x7ff0000000000001))); // signalling
    expect_same(of(nan), of(std::bit_cast<double>(0xffffffffffffffff)));
    expect_differ(of(nan), of(std::numeric_limits<double>::infinity()));
    expect_differ(of(std::numeric_limits<double>::infinity()), of(-std::numeric_limits<double>::infinity()));
    expect_differ(of(1), of(std::nextafter(1, 2)));
    expect_differ(of(0), of(std::numeric_limits<double>::denorm_min()));
    expect_same(of(0.5f), of(0.5));
    expect_differ(of(0.1f), of(0.1)); // as float4 = float8 says
}

TEST(row_encoding, groups_tell_their_shape) {
    const auto group = [](TypeClass type, std::vector<std::string> values) {
        return [type, values](RowEncoder& encoder) {
            encoder.begin_group(type, static_cast<std::uint32_t>(values.size()));
            texts(values)(encoder);
            encoder.end_group();
        };
    };
    expect_differ(group(TypeClass::array, {"a", "b"}), texts({"a", "b"}));
    expect_differ(group(TypeClass::array, {"a", "b"}), group(TypeClass::record, {"a", "b"}));
    expect_differ(group(TypeClass::array, {}), group(TypeClass::array, {""}));
    expect_differ(group(TypeClass::array, {}), [](RowEncoder& encoder) { encoder.null(); });
    // {{a},{b}} and {{a,b}}, {{a}},b
    const Fill two = [&](RowEncoder& encoder) {
        encoder.begin_group(TypeClass::array, 2);
        group(TypeClass::array, {"a"})(encoder);
        group(TypeClass::array, {"b"})(encoder);
        encoder.end_group();
    };
    const Fill one = [&](RowEncoder& encoder) {
        encoder.begin_group(TypeClass::array, 1);
        group(TypeClass::array, {"a", "b"})(encoder);
        encoder.end_group();
    };
    expect_differ(two, one);
    expect_differ(group(TypeClass::array, std::vector<std::string>(256, "")), group(TypeClass::array, {}));
}

// What PostgreSQL's longest inline item is, and the first that is digested.
TEST(row_encoding, long_values_are_digested) {
    for (const std::size_t size :
         {0, 1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 254, 255, 256, 257, 1000, 100'000}) {
        const std::string value(size, 'v');
        const Encoded encoded = encode(texts({value}));
        EXPECT_EQ(encoded.bytes.size(), size <= RowEncoder::kMaxInline ? 2 + size : 26) << size;
        if (size <= RowEncoder::kMaxInline) {
            EXPECT_EQ(encoded.bytes.substr(2), value);
        }
        for (std::size_t i = 0; i < size; i += 1 + size / 50) {
            std::string changed = value;
            changed[i] = 'w';
            EXPECT_NE(encode(texts({changed})).hash, encoded.hash) << size << ' ' << i;
        }
        EXPECT_NE(encode(texts({value + "v"})).hash, encoded.hash);
    }
    // A short value that is exactly what a long one contributes is not that long one.
    const std::string item = encode(texts({std::string(1000, 'v')})).bytes;
    expect_differ(texts({std::string(1000, 'v')}), texts({item}));
    expect_differ(texts({std::string(1000, 'v')}), texts({item.substr(2)}));
    expect_differ(texts({std::string(1000, 'v')}),
                  [](RowEncoder& encoder) { encoder.bytes(TypeClass::bytes, std::string(1000, 'v').data(), 1000); });
}

// Every length is copied whole, and nothing beyond it is read or written: a buffer of its own size tells the sanitizer.
TEST(row_encoding, any_length_is_copied_whole) {
    test::Random random;
    for (std::size_t size = 0; size <= RowEncoder::kMaxInline; size++) {
        std::vector<char> value(size);
        for (char& byte : value) {
            byte = static_cast<char>(random());
        }
        const Encoded encoded =
            encode([&](RowEncoder& encoder) { encoder.bytes(TypeClass::bytes, value.data(), size); });
        ASSERT_EQ(encoded.bytes.substr(2), std::string(value.begin(), value.end()));
    }
}

TEST(row_encoding, a_full_buffer_folds) {
    test::Random random;
    std::map<std::string, std::size_t> seen; // bytes → how many columns
    std::vector<std::string> columns;
    for (std::size_t count = 0; count < 400; count++) {
        const Encoded encoded = encode(texts(columns));
        ASSERT_TRUE(seen.emplace(encoded.bytes, count).second) << count << " columns";
        columns.push_back(std::string(random.below(100), static_cast<char>('a' + random.below(26))));
    }
    const Encoded whole = encode(texts(columns));
    EXPECT_EQ(encode(texts(columns)), whole);
    for (std::size_t i = 0; i < columns.size(); i++) { // every column counts, also those before a fold
        auto changed = columns;
        changed[i] += '!';
        ASSERT_NE(encode(texts(changed)).hash, whole.hash) << i;
        if (i > 0 && columns[i] != columns[i - 1]) {
            changed = columns;
            std::swap(changed[i], changed[i - 1]);
            ASSERT_NE(encode(texts(changed)).hash, whole.hash) << i;
        }
    }
}

// At the very end of the buffer, with every kind of item, as the sanitizer watches.
TEST(row_encoding, every_item_fits_at_the_end) {
    const std::string large(255, 'x');
    const std::string longer(256, 'x');
    const Fill items[] = {[](RowEncoder& e) { e.null(); },
                          [](RowEncoder& e) { e.int64(TypeClass::integer, 1); },
                          [](RowEncoder& e) { e.floating(1); },
                          [&](RowEncoder& e) { text(e, large); },
                          [&](RowEncoder& e) { e.fixed(TypeClass::text, large.data(), 255); },
                          [&](RowEncoder& e) { text(e, longer); },
                          [](RowEncoder& e) { e.begin_group(TypeClass::array, 1); },
                          [](RowEncoder& e) { e.end_group(); }};
    for (const Fill& item : items) {
        std::set<std::uint64_t> hashes;
        for (std::size_t before = RowEncoder::kCapacity - 300; before <= RowEncoder::kCapacity; before++) {
            const Encoded encoded = encode([&](RowEncoder& encoder) {
                while (encoder.size() < before) {
                    encoder.end_group(); // one byte each
                }
                item(encoder);
                item(encoder);
            });
            hashes.insert(encoded.hash);
        }
        EXPECT_EQ(hashes.size(), 301u);
    }
}

// A value that is what a folded buffer begins with.
TEST(row_encoding, a_fold_is_no_value) {
    const std::vector<std::string> columns(100, std::string(100, 'x'));
    const Encoded folded = encode(texts(columns));
    ASSERT_LT(folded.bytes.size(), 4096u);
    expect_differ(texts(columns), texts({folded.bytes.substr(0, 200)}));
    expect_differ(texts(columns), texts({folded.bytes.substr(2, 200)}));
}

TEST(row_encoding, another_secret_another_hash) {
    const HashSecret other = make_secret(43);
    EXPECT_EQ(make_secret(43).seed, 43u);
    for (const std::size_t size : {0u, 2u, 10u, 100u, 200u, 1000u}) { // all ways that XXH3 takes
        const Fill fill = texts(std::vector<std::string>(size / 50 + 1, std::string(size % 50, 'x')));
        EXPECT_EQ(encode(fill).bytes, encode(fill, other).bytes);
        EXPECT_NE(encode(fill).hash, encode(fill, other).hash);
        EXPECT_NE(encode(fill).key[0], encode(fill, other).key[0]);
        EXPECT_NE(encode(fill).key[1], encode(fill, other).key[1]);
    }
    std::set<std::uint8_t> bytes(std::begin(kSecret.bytes), std::end(kSecret.bytes));
    EXPECT_GT(bytes.size(), 80u) << "a secret looks random";
}

// Two servers of different machines and releases must agree: what is encoded, and how it is hashed.
TEST(row_encoding, values_are_stable) {
    const Encoded encoded = encode([](RowEncoder& encoder) {
        encoder.int64(TypeClass::integer, 258);
        encoder.null();
        text(encoder, "ab");
        encoder.floating(1.0);
        encoder.begin_group(TypeClass::array, 1);
        encoder.end_group();
    });
    const std::string expected("\x02\x08\x02\x01\0\0\0\0\0\0"
                               "\0\0"
                               "\x05\x02"
                               "ab"
                               "\x03\x08\0\0\0\0\0\0\xf0\x3f"
                               "\xfc\x0d\x01\0\0\0\xfb",
                               33);
    EXPECT_EQ(encoded.bytes, expected);
    EXPECT_EQ(encoded.hash, 2291871071443771099u);
    EXPECT_EQ(encoded.key[0], 1390299636756124012u);
    EXPECT_EQ(encoded.key[1], 1284251293872281547u);
}

// Random rows against the bytes that a plain, slow encoder makes of them: no two different rows are alike.
TEST(row_encoding, random_rows_are_injective) {
    test::Random random;
    std::map<std::string, std::vector<std::string>> rows; // bytes → values, as text with their kind
    std::map<std::uint64_t, std::string> hashes;
    for (int i = 0; i < 20'000; i++) {
        std::vector<std::string> values;
        const Encoded encoded = encode([&](RowEncoder& encoder) {
            for (std::uint64_t columns = random.below(5); columns > 0; columns--) {
                const std::uint64_t number = random.below(3);
                switch (random.below(4)) {
                case 0:
                    encoder.null();
                    values.push_back("null");
                    break;
                case 1:
                    encoder.int64(TypeClass::integer, static_cast<std::int64_t>(number));
                    values.push_back("integer " + std::to_string(number));
                    break;
                default:
                    // Bytes that look like the beginnings of items.
                    std::string value;
                    for (std::uint64_t size = random.below(4); size > 0; size--) {
                        value += static_cast<char>(random.below(2) == 0 ? random.below(6) : 0xfb + random.below(4));
                    }
                    text(encoder, value);
                    values.push_back("text " + value);
                }
            }
        });
        ASSERT_EQ(rows.emplace(encoded.bytes, values).first->second, values);
        ASSERT_EQ(hashes.emplace(encoded.hash, encoded.bytes).first->second, encoded.bytes);
    }
}

} // namespace
} // namespace tandem
