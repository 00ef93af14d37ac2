// Values as canonical bytes: two values that PostgreSQL's = calls different are never encoded alike.
//
// The encoding follows the equality of the type, not its hash function: hash_array() does not look at dimensions,
// jsonb_hash() rotates by one bit an element, and both may say "equal" of what is not. What has no encoding of its own
// here goes by its bytes: equal values may then be encoded differently, and the judge, who compares real values, lets
// them go.
#pragma once

#include "pg/prelude.hpp"

namespace pg::compare {

// How the datum of a column becomes bytes. A codec may stand for a cast as well: it writes what the cast's result
// would be written as.
enum class Codec : std::uint8_t {
    int2,
    int4,
    int8,
    float4,
    float8,
    numeric,
    int2_numeric, // an integer as the numeric of its value
    int4_numeric,
    int8_numeric,
    text,
    bpchar, // without its padding
    name,
    collated, // text under a nondeterministic collation: by its sort key
    date_timestamp,
    interval,
    jsonb,
    array,
    record,
    range,
    multirange,
    word,    // the bytes of a type that is passed by value
    fixed,   // the bytes of a type of fixed length
    varlena, // the bytes of a value, once it is detoasted
    cstring,
    other,  // none of those that value_inline.hpp knows
    hashed, // by the type's own hash function: equal values alike, and others perhaps too
};

// A tolerance cannot be hashed. Values in the same bucket are within it; values in different ones are candidates, and
// the judge looks at them.
enum class Tolerance : std::uint8_t { none, absolute, relative, time };

struct ValuePlan {
    Codec codec;
    Codec quick; // the codec, unless a tolerance stands in the way
    Tolerance tolerance;
    double width;            // absolute, relative: half of the tolerance
    std::int64_t time_width; // time: microseconds
    Oid type;
    Oid collation;
    std::int16_t length;
    bool by_value;
    char align;
    const ValuePlan* element; // of arrays, ranges and multiranges
    TypeCacheEntry* range_type;
    FmgrInfo* hash;
    bool canonical; // are equal values always encoded alike?
};
static_assert(std::is_trivially_destructible_v<ValuePlan>);

// The plan for values of `type` that are compared as `operand` is, in the current memory context. nullptr: there is no
// codec for that cast, it has to be executed.
ValuePlan* plan_value(Oid type, Oid operand, Oid collation);

// The plan for a key column: equal values are always encoded alike, or rows of one key would not meet. Others may be
// too: the judge sees both. nullptr: the type has no hash function, and only a join can match such keys.
ValuePlan* plan_key(Oid type, Oid operand, Oid collation);

// Do values of the two operand types of an equality have one encoding? int4 = int8 do; types that nobody here knows
// do not.
bool encodes_alike(Oid left, Oid right);

// Takes what two operand types have in common, where they differ: date against timestamp.
Oid common_operand(Oid left, Oid right);

// May raise any ERROR that detoasting raises; allocates in the current memory context.
void encode(const ValuePlan* plan, Datum value, tandem::RowEncoder& encoder);

// Microseconds, as PostgreSQL compares intervals: a month is 30 days, a day 24 hours.
inline __int128 interval_span(const Interval* interval) {
    return static_cast<__int128>(interval->time) +
           (static_cast<__int128>(interval->month) * 30 + interval->day) * USECS_PER_DAY;
}

// Bits of a key column of fixed width, and how to come back from them to a datum of the operand type. 0: not inline.
int key_bits(Oid operand);
void key_to_bits(const ValuePlan* plan, Datum value, std::uint64_t bits[2]);
Datum key_from_bits(Oid operand, const std::uint64_t bits[2]);

} // namespace pg::compare
