// due_for(): the deadlines of a new task. A backend keeps the policies and their calendars; a trigger on both tables
// sends a relcache invalidation with the commit of a change.
#include "core/service_hours.hpp" // before PostgreSQL's headers

#include "pg/deadline.hpp"
#include "pg/invalidation.hpp"

extern "C" {
#include "common/int.h"
#include "pgtime.h"
#include "utils/array.h"
#include "utils/date.h"
#include "utils/numeric.h"
}

namespace pg::deadline {
namespace {

using task::kNone;

constexpr int64 kHorizon = INT64CONST(36525) * USECS_PER_DAY;
constexpr int32_t kMonday = 2; // 2000-01-03, as PostgreSQL counts days

struct Calendar {
    Calendar* next;
    text* name;
    pg_tz* zone;
    tandem::ServiceHours* hours;
};

struct Policy {
    text* kind; // nullptr: every other
    text* severity;
    int64 start_within; // 0: none
    int64 finish_within;
    double warn_ratio;
    int escalate_to; // -1: nothing
    bool shipped;
    const Calendar* calendar; // nullptr: the clock always runs
};

struct Policies {
    bool registered;
    bool valid;
    uint64 invalidations;
    Oid policies, calendars; // the tables
    MemoryContext context;
    int count;
    Policy* entries;
    Calendar* first_calendar; // their hours are C++ objects
};
Policies known{};

// Columns, as 13_sla.sql has them.
enum PolicyColumn { kKind = 1, kSeverity, kStartWithin, kFinishWithin, kWarnRatio, kEscalateTo, kCalendar, kShipped };
enum CalendarColumn { kName = 1, kTimezone, kHours, kHolidays, kOpen };

void on_invalidation(Datum, Oid relid) {
    if (relid == InvalidOid || relid == known.policies || relid == known.calendars) {
        known.valid = false;
        known.invalidations++;
    }
}

pg_time_t to_unix(std::int64_t time) {
    const int64 seconds = time / USECS_PER_SEC - (time % USECS_PER_SEC < 0 ? 1 : 0);
    return seconds + static_cast<int64>(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
}

tandem::ZoneOffset offset_at(const void* zone, std::int64_t utc) {
    const pg_time_t time = to_unix(utc);
    long before = 0;
    long after = 0;
    int is_summer = 0;
    int will_be_summer = 0;
    pg_time_t boundary = 0;
    const int found = pg_next_dst_boundary(&time, &before, &is_summer, &boundary, &after, &will_be_summer,
                                           static_cast<const pg_tz*>(zone));
    if (found <= 0) {
        return {found == 0 ? before * USECS_PER_SEC : 0, PG_INT64_MAX};
    }
    return {before * USECS_PER_SEC,
            (boundary - static_cast<int64>(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY) * USECS_PER_SEC};
}

TimestampTz add(TimestampTz start, int64 within, const Calendar* calendar) {
    int64 horizon = 0;
    int64 result = 0;
    if (pg_add_s64_overflow(start, kHorizon, &horizon)) {
        return kNone;
    }
    if (calendar != nullptr) {
        return calendar->hours->add_open_time(start, within, horizon, {offset_at, calendar->zone});
    }
    return pg_add_s64_overflow(start, within, &result) ? kNone : result;
}

// Of fixed length: a day has 24 hours here, and there are no months (check_due() sees to that).
int64 microseconds(Datum interval) {
    const Interval* value = DatumGetIntervalP(interval);
    return value->time + (value->day + INT64CONST(30) * value->month) * USECS_PER_DAY;
}

text* copy_text(Datum value) {
    return DatumGetTextPCopy(value);
}

struct Reader {
    Relation relation;
    HeapTuple tuple;
    bool isnull;
    Datum operator()(int column) {
        const Datum value = heap_getattr(tuple, column, RelationGetDescr(relation), &isnull);
        return isnull ? Datum{0} : value;
    }
};

Calendar* read_calendar(Reader& read) {
    auto* calendar = static_cast<Calendar*>(palloc0(sizeof(Calendar)));
    calendar->name = copy_text(read(kName));
    calendar->zone = pg_tzset(text_to_cstring(DatumGetTextPP(read(kTimezone))));
    ArrayType* open = DatumGetArrayTypePCopy(read(kOpen));
    ArrayType* holidays = DatumGetArrayTypePCopy(read(kHolidays));
    if (calendar->zone == nullptr || ARR_HASNULL(open) || ARR_HASNULL(holidays)) {
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("SLA calendar \"%s\" can't be read", text_to_cstring(calendar->name)),
                        errdetail("This server may not know its time zone."),
                        errhint("Make it again: SELECT tandem.sla_calendar(...).")));
    }
    const auto count = [](ArrayType* array) {
        return static_cast<std::size_t>(ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)));
    };
    const std::span hours(reinterpret_cast<const tandem::OpenHours*>(ARR_DATA_PTR(open)), count(open) / 2);
    const std::span days(reinterpret_cast<const std::int32_t*>(ARR_DATA_PTR(holidays)), count(holidays));
    calendar->hours = new tandem::ServiceHours(hours, days, kMonday);
    return calendar;
}

const Calendar* find_calendar(const text* name) {
    for (const Calendar* calendar = known.first_calendar; calendar != nullptr; calendar = calendar->next) {
        if (task::view(calendar->name) == task::view(name)) {
            return calendar;
        }
    }
    return nullptr;
}

void read_policy(Reader& read, Policy* policy) {
    const auto name = [&read](int column) {
        text* value = copy_text(read(column));
        return task::view(value) == "*" ? nullptr : value;
    };
    const auto within = [&read](int column) -> int64 {
        const Datum value = read(column);
        return read.isnull ? 0 : microseconds(value);
    };
    policy->kind = name(kKind);
    policy->severity = name(kSeverity);
    policy->start_within = within(kStartWithin);
    policy->finish_within = within(kFinishWithin);
    policy->warn_ratio = DatumGetFloat8(DirectFunctionCall1(numeric_float8, read(kWarnRatio)));
    const Datum escalate_to = read(kEscalateTo);
    const auto state = read.isnull ? std::nullopt : tandem::task_state(task::view(DatumGetTextPP(escalate_to)));
    policy->escalate_to = state ? static_cast<int>(*state) : -1;
    policy->shipped = DatumGetBool(read(kShipped));
    const Datum calendar = read(kCalendar);
    policy->calendar = read.isnull ? nullptr : find_calendar(DatumGetTextPP(calendar));
}

void forget() {
    for (Calendar* calendar = known.first_calendar; calendar != nullptr; calendar = calendar->next) {
        delete calendar->hours;
        calendar->hours = nullptr;
    }
    known.first_calendar = nullptr;
    known.count = 0;
    known.entries = nullptr;
    if (known.context == nullptr) {
        known.context = AllocSetContextCreate(TopMemoryContext, "pg_tandem SLA policies", ALLOCSET_SMALL_SIZES);
    }
    MemoryContextReset(known.context);
}

void load() {
    if (!known.registered) {
        watch_relations(on_invalidation);
        known.registered = true;
    }
    forget();
    const Oid schema = get_namespace_oid("tandem", false);
    known.policies = get_relname_relid("sla_policy", schema);
    known.calendars = get_relname_relid("sla_calendar", schema);
    Relation calendars = table_open(known.calendars, AccessShareLock);
    Relation policies = table_open(known.policies, AccessShareLock);
    const uint64 invalidations_before = known.invalidations;
    MemoryContext previous = MemoryContextSwitchTo(known.context);
    SysScanDesc scan = systable_beginscan(calendars, InvalidOid, false, nullptr, 0, nullptr);
    while (HeapTuple tuple = systable_getnext(scan)) {
        Reader read{calendars, tuple, false};
        Calendar* calendar = read_calendar(read);
        calendar->next = known.first_calendar;
        known.first_calendar = calendar;
    }
    systable_endscan(scan);
    int room = 16;
    known.entries = static_cast<Policy*>(palloc(sizeof(Policy) * static_cast<Size>(room)));
    scan = systable_beginscan(policies, InvalidOid, false, nullptr, 0, nullptr);
    while (HeapTuple tuple = systable_getnext(scan)) {
        if (known.count == room) {
            room *= 2;
            known.entries = static_cast<Policy*>(repalloc(known.entries, sizeof(Policy) * static_cast<Size>(room)));
        }
        Reader read{policies, tuple, false};
        read_policy(read, &known.entries[known.count]);
        known.count++;
    }
    systable_endscan(scan);
    known.valid = known.invalidations == invalidations_before; // all was read, and nothing changed meanwhile
    MemoryContextSwitchTo(previous);
    table_close(policies, AccessShareLock);
    table_close(calendars, AccessShareLock);
}

void be_current() {
    for (int tries = 0; !known.valid && tries < 10; tries++) {
        load();
    }
}

// The most particular one: the kind's own goes before the severity's, and the user's before the one that was shipped.
const Policy* find(const text* kind, const text* severity) {
    be_current();
    const Policy* best = nullptr;
    int best_rank = -1;
    for (int i = 0; i < known.count; i++) {
        const Policy& policy = known.entries[i];
        if ((policy.kind != nullptr && task::view(policy.kind) != task::view(kind)) ||
            (policy.severity != nullptr && task::view(policy.severity) != task::view(severity))) {
            continue;
        }
        const int rank =
            (policy.kind != nullptr ? 4 : 0) + (policy.severity != nullptr ? 2 : 0) + (policy.shipped ? 0 : 1);
        if (rank > best_rank) {
            best = &policy;
            best_rank = rank;
        }
    }
    return best;
}

} // namespace

Due due_for(text* kind, text* severity, TimestampTz created_at, TimestampTz run_at) {
    const Policy* policy = find(kind, severity);
    const TimestampTz start = std::max(created_at, run_at);
    Due due{};
    if (policy == nullptr || TIMESTAMP_NOT_FINITE(start)) {
        return due;
    }
    const auto set = [&](int64 within, TimestampTz& warn, TimestampTz& at) {
        if (within > 0) {
            at = add(start, within, policy->calendar);
            warn =
                policy->warn_ratio < 1
                    ? add(start, static_cast<int64>(static_cast<double>(within) * policy->warn_ratio), policy->calendar)
                    : at;
        }
    };
    set(policy->start_within, due.start_warn, due.start_due);
    set(policy->finish_within, due.finish_warn, due.finish_due);
    return due;
}

std::optional<tandem::TaskState> escalation_for(const text* kind, const text* severity) {
    const Policy* policy = find(kind, severity);
    if (policy == nullptr || policy->escalate_to < 0) {
        return std::nullopt;
    }
    return static_cast<tandem::TaskState>(policy->escalate_to);
}

} // namespace pg::deadline

// due_time(start timestamptz, within interval, calendar text) → timestamptz
TANDEM_FUNCTION(tandem_due_time) {
    return pg::entry([&]() -> Datum {
        using namespace pg::deadline;
        if (PG_ARGISNULL(0) || PG_ARGISNULL(1)) {
            PG_RETURN_NULL();
        }
        const Calendar* calendar = nullptr;
        if (!PG_ARGISNULL(2)) {
            be_current();
            calendar = find_calendar(PG_GETARG_TEXT_PP(2));
            if (calendar == nullptr) {
                ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                                errmsg("calendar \"%s\" does not exist", text_to_cstring(PG_GETARG_TEXT_PP(2))),
                                errhint("SELECT name FROM tandem.sla_calendar shows what there is.")));
            }
        }
        const TimestampTz start = PG_GETARG_TIMESTAMPTZ(0);
        const TimestampTz result =
            TIMESTAMP_NOT_FINITE(start) ? start : add(start, microseconds(PG_GETARG_DATUM(1)), calendar);
        if (!IS_VALID_TIMESTAMP(result) && !TIMESTAMP_NOT_FINITE(result)) {
            ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range")));
        }
        PG_RETURN_TIMESTAMPTZ(result);
    });
}
