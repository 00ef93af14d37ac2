// A sketch as bytes, for another server: least significant byte first, with magic, version and checksum.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/sketch.hpp"

namespace tandem {

std::vector<std::byte> serialise(const Sketch& sketch);

// A sketch with the memory that it is a view of. It can be moved; a copy would look at the other's memory.
struct OwnedSketch {
    OwnedSketch(int limbs, std::size_t cells, std::uint64_t seed);
    OwnedSketch(OwnedSketch&&) = default;
    OwnedSketch& operator=(OwnedSketch&&) = default;

    std::vector<std::uint64_t> memory;
    Sketch view;
};

// Takes any bytes, and allocates nothing before they are known to be as many as they say. Throws tandem::Error 22P03.
// Whether the sketch fits another is for the caller: compatible().
OwnedSketch deserialise(std::span<const std::byte> bytes);

} // namespace tandem
