// decode: what a replication slot says of changed rows, as rows: core/decoded_change reads the text of test_decoding.
#include "pg/prelude.hpp"

#include "core/decoded_change.hpp"

extern "C" {
#include "replication/slot.h"
#include "utils/array.h"
}

namespace pg {
namespace {

// Names and values of a row. What an UPDATE left unchanged and did not log stands in the old row, or nobody knows it.
struct Texts {
    std::vector<const std::string*> names;
    std::vector<const std::string*> values; // nullptr: NULL
    std::vector<const std::string*> unknown;
};

const tandem::DecodedColumn* find(const tandem::DecodedRow& row, const std::string& name) {
    for (const tandem::DecodedColumn& column : row.columns) {
        if (column.name == name) {
            return &column;
        }
    }
    return nullptr;
}

Texts texts_of(const tandem::DecodedRow& row, const tandem::DecodedRow& before) {
    Texts texts;
    for (const tandem::DecodedColumn& column : row.columns) {
        const tandem::DecodedColumn* known = column.unchanged ? find(before, column.name) : &column;
        if (known == nullptr || known->unchanged) {
            texts.unknown.push_back(&column.name);
            continue;
        }
        texts.names.push_back(&column.name);
        texts.values.push_back(known->value ? &*known->value : nullptr);
    }
    return texts;
}

Datum text_datum(const std::string& text) {
    return PointerGetDatum(cstring_to_text_with_len(text.data(), static_cast<int>(text.size())));
}

Datum array_of(std::span<const std::string* const> texts) {
    const auto count = static_cast<int>(texts.size());
    auto* values = static_cast<Datum*>(palloc(sizeof(Datum) * (count + 1)));
    auto* nulls = static_cast<bool*>(palloc(sizeof(bool) * (count + 1)));
    for (int i = 0; i < count; i++) {
        nulls[i] = texts[static_cast<std::size_t>(i)] == nullptr;
        values[i] = nulls[i] ? Datum{0} : text_datum(*texts[static_cast<std::size_t>(i)]);
    }
    int dims[1] = {count};
    int bounds[1] = {1};
    return PointerGetDatum(count == 0
                               ? construct_empty_array(TEXTOID)
                               : construct_md_array(values, nulls, 1, dims, bounds, TEXTOID, -1, false, TYPALIGN_INT));
}

// relation, names, values, unknown; no names: the log has nothing of the row.
void emit(const ReturnSetInfo* result, const std::string& relation, const tandem::DecodedRow& row,
          const tandem::DecodedRow& before) {
    const Texts texts = texts_of(row, before);
    call([&] {
        Datum values[4] = {text_datum(relation), array_of(texts.names), array_of(texts.values),
                           array_of(texts.unknown)};
        bool nulls[4] = {false, !row.present, !row.present, !row.present};
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    });
}

void decoded_rows(FunctionCallInfo fcinfo) {
    const text* line = call([&] {
        InitMaterializedSRF(fcinfo, 0);
        return PG_GETARG_TEXT_PP(0);
    });
    const auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    const auto change = tandem::parse_decoded_change({VARDATA_ANY(line), VARSIZE_ANY_EXHDR(line)});
    if (!change || change->kind == tandem::DecodedChange::Kind::truncate) {
        return; // TRUNCATE shows in the catalogs
    }
    if (change->kind == tandem::DecodedChange::Kind::remove || change->old_row.present) {
        emit(result, change->relation, change->old_row, {});
    }
    if (change->kind != tandem::DecodedChange::Kind::remove) {
        emit(result, change->relation, change->new_row, change->old_row);
    }
}

} // namespace
} // namespace pg

// The rows that a line of test_decoding tells of: the old one, the new one, or both.
TANDEM_FUNCTION(tandem_decoded_rows) {
    return pg::entry([&]() -> Datum {
        pg::decoded_rows(fcinfo);
        return Datum{0};
    });
}

// Behind everything that is written to the log as yet; all before it is on disk, where decoding reads it. What others
// have committed without waiting for the disk is visible, and would not be decoded otherwise.
TANDEM_FUNCTION(tandem_flushed_wal) {
    return pg::entry([&]() -> Datum {
        const XLogRecPtr end = pg::log_marker("pg_tandem");
        XLogFlush(end);
        PG_RETURN_LSN(end);
    });
}

// An ERROR in pg_logical_slot_peek_changes() that is caught leaves it acquired: PostgreSQL releases slots where a
// transaction ends by an ERROR, or the session does.
TANDEM_FUNCTION(tandem_release_slot) {
    return pg::entry([&]() -> Datum {
        pg::call([] {
            if (MyReplicationSlot != nullptr) {
                ReplicationSlotRelease();
            }
        });
        PG_RETURN_VOID();
    });
}
