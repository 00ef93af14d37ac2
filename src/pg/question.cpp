// ask(): questions that a user wrote, all under one snapshot, asked in the sandbox.
#include "pg/sandbox.hpp"

namespace pg {
namespace {

struct Questions {
    Oid role;
    int count;
    Datum* queries;
    Datum* labels; // what each is called in a reason
    int timeout_ms;
};

struct Answers {
    int asked; // questions that were begun
    Datum* texts;
    bool* nulls;
    const char* reason; // what was wrong with the last of them; nullptr: nothing
};

Datum* texts_of(ArrayType* array, int* count) {
    Datum* values = nullptr;
    bool* nulls = nullptr;
    deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, count);
    for (int i = 0; i < *count; i++) {
        if (nulls[i]) {
            ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("a question must not be null")));
        }
    }
    return values;
}

// One snapshot for all: SPI takes the active one where it only reads.
void ask_all(const Questions& questions, MemoryContext outer, Answers* answers) {
    PushActiveSnapshot(GetTransactionSnapshot());
    for (int i = 0; i < questions.count; i++) {
        answers->asked = i + 1;
        const int code = SPI_execute(TextDatumGetCString(questions.queries[i]), true, 2);
        if (code != SPI_OK_SELECT || SPI_processed != 1 || SPI_tuptable->tupdesc->natts != 1) {
            ereport(ERROR,
                    (errcode(ERRCODE_CARDINALITY_VIOLATION), errmsg("a question is a SELECT of one row and column")));
        }
        const char* text = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
        if (text != nullptr) {
            const MemoryContext inner = MemoryContextSwitchTo(outer);
            answers->texts[i] = CStringGetTextDatum(text);
            answers->nulls[i] = false;
            MemoryContextSwitchTo(inner);
        }
        SPI_freetuptable(SPI_tuptable);
    }
}

Datum ask(FunctionCallInfo fcinfo) {
    Questions questions{};
    Answers answers{};
    call([&] {
        int labels = 0;
        questions.role = get_role_oid(NameStr(*PG_GETARG_NAME(0)), true);
        questions.queries = texts_of(PG_GETARG_ARRAYTYPE_P(1), &questions.count);
        questions.labels = texts_of(PG_GETARG_ARRAYTYPE_P(2), &labels);
        if (labels != questions.count) {
            ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR), errmsg("each question has a label")));
        }
        questions.timeout_ms = std::max(PG_GETARG_INT32(3), 1);
        answers.texts = static_cast<Datum*>(palloc0(sizeof(Datum) * (labels + 1)));
        answers.nulls = static_cast<bool*>(palloc(sizeof(bool) * (labels + 1)));
        memset(answers.nulls, true, labels + 1);
    });
    if (!OidIsValid(questions.role)) {
        answers.reason = "the role that owns the run is gone";
    } else {
        const MemoryContext outer = CurrentMemoryContext;
        ErrorData* error =
            in_sandbox(questions.role, questions.timeout_ms, [&] { ask_all(questions, outer, &answers); });
        if (error != nullptr) {
            call([&] {
                answers.reason = tell_error(TextDatumGetCString(questions.labels[std::max(answers.asked, 1) - 1]),
                                            error, questions.timeout_ms);
            });
        }
    }

    return call([&] {
        TupleDesc desc = nullptr;
        if (get_call_result_type(fcinfo, nullptr, &desc) != TYPEFUNC_COMPOSITE) {
            elog(ERROR, "return type must be a row type");
        }
        int size[1] = {questions.count};
        int from[1] = {1};
        Datum values[2] = {PointerGetDatum(construct_md_array(answers.texts, answers.nulls, 1, size, from, TEXTOID, -1,
                                                              false, TYPALIGN_INT)),
                           answers.reason == nullptr ? Datum{0} : CStringGetTextDatum(answers.reason)};
        bool nulls[2] = {false, answers.reason == nullptr};
        return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
    });
}

} // namespace
} // namespace pg

TANDEM_FUNCTION(tandem_ask) {
    return pg::entry([&] { return pg::ask(fcinfo); });
}
