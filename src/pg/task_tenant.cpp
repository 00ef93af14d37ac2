// tenant: which tasks a session makes and sees. One rule, asked here by the functions and by the policies.
#include "pg/task.hpp"

#include "pg/task_settings.hpp"
#include "pg/invalidation.hpp"

extern "C" {
#include "utils/varlena.h"
}

namespace pg::task {

int payload_limit_kb = 1024;

namespace {

char* tenant_setting = nullptr;

// What was found for a user and a setting; forgotten when roles, levels or the setting change.
struct Known {
    bool valid;
    Oid user;
    Scope scope;
};
Known known{};
Oid grant_relation = InvalidOid;
bool registered = false;

constexpr std::string_view kSeeAll[] = {"viewer", "operator", "oncall", "admin"};

void on_role_change(Datum, int, uint32) {
    known.valid = false;
}
void on_invalidation(Datum, Oid relid) {
    if (relid == InvalidOid || relid == grant_relation) {
        known.valid = false;
    }
}
void on_setting(const char*, void*) {
    known.valid = false;
}

bool check_setting(char** value, void**, GucSource) {
    if (*value != nullptr && strlen(*value) > kLongestTenant) {
        GUC_check_errdetail("A tenant's name has at most %d bytes.", kLongestTenant);
        return false;
    }
    return true;
}

bool has_level_to_see_all(Oid user) {
    const Oid schema = get_namespace_oid("tandem", false);
    grant_relation = get_relname_relid("role_grant", schema);
    Relation grants = table_open(grant_relation, AccessShareLock);
    SysScanDesc scan = systable_beginscan(grants, InvalidOid, false, nullptr, 0, nullptr);
    bool found = false;
    while (HeapTuple tuple = systable_getnext(scan)) {
        bool isnull = false;
        const char* role = NameStr(*DatumGetName(heap_getattr(tuple, 1, RelationGetDescr(grants), &isnull)));
        const std::string_view level = view(DatumGetTextPP(heap_getattr(tuple, 2, RelationGetDescr(grants), &isnull)));
        if (std::find(std::begin(kSeeAll), std::end(kSeeAll), level) == std::end(kSeeAll)) {
            continue;
        }
        const Oid member_of = get_role_oid(role, true);
        if (member_of != InvalidOid && is_member_of_role(user, member_of)) {
            found = true;
            break;
        }
    }
    systable_endscan(scan);
    table_close(grants, AccessShareLock);
    return found;
}

} // namespace

void check_tenant(std::string_view tenant) {
    // A name longer than a role's can be none.
    if (tenant.empty() || tenant.size() >= NAMEDATALEN) {
        return;
    }
    char name[NAMEDATALEN] = {};
    memcpy(name, tenant.data(), tenant.size());
    const Oid role = get_role_oid(name, true);
    if (role != InvalidOid && !is_member_of_role(GetUserId(), role)) {
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for tenant \"%s\"", name),
                        errdetail("Role \"%s\" exists, and role \"%s\" is no member of it.", name,
                                  GetUserNameFromId(GetUserId(), false)),
                        errhint("RESET tandem.tenant; or GRANT the tenant's role to the session's.")));
    }
}

Scope current_scope() {
    const Oid user = GetUserId();
    if (known.valid && known.user == user) {
        return known.scope;
    }
    if (!registered) {
        CacheRegisterSyscacheCallback(AUTHOID, on_role_change, Datum{0});
        CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, on_role_change, Datum{0});
        watch_relations(on_invalidation);
        registered = true;
    }
    Scope scope{};
    known.user = InvalidOid; // an ERROR leaves nothing known
    known.valid = true;      // an invalidation that arrives meanwhile takes that back
    if (tenant_setting != nullptr && tenant_setting[0] != '\0') {
        scope.only = tenant_setting;
        check_tenant(scope.only);
    } else {
        scope.all = superuser_arg(user) || has_level_to_see_all(user);
    }
    known.user = user;
    known.scope = scope;
    return scope;
}

void define_settings() {
    DefineCustomStringVariable(
        "tandem.tenant", "The tenant whose tasks the session makes and sees.",
        "Empty: superusers and members of the levels viewer, operator, oncall and admin see all tasks, "
        "anyone else those without a tenant. Where a role of the tenant's name exists, only its "
        "members may use it.",
        &tenant_setting, "", PGC_USERSET, 0, check_setting, on_setting, nullptr);
    DefineCustomIntVariable("tandem.task_payload_limit", "The largest payload or result that a task may have.", nullptr,
                            &payload_limit_kb, 1024, 1, 512 * 1024, PGC_SUSET, GUC_UNIT_KB, nullptr, nullptr, nullptr);
}

} // namespace pg::task

// The policy's question. STABLE: roles and settings do not change within a statement.
TANDEM_FUNCTION(tandem_sees_tenant) {
    return pg::entry([&]() -> Datum {
        const pg::task::Scope scope = pg::task::current_scope();
        PG_RETURN_BOOL(scope.all || pg::task::is_visible(scope, PG_GETARG_TEXT_PP(0)));
    });
}
