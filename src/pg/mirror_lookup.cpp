// mirror_lookup: rows by their key, straight through the index.
#include "pg/mirror_lookup.hpp"

extern "C" {
#include "access/nbtree.h"
#include "catalog/pg_am.h"
}

namespace pg::bulk {
namespace {

// Is it the index of the key, by the equality that the mirror's statements use?
bool is_key_index(Relation relation, Relation index, const Columns& key) {
    Form_pg_index form = index->rd_index;
    if (!form->indisunique || !form->indimmediate || !form->indisvalid || !form->indisready ||
        form->indnkeyatts != key.count || index->rd_rel->relam != BTREE_AM_OID ||
        !heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, nullptr)) {
        return false;
    }
    for (int i = 0; i < key.count; i++) {
        const AttrNumber column = form->indkey.values[i];
        if (column <= 0 || !key.has(column)) {
            return false;
        }
        Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(relation), column - 1);
        const Oid usual = GetDefaultOpClass(attribute->atttypid, BTREE_AM_OID);
        if (!OidIsValid(usual) || get_opclass_family(usual) != index->rd_opfamily[i] ||
            index->rd_indcollation[i] != attribute->attcollation) {
            return false;
        }
    }
    return true;
}

// The row behind the last one that was found, if that is the one: whole tables are mostly written in an order in which
// the other side has them as well, and then no descent of the index is needed. Only one row that the snapshot sees has
// the key, so what has it is the row.
constexpr int kMostLuck = 8;

bool find_next(Lookup& lookup, Relation relation, TupleTableSlot* slot) {
    if (!ItemPointerIsValid(&lookup.last) || lookup.luck <= -kMostLuck) {
        return false;
    }
    ItemPointerData next = lookup.last;
    ItemPointerSetOffsetNumber(&next, OffsetNumberNext(ItemPointerGetOffsetNumber(&next)));
    if (!table_tuple_fetch_row_version(relation, &next, lookup.snapshot, slot)) {
        return false;
    }
    for (int i = 0; i < lookup.count; i++) {
        ScanKeyData& key = lookup.keys[i];
        bool isnull = false;
        const Datum value = slot_getattr(slot, lookup.columns[i], &isnull);
        if (isnull || !DatumGetBool(FunctionCall2Coll(&key.sk_func, key.sk_collation, value, key.sk_argument))) {
            return false;
        }
    }
    return true;
}

} // namespace

Oid key_index(Relation relation, const Columns& key) {
    Oid found = InvalidOid;
    List* indexes = RelationGetIndexList(relation);
    ListCell* cell = nullptr;
    foreach (cell, indexes) {
        Relation index = index_open(lfirst_oid(cell), AccessShareLock);
        const bool is_key = is_key_index(relation, index, key);
        index_close(index, NoLock);
        if (is_key) {
            found = lfirst_oid(cell);
            break;
        }
    }
    list_free(indexes);
    return found;
}

void open_lookup(Lookup& lookup, Relation relation, Oid index, Snapshot snapshot) {
    lookup.index = index_open(index, AccessShareLock);
    lookup.count = lookup.index->rd_index->indnkeyatts;
    for (int i = 0; i < lookup.count; i++) {
        lookup.columns[i] = lookup.index->rd_index->indkey.values[i];
        const Oid type = lookup.index->rd_opcintype[i];
        const Oid op = get_opfamily_member(lookup.index->rd_opfamily[i], type, type, BTEqualStrategyNumber);
        ScanKeyInit(&lookup.keys[i], static_cast<AttrNumber>(i + 1), BTEqualStrategyNumber, get_opcode(op), Datum{0});
        lookup.keys[i].sk_collation = lookup.index->rd_indcollation[i];
    }
    lookup.scan = begin_index_scan(relation, lookup.index, snapshot, lookup.count);
    lookup.snapshot = snapshot;
    ItemPointerSetInvalid(&lookup.last);
    lookup.luck = 0;
}

void close_lookup(Lookup& lookup) {
    if (lookup.index != nullptr) {
        index_endscan(lookup.scan);
        index_close(lookup.index, NoLock);
    }
}

bool find(Lookup& lookup, const Datum* values, TupleTableSlot* slot) {
    for (int i = 0; i < lookup.count; i++) {
        lookup.keys[i].sk_argument = values[lookup.columns[i] - 1];
    }
    const bool lucky = find_next(lookup, lookup.scan->heapRelation, slot);
    lookup.luck = std::clamp(lookup.luck + (lucky ? 1 : -1), -kMostLuck, kMostLuck);
    if (!lucky) {
        index_rescan(lookup.scan, lookup.keys, lookup.count, nullptr, 0);
        if (!index_getnext_slot(lookup.scan, ForwardScanDirection, slot)) {
            return false;
        }
    }
    lookup.last = slot->tts_tid;
    return true;
}

} // namespace pg::bulk
