// The deadlines of a database, earliest first: a binary heap of (time, task), 24 bytes each.
//
// One entry per task, not one per deadline: its time is the earliest of the task's, and whoever takes it out looks at
// the task's row, does what is due, and puts the next one in. So a heartbeat, a start or a finish, which all move
// deadlines to later, need not touch the heap. An entry may be out of date (the row says what is due) and a task may
// have several; what must not happen is a task without any entry at or before its earliest deadline.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tandem {

struct Deadline {
    std::int64_t time; // microseconds, as PostgreSQL counts them
    std::uint64_t id_high;
    std::uint64_t id_low;

    friend bool operator==(const Deadline&, const Deadline&) = default;
};
static_assert(sizeof(Deadline) <= 32);

class DeadlineHeap {
  public:
    // Throws std::bad_alloc, and is then as it was.
    void push(const Deadline& deadline);
    void reserve(std::size_t count) { entries_.reserve(count); }

    bool empty() const noexcept { return entries_.empty(); }
    std::size_t size() const noexcept { return entries_.size(); }
    const Deadline& first() const noexcept { return entries_.front(); } // not empty
    void pop() noexcept;                                                // not empty
    void clear() noexcept { entries_.clear(); }
    void swap(DeadlineHeap& other) noexcept { entries_.swap(other.entries_); }
    // Gives memory back that stands empty.
    void shrink();
    std::size_t bytes() const noexcept { return entries_.capacity() * sizeof(Deadline); }

  private:
    std::vector<Deadline> entries_;
};

} // namespace tandem
