// audit_digest: SHA-256 over the columns of an event, one behind the other in the order of 07_audit.sql: a byte 0 for
// NULL; else a byte 1, the length in four bytes and the value: numbers and times as their send functions have them,
// texts in UTF-8, jsonb as its text in UTF-8.
//
// No setting has a say in it, nor has the platform, the database's encoding or where the row is stored: the digest is
// the same after dump and restore. docs/audit.md shows the same in SQL.
#include "pg/audit_digest.hpp"

extern "C" {
#include "utils/jsonb.h"
}

namespace pg::audit {

Sha256::Sha256() : state_(pg_cryptohash_create(PG_SHA256)) {
    if (state_ == nullptr) {
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
    }
}

void Sha256::begin() {
    if (pg_cryptohash_init(state_) < 0) {
        elog(ERROR, "SHA-256 failed: %s", pg_cryptohash_error(state_));
    }
}

void Sha256::add(const void* bytes, std::size_t size) {
    if (pg_cryptohash_update(state_, static_cast<const uint8*>(bytes), size) < 0) {
        elog(ERROR, "SHA-256 failed: %s", pg_cryptohash_error(state_));
    }
}

void Sha256::finish(uint8 (&digest)[PG_SHA256_DIGEST_LENGTH]) {
    if (pg_cryptohash_final(state_, digest, sizeof(digest)) < 0) {
        elog(ERROR, "SHA-256 failed: %s", pg_cryptohash_error(state_));
    }
}

void Sha256::release() {
    pg_cryptohash_free(state_);
}

RowDigest::RowDigest() {
    initStringInfo(&bytes_);
    initStringInfo(&json_);
    scratch_ = AllocSetContextCreate(CurrentMemoryContext, "pg_tandem row of the audit record", ALLOCSET_DEFAULT_SIZES);
}

void RowDigest::add(const void* bytes, std::size_t size) {
    uint8 length[5] = {1};
    put_be32(length + 1, static_cast<uint32>(size));
    appendBinaryStringInfo(&bytes_, reinterpret_cast<const char*>(length), sizeof(length));
    appendBinaryStringInfo(&bytes_, static_cast<const char*>(bytes), static_cast<int>(size));
}

void RowDigest::add_text(const char* bytes, int size) {
    if (GetDatabaseEncoding() == PG_UTF8 || GetDatabaseEncoding() == PG_SQL_ASCII) {
        add(bytes, static_cast<std::size_t>(size));
        return;
    }
    const char* utf8 = pg_server_to_any(bytes, size, PG_UTF8);
    add(utf8, utf8 == bytes ? static_cast<std::size_t>(size) : strlen(utf8));
}

void RowDigest::add_value(Datum value, Oid type) {
    uint8 number[8];
    switch (type) {
    case INT4OID:
        put_be32(number, static_cast<uint32>(DatumGetInt32(value)));
        add(number, 4);
        break;
    case INT8OID:
    case TIMESTAMPTZOID:
    case PG_LSNOID:
        put_be64(number, DatumGetInt64(value));
        add(number, 8);
        break;
    case UUIDOID:
        add(DatumGetUUIDP(value)->data, UUID_LEN);
        break;
    case TEXTOID: {
        const text* packed = DatumGetTextPP(value);
        add_text(VARDATA_ANY(packed), static_cast<int>(VARSIZE_ANY_EXHDR(packed)));
        break;
    }
    case JSONBOID: {
        Jsonb* json = DatumGetJsonbP(value);
        resetStringInfo(&json_);
        (void)JsonbToCString(&json_, &json->root, VARSIZE(json));
        add_text(json_.data, json_.len);
        break;
    }
    default:
        elog(ERROR, "tandem.event has a column of a type that is not expected (%u)", type);
    }
}

void RowDigest::of(HeapTuple tuple, TupleDesc desc, uint8 (&digest)[PG_SHA256_DIGEST_LENGTH]) {
    const MemoryContext caller = MemoryContextSwitchTo(scratch_);
    Datum values[kColumns];
    bool nulls[kColumns];
    heap_deform_tuple(tuple, desc, values, nulls);
    resetStringInfo(&bytes_);
    for (int i = 0; i < kColumns; i++) {
        if (nulls[i]) {
            appendStringInfoCharMacro(&bytes_, '\0');
        } else {
            add_value(values[i], TupleDescAttr(desc, i)->atttypid);
        }
    }
    MemoryContextSwitchTo(caller);
    MemoryContextReset(scratch_);
    hash_.begin();
    hash_.add(bytes_.data, static_cast<std::size_t>(bytes_.len));
    hash_.finish(digest);
}

void RowDigest::release() {
    hash_.release();
}

} // namespace pg::audit
