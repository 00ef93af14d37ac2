#include "pg/invalidation.hpp"

namespace pg {
namespace {

constexpr int kMostWatchers = 32;

RelcacheCallbackFunction watchers[kMostWatchers];
int watcher_count = 0;

void tell_all(Datum, Oid relation) {
    for (int i = 0; i < watcher_count; i++) {
        watchers[i](Datum{0}, relation);
    }
}

} // namespace

void watch_relations(RelcacheCallbackFunction f) {
    if (watcher_count == 0) {
        CacheRegisterRelcacheCallback(tell_all, Datum{0});
    }
    if (watcher_count == kMostWatchers) {
        elog(FATAL, "too many parts of pg_tandem watch relations");
    }
    watchers[watcher_count++] = f;
}

} // namespace pg
