// Reads task_ready by its index. An entry tells all that the row does; the row itself is only asked whether it is
// alive.
#include "pg/task_queue_scan.hpp"

namespace pg::queue {
namespace {

// So many dead entries behind one of an open transaction, and the transaction is left behind.
constexpr int64 kLeaveBehind = 64;

// What this transaction has found dead for itself, among it what it removed: a loop of claims in one transaction goes
// on there.
struct OwnView {
    FullTransactionId xid;
    uint64 undone; // subtransactions, until then
    Level* level;
    uint64 lowered;
    Position from;
};
constexpr int kOwnViews = 16;
OwnView own_views[kOwnViews];
int next_own_view = 0;
uint64 undone = 0;

void on_subtransaction(SubXactEvent event, SubTransactionId, SubTransactionId, void*) {
    undone += event == SUBXACT_EVENT_ABORT_SUB ? 1 : 0;
}

OwnView* find_own_view(const Level* level) {
    const FullTransactionId xid = GetTopFullTransactionIdIfAny();
    OwnView* end = own_views + kOwnViews;
    OwnView* view = std::find_if(own_views, end, [&](const OwnView& v) {
        return v.level == level && v.undone == undone && FullTransactionIdEquals(v.xid, xid);
    });
    return view == end ? nullptr : view;
}

void keep_own_view(const LevelScan& scan, const Position& from) {
    OwnView* view = find_own_view(scan.level);
    if (view == nullptr) {
        view = &own_views[next_own_view];
        next_own_view = (next_own_view + 1) % kOwnViews;
    }
    *view = {GetTopFullTransactionIdIfAny(), undone, scan.level, scan.lowered, from};
}

void make_key(ScanKey key, const ReadyTable& table, AttrNumber column, StrategyNumber strategy, RegProcedure function,
              Datum value) {
    ScanKeyEntryInitialize(key, 0, column, strategy, InvalidOid, table.order->rd_indcollation[column - 1], function,
                           value);
}

// (run_at, task_id) >= the position; `members` holds what the key points to.
void make_row_key(ScanKey key, ScanKey members, const Position* position) {
    ScanKeyEntryInitialize(&members[0], SK_ROW_MEMBER, kRunAt, BTGreaterEqualStrategyNumber, InvalidOid, InvalidOid,
                           F_TIMESTAMPTZ_CMP, TimestampTzGetDatum(position->run_at));
    ScanKeyEntryInitialize(&members[1], SK_ROW_MEMBER | SK_ROW_END, kTaskId, BTGreaterEqualStrategyNumber, InvalidOid,
                           InvalidOid, F_UUID_CMP, UUIDPGetDatum(&position->id));
    *key = ScanKeyData{};
    key->sk_flags = SK_ROW_HEADER;
    key->sk_attno = kRunAt;
    key->sk_strategy = BTGreaterEqualStrategyNumber;
    key->sk_argument = PointerGetDatum(members);
}

Position position_of(IndexScanDesc scan) {
    bool isnull = false;
    Position position;
    position.run_at = DatumGetTimestampTz(index_getattr(scan->xs_itup, kRunAt, scan->xs_itupdesc, &isnull));
    position.id = *DatumGetUUIDP(index_getattr(scan->xs_itup, kTaskId, scan->xs_itupdesc, &isnull));
    return position;
}

// An entry of an open transaction: it may be alive when that has ended.
void meet_open(Cursor* cursor, TransactionId xid, const Position& at) {
    cursor->found = true;
    if (cursor->stopped) {
        return;
    }
    const auto knows = [xid](const LeftBehind* entries, int count) {
        return std::any_of(entries, entries + count, [xid](const LeftBehind& e) { return e.xid == xid; });
    };
    // What was left behind once is not looked at again before the transaction ends; where all is read from the
    // beginning, it may be older than what was noted.
    for (int i = 0; i < cursor->level.left_count; i++) {
        if (cursor->level.left[i].xid == xid) {
            cursor->level.left[i].position = std::min(cursor->level.left[i].position, at);
            return;
        }
    }
    if (knows(cursor->open, cursor->open_count)) {
        return;
    }
    if (cursor->open_count == 0) {
        cursor->upto = at;
    }
    if (cursor->open_count == kLeftBehind) {
        cursor->behind = at;
        cursor->stopped = true;
        return;
    }
    cursor->open[cursor->open_count++] = {xid, at};
}

void meet_dead(Cursor* cursor, const Position& at) {
    if (cursor->stopped) {
        return;
    }
    if (cursor->open_count == 0) {
        cursor->upto = at;
    } else {
        cursor->dead_behind++;
    }
    cursor->behind = at;
}

void meet_live(Cursor* cursor, const Position& at, ItemPointer tid) {
    cursor->found = true;
    if (!cursor->stopped) {
        if (cursor->open_count == 0) {
            cursor->upto = at;
        }
        cursor->behind = at;
        cursor->stopped = true;
    }
    cursor->batch[cursor->count++] = {at, *tid};
}

void read_batch(Reader* reader, Cursor* cursor, int room) {
    ScanKeyData keys[4];
    ScanKeyData members[2];
    const Position start = cursor->next;
    make_key(&keys[0], reader->table, kTenant, BTEqualStrategyNumber, F_TEXTEQ, cursor->tenant);
    make_key(&keys[1], reader->table, kKind, BTEqualStrategyNumber, F_TEXTEQ, cursor->kind);
    make_key(&keys[2], reader->table, kPriority, BTEqualStrategyNumber, F_INT2EQ, Int16GetDatum(cursor->priority));
    make_row_key(&keys[3], members, &start);
    IndexScanDesc scan = reader->scan;
    index_rescan(scan, keys, 4, nullptr, 0);
    cursor->count = cursor->used = 0;
    for (;;) {
        const ItemPointer tid = index_getnext_tid(scan, ForwardScanDirection);
        if (tid == nullptr) {
            cursor->next_at = DT_NOEND;
            cursor->exhausted = true;
            break;
        }
        const Position at = position_of(scan);
        if (at.run_at > cursor->level.begun || at.run_at == DT_NOEND) {
            cursor->next_at = at.run_at;
            cursor->exhausted = true;
            break;
        }
        if (cursor->after && !(cursor->next < at)) {
            continue;
        }
        CHECK_FOR_INTERRUPTS();
        cursor->next = at;
        cursor->after = true;
        if (!index_fetch_heap(scan, reader->slot)) {
            meet_dead(cursor, at);
            continue;
        }
        if (TransactionIdIsValid(reader->dirty.xmin)) {
            meet_open(cursor, reader->dirty.xmin, at);
        } else if (TransactionIdIsValid(reader->dirty.xmax)) {
            meet_open(cursor, reader->dirty.xmax, at);
        } else {
            meet_live(cursor, at, &reader->slot->tts_tid);
            if (cursor->count == room) {
                break;
            }
        }
    }
    ExecClearTuple(reader->slot);
}

} // namespace

void begin_reading(Reader* reader, const ReadyTable& table) {
    reader->table = table;
    InitDirtySnapshot(reader->dirty);
    reader->scan = begin_index_scan(table.heap, table.order, &reader->dirty, 4);
    reader->scan->xs_want_itup = true;
    reader->slot = table_slot_create(table.heap, nullptr);
    reader->alone = has_removed();
}

void end_reading(Reader* reader) {
    ExecDropSingleTupleTableSlot(reader->slot);
    index_endscan(reader->scan);
}

void register_callbacks() {
    RegisterSubXactCallback(on_subtransaction, nullptr);
}

void open_cursor(const Reader* reader, Cursor* cursor, Level* level, Datum tenant, Datum kind, int16 priority,
                 TimestampTz now, Whole whole) {
    *cursor = Cursor{};
    cursor->tenant = tenant;
    cursor->kind = kind;
    cursor->priority = priority;
    cursor->level = begin_scan(level, now, whole);
    const OwnView* own = reader->alone && level != nullptr && !cursor->level.whole ? find_own_view(level) : nullptr;
    if (own != nullptr && own->lowered == cursor->level.lowered) {
        cursor->level.from = std::max(cursor->level.from, own->from);
    }
    cursor->next = cursor->upto = cursor->behind = cursor->level.from;
    cursor->next_at = DT_NOBEGIN;
}

const Candidate* peek(Reader* reader, Cursor* cursor, int64 want) {
    while (cursor->used == cursor->count) {
        if (cursor->exhausted) {
            return nullptr;
        }
        // One more than is wanted now: somebody else may be faster.
        read_batch(reader, cursor, static_cast<int>(std::min<int64>(want + 1, kMaxBatch)));
    }
    return &cursor->batch[cursor->used];
}

void close_cursor(const Reader* reader, Cursor* cursor) {
    if (reader->alone) {
        if (cursor->level.level != nullptr) {
            keep_own_view(cursor->level, std::min(cursor->upto, Position{cursor->level.limit, {}}));
        }
        return;
    }
    Position upto = cursor->upto;
    cursor->level.stopped = cursor->stopped || cursor->open_count > 0;
    if (cursor->dead_behind >= kLeaveBehind && cursor->level.left_count + cursor->open_count <= kLeftBehind) {
        for (int i = 0; i < cursor->open_count; i++) {
            cursor->level.left[cursor->level.left_count++] = cursor->open[i];
        }
        upto = cursor->behind;
        cursor->level.stopped = cursor->stopped;
    }
    end_scan(cursor->level, upto, cursor->exhausted && !cursor->found ? cursor->next_at : DT_NOBEGIN);
}

bool is_there(Reader* reader, const Candidate& candidate) {
    ItemPointerData tid = candidate.tid;
    const bool there = table_tuple_fetch_row_version(reader->table.heap, &tid, &reader->dirty, reader->slot);
    bool isnull = false;
    const bool same = there && same_id(*DatumGetUUIDP(slot_getattr(reader->slot, kTaskId, &isnull)), candidate.at.id);
    ExecClearTuple(reader->slot);
    return same && !TransactionIdIsValid(reader->dirty.xmin) && !TransactionIdIsValid(reader->dirty.xmax);
}

// Jumps from level to level. Killed entries must not be skipped: there may be a million of them before the next one
// that is not, and an entry that says what level comes next is as good dead as alive.
void list_levels(const ReadyTable& table, text* only_tenant, text* only_kind, Visit visit, void* context) {
    SnapshotData any;
    InitDirtySnapshot(any);
    IndexScanDesc scan = begin_index_scan(table.heap, table.order, &any, 3);
    scan->xs_want_itup = true;
    scan->ignore_killed_tuples = false;
    text* tenant = only_tenant;
    text* kind = only_kind;
    int16 priority = 0;
    bool later_priority = false; // than `priority`, of tenant and kind
    bool later_kind = false;     // than `kind`, of tenant
    bool later_tenant = false;   // than `tenant`
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        ScanKeyData keys[3];
        int count = 0;
        if (tenant != nullptr) {
            make_key(&keys[count++], table, kTenant, later_tenant ? BTGreaterStrategyNumber : BTEqualStrategyNumber,
                     later_tenant ? F_TEXT_GT : F_TEXTEQ, PointerGetDatum(tenant));
            if (kind != nullptr && !later_tenant) {
                make_key(&keys[count++], table, kKind, later_kind ? BTGreaterStrategyNumber : BTEqualStrategyNumber,
                         later_kind ? F_TEXT_GT : F_TEXTEQ, PointerGetDatum(kind));
                if (later_priority) {
                    make_key(&keys[count++], table, kPriority, BTLessStrategyNumber, F_INT2LT, Int16GetDatum(priority));
                }
            }
        }
        scan->numberOfKeys = count; // at most those for which it was made
        index_rescan(scan, keys, count, nullptr, 0);
        if (index_getnext_tid(scan, ForwardScanDirection) != nullptr) {
            bool isnull = false;
            tenant = DatumGetTextPCopy(index_getattr(scan->xs_itup, kTenant, scan->xs_itupdesc, &isnull));
            kind = DatumGetTextPCopy(index_getattr(scan->xs_itup, kKind, scan->xs_itupdesc, &isnull));
            priority = DatumGetInt16(index_getattr(scan->xs_itup, kPriority, scan->xs_itupdesc, &isnull));
            visit(context, tenant, kind, priority);
            later_priority = true;
            later_kind = later_tenant = false;
        } else if (later_priority && only_kind == nullptr) {
            later_priority = false;
            later_kind = true;
        } else if (later_kind && only_tenant == nullptr) {
            later_kind = false;
            later_tenant = true;
        } else if (later_priority && only_tenant == nullptr && only_kind != nullptr) {
            later_priority = false;
            later_tenant = true;
        } else {
            break;
        }
    }
    index_endscan(scan);
}

namespace {

bool wants(const Wanted& wanted, std::string_view kind) {
    if (task::is_reserved(kind)) {
        return false;
    }
    if (wanted.kinds == nullptr) {
        return true;
    }
    return std::any_of(wanted.kinds, wanted.kinds + wanted.kind_count,
                       [&](const text* name) { return task::view(name) == kind; });
}

void add_source(Sources* sources, const Source& source) {
    if (sources->count == sources->room) {
        sources->room = std::max(16, 2 * sources->room);
        const Size size = sizeof(Source) * static_cast<Size>(sources->room);
        sources->data = static_cast<Source*>(sources->data == nullptr ? palloc(size) : repalloc(sources->data, size));
    }
    sources->data[sources->count++] = source;
}

struct Listing {
    const Wanted* wanted;
    const ReadyTable* table;
    Levels* all;
    Sources* sources; // nullptr: levels are only made known
    TimestampTz* next;
};

// Nothing in it can be claimed now.
bool passes_over(const Listing& listing, Level* level) {
    const bool skip = level != nullptr && may_skip(listing.all, level, listing.wanted->now);
    if (skip && listing.next != nullptr) {
        *listing.next = std::min(*listing.next, next_time(level));
    }
    return skip;
}

void visit_level(void* context, text* tenant, text* kind, int16 priority) {
    auto* listing = static_cast<Listing*>(context);
    Level* level = find_level(listing->all, *listing->table, task::view(tenant), task::view(kind), priority);
    if (listing->sources != nullptr && wants(*listing->wanted, task::view(kind)) &&
        task::is_visible(listing->wanted->scope, tenant) && !passes_over(*listing, level)) {
        add_source(listing->sources, {level, tenant, kind, priority});
    }
}

} // namespace

// From memory where all levels are known there, else from the index.
Sources find_sources(const Wanted& wanted, const ReadyTable& table, TimestampTz* next) {
    Sources sources{};
    Levels* all = levels();
    Listing listing{&wanted, &table, all, nullptr, next};
    if (are_shared(all) && !are_complete(all, table)) {
        list_levels(table, nullptr, nullptr, visit_level, &listing);
        end_listing(all, table);
    }
    if (are_complete(all, table)) {
        const int count = level_count(all);
        for (int i = 0; i < count; i++) {
            Level* level = level_at(all, i);
            const std::string_view tenant{level->tenant, level->tenant_size};
            const std::string_view kind{level->kind, level->kind_size};
            if (level->database == MyDatabaseId && level->file == table.heap->rd_rel->relfilenode &&
                (wanted.scope.all || tenant == wanted.scope.only) && wants(wanted, kind) &&
                !passes_over(listing, level)) {
                add_source(&sources, {level, cstring_to_text_with_len(tenant.data(), level->tenant_size),
                                      cstring_to_text_with_len(kind.data(), level->kind_size), level->priority});
            }
        }
        return sources;
    }
    listing.sources = &sources;
    if (wanted.scope.all) {
        list_levels(table, nullptr, nullptr, visit_level, &listing);
        return sources;
    }
    text* tenant = cstring_to_text_with_len(wanted.scope.only.data(), static_cast<int>(wanted.scope.only.size()));
    if (wanted.kinds == nullptr) {
        list_levels(table, tenant, nullptr, visit_level, &listing);
    }
    for (int i = 0; i < wanted.kind_count; i++) {
        list_levels(table, tenant, wanted.kinds[i], visit_level, &listing);
    }
    return sources;
}

} // namespace pg::queue
