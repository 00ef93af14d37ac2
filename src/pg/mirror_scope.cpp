// mirror_scope: knows when all triggers of a statement have fired, by hooks around the executor's last step and around
// COPY. There the changes that the mirror's row triggers collected are written, a thousand rows at a time.
//
// What refers to a row may come later in the statement: its foreign keys are looked at when it ends. So where a
// thousand rows break one, they are kept, and tried again with those that follow.
//
// A statement inside a trigger or a function has a scope of its own, which ends before it returns. The queries of
// foreign keys have none: their rows fire triggers together with those of the statement that caused them.
#include "pg/mirror_scope.hpp"

namespace pg::scope {

int bulk_rows = 0;

namespace {

constexpr int kMostRows = 1000;
constexpr Size kMostBytes = Size{4} * 1024 * 1024;
constexpr Size kMostKept = Size{64} * 1024 * 1024;

ExecutorFinish_hook_type previous_finish = nullptr;
ProcessUtility_hook_type previous_utility = nullptr;

class Scope {
  public:
    Scope() : around_(current) { current = this; }
    ~Scope() {
        current = around_;
        if (context_ != nullptr) {
            MemoryContextDelete(context_);
        }
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

    void add(const PlanKey& key, Oid function, const Change& change);
    void write(bool last);

    static Scope* current;

  private:
    Scope* around_;
    MemoryContext context_ = nullptr; // of what is collected
    Group* first_ = nullptr;
    Group* last_ = nullptr;
    int rows_ = 0;
    Size bytes_ = 0;
    int kept_ = 1; // so many times the usual share

    HeapTuple copy(HeapTuple tuple) {
        if (tuple == nullptr) {
            return nullptr;
        }
        bytes_ += tuple->t_len;
        return heap_copytuple(tuple);
    }
    Group* open_group(const PlanKey& key, Oid function);
};

Scope* Scope::current = nullptr;

// No scope: what fires while collected changes are being written is mirrored at once, as it may be undone with them.
class Outside {
  public:
    Outside() : saved_(Scope::current) { Scope::current = nullptr; }
    ~Outside() { Scope::current = saved_; }
    Outside(const Outside&) = delete;
    Outside& operator=(const Outside&) = delete;

  private:
    Scope* saved_;
};

bool same(const PlanKey& a, const PlanKey& b) {
    return a.mapping == b.mapping && a.direction == b.direction && a.source == b.source;
}

Group* Scope::open_group(const PlanKey& key, Oid function) {
    if (last_ != nullptr && same(last_->key, key)) {
        if (last_->count == last_->size) {
            last_->size *= 2;
            last_->changes = static_cast<Change*>(repalloc(last_->changes, sizeof(Change) * last_->size));
        }
        return last_;
    }
    auto* group = static_cast<Group*>(palloc(sizeof(Group)));
    constexpr int kFew = 8;
    *group = {key, function, 0, kFew, static_cast<Change*>(palloc(sizeof(Change) * kFew)), nullptr};
    (last_ != nullptr ? last_->next : first_) = group;
    last_ = group;
    return group;
}

void Scope::add(const PlanKey& key, Oid function, const Change& change) {
    call([&] {
        if (context_ == nullptr) {
            context_ = AllocSetContextCreate(TopTransactionContext, "pg_tandem mirrored rows", ALLOCSET_DEFAULT_SIZES);
        }
        const MemoryContext caller = MemoryContextSwitchTo(context_);
        Group* group = open_group(key, function);
        group->changes[group->count] = {change.kind, copy(change.before), copy(change.after)};
        group->count++;
        MemoryContextSwitchTo(caller);
    });
    if (++rows_ >= kMostRows * kept_ || bytes_ >= kMostBytes * kept_) {
        write(bytes_ + rows_ * sizeof(Change) >= kMostKept);
    }
}

// In the order in which they came: parents stand before their children. `last`: they cannot wait for others.
void Scope::write(bool last) {
    if (first_ == nullptr) {
        return;
    }
    const Outside outside;
    if (!mirror_groups(first_, rows_, last)) {
        kept_ *= 2;
        return;
    }
    kept_ = 1;
    first_ = last_ = nullptr;
    rows_ = 0;
    bytes_ = 0;
    MemoryContextReset(context_);
}

// Runs f, in which triggers fire, and then writes what they collected.
template <class F>
void within_scope(F&& f) {
    entry([&] {
        Scope scope;
        call(f);
        scope.write(true);
    });
}

bool fires_triggers(const QueryDesc* query) {
    return bulk_rows > 0 && (query->operation != CMD_SELECT || query->plannedstmt->hasModifyingCTE) &&
           query->estate != nullptr && (query->estate->es_top_eflags & EXEC_FLAG_SKIP_TRIGGERS) == 0;
}

void finish(QueryDesc* query) {
    if (previous_finish != nullptr) {
        previous_finish(query);
    } else {
        standard_ExecutorFinish(query);
    }
}

void on_finish(QueryDesc* query) {
    if (fires_triggers(query)) {
        within_scope([&] { finish(query); });
    } else {
        finish(query);
    }
}

void on_utility(PlannedStmt* statement, const char* query, bool read_only_tree, ProcessUtilityContext context,
                ParamListInfo params, QueryEnvironment* environment, DestReceiver* dest, QueryCompletion* completion) {
    const auto run = [&] {
        if (previous_utility != nullptr) {
            previous_utility(statement, query, read_only_tree, context, params, environment, dest, completion);
        } else {
            standard_ProcessUtility(statement, query, read_only_tree, context, params, environment, dest, completion);
        }
    };
    if (bulk_rows > 0 && IsA(statement->utilityStmt, CopyStmt) &&
        reinterpret_cast<CopyStmt*>(statement->utilityStmt)->is_from) {
        within_scope(run);
    } else {
        run();
    }
}

} // namespace

bool collect(const PlanKey& key, Oid function, const Change& change) {
    if (Scope::current == nullptr || bulk_rows == 0) {
        return false;
    }
    Scope::current->add(key, function, change);
    return true;
}

void write_collected() {
    if (Scope::current != nullptr) {
        Scope::current->write(true);
    }
}

void define_settings() {
    DefineCustomIntVariable("tandem.mirror_bulk_rows",
                            "From how many rows of a statement on the mirror writes them together.",
                            "0: every row by itself, as soon as its trigger fires, and by a statement.", &bulk_rows, 4,
                            0, kMostRows, PGC_USERSET, 0, nullptr, nullptr, nullptr);
}

void install_hooks() {
    previous_finish = ExecutorFinish_hook;
    ExecutorFinish_hook = on_finish;
    previous_utility = ProcessUtility_hook;
    ProcessUtility_hook = on_utility;
}

} // namespace pg::scope
