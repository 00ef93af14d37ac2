// The aggregate below digest(): rows as items of core/digest, by what their values are and not by how this server keeps
// them. Equal values of types that people migrate between have one form; what has none of its own goes by its text.
#include "pg/prelude.hpp"

#include "core/digest.hpp"

extern "C" {
#include "utils/array.h"
#include "utils/cash.h"
#include "utils/date.h"
#include "utils/jsonb.h"
#include "utils/multirangetypes.h"
#include "utils/numeric.h"
#include "utils/rangetypes.h"
#include "utils/uuid.h"
}

namespace pg {
namespace {

using tandem::DigestClass;
using tandem::DigestItem;

enum class Form { integer, native, output, array, record, range, multirange };

// How values of a type are written; kept as long as the aggregate runs.
struct TypeForm {
    Form form;
    Oid type; // below domains
    DigestClass output_class;
    FmgrInfo output;
    TypeForm* element;     // of arrays, ranges and multiranges
    TypeCacheEntry* range; // of ranges and multiranges
    Oid record_type;       // of which row type `columns` are
    int32 record_typmod;
    TupleDesc desc;
    TypeForm** columns;
};

struct DigestState {
    tandem::RowDigest digest;
    MemoryContext context;
    StringInfoData row;
    TypeForm* form;
};
static_assert(std::is_trivially_destructible_v<DigestState>);

constexpr int kFoldAt = 1024 * 1024; // a row's items that are longer are hashed, and the hash stands for them

class Row {
  public:
    explicit Row(StringInfo buffer) : buffer_(buffer) {}

    void item(DigestClass type, const void* data, std::size_t size) {
        advance(DigestItem::put(room(size), type, data, size));
    }
    void word(DigestClass type, std::int64_t value) {
        advance(DigestItem::put_word(room(0), type, static_cast<std::uint64_t>(value)));
    }
    void floating(double value) { advance(DigestItem::put_double(room(0), value)); }
    void group(DigestClass type, std::uint32_t what) { advance(DigestItem::put_group(room(0), type, what)); }
    void text(DigestClass type, const char* data, int size) {
        const char* utf8 = pg_server_to_any(data, size, PG_UTF8);
        item(type, utf8, utf8 == data ? static_cast<std::size_t>(size) : strlen(utf8));
    }

  private:
    std::uint8_t* room(std::size_t size) {
        if (buffer_->len > kFoldAt) {
            std::uint8_t folded[DigestItem::kMaxInline + DigestItem::kOverhead];
            const std::size_t length =
                DigestItem::put(folded, DigestClass::folded, buffer_->data, static_cast<std::size_t>(buffer_->len));
            resetStringInfo(buffer_);
            appendBinaryStringInfo(buffer_, reinterpret_cast<char*>(folded), static_cast<int>(length));
        }
        enlargeStringInfo(buffer_, static_cast<int>(std::min(size, DigestItem::kMaxInline) + DigestItem::kOverhead));
        return reinterpret_cast<std::uint8_t*>(buffer_->data) + buffer_->len;
    }
    void advance(std::size_t size) { buffer_->len += static_cast<int>(size); }

    StringInfo buffer_;
};

// --- which form a type has
bool is_native(Oid type) {
    switch (type) {
    case BOOLOID:
    case NUMERICOID:
    case FLOAT4OID:
    case FLOAT8OID:
    case CASHOID:
    case TEXTOID:
    case VARCHAROID:
    case BPCHAROID:
    case NAMEOID:
    case BYTEAOID:
    case UUIDOID:
    case DATEOID:
    case TIMESTAMPOID:
    case TIMESTAMPTZOID:
    case TIMEOID:
    case INTERVALOID:
    case JSONOID:
    case JSONBOID:
        return true;
    default:
        return false;
    }
}

TypeForm* make_form(Oid type) {
    auto* form = static_cast<TypeForm*>(palloc0(sizeof(TypeForm)));
    type = getBaseType(type);
    form->type = type;
    if (type == INT2OID || type == INT4OID || type == INT8OID) {
        form->form = Form::integer;
    } else if (is_native(type)) {
        form->form = Form::native;
    } else if (type == RECORDOID || get_typtype(type) == TYPTYPE_COMPOSITE) {
        form->form = Form::record;
    } else if (type_is_range(type)) {
        form->form = Form::range;
        form->range = lookup_type_cache(type, TYPECACHE_RANGE_INFO);
        form->element = make_form(form->range->rngelemtype->type_id);
    } else if (type_is_multirange(type)) {
        form->form = Form::multirange;
        form->range = lookup_type_cache(type, TYPECACHE_MULTIRANGE_INFO)->rngtype;
        form->element = make_form(form->range->rngelemtype->type_id);
    } else if (type_is_array(type)) {
        form->form = Form::array;
        form->element = make_form(get_element_type(type));
    } else {
        char category = 0;
        bool preferred = false;
        get_type_category_preferred(type, &category, &preferred);
        form->form = Form::output;
        // citext and its like are text; labels are what an enum is made of, their numbers are of this database
        form->output_class = category == TYPCATEGORY_STRING ? DigestClass::text
                             : category == TYPCATEGORY_ENUM ? DigestClass::enumeration
                                                            : DigestClass::output;
        Oid function = InvalidOid;
        bool varlena = false;
        getTypeOutputInfo(type, &function, &varlena);
        fmgr_info(function, &form->output);
    }
    return form;
}

// --- values
// The shortest decimal: 1 for 1.00.
void put_numeric(Row& row, Datum value) {
    char* digits = DatumGetCString(DirectFunctionCall1(numeric_out, value));
    std::size_t size = strlen(digits);
    if (strchr(digits, '.') != nullptr) {
        while (digits[size - 1] == '0') {
            size--;
        }
        size -= digits[size - 1] == '.' ? 1 : 0;
    }
    row.item(DigestClass::number, digits, size);
}

void put_integer(Row& row, Oid type, Datum value) {
    char digits[32];
    const int64 number = type == INT2OID   ? DatumGetInt16(value)
                         : type == INT4OID ? DatumGetInt32(value)
                                           : DatumGetInt64(value);
    row.item(DigestClass::number, digits, static_cast<std::size_t>(pg_lltoa(number, digits)));
}

// As its = sees it: a month is 30 days, a day 24 hours.
void put_interval(Row& row, const Interval* interval) {
    const __int128 span = static_cast<__int128>(interval->time) +
                          (static_cast<__int128>(interval->month) * 30 + interval->day) * USECS_PER_DAY;
    row.word(DigestClass::interval, static_cast<std::int64_t>(span));
    row.word(DigestClass::interval, static_cast<std::int64_t>(span >> 64));
}

void put_jsonb_scalar(Row& row, const JsonbValue& value) {
    switch (value.type) {
    case jbvNull:
        row.group(DigestClass::json, 0);
        return;
    case jbvString:
        row.text(DigestClass::text, value.val.string.val, value.val.string.len);
        return;
    case jbvNumeric:
        put_numeric(row, NumericGetDatum(value.val.numeric));
        return;
    case jbvBool:
        row.word(DigestClass::boolean, value.val.boolean ? 1 : 0);
        return;
    default:
        elog(ERROR, "unexpected jsonb value of type %d", static_cast<int>(value.type));
    }
}

void put_jsonb(Row& row, Datum datum) {
    JsonbIterator* iterator = JsonbIteratorInit(&DatumGetJsonbP(datum)->root);
    JsonbValue value;
    JsonbIteratorToken token = WJB_DONE;
    while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE) {
        switch (token) {
        case WJB_BEGIN_ARRAY: // a bare scalar is stored as an array of one
            row.group(DigestClass::json, value.val.array.rawScalar ? 1 : 2);
            break;
        case WJB_BEGIN_OBJECT:
            row.group(DigestClass::json, 3);
            break;
        case WJB_END_ARRAY:
        case WJB_END_OBJECT:
            row.group(DigestClass::json, 4);
            break;
        default:
            put_jsonb_scalar(row, value);
        }
    }
}

void put_native(Row& row, Oid type, Datum value) {
    switch (type) {
    case BOOLOID:
        row.word(DigestClass::boolean, DatumGetBool(value) ? 1 : 0);
        return;
    case NUMERICOID:
        put_numeric(row, value);
        return;
    case FLOAT4OID:
        row.floating(DatumGetFloat4(value));
        return;
    case FLOAT8OID:
        row.floating(DatumGetFloat8(value));
        return;
    case CASHOID:
        row.word(DigestClass::money, DatumGetCash(value));
        return;
    case NAMEOID:
        row.text(DigestClass::text, NameStr(*DatumGetName(value)),
                 static_cast<int>(strlen(NameStr(*DatumGetName(value)))));
        return;
    case TEXTOID:
    case VARCHAROID:
    case BPCHAROID: {
        text* string = DatumGetTextPP(value);
        auto size = static_cast<int>(VARSIZE_ANY_EXHDR(string));
        while (type == BPCHAROID && size > 0 && VARDATA_ANY(string)[size - 1] == ' ') {
            size--; // its padding
        }
        row.text(DigestClass::text, VARDATA_ANY(string), size);
        return;
    }
    case BYTEAOID: {
        bytea* bytes = DatumGetByteaPP(value);
        row.item(DigestClass::bytes, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
        return;
    }
    case UUIDOID:
        row.item(DigestClass::uuid, DatumGetUUIDP(value)->data, UUID_LEN);
        return;
    case DATEOID:
        row.word(DigestClass::date, DatumGetDateADT(value));
        return;
    case TIMESTAMPOID:
        row.word(DigestClass::timestamp, DatumGetTimestamp(value));
        return;
    case TIMESTAMPTZOID:
        row.word(DigestClass::timestamptz, DatumGetTimestampTz(value));
        return;
    case TIMEOID:
        row.word(DigestClass::time, DatumGetTimeADT(value));
        return;
    case INTERVALOID:
        put_interval(row, DatumGetIntervalP(value));
        return;
    case JSONOID:
        put_jsonb(row, DirectFunctionCall1(jsonb_in, CStringGetDatum(TextDatumGetCString(value))));
        return;
    case JSONBOID:
        put_jsonb(row, value);
        return;
    default:
        elog(ERROR, "type %u has no form", type);
    }
}

void put(Row& row, TypeForm* form, Datum value);

void put_array(Row& row, TypeForm* form, Datum datum) {
    ArrayType* array = DatumGetArrayTypeP(datum);
    row.group(DigestClass::array, static_cast<std::uint32_t>(ARR_NDIM(array)));
    for (int i = 0; i < ARR_NDIM(array); i++) {
        row.word(DigestClass::array, ARR_DIMS(array)[i]);
        row.word(DigestClass::array, ARR_LBOUND(array)[i]);
    }
    ArrayIterator iterator = array_create_iterator(array, 0, nullptr);
    Datum element = 0;
    bool isnull = false;
    while (array_iterate(iterator, &element, &isnull)) {
        if (isnull) {
            row.item(DigestClass::null, nullptr, 0);
        } else {
            put(row, form->element, element);
        }
    }
    array_free_iterator(iterator);
}

// The row type of anonymous records is known only here; the columns' forms are kept beside `form`.
void describe_record(TypeForm* form, HeapTupleHeader header) {
    const Oid type = HeapTupleHeaderGetTypeId(header);
    const int32 typmod = HeapTupleHeaderGetTypMod(header);
    if (form->desc != nullptr && form->record_type == type && form->record_typmod == typmod) {
        return;
    }
    MemoryContext context = MemoryContextSwitchTo(GetMemoryChunkContext(form));
    form->desc = nullptr;
    TupleDesc desc = lookup_rowtype_tupdesc_copy(type, typmod);
    form->columns = static_cast<TypeForm**>(palloc0(sizeof(TypeForm*) * static_cast<std::size_t>(desc->natts + 1)));
    for (int i = 0; i < desc->natts; i++) {
        if (!TupleDescAttr(desc, i)->attisdropped) {
            form->columns[i] = make_form(TupleDescAttr(desc, i)->atttypid);
        }
    }
    form->record_type = type;
    form->record_typmod = typmod;
    form->desc = desc;
    MemoryContextSwitchTo(context);
}

void put_columns(Row& row, TypeForm* form, HeapTupleHeader header) {
    describe_record(form, header);
    const auto count = static_cast<std::size_t>(form->desc->natts);
    HeapTupleData tuple{};
    tuple.t_len = HeapTupleHeaderGetDatumLength(header);
    tuple.t_data = header;
    auto* values = static_cast<Datum*>(palloc(sizeof(Datum) * (count + 1)));
    auto* nulls = static_cast<bool*>(palloc(sizeof(bool) * (count + 1)));
    heap_deform_tuple(&tuple, form->desc, values, nulls);
    for (std::size_t i = 0; i < count; i++) {
        if (form->columns[i] == nullptr) {
            continue;
        }
        if (nulls[i]) {
            row.item(DigestClass::null, nullptr, 0);
        } else {
            put(row, form->columns[i], values[i]);
        }
    }
}

void put_range(Row& row, TypeForm* form, const RangeType* range) {
    RangeBound bounds[2];
    bool empty = false;
    range_deserialize(form->range, range, &bounds[0], &bounds[1], &empty);
    if (empty) {
        row.group(DigestClass::range, 4);
        return;
    }
    for (const RangeBound& bound : bounds) {
        row.group(DigestClass::range, (bound.infinite ? 1U : 0U) | (bound.inclusive ? 2U : 0U));
        if (!bound.infinite) {
            put(row, form->element, bound.val);
        }
    }
}

void put(Row& row, TypeForm* form, Datum value) {
    check_stack_depth();
    switch (form->form) {
    case Form::integer:
        put_integer(row, form->type, value);
        return;
    case Form::native:
        put_native(row, form->type, value);
        return;
    case Form::array:
        put_array(row, form, value);
        return;
    case Form::record:
        row.group(DigestClass::record, 0);
        put_columns(row, form, DatumGetHeapTupleHeader(value));
        row.group(DigestClass::record, 1);
        return;
    case Form::range:
        put_range(row, form, DatumGetRangeTypeP(value));
        return;
    case Form::multirange: {
        const MultirangeType* ranges = DatumGetMultirangeTypeP(value);
        row.group(DigestClass::range, ranges->rangeCount + 16);
        for (uint32 i = 0; i < ranges->rangeCount; i++) {
            put_range(row, form, multirange_get_range(form->range, ranges, static_cast<int>(i)));
        }
        return;
    }
    case Form::output: {
        const char* output = OutputFunctionCall(&form->output, value);
        row.text(form->output_class, output, static_cast<int>(strlen(output)));
        return;
    }
    }
}

// --- the aggregate
DigestState* new_state(FunctionCallInfo fcinfo) {
    MemoryContext context = nullptr;
    if (AggCheckCallContext(fcinfo, &context) == 0) {
        elog(ERROR, "called in non-aggregate context");
    }
    context = MemoryContextSwitchTo(context);
    auto* state = new (palloc0(sizeof(DigestState))) DigestState{};
    initStringInfo(&state->row);
    state->form = make_form(RECORDOID);
    MemoryContextSwitchTo(context);
    return state;
}

DigestState* state_of(FunctionCallInfo fcinfo, int argument) {
    return PG_ARGISNULL(argument) ? new_state(fcinfo) : reinterpret_cast<DigestState*>(PG_GETARG_POINTER(argument));
}

Datum add(FunctionCallInfo fcinfo) {
    DigestState* state = state_of(fcinfo, 0);
    if (!PG_ARGISNULL(1)) {
        resetStringInfo(&state->row);
        Row row(&state->row);
        put_columns(row, state->form, PG_GETARG_HEAPTUPLEHEADER(1));
        state->digest.add(reinterpret_cast<std::uint8_t*>(state->row.data), static_cast<std::size_t>(state->row.len));
    }
    return PointerGetDatum(state);
}

} // namespace
} // namespace pg

TANDEM_FUNCTION(tandem_digest_add) {
    return pg::entry([&] { return pg::add(fcinfo); });
}

TANDEM_FUNCTION(tandem_digest_combine) {
    return pg::entry([&]() -> Datum {
        pg::DigestState* state = pg::state_of(fcinfo, 0);
        if (!PG_ARGISNULL(1)) {
            state->digest.merge(reinterpret_cast<pg::DigestState*>(PG_GETARG_POINTER(1))->digest);
        }
        return PointerGetDatum(state);
    });
}

TANDEM_FUNCTION(tandem_digest_save) {
    return pg::entry([&]() -> Datum {
        constexpr std::size_t size = VARHDRSZ + tandem::RowDigest::kBytes;
        auto* bytes = static_cast<bytea*>(palloc(size));
        SET_VARSIZE(bytes, size);
        reinterpret_cast<pg::DigestState*>(PG_GETARG_POINTER(0))
            ->digest.save(reinterpret_cast<std::uint8_t*>(VARDATA(bytes)));
        PG_RETURN_BYTEA_P(bytes);
    });
}

TANDEM_FUNCTION(tandem_digest_load) {
    return pg::entry([&]() -> Datum {
        bytea* bytes = PG_GETARG_BYTEA_PP(0);
        if (VARSIZE_ANY_EXHDR(bytes) != tandem::RowDigest::kBytes) {
            elog(ERROR, "a digest's state has %zu bytes", tandem::RowDigest::kBytes);
        }
        pg::DigestState* state = pg::new_state(fcinfo);
        state->digest = tandem::RowDigest::load(reinterpret_cast<const std::uint8_t*>(VARDATA_ANY(bytes)));
        return PointerGetDatum(state);
    });
}

TANDEM_FUNCTION(tandem_digest_final) {
    return pg::entry([&]() -> Datum {
        char digits[tandem::RowDigest::kDigits];
        const tandem::RowDigest none;
        const tandem::RowDigest& digest =
            PG_ARGISNULL(0) ? none : reinterpret_cast<pg::DigestState*>(PG_GETARG_POINTER(0))->digest;
        digest.write(digits);
        PG_RETURN_TEXT_P(cstring_to_text_with_len(digits, sizeof(digits)));
    });
}
