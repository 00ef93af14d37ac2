// capture: the mirror's trigger notes the key of each row that it sees, in memory, and the transaction writes them into
// tandem.captured before it commits: one row of that table for each mapping and side, with as many keys as fit, by
// heap_insert and without any index. control/install/57_capture.sql says who reads them; unpack_keys() is below.
//
// Exact, as the keys are in the same transaction as the changes: whoever sees the one sees the other. Where writing
// them fails, the transaction fails. Keys more than necessary do no harm, as each is only looked at again; so what a
// subtransaction noted stays when it is rolled back, and the care goes all into not losing any: a pack is written by a
// subtransaction only when all of its keys are that subtransaction's own.
#include "pg/capture.hpp"

extern "C" {
#include "access/heapam.h"
#include "common/hashfn.h"
#include "storage/bufmgr.h"
#include "utils/array.h"
}

namespace pg::capture {
namespace {

// Behind a pack of this size come the other columns and the tuple's header, and that stays below the size at which
// PostgreSQL would move it out of line. A single key that is longer makes a pack of its own.
constexpr uint32 kPackSize = 1900;
constexpr uint32 kFirstSize = 192;
constexpr int kRecent = 64;
constexpr uint8 kNull = 255;
constexpr uint8 kLong = 254; // the length follows in four bytes

// No more than this (1 GB) is kept while nobody takes it away. Whoever keeps nothing any more holds the table's lock all
// the same, until its transaction ends: shrink_captured() waits for it, and then everything is compared.
constexpr BlockNumber kMostBlocks = 131072;

// Keys of one side of one mapping. `data` is a bytea that grows.
struct Pack {
    Pack* next;
    Oid relation; // tandem.captured
    int32 mapping;
    int32 layout;
    bool legacy;
    bool full;
    int level; // the outermost nesting level of the transaction that noted one of its keys
    uint32 used;
    uint32 size;
    char* data;
    uint16 recent[kRecent]; // by hash: where a key begins that stands here already
};

// The packs of this transaction, in its memory; the last one made comes first.
Pack* packs = nullptr;
// They are being written for the last time: what somebody else's callback changes behind ours is written at once.
bool ending = false;
// The last key went beyond kMostBlocks.
bool crowded = false;
// The key that is being noted; its memory stays.
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

void begin_key() {
    if (scratch.data == nullptr) {
        const MemoryContext context = MemoryContextSwitchTo(TopMemoryContext);
        initStringInfo(&scratch);
        MemoryContextSwitchTo(context);
    }
    resetStringInfo(&scratch);
}

void put_column(HeapTuple tuple, TupleDesc desc, AttrNumber number) {
    bool isnull = false;
    const Datum value = heap_getattr(tuple, number, desc, &isnull);
    if (isnull) {
        appendStringInfoCharMacro(&scratch, static_cast<char>(kNull));
    } else {
        put_value(value, TupleDescAttr(desc, number - 1));
    }
}

void encode(const MirrorPlan* plan, HeapTuple tuple, TupleDesc desc) {
    begin_key();
    for (int i = 0; i < plan->captured_columns; i++) {
        put_column(tuple, desc, plan->captured_attributes[i]);
    }
}

// A row of any type as a key, as the trigger would note it.
Datum pack_row(HeapTupleHeader header) {
    TupleDesc desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header), HeapTupleHeaderGetTypMod(header));
    HeapTupleData tuple{};
    tuple.t_len = HeapTupleHeaderGetDatumLength(header);
    tuple.t_data = header;
    begin_key();
    for (int i = 1; i <= desc->natts; i++) {
        put_column(&tuple, desc, static_cast<AttrNumber>(i));
    }
    ReleaseTupleDesc(desc);
    auto* key = static_cast<bytea*>(palloc(VARHDRSZ + scratch.len));
    SET_VARSIZE(key, VARHDRSZ + scratch.len);
    memcpy(VARDATA(key), scratch.data, scratch.len);
    return PointerGetDatum(key);
}

void insert(Relation relation, Pack* pack) {
    SET_VARSIZE(pack->data, pack->used);
    Datum values[5] = {Int32GetDatum(pack->mapping), Int32GetDatum(pack->layout), BoolGetDatum(pack->legacy),
                       PointerGetDatum(pack->data), Datum{0}};
    bool nulls[5] = {false, false, false, false, true}; // transaction: the one that writes this row
    HeapTuple tuple = heap_form_tuple(RelationGetDescr(relation), values, nulls);
    const bool toasted = pack->used > 2 * kPackSize && !ActiveSnapshotSet();
    if (toasted) {
        PushActiveSnapshot(GetTransactionSnapshot());
    }
    heap_insert(relation, tuple, GetCurrentCommandId(true), 0, nullptr);
    crowded = ItemPointerGetBlockNumber(&tuple->t_self) >= kMostBlocks;
    if (toasted) {
        PopActiveSnapshot();
    }
    heap_freetuple(tuple);
}

// Writes packs. `all`: all of them, and those that must be written again by a subtransaction further out stay; else the
// full ones that are this subtransaction's own.
void write(bool all) {
    const int level = GetCurrentTransactionNestLevel();
    Relation relation = nullptr;
    for (Pack** link = &packs; *link != nullptr;) {
        Pack* pack = *link;
        const bool own = pack->level >= level;
        if (pack->used == VARHDRSZ || !(all || (pack->full && own))) {
            link = &pack->next;
            continue;
        }
        if (relation == nullptr) {
            relation = try_table_open(pack->relation, RowExclusiveLock);
            if (relation == nullptr) { // the extension was dropped in this transaction
                packs = nullptr;
                return;
            }
        }
        crowded = crowded && RelationGetNumberOfBlocks(relation) > kMostBlocks;
        if (!crowded) {
            insert(relation, pack);
        }
        if (own) {
            *link = pack->next;
            pfree(pack->data);
            pfree(pack);
        } else {
            link = &pack->next;
        }
    }
    if (relation != nullptr) {
        table_close(relation, NoLock); // the lock stays until the end, as after any INSERT
    }
}

Pack* open_pack(const MirrorPlan* plan) {
    const bool legacy = plan->key.direction == Direction::forward;
    for (Pack* pack = packs; pack != nullptr; pack = pack->next) {
        if (pack->mapping == plan->key.mapping && pack->legacy == legacy && pack->layout == plan->captured_layout &&
            !pack->full) {
            return pack;
        }
    }
    auto* pack = static_cast<Pack*>(MemoryContextAllocZero(TopTransactionContext, sizeof(Pack)));
    pack->relation = plan->captured;
    pack->mapping = plan->key.mapping;
    pack->layout = plan->captured_layout;
    pack->legacy = legacy;
    pack->level = GetCurrentTransactionNestLevel();
    pack->size = kFirstSize;
    pack->used = VARHDRSZ;
    pack->data = static_cast<char*>(MemoryContextAlloc(TopTransactionContext, pack->size));
    pack->next = packs;
    packs = pack;
    return pack;
}

// Notes the key in `scratch`, unless it stands in the open pack already and was met not long ago.
void note(const MirrorPlan* plan) {
    const auto size = static_cast<uint32>(scratch.len);
    Pack* pack = open_pack(plan);
    if (pack->used > VARHDRSZ && pack->used + size > kPackSize) {
        pack->full = true;
        write(false);
        pack = open_pack(plan);
    }
    uint16& recent = pack->recent[hash_bytes(reinterpret_cast<unsigned char*>(scratch.data), scratch.len) % kRecent];
    if (recent != 0 && recent + size <= pack->used && memcmp(pack->data + recent, scratch.data, size) == 0) {
        pack->level = std::min(pack->level, GetCurrentTransactionNestLevel());
        return;
    }
    if (pack->used + size > pack->size) {
        const uint32 larger = std::max(std::min(2 * pack->size, kPackSize), pack->used + size);
        pack->data = static_cast<char*>(repalloc(pack->data, larger));
        pack->size = larger;
    }
    memcpy(pack->data + pack->used, scratch.data, size);
    recent = static_cast<uint16>(pack->used);
    pack->used += size;
    pack->level = std::min(pack->level, GetCurrentTransactionNestLevel());
}

void on_transaction(XactEvent event, void*) {
    switch (event) {
    case XACT_EVENT_PRE_COMMIT:
    case XACT_EVENT_PRE_PREPARE:
        ending = true;
        if (packs != nullptr) {
            write(true);
        }
        break;
    case XACT_EVENT_COMMIT:
    case XACT_EVENT_PREPARE:
    case XACT_EVENT_ABORT:
        packs = nullptr; // their memory was the transaction's
        ending = false;
        break;
    default:
        break;
    }
}

// What a subtransaction noted goes over to the one around it, also when it is rolled back.
void on_subtransaction(SubXactEvent event, SubTransactionId, SubTransactionId, void*) {
    if (packs == nullptr || (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)) {
        return;
    }
    const int around = GetCurrentTransactionNestLevel() - 1;
    for (Pack* pack = packs; pack != nullptr; pack = pack->next) {
        pack->level = std::min(pack->level, around);
    }
}

// --- reading

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

Datum read_value(Reader& reader, Form_pg_attribute attribute, bool& isnull) {
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
    if (attribute->attlen > 0 && static_cast<uint32>(attribute->attlen) != size) {
        reader.at = reader.end;
        reader.take(1); // of another type
    }
    if (attribute->attbyval) {
        alignas(Datum) char aligned[sizeof(Datum)];
        memcpy(aligned, bytes, size);
        return fetch_att(aligned, true, attribute->attlen);
    }
    const std::size_t head = attribute->attlen == -1 ? VARHDRSZ : 0;
    auto* copy = static_cast<char*>(palloc(size + head + 1));
    memcpy(copy + head, bytes, size);
    copy[head + size] = '\0';
    if (attribute->attlen == -1) {
        SET_VARSIZE(copy, size + head);
    }
    return PointerGetDatum(copy);
}

Datum unpack(FunctionCallInfo fcinfo) {
    ArrayType* array = PG_GETARG_ARRAYTYPE_P(0);
    InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    TupleDesc desc = result->setDesc;
    Datum* list = nullptr;
    bool* absent = nullptr;
    int count = 0;
    deconstruct_array(array, BYTEAOID, -1, false, TYPALIGN_INT, &list, &absent, &count);
    auto* values = static_cast<Datum*>(palloc(sizeof(Datum) * (desc->natts + 1)));
    auto* nulls = static_cast<bool*>(palloc(sizeof(bool) * (desc->natts + 1)));
    MemoryContext row = AllocSetContextCreate(CurrentMemoryContext, "pg_tandem key", ALLOCSET_DEFAULT_SIZES);
    const MemoryContext outer = MemoryContextSwitchTo(row);
    for (int i = 0; i < count; i++) {
        if (absent[i]) {
            continue;
        }
        const auto* pack = reinterpret_cast<varlena*>(PG_DETOAST_DATUM_PACKED(list[i]));
        Reader reader{VARDATA_ANY(pack), VARDATA_ANY(pack) + VARSIZE_ANY_EXHDR(pack)};
        while (reader.at < reader.end) {
            for (int column = 0; column < desc->natts; column++) {
                values[column] = read_value(reader, TupleDescAttr(desc, column), nulls[column]);
            }
            tuplestore_putvalues(result->setResult, desc, values, nulls);
        }
        CHECK_FOR_INTERRUPTS();
        MemoryContextReset(row);
    }
    MemoryContextSwitchTo(outer);
    MemoryContextDelete(row);
    return Datum{0};
}

} // namespace

void row(const MirrorPlan* plan, const TriggerData* data) {
    if (plan->captured_columns == 0) { // it is switched off
        return;
    }
    TupleDesc desc = RelationGetDescr(data->tg_relation);
    encode(plan, data->tg_trigtuple, desc);
    note(plan);
    if (TRIGGER_FIRED_BY_UPDATE(data->tg_event)) {
        encode(plan, data->tg_newtuple, desc);
        note(plan);
    }
    if (ending) {
        write(true);
    }
}

void register_callbacks() {
    RegisterXactCallback(on_transaction, nullptr);
    RegisterSubXactCallback(on_subtransaction, nullptr);
}

} // namespace pg::capture

// What this transaction itself has changed, for a validation that it makes.
TANDEM_FUNCTION(tandem_capture_flush) {
    return pg::entry([&]() -> Datum {
        pg::capture::write(true);
        PG_RETURN_VOID();
    });
}

// captured_overflows(relation): may keys have been left out? A little before they are, as a crash may cut the table.
TANDEM_FUNCTION(tandem_captured_overflows) {
    return pg::entry([&]() -> Datum {
        Relation relation = table_open(PG_GETARG_OID(0), AccessShareLock);
        const BlockNumber blocks = RelationGetNumberOfBlocks(relation);
        table_close(relation, AccessShareLock);
        PG_RETURN_BOOL(blocks > pg::capture::kMostBlocks / 10 * 9);
    });
}

// pack_key(record) → the key that unpack_keys() gives back.
TANDEM_FUNCTION(tandem_pack_key) {
    return pg::entry([&] { return pg::capture::pack_row(PG_GETARG_HEAPTUPLEHEADER(0)); });
}

// unpack_keys(bytea[]) → the keys, as the columns that the caller announces.
TANDEM_FUNCTION(tandem_unpack_keys) {
    return pg::entry([&] { return pg::capture::unpack(fcinfo); });
}
