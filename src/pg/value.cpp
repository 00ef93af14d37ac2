// The codecs of plain types; which codec a type has is in value_plan.cpp, nested ones are in value_nested.cpp.
//
// The layout of numeric is private to PostgreSQL, though it is what is on every disk; the tests hold it against the
// join.
#include "pg/value.hpp"

#include "pg/value_codecs.hpp"
#include "pg/value_inline.hpp"

extern "C" {
#include "access/detoast.h"
#include "utils/date.h"
#include "utils/uuid.h"
}

namespace pg::compare {

using tandem::RowEncoder;
using tandem::TypeClass;

namespace {

// A varlena in memory that may be packed (one byte of header), but not compressed or elsewhere.
struct Bytes {
    const char* data;
    std::size_t size;
};

Bytes plain_bytes(Datum value) {
    auto* varlena = reinterpret_cast<struct varlena*>(DatumGetPointer(value));
    if (!is_plain_varlena(DatumGetPointer(value))) {
        varlena = detoast_attr(varlena);
    }
    return {VARDATA_ANY(varlena), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(varlena))};
}

void put_text(Datum value, RowEncoder& encoder) {
    const Bytes bytes = plain_bytes(value);
    encoder.bytes(TypeClass::text, bytes.data, bytes.size);
}

Bytes without_padding(Bytes bytes) {
    while (bytes.size > 0 && bytes.data[bytes.size - 1] == ' ') {
        bytes.size--;
    }
    return bytes;
}

// For the hash functions of types.
constexpr std::uint64_t kSeeds[2] = {0x7461'6e64'656d, 0x6d65'646e'6174};

void put_bpchar(Datum value, RowEncoder& encoder) {
    const Bytes bytes = without_padding(plain_bytes(value));
    encoder.bytes(TypeClass::text, bytes.data, bytes.size);
}

// PostgreSQL hashes the sort key of the collation; two seeds make 128 bits of it. Padding is no part of a bpchar.
void put_collated(const ValuePlan* plan, Datum value, RowEncoder& encoder) {
    if (plan->type == BPCHAROID) {
        const Bytes bytes = without_padding(plain_bytes(value));
        value = PointerGetDatum(cstring_to_text_with_len(bytes.data, static_cast<int>(bytes.size)));
    }
    const std::uint64_t halves[2] = {
        DatumGetUInt64(DirectFunctionCall2Coll(hashtextextended, plan->collation, value, UInt64GetDatum(kSeeds[0]))),
        DatumGetUInt64(DirectFunctionCall2Coll(hashtextextended, plan->collation, value, UInt64GetDatum(kSeeds[1])))};
    encoder.fixed(TypeClass::text, halves, sizeof(halves));
}

void put_hashed(const ValuePlan* plan, Datum value, RowEncoder& encoder) {
    const std::uint64_t halves[2] = {
        DatumGetUInt64(FunctionCall2Coll(plan->hash, plan->collation, value, UInt64GetDatum(kSeeds[0]))),
        DatumGetUInt64(FunctionCall2Coll(plan->hash, plan->collation, value, UInt64GetDatum(kSeeds[1])))};
    encoder.fixed(TypeClass::image, halves, sizeof(halves));
}

// --- numeric: sign, weight and the base-10000 digits without zeros at either end; the display scale says nothing.
constexpr std::uint16_t kSpecial = 0xC000;
constexpr std::uint16_t kSpecialSign = 0xF000;

struct Decimal {
    bool special; // NaN, Infinity or -Infinity, by `sign`
    std::uint16_t sign;
    int weight;
    int count;
    const char* digits; // may stand at an odd address
    std::int16_t own[5];
};

std::int16_t digit(const Decimal& decimal, int i) {
    std::int16_t d = 0;
    memcpy(&d, decimal.digits + sizeof(d) * i, sizeof(d));
    return d;
}

void read_numeric(Datum value, Decimal& decimal) {
    const Bytes bytes = plain_bytes(value);
    std::uint16_t header = 0;
    memcpy(&header, bytes.data, sizeof(header));
    decimal.special = (header & kSpecial) == kSpecial;
    if (decimal.special) {
        decimal.sign = header & kSpecialSign;
        decimal.count = 0;
        decimal.weight = 0;
        return;
    }
    std::size_t start = sizeof(header);
    if ((header & 0x8000) != 0) { // the short form: weight and scale share the header
        decimal.sign = (header & 0x2000) != 0 ? 1 : 0;
        decimal.weight = (header & 0x0040) != 0 ? static_cast<int>(header & 0x003F) - 0x40 : header & 0x003F;
    } else {
        std::int16_t weight = 0;
        memcpy(&weight, bytes.data + start, sizeof(weight));
        start += sizeof(weight);
        decimal.sign = (header & kSpecial) == 0x4000 ? 1 : 0;
        decimal.weight = weight;
    }
    decimal.digits = bytes.data + start;
    decimal.count = static_cast<int>((bytes.size - start) / sizeof(std::int16_t));
    while (decimal.count > 0 && digit(decimal, decimal.count - 1) == 0) {
        decimal.count--;
    }
    while (decimal.count > 0 && digit(decimal, 0) == 0) {
        decimal.digits += sizeof(std::int16_t);
        decimal.count--;
        decimal.weight--;
    }
    if (decimal.count == 0) {
        decimal.sign = 0;
        decimal.weight = 0;
    }
}

void decimal_of_integer(std::int64_t value, Decimal& decimal) {
    decimal.special = false;
    decimal.sign = value < 0 ? 1 : 0;
    std::uint64_t rest = value < 0 ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
    int first = 5;
    decimal.weight = 0;
    while (rest != 0) {
        decimal.own[--first] = static_cast<std::int16_t>(rest % 10000);
        rest /= 10000;
    }
    decimal.weight = first == 5 ? 0 : 4 - first;
    decimal.count = 5 - first;
    decimal.digits = reinterpret_cast<const char*>(decimal.own + first);
    while (decimal.count > 0 && digit(decimal, decimal.count - 1) == 0) {
        decimal.count--;
    }
}

void put_decimal(const Decimal& decimal, RowEncoder& encoder) {
    const std::uint32_t head = numeric_head(decimal.special ? decimal.sign : decimal.sign + 1, decimal.weight);
    const std::size_t size = sizeof(std::int16_t) * static_cast<std::size_t>(decimal.count);
    if (decimal.count <= static_cast<int>(kQuickDigits)) {
        encoder.headed(TypeClass::numeric, head, decimal.digits, size);
        return;
    }
    encoder.begin_group(TypeClass::numeric, head);
    encoder.bytes(TypeClass::numeric, decimal.digits, size);
}

// Within a few units in the last place; infinite where double ends.
double approximate(const Decimal& decimal) {
    double value = 0;
    double unit = std::pow(10000.0, decimal.weight);
    for (int i = 0; i < decimal.count && i < 6; i++, unit /= 10000.0) {
        value += digit(decimal, i) * unit;
    }
    return decimal.sign != 0 ? -value : value;
}

// Dates go further than timestamps: behind the last of them, each gets a number that no timestamp has.
std::int64_t date_as_timestamp(DateADT date) {
    int overflow = 0;
    const Timestamp timestamp = date2timestamp_opt_overflow(date, &overflow);
    return overflow == 0 ? timestamp : END_TIMESTAMP + date;
}

// What is above the type's length may be the sign or zeros, as the datum was made.
std::uint64_t word_of(const ValuePlan* plan, Datum value) {
    const auto word = static_cast<std::uint64_t>(value);
    return plan->length >= 8 ? word : word & ((std::uint64_t{1} << (8 * plan->length)) - 1);
}

std::int64_t as_integer(Codec codec, Datum value) {
    switch (codec) {
    case Codec::int2:
    case Codec::int2_numeric:
        return DatumGetInt16(value);
    case Codec::int4:
    case Codec::int4_numeric:
        return DatumGetInt32(value);
    default:
        return DatumGetInt64(value);
    }
}

// --- tolerances
// The relative error that approximate() and the divisions below stay under, with room. A real reads as its shortest
// decimal, which is up to 2^-24 away.
constexpr double kSlack = 0x1p-44;
constexpr double kRealSlack = 0x1p-20;

// false: the value is too large for the tolerance, or no number: it is encoded exactly, which only adds candidates.
bool put_bucket(const ValuePlan* plan, double value, RowEncoder& encoder) {
    if (!std::isfinite(value) || plan->width <= 0) {
        return false;
    }
    const double slack = plan->codec == Codec::float4 ? kRealSlack : kSlack;
    std::int64_t bucket[3] = {};
    if (plan->tolerance == Tolerance::absolute) {
        if (std::fabs(value) * slack > plan->width) {
            return false;
        }
        bucket[0] = static_cast<std::int64_t>(std::floor(value / plan->width));
    } else {
        if (value == 0 || plan->width < slack) {
            return false;
        }
        int exponent = 0;
        const double mantissa = std::frexp(std::fabs(value), &exponent); // 0.5 .. 1
        bucket[0] = static_cast<std::int64_t>(mantissa / (plan->width * 0.5));
        bucket[1] = exponent;
        bucket[2] = value < 0 ? 1 : 0;
    }
    encoder.fixed(TypeClass::digest, bucket, sizeof(bucket));
    return true;
}

void put_span(__int128 span, RowEncoder& encoder) {
    encoder.fixed(TypeClass::date_time, &span, sizeof(span));
}

bool put_near(const ValuePlan* plan, Datum value, RowEncoder& encoder) {
    if (plan->tolerance == Tolerance::time) {
        __int128 span = 0;
        switch (plan->type) {
        case DATEOID:
            if (DATE_NOT_FINITE(DatumGetDateADT(value))) {
                return false;
            }
            span = static_cast<__int128>(DatumGetDateADT(value)) * USECS_PER_DAY;
            break;
        case TIMESTAMPOID:
        case TIMESTAMPTZOID:
            if (TIMESTAMP_NOT_FINITE(DatumGetTimestamp(value))) {
                return false;
            }
            span = DatumGetTimestamp(value);
            break;
        case TIMEOID:
            span = DatumGetTimeADT(value);
            break;
        case INTERVALOID:
#ifdef INTERVAL_NOT_FINITE
            if (INTERVAL_NOT_FINITE(DatumGetIntervalP(value))) {
                return false;
            }
#endif
            span = interval_span(DatumGetIntervalP(value));
            break;
        default:
            return false;
        }
        if (plan->time_width <= 0) {
            return false;
        }
        const __int128 width = plan->time_width;
        const __int128 bucket = span >= 0 ? span / width : -((-span + width - 1) / width);
        encoder.fixed(TypeClass::digest, &bucket, sizeof(bucket));
        return true;
    }
    switch (plan->codec) {
    case Codec::float4:
        return put_bucket(plan, DatumGetFloat4(value), encoder);
    case Codec::float8:
        return put_bucket(plan, DatumGetFloat8(value), encoder);
    case Codec::numeric: {
        Decimal decimal;
        read_numeric(value, decimal);
        return !decimal.special && put_bucket(plan, approximate(decimal), encoder);
    }
    default:
        return put_bucket(plan, static_cast<double>(as_integer(plan->codec, value)), encoder);
    }
}

} // namespace

void encode(const ValuePlan* plan, Datum value, RowEncoder& encoder) {
    if (plan->tolerance != Tolerance::none && put_near(plan, value, encoder)) {
        return;
    }
    switch (plan->codec) {
    case Codec::int2:
    case Codec::int4:
    case Codec::int8:
        encoder.int64(TypeClass::integer, as_integer(plan->codec, value));
        return;
    case Codec::float4:
        encoder.floating(DatumGetFloat4(value));
        return;
    case Codec::float8:
        encoder.floating(DatumGetFloat8(value));
        return;
    case Codec::numeric: {
        Decimal decimal;
        read_numeric(value, decimal);
        put_decimal(decimal, encoder);
        return;
    }
    case Codec::int2_numeric:
    case Codec::int4_numeric:
    case Codec::int8_numeric: {
        Decimal decimal;
        decimal_of_integer(as_integer(plan->codec, value), decimal);
        put_decimal(decimal, encoder);
        return;
    }
    case Codec::text:
        put_text(value, encoder);
        return;
    case Codec::bpchar:
        put_bpchar(value, encoder);
        return;
    case Codec::name:
        encoder.bytes(TypeClass::text, NameStr(*DatumGetName(value)), strlen(NameStr(*DatumGetName(value))));
        return;
    case Codec::collated:
        put_collated(plan, value, encoder);
        return;
    case Codec::date_timestamp:
        encoder.int64(TypeClass::image, date_as_timestamp(DatumGetDateADT(value)));
        return;
    case Codec::interval:
        put_span(interval_span(DatumGetIntervalP(value)), encoder);
        return;
    case Codec::word:
        encoder.int64(TypeClass::image, static_cast<std::int64_t>(word_of(plan, value)));
        return;
    case Codec::fixed:
        encoder.fixed(TypeClass::image, DatumGetPointer(value), static_cast<std::size_t>(plan->length));
        return;
    case Codec::varlena: {
        const Bytes bytes = plain_bytes(value);
        encoder.bytes(TypeClass::image, bytes.data, bytes.size);
        return;
    }
    case Codec::cstring:
        encoder.bytes(TypeClass::image, DatumGetCString(value), strlen(DatumGetCString(value)));
        return;
    case Codec::other:
        break;
    case Codec::hashed:
        put_hashed(plan, value, encoder);
        return;
    case Codec::jsonb:
    case Codec::array:
    case Codec::record:
    case Codec::range:
    case Codec::multirange:
        encode_nested(plan, value, encoder);
        return;
    }
}

void encode_numeric(Datum value, RowEncoder& encoder) {
    Decimal decimal;
    read_numeric(value, decimal);
    put_decimal(decimal, encoder);
}

int key_bits(Oid operand) {
    switch (operand) {
    case BOOLOID:
        return 1;
    case INT2OID:
        return 16;
    case INT4OID:
    case DATEOID:
    case OIDOID:
        return 32;
    case INT8OID:
    case TIMESTAMPOID:
    case TIMESTAMPTZOID:
    case TIMEOID:
        return 64;
    case UUIDOID:
        return 128;
    default:
        return 0;
    }
}

void key_to_bits(const ValuePlan* plan, Datum value, std::uint64_t bits[2]) {
    bits[1] = 0;
    switch (plan->codec) {
    case Codec::int2:
    case Codec::int4:
    case Codec::int8:
        bits[0] = static_cast<std::uint64_t>(as_integer(plan->codec, value));
        return;
    case Codec::date_timestamp:
        bits[0] = static_cast<std::uint64_t>(date_as_timestamp(DatumGetDateADT(value)));
        return;
    case Codec::fixed:
        memcpy(bits, DatumGetPointer(value), UUID_LEN);
        return;
    default:
        bits[0] = word_of(plan, value);
        return;
    }
}

Datum key_from_bits(Oid operand, const std::uint64_t bits[2]) {
    switch (operand) {
    case BOOLOID:
        return BoolGetDatum(bits[0] != 0);
    case INT2OID:
        return Int16GetDatum(static_cast<std::int16_t>(bits[0]));
    case INT4OID:
    case DATEOID:
        return Int32GetDatum(static_cast<std::int32_t>(bits[0]));
    case OIDOID:
        return ObjectIdGetDatum(static_cast<Oid>(bits[0]));
    case UUIDOID: {
        auto* uuid = static_cast<pg_uuid_t*>(palloc(sizeof(pg_uuid_t)));
        memcpy(uuid->data, bits, UUID_LEN);
        return UUIDPGetDatum(uuid);
    }
    default:
        return Int64GetDatum(static_cast<std::int64_t>(bits[0]));
    }
}

} // namespace pg::compare
