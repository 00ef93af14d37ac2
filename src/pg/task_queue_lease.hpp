// Leases: who works on a task, until when, and what becomes of it then.
#pragma once

#include "pg/task_queue.hpp"

namespace pg::queue {

inline constexpr int kLongestWorker = 256; // bytes

// The worker's name in argument `number`: neither NULL nor empty nor too long.
text* get_worker(FunctionCallInfo fcinfo, int number, const char* hint);
// now + lease; an error unless that is after now and within a year.
TimestampTz lease_end(TimestampTz now, Interval* lease, const char* hint);
int64 next_lease_token();
// {"worker": ..., "lease_token": ...} for an event.
Datum lease_evidence(text* worker, int64 token);

// Takes a task back whose lease has expired: it can be claimed again, or is dead when its attempts are used up. False: there is
// nothing to take back. In a transaction, with a snapshot.
bool rescue(const pg_uuid_t& id);
// The same for all of them, at most `limit`. Answers how many.
int64 rescue_expired(int64 limit);
// ... unless this session did it within the last second (longer where there are many deadlines to read).
int64 rescue_now_and_then(TimestampTz now);

} // namespace pg::queue
