#include "pg/task_answer.hpp"

#include "pg/task_settings.hpp"

extern "C" {
#include "access/detoast.h"
#include "utils/jsonb.h"
}

namespace pg::task {

void null_argument(const char* what, const char* hint) {
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be NULL", what), errhint("%s", hint)));
    pg_unreachable();
}

tandem::TaskState parse_state(const text* name) {
    const std::optional<tandem::TaskState> state = tandem::task_state(view(name));
    if (!state) {
        const int shown = pg_mbcliplen(VARDATA_ANY(name), static_cast<int>(VARSIZE_ANY_EXHDR(name)), 100);
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown state \"%.*s\"", shown, VARDATA_ANY(name)),
                 errhint("States are: pending, claimed, running, done, failed, dead, escalated, cancelled.")));
    }
    return *state;
}

void check_patch(Datum patch) {
    if (patch != Datum{0} && !JB_ROOT_IS_OBJECT(DatumGetJsonbP(patch))) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a patch must be a JSON object"),
                        errdetail("Its keys are merged into the payload, as by the operator ||."),
                        errhint("For example: '{\"progress\": 40}'")));
    }
}

Datum merge(Datum payload, Datum patch) {
    if (patch == Datum{0} || JB_ROOT_COUNT(DatumGetJsonbP(patch)) == 0) {
        return payload;
    }
    return DirectFunctionCall2(jsonb_concat, payload, patch);
}

std::size_t bytes_over_limit(Datum payload) {
    const std::size_t limit = static_cast<std::size_t>(payload_limit_kb) * 1024;
    const std::size_t size = toast_raw_datum_size(payload);
    return size > limit ? size - limit : 0;
}

void check_limit(const char* what, Datum payload) {
    if (const std::size_t over = bytes_over_limit(payload); over > 0) {
        ereport(ERROR,
                (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the %s of a task is too large", what),
                 errdetail("It has %zu bytes; tandem.task_payload_limit allows %zu.",
                           over + static_cast<std::size_t>(payload_limit_kb) * 1024,
                           static_cast<std::size_t>(payload_limit_kb) * 1024),
                 errhint("Keep large data in a table of your own, and its key in the task; or raise the setting.")));
    }
}

Datum make_record(TupleDesc* known, std::span<const OutColumn> columns, const Datum* values, const bool* nulls) {
    if (*known == nullptr) {
        const MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
        TupleDesc desc = CreateTemplateTupleDesc(static_cast<int>(columns.size()));
        for (std::size_t i = 0; i < columns.size(); i++) {
            TupleDescInitEntry(desc, static_cast<AttrNumber>(i + 1), columns[i].name, columns[i].type, -1, 0);
        }
        *known = BlessTupleDesc(desc);
        MemoryContextSwitchTo(caller);
    }
    return HeapTupleGetDatum(heap_form_tuple(*known, const_cast<Datum*>(values), const_cast<bool*>(nulls)));
}

} // namespace pg::task
