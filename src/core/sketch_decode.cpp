// Peeling: a cell in which one key is left tells that key; what the key contributed is taken from its other three
// cells, which may leave one key alone there, and so on. Whether a cell holds one key only is not told by its words but
// tried: the key that it would be must have the right check, and must belong to this cell.
#include <algorithm>
#include <iterator>
#include <utility>

#include "core/sketch.hpp"
#include "core/sketch_cell.hpp"

namespace tandem {

using namespace cell;

// Cells are tried in batches, because 1/Σh is shared: one inversion and three multiplications for each cell.
template <int L>
class Peeler {
  public:
    Peeler(Sketch& sketch, std::size_t limit) : sketch_(sketch), quarter_(sketch.cells_ / Sketch::kTables) {
        // Every true peel leaves a cell empty for good. Words that no rows have made (a damaged or forged sketch) may
        // peel on and on: they are left alone after as many steps.
        left_ = std::min(limit, sketch.cells_);
    }

    std::vector<Difference> run() {
        for (std::size_t cell = 0; cell < sketch_.cells_ && left_ > 0; cell++) {
            candidate(cell);
            while (pending_.size() >= kBatch && left_ > 0) {
                take_pending();
            }
        }
        while ((count_ > 0 || !pending_.empty()) && left_ > 0) {
            if (pending_.empty()) {
                try_batch();
            } else {
                take_pending();
            }
        }
        return std::move(differences_);
    }

  private:
    static constexpr std::size_t kBatch = 32;

    std::uint64_t* words_of(std::size_t cell) { return sketch_.words_ + cell * kWords<L>; }

    void take_pending() {
        const std::size_t cell = pending_.back();
        pending_.pop_back();
        candidate(cell);
    }

    void candidate(std::size_t cell) {
        if (words_of(cell)[kHash] != 0) {
            batch_[count_++] = cell;
            if (count_ == kBatch) {
                try_batch();
            }
        }
    }

    void try_batch() {
        std::uint64_t hashes[kBatch];
        std::uint64_t products[kBatch];
        const std::size_t count = count_;
        count_ = 0;
        std::uint64_t product = 1;
        for (std::size_t i = 0; i < count; i++) {
            hashes[i] = words_of(batch_[i])[kHash];
            products[i] = product;
            // An earlier peel may have emptied a cell that was waiting here: 1 stands for its 0.
            product = field::mul(product, hashes[i] == 0 ? 1 : hashes[i]);
        }
        std::uint64_t inverse = field::inverse(product);
        for (std::size_t i = count; i-- > 0 && left_ > 0;) {
            const std::uint64_t inverted = field::mul(inverse, products[i]);
            inverse = field::mul(inverse, hashes[i] == 0 ? 1 : hashes[i]);
            // A peel of this batch may have changed the cell. Then it is pending again, and this inverse is none.
            if (hashes[i] != 0 && words_of(batch_[i])[kHash] == hashes[i]) {
                try_cell(batch_[i], inverted);
            }
        }
    }

    void try_cell(std::size_t cell, std::uint64_t inverse_of_hash) {
        std::uint64_t* const words = words_of(cell);
        Difference found{{}, words[kHash]};
        for (std::size_t limb = 0; limb < L; limb++) {
            found.key[limb] = field::mul(words[kKey + limb], inverse_of_hash);
        }
        const Places places = places_of<L>(found.key, sketch_.constants_);
        if (words[kCheck<L>] != field::mul(found.hash_sum, places.check())) {
            return;
        }
        const std::size_t cells[] = {position<0>(places, quarter_), position<1>(places, quarter_),
                                     position<2>(places, quarter_), position<3>(places, quarter_)};
        if (std::find(std::begin(cells), std::end(cells), cell) == std::end(cells)) {
            return;
        }
        differences_.push_back(found);
        left_--;
        for (const std::size_t other : cells) {
            if (other != cell) {
                cell::subtract(words_of(other), words, kWords<L>);
                if (words_of(other)[kHash] != 0) {
                    pending_.push_back(static_cast<std::uint32_t>(other));
                }
            }
        }
        std::fill_n(words, kWords<L>, 0);
    }

    Sketch& sketch_;
    std::size_t quarter_;
    std::size_t left_; // how many may still be peeled
    std::size_t count_ = 0;
    std::size_t batch_[kBatch];
    std::vector<std::uint32_t> pending_; // cells that a peel has changed
    std::vector<Difference> differences_;
};

Decoded Sketch::decode(std::size_t limit) {
    Decoded decoded{false, with_limbs(limbs_, [&]<int L>() { return Peeler<L>(*this, limit).run(); })};
    decoded.complete = empty();
    return decoded;
}

} // namespace tandem
