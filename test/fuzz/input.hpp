// Reads plain values from the bytes that a fuzzer made up. Past the end everything is 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace fuzz {

class Input {
  public:
    Input(const std::uint8_t* data, std::size_t size) : data_(data), left_(size) {}

    template <class T>
    T take() {
        T value{};
        const std::size_t size = sizeof(T) < left_ ? sizeof(T) : left_;
        if (size > 0) {
            std::memcpy(&value, data_, size);
        }
        data_ += size;
        left_ -= size;
        return value;
    }
    // 0 .. limit-1
    unsigned below(unsigned limit) { return take<std::uint8_t>() % limit; }
    std::string_view rest() const { return {reinterpret_cast<const char*>(data_), left_}; }

  private:
    const std::uint8_t* data_;
    std::size_t left_;
};

// What must hold; abort() is what a fuzzer sees as a finding.
inline void require(bool holds) {
    if (!holds) {
        __builtin_trap();
    }
}

} // namespace fuzz
