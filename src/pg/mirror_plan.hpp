// The kept statements of one direction of a mapping, prepared as the run's owner, and the backend's cache of them.
#pragma once

#include "pg/prelude.hpp"

namespace pg {

enum class Direction : int32 { forward, reverse };

struct PlanKey {
    int32 mapping;
    Direction direction;
    Oid source; // the relation that fired: a partition has a row layout of its own
};

struct Columns {
    int count;
    AttrNumber* numbers;

    bool has(int column) const { return std::find(numbers, numbers + count, column) != numbers + count; }
};

// Kept until it is invalid and no trigger on the stack executes it: a trigger of the application may write the same
// mapping again below us, and the plan of this level must outlive what is loaded there.
struct MirrorPlan {
    PlanKey key;
    bool valid;
    bool replaced; // no entry of the cache any more: its last user frees it
    int users;
    bool lenient; // a failing write on the new side is recorded and does not fail the user's statement
    Oid owner;
    Oid target;
    int columns;
    AttrNumber* attributes;
    Columns written; // of the target
    Columns updated; // of these: an UPDATE may set them
    Columns target_key;
    Columns source_key;
    Oid target_index; // of these keys, for mirror_bulk
    Oid source_index;
    bool shared;                      // its legacy table is mapped more than once, and this is the way from there
    std::span<const int32> relatives; // the run's mappings
    bool together;                    // many rows may be written at a time: mirror_bulk.hpp
    List* settled_row;                // then, and where it is one that no setting changes
    SPIPlanPtr upsert;                // parameters: the new row
    SPIPlanPtr update;                // parameters: the new row, then the old one
    SPIPlanPtr remove;                // parameters: the old row
    Oid captured;                     // table tandem.captured
    int captured_columns;             // of the source, from which the comparison's key is made
    AttrNumber* captured_attributes;
    int32 captured_layout;
    bool capture_echo;     // the row that this direction writes may have another key than the one that it came from
    MemoryContext context; // holds this and the attributes
};

// Keeps a plan for as long as a trigger executes it.
class PlanUse {
  public:
    explicit PlanUse(MirrorPlan* plan) : plan_(plan) { plan_->users++; }
    ~PlanUse();
    PlanUse(const PlanUse&) = delete;
    PlanUse& operator=(const PlanUse&) = delete;

  private:
    MirrorPlan* plan_;
};

// The plan of the cache, loaded anew where it is missing or invalid. `function` is one of ours: its owner reads the
// mapping. Within SPI.
MirrorPlan* find_plan(const PlanKey& key, Relation source, Oid function);

// The next find_plan() loads it anew.
void forget_plan(const PlanKey& key);

// The same where it needs no loading, else nullptr. Anywhere.
MirrorPlan* loaded_plan(const PlanKey& key);

// A statement prepared with a generic plan, and kept for the life of the backend.
SPIPlanPtr prepare_kept(const char* sql, int count, const Oid* types);

} // namespace pg
