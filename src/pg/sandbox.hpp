// Asking somebody else's SQL a question: as that role, read only, for so long at most, and without anything that it
// does staying, be it by a function past the executor.
#pragma once

#include "pg/role.hpp"

namespace pg {

// A timer that cancels what takes too long, again and again; one that catches the cancel and goes on ends its process,
// as nothing else would.
class TimeLimit {
  public:
    explicit TimeLimit(int ms);
    // Whether it came. A cancel that came when all was done is nobody's.
    bool stop();

  private:
    TimeoutId id_;
};
static_assert(std::is_trivially_destructible_v<TimeLimit>, "it lives in frames that PostgreSQL may jump over");

namespace detail {
struct Asked {}; // thrown to leave the subtransaction, which is rolled back then
} // namespace detail

// Runs f connected to SPI, in a subtransaction that is rolled back whatever comes: f leaves its answer in memory of the
// caller's. nullptr, or the ERROR of the SQL that f ran, ERRCODE_QUERY_CANCELED where the time was over.
template <detail::Jumpable F>
ErrorData* in_sandbox(Oid role, int timeout_ms, F&& f) {
    ErrorData* error = nullptr;
    TimeLimit limit = call([&] { return TimeLimit(timeout_ms); });
    try {
        error = attempt([&] {
            ActAs as(role);
            XactReadOnly = true; // until the subtransaction ends
            if (SPI_connect() != SPI_OK_CONNECT) {
                elog(ERROR, "SPI_connect failed");
            }
            f();
            throw detail::Asked{};
        });
    } catch (const detail::Asked&) {
    } catch (...) {
        limit.stop();
        throw;
    }
    const bool late = limit.stop();
    if (error != nullptr && error->sqlerrcode == ERRCODE_QUERY_CANCELED && !late) {
        throw Error(error); // somebody else's
    }
    return error;
}

// What an error is called in a reason: "the query failed: ..." or "the query took longer than ...".
const char* tell_error(const char* what, ErrorData* error, int timeout_ms);

} // namespace pg
