// What 30_compare.sql hands over, and the shape of a comparison that follows from it.
#include "pg/compare.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
}

namespace pg::compare {
namespace {

// As execute_comparison() has them; where they come in pairs, legacy first.
enum Argument : int {
    kRelation = 0,
    kLabel = 2,
    kFrom = 4,
    kWhere = 6,
    kValues = 8,
    kRows = 10,
    kOperands = 12,
    kTolerances = 14,
    kKeys,
    kKeyNames,
    kJudge,
    kNullKeys,
    kOtherwise,
    kCarefulNullKeys,
    kCareful,
    kCounted,
    kSample,
};

// --- arguments

const char* text_argument(FunctionCallInfo fcinfo, int number) {
    return PG_ARGISNULL(number) ? nullptr : text_to_cstring(PG_GETARG_TEXT_PP(number));
}

const char** texts(FunctionCallInfo fcinfo, int number, int& count) {
    Datum* elements = nullptr;
    bool* nulls = nullptr;
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(number), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
    auto* result = static_cast<const char**>(palloc0(sizeof(char*) * static_cast<std::size_t>(count + 1)));
    for (int i = 0; i < count; i++) {
        result[i] = nulls[i] ? nullptr : TextDatumGetCString(elements[i]);
    }
    return result;
}

const int* numbers(FunctionCallInfo fcinfo, int number, int& count) {
    ArrayType* array = PG_GETARG_ARRAYTYPE_P(number);
    count = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
    return reinterpret_cast<const int*>(ARR_DATA_PTR(array));
}

// "absolute 0.01", "relative 1e-6", "time 1 second": as 30_compare.sql writes them.
void read_tolerance(const char* text, ColumnRequest& column) {
    const char* value = strchr(text, ' ');
    if (value == nullptr) {
        elog(ERROR, "not a tolerance: %s", text);
    }
    value++;
    if (text[0] == 't') {
        column.tolerance = Tolerance::time;
        const Interval* interval = DatumGetIntervalP(
            DirectFunctionCall3(interval_in, CStringGetDatum(value), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
        // A narrower bucket only adds candidates, and no two timestamps are further apart than a few of these.
        constexpr __int128 kWidest = std::numeric_limits<std::int64_t>::max();
        column.time_width = static_cast<std::int64_t>(std::min(interval_span(interval), kWidest));
    } else {
        column.tolerance = text[0] == 'a' ? Tolerance::absolute : Tolerance::relative;
        // Below the smallest double it is 0, which makes every pair of unlike values a candidate.
        column.width = strtod(value, nullptr) / 2;
    }
}

constexpr int kInlineBits = tandem::kMaxLimbs * tandem::kLimbBits;

} // namespace

Shape* make_shape(FunctionCallInfo fcinfo, int columns) {
    int count = 0;
    const int* legacy = numbers(fcinfo, kOperands, count);
    const int* other = numbers(fcinfo, kOperands + 1, count);
    const char** tolerances = texts(fcinfo, kTolerances, count);
    int keys = 0;
    const int* key = numbers(fcinfo, kKeys, keys);

    auto* shape = static_cast<Shape*>(palloc0(Shape::bytes(columns, keys)));
    if (!pg_strong_random(&shape->seed, sizeof(shape->seed))) {
        ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not draw a random seed for the comparison")));
    }
    shape->secret = tandem::make_secret(shape->seed);
    shape->columns = columns;
    shape->keys = keys;
    for (int i = 0; i < columns; i++) {
        const auto left = static_cast<Oid>(legacy[i]);
        const auto right = static_cast<Oid>(other[i]);
        if (!encodes_alike(left, right)) {
            return nullptr;
        }
        shape->column()[i].operand = common_operand(left, right);
        if (tolerances[i] != nullptr) {
            read_tolerance(tolerances[i], shape->column()[i]);
        }
    }
    int bits = 0;
    bool fits = keys > 0;
    for (int i = 0; i < keys; i++) {
        const int left = key_bits(static_cast<Oid>(legacy[key[i]]));
        const int right = key_bits(static_cast<Oid>(other[key[i]]));
        const auto type = static_cast<Oid>(left >= right ? legacy[key[i]] : other[key[i]]);
        shape->key()[i] = {key[i], std::max(left, right), type};
        shape->column()[key[i]].key = true;
        const Oid operand = shape->column()[key[i]].operand;
        if (plan_key(operand, operand, InvalidOid) == nullptr) {
            return nullptr;
        }
        fits = fits && left > 0 && right > 0;
        bits += std::max(left, right);
    }
    shape->inline_key = fits && bits <= kInlineBits;
    shape->narrow = shape->inline_key && keys == 1 && bits == 64;
    shape->limbs = shape->narrow ? 1 : shape->inline_key ? (bits + tandem::kLimbBits - 1) / tandem::kLimbBits : 2;
    return shape;
}

Comparison* read_arguments(FunctionCallInfo fcinfo) {
    auto* comparison = static_cast<Comparison*>(palloc0(sizeof(Comparison)));
    for (int side = 0; side < kSides; side++) {
        SourceRequest& request = comparison->requests[side];
        int count = 0;
        request.relation = PG_ARGISNULL(kRelation + side) ? InvalidOid : PG_GETARG_OID(kRelation + side);
        request.label = text_argument(fcinfo, kLabel + side);
        request.from = text_argument(fcinfo, kFrom + side);
        request.condition = text_argument(fcinfo, kWhere + side);
        request.values = texts(fcinfo, kValues + side, count);
        request.rows = texts(fcinfo, kRows + side, count);
        request.columns = count;
    }
    comparison->key_names = text_argument(fcinfo, kKeyNames);
    comparison->judge = text_argument(fcinfo, kJudge);
    comparison->null_keys = text_argument(fcinfo, kNullKeys);
    comparison->careful_null_keys = text_argument(fcinfo, kCarefulNullKeys);
    comparison->careful = text_argument(fcinfo, kCareful);
    comparison->counted = text_argument(fcinfo, kCounted);
    comparison->sample = text_argument(fcinfo, kSample);
    comparison->otherwise = text_argument(fcinfo, kOtherwise);
    return comparison;
}

} // namespace pg::compare
