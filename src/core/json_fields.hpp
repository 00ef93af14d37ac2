// The member names by which a task is known in a state file, and small questions about tokens as they are written.
#pragma once

#include <cstdint>
#include <string_view>

namespace tandem {

inline constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

namespace field {
inline constexpr std::uint32_t kId = 1, kState = 2, kKind = 4, kVersion = 8, kPayload = 16, kPriority = 32, kTimes = 64,
                               kResult = 128;
inline constexpr std::uint32_t kMapped = 1u << 31; // its id is the name of the member that it is
inline constexpr std::uint32_t kShape =
    kId | kState | kKind | kVersion | kPayload; // what tasks of one file have in common
} // namespace field

struct Field {
    std::uint32_t bit = 0; // 0: not known
    std::uint8_t rank = 0; // of several names for the id the highest holds
};

// Names without their quotes, as they are written: a name with escapes is not known.
Field known_field(std::string_view name);
bool is_list_name(std::string_view name);

// A number, true, null, or what other languages write for them.
bool is_plausible_word(std::string_view word);

// The text between the quotes; anything else as it stands.
std::string_view unquoted(std::string_view token);

} // namespace tandem
