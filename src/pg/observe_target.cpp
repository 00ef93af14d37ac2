// Which series a statement counts in: by the setting tandem.operation, else by what kind of statement it is.
//
// An operation that nobody made known by add_operation() is counted all the same, without a threshold: the setting is
// an application's, whose statements must not fail over it. But only so many of them for a run, as anybody may set
// anything there; the next ones are counted together as 'other'.
#include "pg/observe_hooks.hpp"

namespace pg::observe {

char* operation_name = nullptr;
uint64 operation_version = 1;

namespace {

uint64 missed = 0; // observations without a series, not told as yet

void find_target(KnownTarget* known, int32 run, Side side, const char* operation, int64 now_ns) {
    bool declared = false;
    int64 threshold = kNoThreshold;
    known->full = true;
    known->retry_at = now_ns + int64{kSlotSeconds} * 1'000'000'000;
    if (threshold_of(run, operation, &threshold, &declared) &&
        resolve({observed_home(), run, side, operation, threshold, declared}, missed, &known->target)) {
        known->full = false;
    }
    missed = 0;
    known->known = true;
}

} // namespace

const Target* target_of(Place place, int default_operation, int64 now_ns) {
    ObservedRun& run = observed_runs[place.run];
    const bool named = operation_name != nullptr && operation_name[0] != '\0';
    KnownTarget* known = named ? &run.named[place.side] : &run.defaults[place.side][default_operation];
    if (named && run.named_version[place.side] != operation_version) {
        known->known = false;
        run.named_version[place.side] = operation_version;
    }
    const bool is_good = known->known && (known->full ? now_ns < known->retry_at : is_current(known->target));
    if (!is_good) {
        find_target(known, run.id, place.side, named ? operation_name : kDefaultOperations[default_operation].data(),
                    now_ns);
    }
    if (known->full) {
        missed++;
        return nullptr;
    }
    return &known->target;
}

} // namespace pg::observe
