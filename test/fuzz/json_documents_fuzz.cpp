// Any bytes as a state file: every byte is in one part or white space, a step at a time finds the same, and what the
// cleaner repairs needs no repair any more.
#include "core/json_documents.hpp"

#include <string>
#include <vector>

#include "core/json_clean.hpp"
#include "input.hpp"

namespace {

using tandem::JsonPart;

std::vector<JsonPart> read(std::string_view text, std::size_t step) {
    tandem::JsonScanner scanner(text);
    while (scanner.scan(step)) {
    }
    return scanner.parts();
}

bool only_space(std::string_view text) {
    return text.find_first_not_of(std::string_view(" \t\r\n")) == std::string_view::npos;
}

void check(std::string_view text, std::size_t step) {
    const std::vector<JsonPart> parts = read(text, text.size() + 1);
    fuzz::require(parts.size() == read(text, step).size());
    std::size_t at = 0;
    for (const JsonPart& part : parts) {
        fuzz::require(at <= part.begin && part.begin < part.end && part.end <= text.size());
        fuzz::require(only_space(text.substr(at, part.begin - at)));
        fuzz::require(part.name_begin <= part.name_end && part.name_end <= text.size());
        fuzz::require(part.id_begin <= part.id_end && part.id_end <= text.size());
        at = part.end;
        if (part.kind != JsonPart::Kind::record) {
            fuzz::require(part.kind == JsonPart::Kind::structure || part.reason != nullptr);
            continue;
        }
        const tandem::CleanJson clean =
            tandem::clean_json(text.substr(part.begin, part.end - part.begin), part.unclosed);
        fuzz::require(clean.ok || clean.reason != nullptr);
        if (clean.ok && clean.repairs != 0) {
            const tandem::CleanJson again = tandem::clean_json(clean.text, false);
            fuzz::require(again.ok && again.repairs == 0);
            fuzz::require(!tandem::describe_repairs(clean.repairs).empty());
        }
    }
    fuzz::require(only_space(text.substr(at)));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const std::size_t step = input.below(64) + 1;
    const std::string_view text = input.rest();
    check(text, step);
    (void)tandem::clean_json(text, (step & 1) != 0);
    bool big_endian = false;
    if (tandem::is_utf16(text, big_endian)) {
        const std::string utf8 = tandem::utf16_to_utf8(text, big_endian);
        fuzz::require(tandem::utf16_size(utf8) == text.size() / 2 * 2);
        check(utf8, step);
    }
    return 0;
}
