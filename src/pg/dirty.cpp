// dirty: tells tandem.mirror_failed() which row of legacy the new side refused, and under which keys it stood and
// stands. Everything is told as text, under the settings that ActAs pins: the round that copies the row reads it so.
#include "pg/dirty.hpp"
#include "pg/mirror_plan.hpp"
#include "pg/role.hpp"

extern "C" {
#include "utils/array.h"
}

namespace pg::dirty {
namespace {

SPIPlanPtr key_query = nullptr;
SPIPlanPtr failure_query = nullptr;

struct Key {
    int count;
    AttrNumber* attributes;
};

Datum text_of(Datum value, Oid type) {
    Oid out = InvalidOid;
    bool varlena = false;
    getTypeOutputInfo(type, &out, &varlena);
    return CStringGetTextDatum(OidOutputFunctionCall(out, value));
}

// The legacy key's columns in the layout of the table that fired, which may be a partition.
Key key_of(int32 mapping, Relation source) {
    if (key_query == nullptr) {
        Oid types[1] = {INT4OID};
        key_query = prepare_kept("SELECT m.legacy_key FROM tandem.mapping AS m WHERE m.id = $1", 1, types);
    }
    Datum values[1] = {Int32GetDatum(mapping)};
    if (SPI_execute_plan(key_query, values, nullptr, true, 1) != SPI_OK_SELECT || SPI_processed != 1) {
        elog(ERROR, "mapping %d has no key", mapping);
    }
    bool isnull = false;
    Datum* names = nullptr;
    Key key{};
    deconstruct_array(DatumGetArrayTypeP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)),
                      NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR, &names, nullptr, &key.count);
    key.attributes = static_cast<AttrNumber*>(palloc(sizeof(AttrNumber) * (key.count + 1)));
    for (int i = 0; i < key.count; i++) {
        key.attributes[i] = get_attnum(RelationGetRelid(source), NameStr(*DatumGetName(names[i])));
    }
    return key;
}

Datum key_texts(const Key& key, HeapTuple row, TupleDesc desc) {
    auto* texts = static_cast<Datum*>(palloc(sizeof(Datum) * (key.count + 1)));
    auto* nulls = static_cast<bool*>(palloc(sizeof(bool) * (key.count + 1)));
    for (int i = 0; i < key.count; i++) {
        const Datum value = heap_getattr(row, key.attributes[i], desc, &nulls[i]);
        texts[i] = nulls[i] ? Datum{0} : text_of(value, TupleDescAttr(desc, key.attributes[i] - 1)->atttypid);
    }
    int dimensions[1] = {key.count};
    int bounds[1] = {1};
    return PointerGetDatum(construct_md_array(texts, nulls, 1, dimensions, bounds, TEXTOID, -1, false, TYPALIGN_INT));
}

} // namespace

void record(int32 mapping, Relation source, HeapTuple old_row, HeapTuple new_row, Oid function,
            const ErrorData* error) {
    ActAs extension(function_owner(function), ActAs::Mode::write);
    if (failure_query == nullptr) {
        Oid types[7] = {INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID, TEXTARRAYOID};
        failure_query = prepare_kept("SELECT tandem.mirror_failed($1, $2, $3, $4, $5, $6, $7)", 7, types);
    }
    TupleDesc desc = RelationGetDescr(source);
    const Key key = key_of(mapping, source);
    HeapTuple row = new_row != nullptr ? new_row : old_row;
    const char* event = old_row == nullptr ? "INSERT" : new_row == nullptr ? "DELETE" : "UPDATE";
    const bool moved = old_row != nullptr && new_row != nullptr;
    Datum values[7] = {Int32GetDatum(mapping),
                       CStringGetTextDatum(event),
                       text_of(heap_copy_tuple_as_datum(row, desc), RelationGetForm(source)->reltype),
                       CStringGetTextDatum(unpack_sql_state(error->sqlerrcode)),
                       CStringGetTextDatum(error->message != nullptr ? error->message : ""),
                       key_texts(key, row, desc),
                       moved ? key_texts(key, old_row, desc) : Datum{0}};
    const char nulls[8] = {' ', ' ', ' ', ' ', ' ', ' ', moved ? ' ' : 'n', '\0'};
    if (SPI_execute_plan(failure_query, values, nulls, false, 0) < 0) {
        elog(ERROR, "could not record a failed mirror write");
    }
    extension.release();
}

} // namespace pg::dirty
