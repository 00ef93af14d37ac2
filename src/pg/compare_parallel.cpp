// The leader cuts nothing and hands out nothing: all processes take blocks of the same tables from PostgreSQL's own
// parallel scan, each into a sketch of its own, and sketches are added cell by cell.
#include "pg/compare_parallel.hpp"

extern "C" {
#include "access/parallel.h"
#include "nodes/pg_list.h"
#include "storage/sharedfileset.h"

PGDLLEXPORT void tandem_compare_worker(dsm_segment* segment, shm_toc* toc);
}

namespace pg::compare {
namespace {

enum Key : std::uint64_t { kHeader = 1, kShape, kSources, kTables, kSketches, kWanted, kStores, kTallies };

struct SharedTable {
    Oid relation;
    int side;
    std::size_t scan; // offset of its ParallelTableScanDesc in kTables
};

struct SharedHeader {
    Pass pass;
    int processes;
    std::size_t cells;
    std::size_t sketch_bytes; // from one process's to the next one's
    std::size_t wanted_capacity;
    std::size_t store_bytes;
    int tables;
    bool stores[kSides];
    pg_atomic_uint64 rows_read;
    SharedFileSet files;
    Counts counts[FLEXIBLE_ARRAY_MEMBER];
};

std::size_t align_cache(std::size_t size) {
    return (size + 63) & ~std::size_t{63};
}

} // namespace

void* align_pointer(void* pointer) {
    return reinterpret_cast<void*>(align_cache(reinterpret_cast<std::uintptr_t>(pointer)));
}

bool is_shared(const PassRequest* request, int side) {
    return request->sources[side]->path != Path::executor && request->sources[side]->parallel &&
           request->pass != Pass::radix;
}

tandem::Sketch* new_sketch(void* memory, const Shape* shape, std::size_t cells) {
    return new (palloc(sizeof(tandem::Sketch))) tandem::Sketch(memory, shape->limbs, cells, shape->seed);
}

tandem::KeySet* new_wanted(void* memory, const Shape* shape, std::size_t capacity) {
    return new (palloc(sizeof(tandem::KeySet))) tandem::KeySet(memory, shape->limbs, capacity, shape->seed);
}

std::size_t tally_count(const PassRequest* request) {
    return new_wanted(request->wanted_memory, request->shape, request->wanted_capacity)->places();
}

void open_and_scan(Participant* participant, const Source* source, int side, Oid relation, Snapshot snapshot,
                   ParallelTableScanDesc shared) {
    TableReader* reader = open_table(source, relation, participant->shape->column(), participant->pass == Pass::fetch);
    TableScanDesc scan = shared != nullptr ? table_beginscan_parallel(reader->relation, shared)
                                           : table_beginscan(reader->relation, snapshot, 0, nullptr);
    scan_table(participant, side, reader, scan);
    table_endscan(scan);
    close_table(reader);
}

namespace {

Node* pack_sources(const PassRequest* request) {
    List* all = NIL;
    for (int side = 0; side < kSides; side++) {
        const Source* source = request->sources[side];
        List* one = is_shared(request, side)
                        ? list_make3(source->values, source->rows,
                                     source->condition == nullptr ? NIL : list_make1(source->condition))
                        : list_make3(NIL, NIL, NIL);
        all = lappend(all, lappend(one, list_make2_oid(source->relation, static_cast<Oid>(source->path))));
    }
    return reinterpret_cast<Node*>(all);
}

void unpack_source(List* packed, Source* source) {
    source->values = static_cast<List*>(list_nth(packed, 0));
    source->rows = static_cast<List*>(list_nth(packed, 1));
    List* condition = static_cast<List*>(list_nth(packed, 2));
    source->condition = condition == NIL ? nullptr : static_cast<Expr*>(linitial(condition));
    List* oids = static_cast<List*>(list_nth(packed, 3));
    source->relation = linitial_oid(oids);
    source->path = static_cast<Path>(lsecond_oid(oids));
}

// The part of a shared pass that leader and workers do alike.
void take_part(Participant* participant, const Source* const* sources, const SharedHeader* header,
               const SharedTable* tables) {
    for (int i = 0; i < header->tables; i++) {
        const char* base = reinterpret_cast<const char*>(tables);
        auto* scan = reinterpret_cast<ParallelTableScanDesc>(const_cast<char*>(base + tables[i].scan));
        open_and_scan(participant, sources[tables[i].side], tables[i].side, tables[i].relation, nullptr, scan);
    }
}

SharedTuplestore* store_at(void* stores, const SharedHeader* header, int side) {
    return reinterpret_cast<SharedTuplestore*>(static_cast<char*>(stores) +
                                               header->store_bytes * static_cast<std::size_t>(side));
}

struct SharedPass {
    ParallelContext* context;
    SharedHeader* header;
    SharedTable* tables;
    char* sketches;
    SharedTuplestoreAccessor* stores[kSides];
    Tally* tallies;
};

void* allocate(ParallelContext* context, std::uint64_t key, std::size_t size) {
    void* memory = shm_toc_allocate(context->toc, size);
    memset(memory, 0, size);
    shm_toc_insert(context->toc, key, memory);
    return memory;
}

int count_tables(const PassRequest* request, Snapshot snapshot, std::size_t& size) {
    int count = 0;
    std::size_t scans = 0;
    for (int side = 0; side < kSides; side++) {
        ListCell* cell = nullptr;
        foreach (cell, is_shared(request, side) ? request->sources[side]->tables : NIL) {
            Relation relation = table_open(lfirst_oid(cell), NoLock);
            scans += align_cache(table_parallelscan_estimate(relation, snapshot));
            table_close(relation, NoLock);
            count++;
        }
    }
    size = align_cache(sizeof(SharedTable) * static_cast<std::size_t>(count)) + scans;
    return count;
}

void share_tables(SharedPass* shared, const PassRequest* request, Snapshot snapshot) {
    std::size_t offset = align_cache(sizeof(SharedTable) * static_cast<std::size_t>(shared->header->tables));
    int i = 0;
    for (int side = 0; side < kSides; side++) {
        ListCell* cell = nullptr;
        foreach (cell, is_shared(request, side) ? request->sources[side]->tables : NIL) {
            Relation relation = table_open(lfirst_oid(cell), NoLock);
            shared->tables[i] = {lfirst_oid(cell), side, offset};
            auto* scan = reinterpret_cast<ParallelTableScanDesc>(reinterpret_cast<char*>(shared->tables) + offset);
            table_parallelscan_initialize(relation, scan, snapshot);
            offset += align_cache(table_parallelscan_estimate(relation, snapshot));
            table_close(relation, NoLock);
            i++;
        }
    }
}

// What stands in the segment of a pass, beside what PostgreSQL puts there.
struct SegmentSizes {
    std::size_t header;
    std::size_t shape;
    std::size_t sources;
    std::size_t tables;
    std::size_t sketches;
    std::size_t wanted;
    std::size_t stores;
    std::size_t tallies;
};

std::size_t sketch_stride(const PassRequest* request) {
    return request->pass == Pass::sketch ? align_cache(tandem::Sketch::bytes(request->shape->limbs, request->cells))
                                         : 0;
}

SegmentSizes segment_sizes(const PassRequest* request, int workers, const char* sources) {
    const auto processes = static_cast<std::size_t>(workers + 1);
    const bool counting = request->pass == Pass::count;
    SegmentSizes sizes{};
    sizes.header = sizeof(SharedHeader) + sizeof(Counts) * processes;
    sizes.shape = Shape::bytes(request->shape->columns, request->shape->keys);
    sizes.sources = strlen(sources) + 1;
    (void)count_tables(request, GetActiveSnapshot(), sizes.tables);
    sizes.sketches = sketch_stride(request) * static_cast<std::size_t>(workers) + 64;
    sizes.wanted = request->pass == Pass::fetch || counting
                       ? tandem::KeySet::bytes(request->wanted_capacity, request->shape->limbs)
                       : 8;
    sizes.stores = align_cache(sts_estimate(workers + 1)) * kSides;
    sizes.tallies = counting ? sizeof(Tally) * tally_count(request) : 8;
    return sizes;
}

SharedPass* share(const PassRequest* request, int workers) {
    auto* shared = static_cast<SharedPass*>(palloc0(sizeof(SharedPass)));
    Snapshot snapshot = GetActiveSnapshot();
    EnterParallelMode();
    ParallelContext* context = CreateParallelContext("pg_tandem", "tandem_compare_worker", workers);
    shared->context = context;
    const int processes = workers + 1;
    char* sources = nodeToString(pack_sources(request));
    const SegmentSizes bytes = segment_sizes(request, workers, sources);
    const bool fetching = request->pass == Pass::fetch;
    const bool counting = request->pass == Pass::count;

    const std::size_t sizes[] = {bytes.header,   bytes.shape,  bytes.sources, bytes.tables,
                                 bytes.sketches, bytes.wanted, bytes.stores,  bytes.tallies};
    for (const std::size_t size : sizes) {
        shm_toc_estimate_chunk(&context->estimator, size);
    }
    shm_toc_estimate_keys(&context->estimator, std::size(sizes));
    InitializeParallelDSM(context);

    shared->header = static_cast<SharedHeader*>(allocate(context, kHeader, bytes.header));
    SharedHeader* header = shared->header;
    header->pass = request->pass;
    header->processes = processes;
    header->cells = request->cells;
    header->sketch_bytes = sketch_stride(request);
    header->wanted_capacity = request->wanted_capacity;
    header->store_bytes = bytes.stores / kSides;
    std::size_t unused = 0;
    header->tables = count_tables(request, snapshot, unused);
    pg_atomic_init_u64(&header->rows_read, 0);
    memcpy(allocate(context, kShape, bytes.shape), request->shape, bytes.shape);
    memcpy(allocate(context, kSources, bytes.sources), sources, bytes.sources);
    shared->tables = static_cast<SharedTable*>(allocate(context, kTables, bytes.tables));
    share_tables(shared, request, snapshot);
    shared->sketches = static_cast<char*>(allocate(context, kSketches, bytes.sketches));
    void* wanted = allocate(context, kWanted, bytes.wanted);
    void* stores = allocate(context, kStores, bytes.stores);
    shared->tallies = static_cast<Tally*>(allocate(context, kTallies, bytes.tallies));
    if (counting) {
        memcpy(wanted, request->wanted_memory, bytes.wanted);
    }
    if (fetching) {
        memcpy(wanted, request->wanted_memory, bytes.wanted);
        if (context->seg != nullptr) {
            SharedFileSetInit(&header->files, context->seg);
            for (int side = 0; side < kSides; side++) {
                header->stores[side] = is_shared(request, side);
                shared->stores[side] = sts_initialize(store_at(stores, header, side), processes, 0, 0, 0,
                                                      &header->files, side == kLegacy ? "legacy" : "new");
            }
        }
    }
    return shared;
}

// What the workers put into the shared stores, into the leader's own.
void drain(SharedPass* shared, const PassRequest* request) {
    for (int side = 0; side < kSides; side++) {
        if (shared->stores[side] == nullptr) {
            continue;
        }
        sts_begin_parallel_scan(shared->stores[side]);
        TupleTableSlot* slot = nullptr;
        MinimalTuple tuple = nullptr;
        while ((tuple = sts_parallel_scan_next(shared->stores[side], nullptr)) != nullptr) {
            CHECK_FOR_INTERRUPTS();
            if (slot == nullptr) {
                slot = MakeSingleTupleTableSlot(fetched_desc(request->sources[side]), &TTSOpsMinimalTuple);
            }
            ExecStoreMinimalTuple(tuple, slot, false);
            tuplestore_puttupleslot(request->stores[side], slot);
        }
        sts_end_parallel_scan(shared->stores[side]);
        if (slot != nullptr) {
            ExecDropSingleTupleTableSlot(slot);
        }
    }
}

void add_counts(Counts& to, const Counts& from) {
    for (int side = 0; side < kSides; side++) {
        to.rows[side] += from.rows[side];
        to.null_keys[side] += from.null_keys[side];
    }
    to.wide_keys += from.wide_keys;
}

} // namespace

int affordable_workers(const PassRequest* request, int workers) {
    if (workers == 0) {
        return 0;
    }
    const char* sources = call([&] { return nodeToString(pack_sources(request)); });
    for (; workers > 0; workers /= 2) {
        // PostgreSQL's own part: the session's state, and queues of 16 kB.
        constexpr std::size_t kStateBytes = 256 * 1024;
        constexpr std::size_t kWorkerBytes = 64 * 1024;
        const ErrorData* error = attempt([&] {
            const SegmentSizes sizes = segment_sizes(request, workers, sources);
            dsm_segment* segment = dsm_create(sizes.header + sizes.shape + sizes.sources + sizes.tables +
                                                  sizes.sketches + sizes.wanted + sizes.stores + sizes.tallies +
                                                  kStateBytes + kWorkerBytes * static_cast<std::size_t>(workers),
                                              DSM_CREATE_NULL_IF_MAXSEGMENTS);
            if (segment != nullptr) {
                dsm_detach(segment);
            }
        });
        if (error == nullptr) {
            break;
        }
        if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_INSUFFICIENT_RESOURCES) {
            throw Error(const_cast<ErrorData*>(error));
        }
    }
    return workers;
}

void run_shared(Participant* participant, const PassRequest* request, int workers, PassResult* result) {
    SharedPass* shared = share(request, workers);
    SharedHeader* header = shared->header;
    LaunchParallelWorkers(shared->context);
    participant->progress = &header->rows_read;
    if (request->pass == Pass::count) {
        participant->tallies = shared->tallies;
    }
    for (int side = 0; side < kSides; side++) {
        if (is_shared(request, side)) {
            // Without a segment there are no workers, and nothing to share.
            participant->stores[side] = shared->stores[side] != nullptr ? RowStore{nullptr, shared->stores[side]}
                                                                        : RowStore{request->stores[side], nullptr};
        }
    }
    take_part(participant, const_cast<const Source* const*>(request->sources), header, shared->tables);
    if (request->pass == Pass::count) {
        read_unshared(participant, request); // into the same tallies
    }
    for (auto* store : shared->stores) {
        if (store != nullptr) {
            sts_end_write(store);
        }
    }
    WaitForParallelWorkersToFinish(shared->context);

    for (int i = 0; i < shared->context->nworkers_launched; i++) {
        add_counts(participant->counts, header->counts[i + 1]);
        if (request->pass == Pass::sketch) {
            char* memory = static_cast<char*>(align_pointer(shared->sketches)) +
                           header->sketch_bytes * static_cast<std::size_t>(i);
            participant->sketch->merge(*new_sketch(memory, request->shape, request->cells));
        }
    }
    if (request->pass == Pass::fetch) {
        drain(shared, request);
    }
    if (request->pass == Pass::count) {
        count_kinds(participant, request, result);
    }
    participant->progress = nullptr;
    DestroyParallelContext(shared->context);
    ExitParallelMode();
}

namespace {

void work(dsm_segment*, shm_toc* toc) {
    auto* header = static_cast<SharedHeader*>(shm_toc_lookup(toc, kHeader, false));
    auto* shape = static_cast<Shape*>(shm_toc_lookup(toc, kShape, false));
    auto* tables = static_cast<SharedTable*>(shm_toc_lookup(toc, kTables, false));
    List* packed = static_cast<List*>(stringToNode(static_cast<char*>(shm_toc_lookup(toc, kSources, false))));
    Source own[kSides]{};
    const Source* sources[kSides] = {&own[kLegacy], &own[kNew]};
    for (int side = 0; side < kSides; side++) {
        unpack_source(static_cast<List*>(list_nth(packed, side)), &own[side]);
    }
    Participant* participant = make_participant(shape, header->pass);
    participant->progress = &header->rows_read;
    SharedTuplestoreAccessor* stores[kSides] = {};
    if (header->pass == Pass::sketch) {
        void* sketches = align_pointer(shm_toc_lookup(toc, kSketches, false));
        participant->sketch = new_sketch(static_cast<char*>(sketches) +
                                             header->sketch_bytes * static_cast<std::size_t>(ParallelWorkerNumber),
                                         shape, header->cells);
    } else {
        participant->wanted = new_wanted(shm_toc_lookup(toc, kWanted, false), shape, header->wanted_capacity);
        participant->tallies = static_cast<Tally*>(shm_toc_lookup(toc, kTallies, false));
    }
    if (header->pass == Pass::fetch) {
        void* memory = shm_toc_lookup(toc, kStores, false);
        for (int side = 0; side < kSides; side++) {
            stores[side] = sts_attach(store_at(memory, header, side), ParallelWorkerNumber + 1, &header->files);
            participant->stores[side] = {nullptr, stores[side]};
        }
    }
    take_part(participant, sources, header, tables);
    for (auto* store : stores) {
        if (store != nullptr) {
            sts_end_write(store);
        }
    }
    header->counts[ParallelWorkerNumber + 1] = participant->counts;
}

} // namespace
} // namespace pg::compare

void tandem_compare_worker(dsm_segment* segment, shm_toc* toc) {
    pg::entry([&] {
        auto* header = static_cast<pg::compare::SharedHeader*>(shm_toc_lookup(toc, pg::compare::kHeader, false));
        if (header->pass == pg::compare::Pass::fetch) {
            SharedFileSetAttach(&header->files, segment);
        }
        pg::compare::work(segment, toc);
    });
}
