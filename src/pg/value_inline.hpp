// The codecs that nearly every row meets, where the loop over rows can have them inline. Anything else goes to encode().
#pragma once

#include "pg/value.hpp"

namespace pg::compare {

// What a value gives without being detoasted: short varlenas, as nearly all on disk are, and plain ones.
inline bool is_plain_varlena(const char* value) {
    return VARATT_IS_1B(value) ? !VARATT_IS_1B_E(value) : VARATT_IS_4B_U(value);
}

// The short form of numeric, as numeric.c packs it: sign, display scale and weight in two bytes, then digits.
inline constexpr std::size_t kQuickDigits = 24;

// Sign and weight in front of the digits.
inline std::uint32_t numeric_head(int sign, int weight) {
    return static_cast<std::uint32_t>(sign) << 16 | static_cast<std::uint16_t>(weight);
}

[[gnu::always_inline]] inline bool put_quick_numeric(const char* data, std::size_t size, tandem::RowEncoder& encoder) {
    std::uint16_t header = 0;
    memcpy(&header, data, sizeof(header));
    const std::size_t digits = size - sizeof(header);
    if ((header & 0xC000) != 0x8000 || digits == 0 || digits > sizeof(std::int16_t) * kQuickDigits) {
        return false;
    }
    std::int16_t first = 0;
    std::int16_t last = 0;
    memcpy(&first, data + sizeof(header), sizeof(first));
    memcpy(&last, data + size - sizeof(last), sizeof(last));
    if (first == 0 || last == 0) {
        return false;
    }
    const int weight = (header & 0x0040) != 0 ? static_cast<int>(header & 0x003F) - 0x40 : header & 0x003F;
    encoder.headed(tandem::TypeClass::numeric, numeric_head((header & 0x2000) != 0 ? 2 : 1, weight),
                   data + sizeof(header), digits);
    return true;
}

[[gnu::always_inline]] inline void encode_quickly(const ValuePlan* plan, Datum value, tandem::RowEncoder& encoder) {
    using tandem::TypeClass;
    switch (plan->quick) {
    case Codec::int4:
        encoder.int64(TypeClass::integer, DatumGetInt32(value));
        return;
    case Codec::int8:
        encoder.int64(TypeClass::integer, DatumGetInt64(value));
        return;
    case Codec::float8:
        encoder.floating(DatumGetFloat8(value));
        return;
    case Codec::word:
        if (plan->length == 8) {
            encoder.int64(TypeClass::image, static_cast<std::int64_t>(value));
            return;
        }
        break;
    case Codec::text: {
        const char* data = DatumGetPointer(value);
        if (is_plain_varlena(data)) {
            encoder.bytes(TypeClass::text, VARDATA_ANY(data), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(data)));
            return;
        }
        break;
    }
    case Codec::numeric: {
        const char* data = DatumGetPointer(value);
        if (is_plain_varlena(data) &&
            put_quick_numeric(VARDATA_ANY(data), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(data)), encoder)) {
            return;
        }
        break;
    }
    default:
        break;
    }
    encode(plan, value, encoder);
}

} // namespace pg::compare
