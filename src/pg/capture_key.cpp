// capture_key: keys to bytes and back. No key is the beginning of another one, so they stand one behind the other.
#include "pg/capture_key.hpp"

extern "C" {
#include "utils/array.h"
}

namespace pg::capture {
namespace {

constexpr uint8 kNull = 255;
constexpr uint8 kLong = 254; // the length follows in four bytes

StringInfoData scratch = {};

void put(const char* bytes, uint32 size) {
    appendBinaryStringInfo(&scratch, bytes, static_cast<int>(size));
}

void put_length(uint32 size) {
    if (size < kLong) {
        appendStringInfoCharMacro(&scratch, static_cast<char>(size));
        return;
    }
    appendStringInfoCharMacro(&scratch, static_cast<char>(kLong));
    put(reinterpret_cast<const char*>(&size), sizeof(size));
}

// One value as its bytes, behind their number; so no key is the beginning of another one.
void put_value(Datum value, Form_pg_attribute attribute) {
    if (attribute->attbyval) {
        put_length(static_cast<uint32>(attribute->attlen));
        char bytes[sizeof(Datum)];
        store_att_byval(bytes, value, attribute->attlen);
        put(bytes, static_cast<uint32>(attribute->attlen));
    } else if (attribute->attlen > 0) {
        put_length(static_cast<uint32>(attribute->attlen));
        put(DatumGetPointer(value), static_cast<uint32>(attribute->attlen));
    } else if (attribute->attlen == -1) {
        auto* packed = reinterpret_cast<varlena*>(PG_DETOAST_DATUM_PACKED(value));
        put_length(static_cast<uint32>(VARSIZE_ANY_EXHDR(packed)));
        put(VARDATA_ANY(packed), static_cast<uint32>(VARSIZE_ANY_EXHDR(packed)));
        if (reinterpret_cast<Pointer>(packed) != DatumGetPointer(value)) {
            pfree(packed);
        }
    } else {
        const char* text = DatumGetCString(value);
        const auto size = static_cast<uint32>(strlen(text));
        put_length(size);
        put(text, size);
    }
}

} // namespace

void begin_key() {
    if (scratch.data == nullptr) {
        const MemoryContext context = MemoryContextSwitchTo(TopMemoryContext);
        initStringInfo(&scratch);
        MemoryContextSwitchTo(context);
    }
    resetStringInfo(&scratch);
}

void add_to_key(HeapTuple tuple, TupleDesc desc, AttrNumber column) {
    bool isnull = false;
    const Datum value = heap_getattr(tuple, column, desc, &isnull);
    if (isnull) {
        appendStringInfoCharMacro(&scratch, static_cast<char>(kNull));
    } else {
        put_value(value, TupleDescAttr(desc, column - 1));
    }
}

std::span<const char> current_key() {
    return {scratch.data, static_cast<std::size_t>(scratch.len)};
}

namespace {

// Texts as a key: what capture by logical decoding has of a row.
Datum pack_texts(ArrayType* array) {
    Datum* values = nullptr;
    bool* nulls = nullptr;
    int count = 0;
    deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &count);
    begin_key();
    for (int i = 0; i < count; i++) {
        if (nulls[i]) {
            appendStringInfoCharMacro(&scratch, static_cast<char>(kNull));
            continue;
        }
        const text* value = DatumGetTextPP(values[i]);
        put_length(static_cast<uint32>(VARSIZE_ANY_EXHDR(value)));
        put(VARDATA_ANY(value), static_cast<uint32>(VARSIZE_ANY_EXHDR(value)));
    }
    auto* key = static_cast<bytea*>(palloc(VARHDRSZ + scratch.len));
    SET_VARSIZE(key, VARHDRSZ + scratch.len);
    memcpy(VARDATA(key), scratch.data, scratch.len);
    return PointerGetDatum(key);
}

// The bytes of a value within a pack, checked.
struct Reader {
    const char* at;
    const char* end;

    const char* take(std::size_t size) {
        if (size > static_cast<std::size_t>(end - at)) {
            ereport(ERROR,
                    (errcode(ERRCODE_DATA_CORRUPTED), errmsg("captured keys are damaged"),
                     errhint("DELETE FROM tandem.capture_state: the next validation then compares everything.")));
        }
        const char* taken = at;
        at += size;
        return taken;
    }
};

// What store_att_byval() has written.
Datum by_value(const char* bytes, uint32 size) {
    int64 whole = 0;
    int32 half = 0;
    int16 quarter = 0;
    switch (size) {
    case sizeof(char):
        return CharGetDatum(*bytes);
    case sizeof(int16):
        memcpy(&quarter, bytes, size);
        return Int16GetDatum(quarter);
    case sizeof(int32):
        memcpy(&half, bytes, size);
        return Int32GetDatum(half);
    default:
        memcpy(&whole, bytes, sizeof(whole));
        return Int64GetDatum(whole);
    }
}

// How the values of a column stand in a key, and how they become text.
struct Column {
    int16 length;
    bool by_value;
    FmgrInfo output;
};

Datum read_value(Reader& reader, const Column& column, bool& isnull) {
    const auto tag = static_cast<uint8>(*reader.take(1));
    isnull = tag == kNull;
    if (isnull) {
        return Datum{0};
    }
    uint32 size = tag;
    if (tag == kLong) {
        memcpy(&size, reader.take(sizeof(size)), sizeof(size));
    }
    const char* bytes = reader.take(size);
    if (column.length > 0 && static_cast<uint32>(column.length) != size) {
        reader.at = reader.end;
        reader.take(1); // of another type
    }
    if (column.by_value) {
        return by_value(bytes, size);
    }
    const std::size_t head = column.length == -1 ? VARHDRSZ : 0;
    auto* copy = static_cast<char*>(palloc(size + head + 1));
    memcpy(copy + head, bytes, size);
    copy[head + size] = '\0';
    if (column.length == -1) {
        SET_VARSIZE(copy, size + head);
    }
    return PointerGetDatum(copy);
}

// By the types' output functions, which only a superuser can make: this runs as the extension's owner, and a cast to
// text might be anybody's.
Datum unpack(FunctionCallInfo fcinfo) {
    Datum* packs = nullptr;
    Datum* types = nullptr;
    bool* absent = nullptr;
    int count = 0;
    int width = 0;
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), BYTEAOID, -1, false, TYPALIGN_INT, &packs, &absent, &count);
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), OIDOID, sizeof(Oid), true, TYPALIGN_INT, &types, nullptr, &width);
    auto* columns = static_cast<Column*>(palloc0(sizeof(Column) * (width + 1)));
    for (int i = 0; i < width; i++) {
        Oid output = InvalidOid;
        bool varlena = false;
        getTypeOutputInfo(DatumGetObjectId(types[i]), &output, &varlena);
        get_typlenbyval(DatumGetObjectId(types[i]), &columns[i].length, &columns[i].by_value);
        fmgr_info(output, &columns[i].output);
    }
    InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    auto* values = static_cast<Datum*>(palloc(sizeof(Datum) * (width + 1)));
    auto* nulls = static_cast<bool*>(palloc(sizeof(bool) * (width + 1)));
    int dims[1] = {width};
    int bounds[1] = {1};
    MemoryContext row = AllocSetContextCreate(CurrentMemoryContext, "pg_tandem key", ALLOCSET_DEFAULT_SIZES);
    const MemoryContext outer = MemoryContextSwitchTo(row);
    for (int i = 0; i < count; i++) {
        const auto* pack = reinterpret_cast<varlena*>(PG_DETOAST_DATUM_PACKED(packs[i]));
        Reader reader{VARDATA_ANY(pack), VARDATA_ANY(pack) + VARSIZE_ANY_EXHDR(pack)};
        while (reader.at < reader.end) {
            for (int column = 0; column < width; column++) {
                const Datum value = read_value(reader, columns[column], nulls[column]);
                if (!nulls[column]) {
                    values[column] = CStringGetTextDatum(OutputFunctionCall(&columns[column].output, value));
                }
            }
            Datum key =
                PointerGetDatum(construct_md_array(values, nulls, 1, dims, bounds, TEXTOID, -1, false, TYPALIGN_INT));
            bool isnull = false;
            tuplestore_putvalues(result->setResult, result->setDesc, &key, &isnull);
        }
        CHECK_FOR_INTERRUPTS();
        MemoryContextReset(row);
    }
    MemoryContextSwitchTo(outer);
    MemoryContextDelete(row);
    return Datum{0};
}

} // namespace
} // namespace pg::capture

// pack_texts(text[]) → a key of texts.
TANDEM_FUNCTION(tandem_pack_texts) {
    return pg::entry([&] { return pg::capture::pack_texts(PG_GETARG_ARRAYTYPE_P(0)); });
}

// unpack_keys(bytea[], oid[]) → the keys of packs, each as an array of the texts of its values.
TANDEM_FUNCTION(tandem_unpack_keys) {
    return pg::entry([&] { return pg::capture::unpack(fcinfo); });
}
