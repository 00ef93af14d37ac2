// Which codec a type has, and whether equal values of it are always encoded alike.
#include "pg/value_codecs.hpp"

extern "C" {
#include "catalog/pg_type.h"
}

namespace pg::compare {

namespace {

// 0: the type is of no family. Within a family values of different types have one encoding.
enum class Family : int { none, integer, floating, text, datetime };

Family family_of(Oid type) {
    switch (type) {
    case INT2OID:
    case INT4OID:
    case INT8OID:
        return Family::integer;
    case FLOAT4OID:
    case FLOAT8OID:
        return Family::floating;
    case TEXTOID:
    case VARCHAROID:
    case NAMEOID:
        return Family::text;
    case DATEOID:
    case TIMESTAMPOID:
        return Family::datetime;
    default:
        return Family::none;
    }
}

bool is_text(Oid type) {
    return type == TEXTOID || type == VARCHAROID || type == BPCHAROID;
}

bool find_codec(Oid type, Oid operand, Oid collation, Codec& codec) {
    switch (operand) {
    case INT2OID:
    case INT4OID:
    case INT8OID:
        codec = type == INT2OID ? Codec::int2 : type == INT4OID ? Codec::int4 : Codec::int8;
        return family_of(type) == Family::integer;
    case FLOAT4OID:
    case FLOAT8OID:
        codec = type == FLOAT4OID ? Codec::float4 : Codec::float8;
        return family_of(type) == Family::floating;
    case NUMERICOID:
        codec = type == INT2OID   ? Codec::int2_numeric
                : type == INT4OID ? Codec::int4_numeric
                : type == INT8OID ? Codec::int8_numeric
                                  : Codec::numeric;
        return type == NUMERICOID || family_of(type) == Family::integer;
    case TEXTOID:
    case VARCHAROID:
    case BPCHAROID:
        if (OidIsValid(collation) && !get_collation_isdeterministic(collation)) {
            codec = Codec::collated;
            return type == operand || (is_text(type) && type != BPCHAROID && operand != BPCHAROID);
        }
        codec = type == BPCHAROID ? Codec::bpchar : type == NAMEOID ? Codec::name : Codec::text;
        return is_text(type) || type == NAMEOID;
    case NAMEOID:
        codec = Codec::name;
        return type == NAMEOID;
    case TIMESTAMPOID:
        codec = type == DATEOID ? Codec::date_timestamp : Codec::fixed;
        if (type == TIMESTAMPOID) {
            codec = Codec::word;
        }
        return type == DATEOID || type == TIMESTAMPOID;
    case INTERVALOID:
        codec = Codec::interval;
        return type == INTERVALOID;
    case JSONBOID:
        codec = Codec::jsonb;
        return type == JSONBOID;
    default:
        break;
    }
    if (type != operand) {
        return false;
    }
    if (find_nested_codec(type, codec)) {
        return true;
    }
    int16 length = 0;
    bool by_value = false;
    get_typlenbyval(type, &length, &by_value);
    codec = by_value ? Codec::word : length > 0 ? Codec::fixed : length == -1 ? Codec::varlena : Codec::cstring;
    return true;
}

} // namespace

bool encodes_alike(Oid left, Oid right) {
    return left == right || (family_of(left) != Family::none && family_of(left) == family_of(right));
}

Oid common_operand(Oid left, Oid right) {
    if (left == right) {
        return left;
    }
    return family_of(left) == Family::datetime ? TIMESTAMPOID : family_of(left) == Family::text ? TEXTOID : left;
}

namespace {

// Types whose equal values have equal bytes.
bool has_canonical_bytes(Oid type) {
    switch (type) {
    case BOOLOID:
    case CHAROID:
    case OIDOID:
    case CASHOID:
    case DATEOID:
    case TIMEOID:
    case TIMETZOID:
    case TIMESTAMPOID:
    case TIMESTAMPTZOID:
    case UUIDOID:
    case BYTEAOID:
    case INETOID:
    case CIDROID:
    case MACADDROID:
    case MACADDR8OID:
    case BITOID:
    case VARBITOID:
    case LSNOID:
    case TIDOID:
    case XIDOID:
    case XID8OID:
        return true;
    default:
        return get_typtype(type) == TYPTYPE_ENUM;
    }
}

bool is_canonical(const ValuePlan* plan) {
    switch (plan->codec) {
    case Codec::word:
    case Codec::fixed:
    case Codec::varlena:
    case Codec::cstring:
        return has_canonical_bytes(plan->type);
    case Codec::array:
    case Codec::range:
    case Codec::multirange:
        return plan->element->canonical;
    case Codec::record:
        return false;
    default:
        return true;
    }
}

} // namespace

ValuePlan* plan_value(Oid type, Oid operand, Oid collation) {
    type = getBaseType(type);
    // The equality of an array or a range takes any: it is compared as what it is.
    operand = IsPolymorphicType(operand) || operand == RECORDOID ? type : getBaseType(operand);
    Codec codec{};
    if (!find_codec(type, operand, collation, codec)) {
        return nullptr;
    }
    auto* plan = static_cast<ValuePlan*>(palloc0(sizeof(ValuePlan)));
    plan->codec = codec;
    plan->type = type;
    plan->collation = collation;
    get_typlenbyvalalign(type, &plan->length, &plan->by_value, &plan->align);
    plan_nested(plan);
    plan->canonical = is_canonical(plan);
    plan->quick = codec;
    return plan;
}

ValuePlan* plan_key(Oid type, Oid operand, Oid collation) {
    ValuePlan* plan = plan_value(type, operand, collation);
    if (plan == nullptr || plan->canonical) {
        return plan;
    }
    TypeCacheEntry* entry = lookup_type_cache(plan->type, TYPECACHE_HASH_EXTENDED_PROC_FINFO);
    if (!OidIsValid(entry->hash_extended_proc)) {
        return nullptr;
    }
    plan->codec = Codec::hashed;
    plan->quick = Codec::other;
    plan->hash = &entry->hash_extended_proc_finfo;
    return plan;
}

} // namespace pg::compare
