// State files: core finds the records in them, PostgreSQL's own parser judges each, SQL makes tasks of them
// (14_state_json.sql).
//
// jsonb's input raises an ERROR for what it refuses, and PostgreSQL 15 knows no other way. A subtransaction for each
// record would cost more than reading it; so hundreds of records share one, and where that fails they are judged again
// one by one. The cleaner in core has refused nearly all that could fail, so this is rare.
#include "core/json_clean.hpp"
#include "core/json_documents.hpp"

#include <deque>

#include "pg/prelude.hpp"

#include "pg/task.hpp"
#include "pg/task_answer.hpp"

extern "C" {
#include "utils/jsonb.h"
}

namespace pg {
namespace {

constexpr std::size_t kStep = 4 << 20; // bytes between two looks at interrupts
constexpr std::size_t kMostOfBatch = 256;
constexpr std::size_t kLargestOfBatch = 1 << 20;

// A token as it was prepared by Report::token(): text as it is, or an object that holds it.
struct Token {
    std::string_view text;
    bool json;
};

// One row of the answer. What it points to lives until the row is put out.
struct Row {
    const char* verdict; // saved, repaired, lost, skipped
    std::string_view reason;
    Token name;
    Token id;
    std::string_view json; // record: what is parsed
    int64 offset;
    int64 length;
    Datum document; // jsonb; 0: none
};
static_assert(std::is_trivially_copyable_v<Row>);

// Text of the file for a report: it may be in any encoding, and may be very long.
Datum shown(std::string_view bytes) {
    constexpr std::size_t kLongest = 2000;
    const std::size_t size = bytes.size() < kLongest ? bytes.size() : kLongest;
    const int whole = pg_encoding_verifymbstr(PG_UTF8, bytes.data(), static_cast<int>(size));
    char* converted = pg_any_to_server(pnstrdup(bytes.data(), static_cast<Size>(whole)), whole, PG_UTF8);
    return CStringGetTextDatum(converted);
}

Datum parse(std::string_view json) {
    auto* text = static_cast<char*>(palloc_extended(json.size() + 1, MCXT_ALLOC_HUGE));
    std::memcpy(text, json.data(), json.size());
    text[json.size()] = '\0';
    char* converted =
        GetDatabaseEncoding() == PG_UTF8 ? text : pg_any_to_server(text, static_cast<int>(json.size()), PG_UTF8);
    return DirectFunctionCall1(jsonb_in, CStringGetDatum(converted));
}

Datum token_text(const Token& token, bool& null) {
    null = token.text.empty();
    if (null) {
        return Datum{0};
    }
    if (!token.json) {
        return shown(token.text);
    }
    return DirectFunctionCall2(jsonb_object_field_text, parse(token.text), PointerGetDatum(cstring_to_text("")));
}

class Report {
  public:
    explicit Report(const ReturnSetInfo* result) : result_(result) {}

    void add(const Row& row) {
        rows_.push_back(row);
        bytes_ += row.json.size();
        if (rows_.size() == kMostOfBatch || bytes_ > kLargestOfBatch) {
            flush();
        }
    }
    // Text that must live until the next flush.
    std::string_view keep(std::string text) {
        texts_.push_back(std::move(text));
        return texts_.back();
    }

    // A string of the file may have escapes, and bytes that are no text.
    Token token(std::string_view raw) {
        if (raw.size() < 2 || raw.front() != '"') {
            return {raw, false};
        }
        const std::string_view inner = raw.substr(1, raw.size() - 2);
        const auto plain = [](char c) { return c >= ' ' && c <= '~' && c != '\\'; };
        if (std::all_of(inner.begin(), inner.end(), plain)) {
            return {inner, false};
        }
        constexpr std::size_t kLongest = 100'000;
        std::string object = "{\"\":" + std::string(raw.substr(0, kLongest)) + "}";
        tandem::CleanJson clean = tandem::clean_json(object, false);
        if (!clean.ok) {
            return {};
        }
        return {keep(clean.repairs != 0 ? std::move(clean.text) : std::move(object)), true};
    }

    void flush() {
        if (memory_ == nullptr) {
            memory_ = call(
                [] { return AllocSetContextCreate(CurrentMemoryContext, "state records", ALLOCSET_DEFAULT_SIZES); });
        }
        const std::span<Row> rows(rows_);
        if (!judge(rows)) {
            for (Row& row : rows) {
                (void)judge({&row, 1});
            }
        }
        call([&] {
            const MemoryContext before = MemoryContextSwitchTo(memory_);
            for (const Row& row : rows) {
                put(row);
            }
            MemoryContextSwitchTo(before);
            MemoryContextReset(memory_);
            CHECK_FOR_INTERRUPTS();
        });
        rows_.clear();
        texts_.clear();
        bytes_ = 0;
    }

  private:
    // false: one of several was refused; none of them has a document.
    bool judge(std::span<Row> rows) {
        const MemoryContext memory = memory_;
        const ErrorData* error = attempt([&] {
            const MemoryContext before = MemoryContextSwitchTo(memory);
            for (Row& row : rows) {
                if (!row.json.empty()) {
                    row.document = parse(row.json);
                }
                bool null = false;
                (void)token_text(row.name, null);
                (void)token_text(row.id, null);
            }
            MemoryContextSwitchTo(before);
        });
        if (error == nullptr) {
            return true;
        }
        if (rows.size() > 1) {
            return false;
        }
        Row& row = rows[0];
        const auto category = ERRCODE_TO_CATEGORY(error->sqlerrcode);
        if (category == ERRCODE_OPERATOR_INTERVENTION || category == ERRCODE_INSUFFICIENT_RESOURCES) {
            call([&] { ReThrowError(const_cast<ErrorData*>(error)); });
        }
        row.verdict = "lost";
        row.json = {};
        row.name = {}; // it may have been they
        row.id = {};
        row.document = 0;
        row.reason = error->message;
        if (error->detail != nullptr) {
            row.reason = keep(std::string(error->message) + ": " + error->detail);
        }
        return true;
    }

    void put(const Row& row) {
        Datum values[7];
        bool nulls[7] = {};
        values[0] = Int64GetDatum(row.offset);
        values[1] = Int64GetDatum(row.length);
        values[2] = CStringGetTextDatum(row.verdict);
        values[3] = PointerGetDatum(cstring_to_text_with_len(row.reason.data(), static_cast<int>(row.reason.size())));
        nulls[3] = row.reason.empty();
        values[4] = token_text(row.name, nulls[4]);
        values[5] = token_text(row.id, nulls[5]);
        values[6] = row.document;
        nulls[6] = row.document == 0;
        tuplestore_putvalues(result_->setResult, result_->setDesc, values, nulls);
    }

    const ReturnSetInfo* result_;
    std::vector<Row> rows_;
    std::deque<std::string> texts_;
    std::size_t bytes_ = 0;
    MemoryContext memory_ = nullptr;
};

// Where a piece of the text stands in the file: the same, unless the file is UTF-16.
class Places {
  public:
    Places(std::string_view text, bool utf16) : text_(text), utf16_(utf16) {}
    std::size_t operator()(std::size_t at) { // ascending
        if (!utf16_) {
            return at;
        }
        file_ += tandem::utf16_size(text_.substr(at_, at - at_));
        at_ = at;
        return file_;
    }

  private:
    std::string_view text_;
    std::size_t at_ = 0;
    std::size_t file_ = 0;
    bool utf16_;
};

void state_records(FunctionCallInfo fcinfo) {
    const bytea* file = call([&] {
        InitMaterializedSRF(fcinfo, 0);
        return PG_GETARG_BYTEA_PP(0);
    });
    const std::string_view bytes(VARDATA_ANY(file), VARSIZE_ANY_EXHDR(file));
    bool big_endian = false;
    const bool utf16 = tandem::is_utf16(bytes, big_endian);
    std::string converted;
    if (utf16) {
        converted = tandem::utf16_to_utf8(bytes, big_endian);
    }
    const std::string_view text = utf16 ? std::string_view(converted) : bytes;

    tandem::JsonScanner scanner(text);
    while (scanner.scan(kStep)) {
        call([] { CHECK_FOR_INTERRUPTS(); });
    }
    const std::vector<tandem::JsonPart> parts = scanner.parts();
    Places place(text, utf16);
    Report report(reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo));
    for (const tandem::JsonPart& part : parts) {
        if (part.kind == tandem::JsonPart::Kind::structure) {
            continue;
        }
        const std::string_view raw = text.substr(part.begin, part.end - part.begin);
        Row row{};
        row.offset = static_cast<int64>(place(part.begin));
        row.length = static_cast<int64>(place(part.end)) - row.offset;
        row.name = report.token(text.substr(part.name_begin, part.name_end - part.name_begin));
        row.id = report.token(text.substr(part.id_begin, part.id_end - part.id_begin));
        if (part.kind == tandem::JsonPart::Kind::record) {
            tandem::CleanJson clean = tandem::clean_json(raw, part.unclosed);
            row.verdict = !clean.ok ? "lost" : clean.repairs != 0 ? "repaired" : "saved";
            row.reason = !clean.ok            ? std::string_view(clean.reason)
                         : clean.repairs != 0 ? report.keep(tandem::describe_repairs(clean.repairs))
                                              : std::string_view();
            row.json = !clean.ok ? std::string_view() : clean.repairs != 0 ? report.keep(std::move(clean.text)) : raw;
            row.id = {};
        } else {
            row.verdict = part.kind == tandem::JsonPart::Kind::lost ? "lost" : "skipped";
            row.reason = part.reason;
            row.name = {};
        }
        report.add(row);
    }
    if (utf16 && bytes.size() % 2 != 0) {
        Row row{};
        row.verdict = "lost";
        row.reason = "half of a character";
        row.offset = static_cast<int64>(bytes.size()) - 1;
        row.length = 1;
        report.add(row);
    }
    report.flush();
}

// --- one task of a file into the table

// tandem.import_task(task tandem.task, grace interval, evidence jsonb): NULL, or why it was left as it is.
Datum import_task(FunctionCallInfo fcinfo) {
    using namespace task;
    HeapTupleHeader header = PG_GETARG_HEAPTUPLEHEADER(0);
    const auto get = [&](const char* name, bool& null) { return GetAttributeByName(header, name, &null); };
    bool null = false;
    const auto time = [&](const char* name) {
        const Datum value = get(name, null);
        return null ? kNone : DatumGetTimestampTz(value);
    };
    const auto string = [&](const char* name) -> text* {
        const Datum value = get(name, null);
        return null ? nullptr : DatumGetTextPP(value);
    };
    const auto small = [&](const char* name) { return DatumGetInt16(get(name, null)); };

    task::Row row{};
    row.id = *DatumGetUUIDP(get("id", null));
    row.version = DatumGetInt64(get("version", null));
    row.created_at = time("created_at");
    row.updated_at = time("updated_at");
    row.run_at = time("run_at");
    row.priority = small("priority");
    row.attempt = small("attempt");
    row.max_attempts = small("max_attempts");
    row.state = parse_state(string("state"));
    row.kind = string("kind");
    row.severity = string("severity");
    row.tenant = string("tenant");
    row.owner = string("owner");
    row.payload = get("payload", null);
    row.idem_key = string("idem_key");
    row.started_at = time("started_at");
    row.finished_at = time("finished_at");
    row.worker = string("worker");
    row.lease_until = time("lease_until");
    const Datum token = get("lease_token", null);
    row.lease_token = null ? 0 : DatumGetInt64(token);
    const Datum result = get("result", null);
    row.result = null ? Datum{0} : result;

    Note note{"task_import"};
    note.evidence = PG_ARGISNULL(1) ? Datum{0} : PG_GETARG_DATUM(1);
    const pg_uuid_t id = row.id;
    task::Row wanted = row;
    if (insert(row, note)) {
        PG_RETURN_NULL();
    }
    if (memcmp(&row.id, &id, sizeof id) != 0) {
        PG_RETURN_TEXT_P(cstring_to_text("another task has its idempotency key"));
    }
    struct {
        const char* refused;
    } answer{nullptr};
    const Outcome outcome = change(id, Wait::block, note, [&](const task::Row& before, task::Row& after) {
        answer.refused = nullptr;
        if (before.version >= wanted.version) {
            answer.refused = "the task has this version, or a later one, already";
        } else if (view(before.kind) != view(wanted.kind) || view(before.tenant) != view(wanted.tenant)) {
            answer.refused = "the task is of another kind or tenant";
        } else if (before.state != wanted.state &&
                   !tandem::is_legal(kind_of(before.kind).transitions, before.state, wanted.state)) {
            answer.refused = "its state cannot be reached from the task's state";
        }
        if (answer.refused != nullptr) {
            return Decision::leave;
        }
        const TimestampTz updated_at = after.updated_at;
        move_to(after, wanted.state, updated_at);
        after.version = wanted.version;
        after.payload = wanted.payload;
        after.result = wanted.result;
        after.attempt = wanted.attempt;
        after.worker = wanted.worker;
        after.lease_token = wanted.lease_token;
        after.lease_until = wanted.lease_until;
        after.run_at = wanted.run_at;
        after.started_at = wanted.started_at == kNone ? after.started_at : wanted.started_at;
        after.finished_at =
            tandem::is_finished(wanted.state) && wanted.finished_at != kNone ? wanted.finished_at : after.finished_at;
        return Decision::write;
    });
    if (outcome == Outcome::missing) {
        answer.refused = "the task belongs to a tenant that this session does not see";
    }
    if (answer.refused == nullptr) {
        PG_RETURN_NULL();
    }
    PG_RETURN_TEXT_P(cstring_to_text(answer.refused));
}

// tandem.remove_task(id, version, evidence): what waits for the task (queue, deadlines, lease) lets go of it; then SQL
// takes its row away.
Datum remove_task(FunctionCallInfo fcinfo) {
    using namespace task;
    const pg_uuid_t id = *PG_GETARG_UUID_P(0);
    const int64 version = PG_GETARG_INT64(1);
    Note note{"state_back_out"};
    note.evidence = PG_GETARG_DATUM(2);
    text* mark = cstring_to_text("state_back_out");
    const Outcome outcome = change(id, Wait::block, note, [&](const task::Row& before, task::Row& after) {
        if (before.version != version) {
            return Decision::leave;
        }
        move_to(after, tandem::TaskState::cancelled, after.updated_at);
        after.worker = mark;
        return Decision::write;
    });
    switch (outcome) {
    case Outcome::written:
        PG_RETURN_NULL();
    case Outcome::missing:
        PG_RETURN_TEXT_P(cstring_to_text("the task is gone"));
    default:
        PG_RETURN_TEXT_P(cstring_to_text("the task was changed since"));
    }
}

} // namespace
} // namespace pg

// state_records(document bytea) → (byte_offset, byte_length, verdict, reason, name, id, document)
TANDEM_FUNCTION(tandem_state_records) {
    return pg::entry([&]() -> Datum {
        pg::state_records(fcinfo);
        return Datum{0};
    });
}

TANDEM_FUNCTION(tandem_import_task) {
    return pg::entry([&] {
        if (PG_ARGISNULL(0)) {
            pg::task::null_argument("task", "tandem.import_task(task, evidence, lease_token)");
        }
        return pg::import_task(fcinfo);
    });
}

TANDEM_FUNCTION(tandem_remove_task) {
    return pg::entry([&] {
        if (PG_ARGISNULL(0) || PG_ARGISNULL(1)) {
            pg::task::null_argument(PG_ARGISNULL(0) ? "id" : "version", "tandem.remove_task(id, version, evidence)");
        }
        return pg::remove_task(fcinfo);
    });
}
