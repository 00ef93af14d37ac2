// Locks of our own, for SQL: on one row's number of one of our tables, until the transaction ends.
//
// Not advisory locks: anybody who may connect can hold those, and so could keep a run from being compared, with its
// health saying that a round is being made. The tag is that of an object of one of our tables, which no SQL statement
// locks; what takes it is executable by nobody but the extension's owner.
#include "pg/prelude.hpp"

extern "C" {
#include "storage/lmgr.h"
}

namespace pg {
namespace {

// (what regclass, id integer, shared boolean)
bool take_lock(FunctionCallInfo fcinfo, bool wait) {
    LOCKTAG tag;
    SET_LOCKTAG_OBJECT(tag, MyDatabaseId, PG_GETARG_OID(0), static_cast<Oid>(PG_GETARG_INT32(1)), 0);
    return LockAcquire(&tag, PG_GETARG_BOOL(2) ? ShareLock : ExclusiveLock, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

} // namespace
} // namespace pg

TANDEM_FUNCTION(tandem_take_lock) {
    return pg::entry([&]() -> Datum {
        (void)pg::take_lock(fcinfo, true);
        PG_RETURN_VOID();
    });
}

TANDEM_FUNCTION(tandem_try_lock) {
    return pg::entry([&]() -> Datum { PG_RETURN_BOOL(pg::take_lock(fcinfo, false)); });
}
