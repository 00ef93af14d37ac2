// mirror_sibling: who inserts into one of several new tables of a legacy table goes on to insert into the others,
// mostly. So their rows are not made at once: the key is noted in tandem.sibling_wait, whose deferred trigger makes
// those that are still missing when the transaction commits (control/install/65_sibling.sql).
#include "pg/mirror_sibling.hpp"
#include "pg/role.hpp"

extern "C" {
#include "utils/array.h"
}

namespace pg::sibling {
namespace {

SPIPlanPtr note_query = nullptr;

Datum key_texts(const MirrorPlan* plan, HeapTuple row, TupleDesc desc) {
    auto* texts = static_cast<Datum*>(palloc(sizeof(Datum) * (plan->source_key.count + 1)));
    for (int i = 0; i < plan->source_key.count; i++) {
        const AttrNumber column = plan->source_key.numbers[i];
        Oid out = InvalidOid;
        bool varlena = false;
        bool isnull = false;
        getTypeOutputInfo(TupleDescAttr(desc, column - 1)->atttypid, &out, &varlena);
        texts[i] = CStringGetTextDatum(OidOutputFunctionCall(out, heap_getattr(row, column, desc, &isnull)));
    }
    return PointerGetDatum(construct_array(texts, plan->source_key.count, TEXTOID, -1, false, TYPALIGN_INT));
}

} // namespace

void wait(const MirrorPlan* plan, Relation source, HeapTuple row, Oid function) {
    ActAs extension(function_owner(function), ActAs::Mode::write);
    if (note_query == nullptr) {
        Oid types[2] = {INT4OID, TEXTARRAYOID};
        note_query =
            prepare_kept("INSERT INTO tandem.sibling_wait (mapping_id, key) VALUES ($1, to_jsonb($2))", 2, types);
    }
    Datum values[2] = {Int32GetDatum(plan->key.mapping), key_texts(plan, row, RelationGetDescr(source))};
    if (SPI_execute_plan(note_query, values, nullptr, false, 0) < 0) {
        elog(ERROR, "could not note a row that waits");
    }
    extension.release();
}

} // namespace pg::sibling
