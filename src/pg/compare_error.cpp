#include "pg/compare_error.hpp"

#include "pg/compare_careful.hpp"

namespace pg::compare {

ErrorData* find_failing_condition(const Comparison* comparison) {
    constexpr const char* kNames[kSides] = {"legacy_where", "new_where"};
    for (int side = 0; side < kSides; side++) {
        const SourceRequest& request = comparison->requests[side];
        if (request.condition == nullptr) {
            continue;
        }
        ErrorData* error = attempt([&] {
            const char* sql =
                psprintf(TANDEM_MADE_SQL "SELECT count(*) FROM %s WHERE (%s\n)", request.from, request.condition);
            if (SPI_execute(sql, true, 1) != SPI_OK_SELECT) {
                elog(ERROR, "could not ask the condition of %s", request.label);
            }
        });
        if (error == nullptr) {
            continue;
        }
        if (!is_rows_fault(error->sqlerrcode)) {
            throw Error(error);
        }
        call([&] {
            const char* what = psprintf("%s fails on a row of %s: %s", kNames[side], request.label, request.condition);
            error->detail = error->detail == nullptr ? pstrdup(what) : psprintf("%s\n%s", error->detail, what);
            if (error->hint == nullptr) {
                error->hint = pstrdup("Write the condition so that it fails on no row, by CASE for example.");
            }
        });
        return error;
    }
    return nullptr;
}

namespace {

// The functions between diff(), compare() and their like and this one.
bool is_own_line(const char* text) {
    constexpr const char* kOwn[] = {"tandem.execute_comparison(",    "tandem.compare_sources(",
                                    "tandem.compare_relations(",     "tandem.compare_queries(",
                                    "tandem.compare_counting(",      "\"compare_rows\"",
                                    "tandem.compare_query_counting("};
    return std::any_of(std::begin(kOwn), std::end(kOwn), [&](const char* own) { return strstr(text, own) != nullptr; });
}

// nullptr: nothing is to be said.
const char* context_from(ErrorContextCallback* callback) {
    ErrorContextCallback* const all = error_context_stack;
    error_context_stack = callback;
    const char* text = GetErrorContextStack();
    error_context_stack = all;
    return text;
}

const char* callers() {
    ErrorContextCallback* from = error_context_stack;
    while (from != nullptr) {
        ErrorContextCallback alone = *from;
        alone.previous = nullptr;
        const char* line = context_from(&alone);
        if (line == nullptr || !is_own_line(line)) {
            break;
        }
        from = from->previous;
    }
    return from == nullptr ? nullptr : context_from(from);
}

// What the error says of itself below the comparison: in which function of an expression it was, for example.
const char* below(const char* context) {
    if (context == nullptr) {
        return "";
    }
    char* own = pstrdup(context);
    const char* outer = context_from(error_context_stack);
    const std::size_t size = strlen(own);
    const std::size_t outer_size = outer == nullptr ? 0 : strlen(outer);
    if (outer_size > 0 && size >= outer_size && strcmp(own + size - outer_size, outer) == 0) {
        own[size - outer_size] = '\0';
    }
    if (char* made = strstr(own, TANDEM_MADE_SQL); made != nullptr) {
        while (made > own && made[-1] != '\n') { // "SQL statement ..." in whatever language
            made--;
        }
        *made = '\0';
    }
    const std::size_t rest = strlen(own);
    return rest > 0 && own[rest - 1] != '\n' ? psprintf("%s\n", own) : own;
}

} // namespace

void set_context(ErrorData* error, const Comparison* comparison) {
    const char* outer = callers();
    error->context =
        psprintf("%scomparison of %s with %s%s%s", below(error->context), comparison->requests[kLegacy].label,
                 comparison->requests[kNew].label, outer == nullptr ? "" : "\n", outer == nullptr ? "" : outer);
    error->cursorpos = 0; // in the SQL that was made
    error->internalpos = 0;
    error->internalquery = nullptr;
}

} // namespace pg::compare
