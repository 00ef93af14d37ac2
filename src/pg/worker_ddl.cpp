// Keeps the workers out of the way of DROP DATABASE and its like, which wait for every session of the database to
// leave: a coordinator is stopped before core looks, and comes back a little later if the database is still there.
#include "pg/worker.hpp"

namespace pg::worker {
namespace {

constexpr int kHoldSeconds = 10;

ProcessUtility_hook_type previous_hook = nullptr;

// The database that the statement needs empty, or nullptr.
const char* database_to_empty(Node* statement) {
    switch (nodeTag(statement)) {
    case T_DropdbStmt:
        return reinterpret_cast<DropdbStmt*>(statement)->dbname;
    case T_RenameStmt: {
        auto* rename = reinterpret_cast<RenameStmt*>(statement);
        return rename->renameType == OBJECT_DATABASE ? rename->subname : nullptr;
    }
    case T_AlterDatabaseStmt: {
        auto* alter = reinterpret_cast<AlterDatabaseStmt*>(statement);
        ListCell* cell = nullptr;
        foreach (cell, alter->options) {
            if (strcmp(lfirst_node(DefElem, cell)->defname, "tablespace") == 0) {
                return alter->dbname;
            }
        }
        return nullptr;
    }
    case T_CreatedbStmt: {
        ListCell* cell = nullptr;
        foreach (cell, reinterpret_cast<CreatedbStmt*>(statement)->options) {
            DefElem* option = lfirst_node(DefElem, cell);
            if (strcmp(option->defname, "template") == 0 && option->arg != nullptr) {
                return defGetString(option);
            }
        }
        return nullptr;
    }
    default:
        return nullptr;
    }
}

// Only for who may do it at all: else anybody could stop a worker by a statement that is refused anyway.
bool may_empty(Oid database) {
#if PG_VERSION_NUM >= 160000
    return object_ownercheck(DatabaseRelationId, database, GetUserId());
#else
    return pg_database_ownercheck(database, GetUserId());
#endif
}

void before_utility(PlannedStmt* statement) {
    if (shared == nullptr || statement->utilityStmt == nullptr || RecoveryInProgress()) {
        return;
    }
    const char* name = database_to_empty(statement->utilityStmt);
    if (name == nullptr) {
        return;
    }
    const Oid database = get_database_oid(name, true);
    if (OidIsValid(database) && may_empty(database)) {
        stop_database(database, kHoldSeconds);
    }
}

void on_utility(PlannedStmt* statement, const char* query, bool read_only_tree, ProcessUtilityContext context,
                ParamListInfo params, QueryEnvironment* environment, DestReceiver* dest, QueryCompletion* completion) {
    before_utility(statement);
    if (previous_hook != nullptr) {
        previous_hook(statement, query, read_only_tree, context, params, environment, dest, completion);
    } else {
        standard_ProcessUtility(statement, query, read_only_tree, context, params, environment, dest, completion);
    }
}

} // namespace

void install_utility_hook() {
    previous_hook = ProcessUtility_hook;
    ProcessUtility_hook = on_utility;
}

} // namespace pg::worker
