// What a row of tandem.event is worth: a digest that depends on nothing but the values of its columns.
#pragma once

#include "pg/audit.hpp"

extern "C" {
#include "common/cryptohash.h"
#include "common/sha2.h"
}

namespace pg::audit {

inline constexpr int kDigestSize = 16;              // of the 32 bytes of SHA-256
inline constexpr int kListedSize = 4 + kDigestSize; // a row in a seal: seq - after_seq, digest

// The columns in their order, for SPI.
inline constexpr char kSelect[] =
    "SELECT seq, at, lsn, kind, actor, role, client, reason, run, stage, phase, weight, epoch, "
    "task_id, state, version, evidence FROM tandem.event ";

// SHA-256 of several pieces. Plain data: what it holds belongs to the resource owner and the memory context.
class Sha256 {
  public:
    Sha256();
    void begin();
    void add(const void* bytes, std::size_t size);
    void finish(uint8 (&digest)[PG_SHA256_DIGEST_LENGTH]);
    void release();

  private:
    pg_cryptohash_ctx* state_;
};

// Digests of rows that kSelect returned.
class RowDigest {
  public:
    RowDigest();
    void of(HeapTuple tuple, TupleDesc desc, uint8 (&digest)[PG_SHA256_DIGEST_LENGTH]);
    void release();

  private:
    void add(const void* bytes, std::size_t size);
    void add_text(const char* bytes, int size);
    void add_value(Datum value, Oid type);
    Sha256 hash_;
    StringInfoData bytes_;
    StringInfoData json_;
    MemoryContext scratch_;
};

inline void put_be64(uint8* to, int64 value) {
    for (int i = 0; i < 8; i++) {
        to[i] = static_cast<uint8>(static_cast<uint64>(value) >> (56 - 8 * i));
    }
}
inline void put_be32(uint8* to, uint32 value) {
    for (int i = 0; i < 4; i++) {
        to[i] = static_cast<uint8>(value >> (24 - 8 * i));
    }
}

} // namespace pg::audit
