#include "pg/kept_plan.hpp"

extern "C" {
#include "common/hashfn.h"
#include "utils/hsearch.h"
}

namespace pg {
namespace {

struct Entry {
    uint64 key;
    Oid role;
    char* sql;
    SPIPlanPtr plan;
};

// What is not asked any more stays until there are so many: nobody tells when a metric is dropped.
constexpr long kMost = 4096;

HTAB* plans = nullptr;

void create() {
    HASHCTL control{};
    control.keysize = sizeof(uint64);
    control.entrysize = sizeof(Entry);
    control.hcxt = TopMemoryContext;
    plans = hash_create("pg_tandem statements", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

void forget(Entry* entry) {
    SPI_freeplan(entry->plan);
    pfree(entry->sql);
    hash_search(plans, &entry->key, HASH_REMOVE, nullptr);
}

void forget_all() {
    HASH_SEQ_STATUS scan;
    hash_seq_init(&scan, plans);
    while (auto* entry = static_cast<Entry*>(hash_seq_search(&scan))) {
        forget(entry);
    }
}

} // namespace

SPIPlanPtr kept_plan(const char* sql, int count, Oid* types) {
    if (plans == nullptr) {
        create();
    }
    const Oid role = GetUserId();
    const uint64 key =
        hash_bytes_extended(reinterpret_cast<const unsigned char*>(sql), static_cast<int>(strlen(sql)), role);
    auto* known = static_cast<Entry*>(hash_search(plans, &key, HASH_FIND, nullptr));
    if (known != nullptr && known->role == role && strcmp(known->sql, sql) == 0) {
        return known->plan;
    }
    SPIPlanPtr plan = SPI_prepare(sql, count, types);
    if (plan == nullptr) {
        elog(ERROR, "SPI_prepare returned %s", SPI_result_code_string(SPI_result));
    }
    if (known != nullptr) { // another statement of the same hash
        forget(known);
    } else if (hash_get_num_entries(plans) >= kMost) {
        forget_all();
    }
    char* copy = MemoryContextStrdup(TopMemoryContext, sql);
    auto* entry = static_cast<Entry*>(hash_search(plans, &key, HASH_ENTER, nullptr));
    entry->role = role;
    entry->sql = copy;
    entry->plan = plan;
    SPI_keepplan(plan);
    return plan;
}

} // namespace pg
