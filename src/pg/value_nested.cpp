// The codecs of values that hold values: arrays, rows, ranges, jsonb.
#include "pg/value_codecs.hpp"

extern "C" {
#include "access/detoast.h"
#include "utils/array.h"
#include "utils/jsonb.h"
#include "utils/multirangetypes.h"
#include "utils/rangetypes.h"
}

namespace pg::compare {

using tandem::RowEncoder;
using tandem::TypeClass;

namespace {


} // namespace

bool find_nested_codec(Oid type, Codec& codec) {
    if (type == RECORDOID || get_typtype(type) == TYPTYPE_COMPOSITE) {
        codec = Codec::record;
        return true;
    }
    if (type_is_range(type)) {
        codec = Codec::range;
        return true;
    }
    if (type_is_multirange(type)) {
        codec = Codec::multirange;
        return true;
    }
    if (type_is_array(type)) {
        codec = Codec::array;
        return true;
    }
    return false;
}

void plan_nested(ValuePlan* plan) {
    Oid element = InvalidOid;
    switch (plan->codec) {
    case Codec::array:
        element = get_element_type(plan->type);
        break;
    case Codec::multirange:
        plan->range_type = lookup_type_cache(plan->type, TYPECACHE_MULTIRANGE_INFO)->rngtype;
        element = plan->range_type->rngelemtype->type_id;
        break;
    case Codec::range:
        plan->range_type = lookup_type_cache(plan->type, TYPECACHE_RANGE_INFO);
        element = plan->range_type->rngelemtype->type_id;
        break;
    default:
        return;
    }
    const Oid collation = plan->range_type != nullptr ? plan->range_type->rng_collation : plan->collation;
    plan->element = plan_value(element, getBaseType(element), collation);
}

namespace {

void put_jsonb_scalar(const JsonbValue* value, RowEncoder& encoder) {
    switch (value->type) {
    case jbvNull:
        encoder.begin_group(TypeClass::json, 0);
        return;
    case jbvString:
        encoder.bytes(TypeClass::text, value->val.string.val, static_cast<std::size_t>(value->val.string.len));
        return;
    case jbvNumeric:
        encode_numeric(NumericGetDatum(value->val.numeric), encoder);
        return;
    case jbvBool:
        encoder.int64(TypeClass::boolean, value->val.boolean ? 1 : 0);
        return;
    default:
        elog(ERROR, "unexpected jsonb value of type %d", static_cast<int>(value->type));
    }
}

void put_jsonb(Datum datum, RowEncoder& encoder) {
    Jsonb* jsonb = DatumGetJsonbP(datum);
    JsonbIterator* iterator = JsonbIteratorInit(&jsonb->root);
    JsonbValue value;
    JsonbIteratorToken token = WJB_DONE;
    while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE) {
        switch (token) {
        case WJB_BEGIN_ARRAY:
            // A bare scalar is stored as an array of one.
            encoder.begin_group(TypeClass::json, value.val.array.rawScalar ? 1 : 2);
            break;
        case WJB_BEGIN_OBJECT:
            encoder.begin_group(TypeClass::json, 3);
            break;
        case WJB_END_ARRAY:
        case WJB_END_OBJECT:
            encoder.begin_group(TypeClass::json, 4);
            break;
        default:
            put_jsonb_scalar(&value, encoder);
        }
    }
}

void put_array(const ValuePlan* plan, Datum datum, RowEncoder& encoder) {
    ArrayType* array = DatumGetArrayTypeP(datum);
    const int dimensions = ARR_NDIM(array);
    encoder.begin_group(TypeClass::array, static_cast<std::uint32_t>(dimensions));
    if (dimensions > 0) {
        encoder.bytes(TypeClass::array, ARR_DIMS(array), sizeof(int) * static_cast<std::size_t>(dimensions));
        encoder.bytes(TypeClass::array, ARR_LBOUND(array), sizeof(int) * static_cast<std::size_t>(dimensions));
    }
    ArrayIterator iterator = array_create_iterator(array, 0, nullptr);
    Datum element = 0;
    bool is_null = false;
    while (array_iterate(iterator, &element, &is_null)) {
        if (is_null) {
            encoder.null();
        } else {
            encode(plan->element, element, encoder);
        }
    }
    array_free_iterator(iterator);
}

void put_record(const ValuePlan* plan, Datum datum, RowEncoder& encoder) {
    check_stack_depth();
    HeapTupleHeader header = DatumGetHeapTupleHeader(datum);
    TupleDesc desc = lookup_rowtype_tupdesc_domain(HeapTupleHeaderGetTypeId(header),
                                                   HeapTupleHeaderGetTypMod(header), false);
    HeapTupleData tuple{};
    tuple.t_len = HeapTupleHeaderGetDatumLength(header);
    tuple.t_data = header;
    auto* values = static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<std::size_t>(desc->natts)));
    auto* nulls = static_cast<bool*>(palloc(sizeof(bool) * static_cast<std::size_t>(desc->natts)));
    heap_deform_tuple(&tuple, desc, values, nulls);
    encoder.begin_group(TypeClass::record, 0);
    for (int i = 0; i < desc->natts; i++) {
        Form_pg_attribute attribute = TupleDescAttr(desc, i);
        if (attribute->attisdropped) {
            continue;
        }
        if (nulls[i]) {
            encoder.null();
        } else {
            const ValuePlan* column =
                plan_value(attribute->atttypid, getBaseType(attribute->atttypid), attribute->attcollation);
            encode(column, values[i], encoder);
        }
    }
    encoder.begin_group(TypeClass::record, 1);
    ReleaseTupleDesc(desc);
    (void)plan;
}

void put_bound(const ValuePlan* plan, const RangeBound* bound, RowEncoder& encoder) {
    encoder.begin_group(TypeClass::range, (bound->infinite ? 1U : 0U) | (bound->inclusive ? 2U : 0U));
    if (!bound->infinite) {
        encode(plan->element, bound->val, encoder);
    }
}

void put_range(const ValuePlan* plan, TypeCacheEntry* type, const RangeType* range, RowEncoder& encoder) {
    RangeBound lower;
    RangeBound upper;
    bool empty = false;
    range_deserialize(type, range, &lower, &upper, &empty);
    if (empty) {
        encoder.begin_group(TypeClass::range, 8);
        return;
    }
    put_bound(plan, &lower, encoder);
    put_bound(plan, &upper, encoder);
}

} // namespace

void encode_nested(const ValuePlan* plan, Datum value, RowEncoder& encoder) {
    switch (plan->codec) {
    case Codec::jsonb:
        put_jsonb(value, encoder);
        return;
    case Codec::array:
        put_array(plan, value, encoder);
        return;
    case Codec::record:
        put_record(plan, value, encoder);
        return;
    case Codec::range:
        put_range(plan, plan->range_type, DatumGetRangeTypeP(value), encoder);
        return;
    case Codec::multirange: {
        const MultirangeType* ranges = DatumGetMultirangeTypeP(value);
        encoder.begin_group(TypeClass::range, ranges->rangeCount + 16);
        for (std::uint32_t i = 0; i < ranges->rangeCount; i++) {
            put_range(plan, plan->range_type, multirange_get_range(plan->range_type, ranges, static_cast<int>(i)),
                      encoder);
        }
        return;
    }
    default:
        elog(ERROR, "no nested codec %d", static_cast<int>(plan->codec));
    }
}

} // namespace pg::compare
