#include "core/deadline_heap.hpp"

#include <algorithm>

namespace tandem {
namespace {

// Compared by time alone: what is due at the same moment has no order.
bool is_later(const Deadline& a, const Deadline& b) {
    return a.time > b.time;
}

} // namespace

void DeadlineHeap::push(const Deadline& deadline) {
    entries_.push_back(deadline);
    std::push_heap(entries_.begin(), entries_.end(), is_later);
}

void DeadlineHeap::pop() noexcept {
    std::pop_heap(entries_.begin(), entries_.end(), is_later);
    entries_.pop_back();
}

void DeadlineHeap::shrink() {
    if (entries_.capacity() > 4 * entries_.size() + 1024) {
        entries_.shrink_to_fit();
    }
}

} // namespace tandem
