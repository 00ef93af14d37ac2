#include "pg/sandbox.hpp"

#include <csignal>

namespace pg {
namespace {

constexpr int kPatience = 5; // cancels that may be caught

volatile std::sig_atomic_t cancels = 0;

void on_timeout() {
    cancels = cancels + 1;
    kill(MyProcPid, cancels > kPatience ? SIGTERM : SIGINT);
}

TimeoutId timeout_id() {
    static bool registered = false;
    static TimeoutId id = USER_TIMEOUT;
    if (!registered) {
        id = RegisterTimeout(USER_TIMEOUT, on_timeout);
        registered = true;
    }
    return id;
}

} // namespace

TimeLimit::TimeLimit(int ms) : id_(timeout_id()) {
    cancels = 0;
    enable_timeout_every(id_, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms), ms);
}

bool TimeLimit::stop() {
    disable_timeout(id_, false);
    if (cancels > 0) {
        QueryCancelPending = false;
    }
    return cancels > 0;
}

const char* tell_error(const char* what, ErrorData* error, int timeout_ms) {
    if (error->sqlerrcode == ERRCODE_QUERY_CANCELED) {
        return psprintf("%s took longer than %d ms", what, timeout_ms);
    }
    return psprintf("%s failed: %s (%s)", what, error->message == nullptr ? "" : error->message,
                    unpack_sql_state(error->sqlerrcode));
}

} // namespace pg
