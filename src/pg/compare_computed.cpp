#include "pg/compare_computed.hpp"

#include "pg/value_inline.hpp"

extern "C" {
#include "access/sysattr.h"
#include "utils/datum.h"
}

namespace pg::compare {

using tandem::Argument;
using tandem::Memo;

namespace {

// Longer results are computed each time.
constexpr std::size_t kLongestResult = 255;

// One byte for NULL, more for a value.
constexpr int kMostArguments = static_cast<int>(Argument::kLongest);

// Its stored columns; 0: what it says may depend on more than their bytes.
int find_arguments(Node* expression, AttrNumber* found) {
    Bitmapset* columns = nullptr;
    pull_varattnos(expression, 1, &columns);
    if (bms_num_members(columns) > kMostArguments) {
        return 0;
    }
    int count = 0;
    int column = -1;
    while ((column = bms_next_member(columns, column)) >= 0) {
        const auto attribute = static_cast<AttrNumber>(column + FirstLowInvalidHeapAttributeNumber);
        if (attribute <= 0) { // a whole row, or ctid and its like
            return 0;
        }
        found[count++] = attribute;
    }
    return count;
}

// The stored bytes of a value; 0: too long, or elsewhere. Its header is among them: pg_column_size() looks at it.
std::size_t image_size(Form_pg_attribute attribute, Datum value) {
    if (attribute->attbyval) {
        return sizeof(Datum);
    }
    const char* data = DatumGetPointer(value);
    if (attribute->attlen == -1) {
        return is_plain_varlena(data) ? VARSIZE_ANY(data) : 0;
    }
    return attribute->attlen > 0 ? static_cast<std::size_t>(attribute->attlen) : strlen(data) + 1;
}

// The columns one behind the other; where each ends can be told from its bytes. false: they are none to be looked up.
bool gather(const Computed* computed, const Datum* values, const bool* nulls, Argument& argument) {
    for (int i = 0; i < computed->arguments; i++) {
        const int column = computed->argument[i] - 1;
        const std::uint8_t mark = nulls[column] ? 1 : 2;
        if (argument.room() == 0) {
            return false;
        }
        argument.append(&mark, sizeof(mark));
        if (nulls[column]) {
            continue;
        }
        Form_pg_attribute attribute = TupleDescAttr(computed->desc, column);
        const std::size_t size = image_size(attribute, values[column]);
        if (size == 0 || size > argument.room()) {
            return false;
        }
        argument.append(
            attribute->attbyval ? static_cast<const void*>(&values[column]) : DatumGetPointer(values[column]), size);
    }
    return true;
}

bool is_keepable(const Computed* computed, Datum result) {
    return computed->by_value || ((computed->length != -1 || is_plain_varlena(DatumGetPointer(result))) &&
                                  datumGetSize(result, false, computed->length) <= kLongestResult);
}

Datum keep(Computed* computed, int place, const Argument& argument, Datum result, bool is_null) {
    Memo* memo = computed->memo;
    memo->forget(place); // until the result is there
    if (!computed->by_value && computed->results[place] != 0) {
        pfree(DatumGetPointer(computed->results[place]));
        computed->results[place] = 0;
    }
    if (is_null || is_keepable(computed, result)) {
        if (!is_null) {
            MemoryContext before = MemoryContextSwitchTo(computed->memory);
            computed->results[place] = datumCopy(result, computed->by_value, computed->length);
            MemoryContextSwitchTo(before);
        }
        computed->nulls[place] = is_null;
        memo->keep(place, argument);
    }
    return result;
}

} // namespace

int last_column(Node* expression, TupleDesc desc) {
    Bitmapset* columns = nullptr;
    pull_varattnos(expression, 1, &columns);
    int last = 0;
    int column = -1;
    while ((column = bms_next_member(columns, column)) >= 0) {
        const int attribute = column + FirstLowInvalidHeapAttributeNumber;
        last = attribute == 0 ? desc->natts : std::max(last, attribute);
    }
    return std::min(last, desc->natts);
}

Computed* make_computed(Node* expression, TupleDesc desc) {
    auto* computed = static_cast<Computed*>(palloc0(sizeof(Computed)));
    computed->state = ExecInitExpr(reinterpret_cast<Expr*>(expression), nullptr);
    computed->last = last_column(expression, desc);
    computed->desc = desc;
    computed->memory = CurrentMemoryContext;
    get_typlenbyval(exprType(expression), &computed->length, &computed->by_value);
    computed->argument = static_cast<AttrNumber*>(palloc(sizeof(AttrNumber) * kMostArguments));
    computed->arguments = find_arguments(expression, computed->argument);
    if (computed->arguments > 0) {
        computed->memo = new (palloc(sizeof(Memo))) Memo();
        computed->results = static_cast<Datum*>(palloc0(sizeof(Datum) * Memo::kPlaces));
        computed->nulls = static_cast<bool*>(palloc0(sizeof(bool) * Memo::kPlaces));
    }
    return computed;
}

Datum compute(Computed* computed, ExprContext* context, const Datum* values, const bool* nulls, bool* is_null) {
    Argument argument;
    if (computed->arguments == 0 || !computed->memo->is_awake() || !gather(computed, values, nulls, argument)) {
        return ExecEvalExpr(computed->state, context, is_null);
    }
    const int place = Memo::place_of(argument);
    if (computed->memo->holds(place, argument)) {
        *is_null = computed->nulls[place];
        return computed->results[place];
    }
    const Datum result = ExecEvalExpr(computed->state, context, is_null);
    return keep(computed, place, argument, result, *is_null);
}

} // namespace pg::compare
