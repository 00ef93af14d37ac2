// capture: the mirror's trigger notes the key of each row that it sees, in memory, and the transaction writes them into
// tandem.captured before it commits: one row of that table for each mapping and side, with as many keys as fit, by
// heap_insert and without any index. control/install/57_capture.sql says who reads them; capture_key.cpp what a key
// looks like.
//
// Exact, as the keys are in the same transaction as the changes: whoever sees the one sees the other. Where writing
// them fails, the transaction fails. Keys more than necessary do no harm, as each is only looked at again; so what a
// subtransaction noted stays when it is rolled back, and the care goes all into not losing any: a pack is written by a
// subtransaction only when all of its keys are that subtransaction's own.
#include "pg/capture.hpp"
#include "pg/capture_key.hpp"

extern "C" {
#include "access/heapam.h"
#include "common/hashfn.h"
#include "storage/bufmgr.h"
}

namespace pg::capture {
namespace {

// Behind a pack of this size come the other columns and the tuple's header, and that stays below the size at which
// PostgreSQL would move it out of line. A single key that is longer makes a pack of its own.
constexpr uint32 kPackSize = 1900;
constexpr uint32 kFirstSize = 192;
constexpr int kRecent = 64;

// No more than this (1 GB) is kept while nobody takes it away. Whoever keeps nothing any more holds the table's lock
// all the same, until its transaction ends: shrink_captured() waits for it, and then everything is compared.
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

void encode(const MirrorPlan* plan, HeapTuple tuple, TupleDesc desc) {
    begin_key();
    for (int i = 0; i < plan->captured_columns; i++) {
        add_to_key(tuple, desc, plan->captured_attributes[i]);
    }
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

// Notes the key that was made last, unless it stands in the open pack already and was met not long ago.
void note(const MirrorPlan* plan) {
    const std::span<const char> key = current_key();
    const auto size = static_cast<uint32>(key.size());
    Pack* pack = open_pack(plan);
    if (pack->used > VARHDRSZ && pack->used + size > kPackSize) {
        pack->full = true;
        write(false);
        pack = open_pack(plan);
    }
    uint16& recent =
        pack->recent[hash_bytes(reinterpret_cast<const unsigned char*>(key.data()), static_cast<int>(size)) % kRecent];
    if (recent != 0 && recent + size <= pack->used && memcmp(pack->data + recent, key.data(), size) == 0) {
        pack->level = std::min(pack->level, GetCurrentTransactionNestLevel());
        return;
    }
    if (pack->used + size > pack->size) {
        const uint32 larger = std::max(std::min(2 * pack->size, kPackSize), pack->used + size);
        pack->data = static_cast<char*>(repalloc(pack->data, larger));
        pack->size = larger;
    }
    memcpy(pack->data + pack->used, key.data(), size);
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
