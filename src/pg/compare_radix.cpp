#include "pg/compare_radix.hpp"

namespace pg::compare {

RadixFiles* RadixFiles::create(int limbs, std::uint64_t seed) {
    return create(limbs, seed, 0);
}

RadixFiles* RadixFiles::create(int limbs, std::uint64_t seed, int shift) {
    auto* files = static_cast<RadixFiles*>(palloc0(sizeof(RadixFiles)));
    files->limbs_ = limbs;
    files->seed_ = seed;
    files->shift_ = shift;
    files->context_ = CurrentMemoryContext;
    return files;
}

void RadixFiles::write(int side, std::span<const tandem::Element> rows) {
    for (const tandem::Element& row : rows) {
        const int partition = tandem::radix_of(row, shift_, kBits, seed_);
        BufFile*& file = files_[side][partition];
        if (file == nullptr) {
            MemoryContext before = MemoryContextSwitchTo(context_);
            file = BufFileCreateTemp(false);
            MemoryContextSwitchTo(before);
        }
        std::uint64_t record[tandem::kMaxLimbs + 1];
        std::copy_n(row.key, limbs_, record);
        record[limbs_] = row.hash;
        BufFileWrite(file, record, record_size());
        rows_[side][partition]++;
    }
}

std::size_t RadixFiles::read(int side, int partition, std::span<tandem::Element> rows) {
    BufFile* file = files_[side][partition];
    std::size_t count = 0;
    if (file == nullptr) {
        return 0;
    }
    for (; count < rows.size(); count++) {
        std::uint64_t record[tandem::kMaxLimbs + 1];
        const std::size_t got = BufFileRead(file, record, record_size());
        if (got == 0) {
            break;
        }
        if (got != record_size()) {
            ereport(ERROR,
                    (errcode_for_file_access(),
                     errmsg("could not read a comparison's temporary file: %zu of %zu bytes", got, record_size())));
        }
        tandem::Element& row = rows[count];
        row = {};
        std::copy_n(record, limbs_, row.key);
        row.hash = record[limbs_];
    }
    return count;
}

void RadixFiles::split(int partition, RadixFiles* into) {
    tandem::Element rows[kBatch];
    for (int side = 0; side < kSides; side++) {
        std::size_t count = 0;
        while ((count = read(side, partition, rows)) > 0) {
            CHECK_FOR_INTERRUPTS();
            into->write(side, {rows, count});
        }
    }
}

void RadixFiles::match_partition(int partition, bool keyed, std::size_t memory, Candidates& candidates) {
    const std::uint64_t rows = rows_[kLegacy][partition] + rows_[kNew][partition];
    // Equal rows share an entry, so that half would do where all is well. Copies of one key stay together however often
    // the partition is cut: six bits at a time, the hash is used up after ten.
    if (tandem::MatchTable::bytes_for(limbs_, rows) > memory && shift_ + 2 * kBits <= 64) {
        RadixFiles* parts = call([&] {
            RadixFiles* files = create(limbs_, seed_, shift_ + kBits);
            for (int side = 0; side < kSides; side++) {
                if (files_[side][partition] != nullptr && BufFileSeek(files_[side][partition], 0, 0, SEEK_SET) != 0) {
                    elog(ERROR, "could not rewind a temporary file");
                }
            }
            split(partition, files);
            return files;
        });
        // One key many times is one entry: where cutting does not help, it is not needed.
        const bool helps = parts->largest() < rows;
        if (helps) {
            parts->match(keyed, memory, candidates);
        }
        call([&] { parts->close(); });
        if (helps) {
            return;
        }
    }
    tandem::MatchTable table(limbs_, std::min<std::uint64_t>(rows, 1024), seed_);
    tandem::Element batch[kBatch];
    for (int side = 0; side < kSides; side++) {
        call([&] {
            if (files_[side][partition] != nullptr && BufFileSeek(files_[side][partition], 0, 0, SEEK_SET) != 0) {
                elog(ERROR, "could not rewind a temporary file");
            }
        });
        std::size_t count = 0;
        while ((count = call([&] {
                    CHECK_FOR_INTERRUPTS();
                    return read(side, partition, batch);
                })) > 0) {
            if (side == kLegacy) {
                table.add_legacy({batch, count});
            } else {
                table.add_new({batch, count});
            }
        }
    }
    table.differences(keyed, [&](const tandem::MatchTable::Entry& entry) {
        if (candidates.only_counts) {
            candidates.kinds.count(entry.legacy_copies, entry.new_copies);
            return;
        }
        if (candidates.keys.size() >= candidates.limit) {
            candidates.too_many = true;
            return;
        }
        candidates.keys.push_back({{entry.key[0], entry.key[1], entry.key[2]}, entry.hash_sum});
    });
}

std::uint64_t RadixFiles::largest() const {
    std::uint64_t most = 0;
    for (int i = 0; i < kPartitions; i++) {
        most = std::max(most, rows_[kLegacy][i] + rows_[kNew][i]);
    }
    return most;
}

void RadixFiles::match(bool keyed, std::size_t memory, Candidates& candidates) {
    for (int partition = 0; partition < kPartitions && !candidates.too_many; partition++) {
        match_partition(partition, keyed, memory, candidates);
    }
}

void RadixFiles::close() {
    for (auto& side : files_) {
        for (BufFile*& file : side) {
            if (file != nullptr) {
                BufFileClose(file);
                file = nullptr;
            }
        }
    }
}

} // namespace pg::compare
