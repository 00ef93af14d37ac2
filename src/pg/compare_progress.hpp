// What a running comparison has done so far, where everybody sees it: in PostgreSQL's own progress counters, which need
// no shared memory of ours and go away by themselves.
#pragma once

#include "pg/prelude.hpp"

namespace pg::compare {

enum class Phase : int { planning, scanning, rescanning, partitioning, matching, fetching, judging, joining, row_by_row };

// The counters of st_progress_param.
enum Counter : int {
    kPhase,
    kNewRelation,
    kRowsTotal, // by the statistics; of the pass
    kRowsDone,
    kBlocksTotal,
    kBlocksDone,
    kProcesses,
    kCandidates,
    kStarted, // of the phase
};

void start_progress(Oid legacy, Oid new_relation);
void show_phase(Phase phase);
void show(Counter counter, std::int64_t value);
void end_progress();

} // namespace pg::compare
