// Acting for another role: a user's SQL never runs with more rights than that user has.
#pragma once

#include "pg/prelude.hpp"

namespace pg {

// Switches to `role` for the life of the object, with the settings pinned on which the text of a value or the meaning
// of a name depends. Released on success only; after an ERROR the transaction's abort puts the user and the settings
// back.
//
// Writes into mapped tables go with the flags that PostgreSQL's own foreign keys use for their cascades: a deferred
// trigger may be queued. Everything else is a security-restricted operation. FORCE ROW LEVEL SECURITY does not bind the
// owner here, as a mirror or a validation that sees only some rows would be wrong without a word.
class ActAs {
  public:
    enum class Mode { restricted, write, write_settled }; // settled: nothing that is run hangs on settings
    explicit ActAs(Oid role, Mode mode = Mode::restricted);
    void release();

  private:
    Oid saved_user_;
    int saved_security_;
    int guc_level_;
};
static_assert(std::is_trivially_destructible_v<ActAs>, "it lives in frames that PostgreSQL may jump over");

// The body of query_as(role name, query text, ...): the rows of the query, read or written as the role.
Datum query_as(FunctionCallInfo fcinfo, ActAs::Mode mode);

// The owner of the function that is being called: the extension's owner, for our own.
Oid function_owner(Oid function);

} // namespace pg
