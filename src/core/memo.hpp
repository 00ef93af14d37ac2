// Which arguments of a function are known, and at which place its results for them are kept: a direct-mapped table of
// short byte strings, each of which throws out the one before it at its place. It watches itself: where arguments do
// not come again it rests, so that they cost nothing but a look now and then.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/key_mix.hpp"
#include "core/short_copy.hpp"

namespace tandem {

// What a function is called with, as bytes: empty, then put together piece by piece.
class Argument {
  public:
    static constexpr std::size_t kLongest = 31; // half a cache line, less the size

    std::size_t room() const noexcept { return kLongest - bytes_[kLongest]; }

    // At most room().
    void append(const void* data, std::size_t size) noexcept {
        copy_short(bytes_ + bytes_[kLongest], static_cast<const std::uint8_t*>(data), size);
        bytes_[kLongest] = static_cast<std::uint8_t>(bytes_[kLongest] + size);
    }

  private:
    friend class Memo;
    std::uint64_t word(int i) const noexcept {
        std::uint64_t word;
        std::memcpy(&word, bytes_ + 8 * i, sizeof(word));
        return word;
    }

    std::uint8_t bytes_[kLongest + 1] = {}; // the last one is the size
};

// No heap and no destructor.
class Memo {
  public:
    static constexpr int kPlaces = 256;

    // Is it worth while to look one up? Asked once for each value that is wanted.
    bool is_awake() noexcept {
        if (resting_ == 0) [[likely]] {
            return true;
        }
        resting_--;
        return false;
    }

    static int place_of(const Argument& argument) noexcept {
        const std::uint64_t mixed =
            fold_multiply(argument.word(0) ^ 0x9e3779b97f4a7c15, argument.word(1) ^ 0xbf58476d1ce4e5b9) ^
            fold_multiply(argument.word(2) ^ 0x94d049bb133111eb, argument.word(3) ^ 0xd6e8feb86659fd93);
        return static_cast<int>((mixed ^ (mixed >> 32)) % kPlaces);
    }

    // Is this the argument whose result stands at the place? It is not empty.
    bool holds(int place, const Argument& argument) noexcept {
        const Argument& known = known_[place];
        const bool found = known.word(0) == argument.word(0) && known.word(1) == argument.word(1) &&
                           known.word(2) == argument.word(2) && known.word(3) == argument.word(3);
        hits_ += found ? 1 : 0;
        if (++asked_ == kWindow) {
            resting_ = hits_ < kWindow / 2 ? kRest : 0;
            asked_ = 0;
            hits_ = 0;
        }
        return found;
    }

    // From now on the place is this argument's.
    void keep(int place, const Argument& argument) noexcept { known_[place] = argument; }

    // Nobody's.
    void forget(int place) noexcept { known_[place] = Argument(); }

  private:
    static constexpr std::uint32_t kWindow = 1024;
    static constexpr std::uint32_t kRest = 64 * kWindow;

    std::uint32_t asked_ = 0;
    std::uint32_t hits_ = 0;
    std::uint32_t resting_ = 0;
    Argument known_[kPlaces];
};

} // namespace tandem
