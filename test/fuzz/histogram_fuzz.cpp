// Any bytes as a histogram: refused with a reason, or taken, and then they are the one form of it.
#include "core/histogram.hpp"

#include <algorithm>
#include <cstring>

#include "core/error.hpp"
#include "input.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace tandem;
    fuzz::Input input(data, size);
    std::vector<std::byte> bytes;
    if (input.below(2) == 0) {
        const auto rest = std::as_bytes(std::span(input.rest().data(), input.rest().size()));
        bytes.assign(rest.begin(), rest.end());
    } else { // durations of any magnitude, then a few bytes changed
        Histogram made;
        for (unsigned n = input.take<std::uint8_t>(); n > 0; n--) {
            made.add(input.take<std::uint64_t>() >> input.below(64), 1 + input.take<std::uint16_t>());
        }
        bytes = serialise(made);
        for (unsigned changes = input.below(4); changes > 0; changes--) {
            bytes[input.take<std::uint16_t>() % bytes.size()] = input.take<std::byte>();
        }
    }
    Histogram histogram;
    try {
        merge_serialised(histogram, bytes);
    } catch (const Error& error) {
        fuzz::require(std::strcmp(error.sqlstate(), "22P03") == 0 && !error.detail().empty() && histogram.count() == 0);
        return 0;
    }
    fuzz::require(serialise(histogram) == bytes);
    double last = -1;
    for (const double share : {0.0, 0.5, 0.95, 1.0}) {
        const auto value = histogram.percentile(share);
        fuzz::require(value.has_value() == (histogram.count() > 0) && value.value_or(0) >= last);
        last = value.value_or(last);
    }
    return 0;
}
