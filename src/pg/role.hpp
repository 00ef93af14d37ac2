// Acting for another role: a user's SQL never runs with more rights than that user has.
#pragma once

#include "pg/prelude.hpp"

namespace pg {

// Switches to `role` for the life of the object, with the settings pinned on which the text of a value or the meaning of a
// name depends. Released on success only; after an ERROR the transaction's abort puts the user and the settings back.
//
// `restricted` adds SECURITY_RESTRICTED_OPERATION, under which deferred triggers cannot be queued: a mirror that writes into a
// table with a deferred constraint goes without it.
class ActAs {
  public:
    explicit ActAs(Oid role, bool restricted = true);
    void release();

  private:
    Oid saved_user_;
    int saved_security_;
    int guc_level_;
};
static_assert(std::is_trivially_destructible_v<ActAs>, "it lives in frames that PostgreSQL may jump over");

// The body of query_as(role name, query text, ...): the rows of the query, read or written as the role.
Datum query_as(FunctionCallInfo fcinfo);

// The owner of the function that is being called: the extension's owner, for our own.
Oid function_owner(Oid function);

} // namespace pg
