#include "core/json_fields.hpp"

#include <algorithm>

namespace tandem {

Field known_field(std::string_view name) {
    struct Known {
        std::string_view name;
        Field field;
    };
    static constexpr Known kKnown[] = {
        {"id", {field::kId, 4}},         {"task_id", {field::kId, 3}},     {"taskId", {field::kId, 2}},
        {"uuid", {field::kId, 1}},       {"state", {field::kState}},       {"status", {field::kState}},
        {"kind", {field::kKind}},        {"type", {field::kKind}},         {"task_type", {field::kKind}},
        {"taskType", {field::kKind}},    {"version", {field::kVersion}},   {"payload", {field::kPayload}},
        {"data", {field::kPayload}},     {"priority", {field::kPriority}}, {"severity", {field::kPriority}},
        {"created_at", {field::kTimes}}, {"updated_at", {field::kTimes}},  {"createdAt", {field::kTimes}},
        {"updatedAt", {field::kTimes}},  {"result", {field::kResult}},
    };
    if (name.size() < 2 || name.size() > 10) {
        return {};
    }
    for (const Known& known : kKnown) {
        if (known.name == name) {
            return known.field;
        }
    }
    return {};
}

bool is_list_name(std::string_view name) {
    for (const std::string_view known :
         {"tasks", "jobs", "items", "records", "entries", "queue", "task_list", "taskList"}) {
        if (name == known) {
            return true;
        }
    }
    return false;
}

bool is_plausible_word(std::string_view word) {
    const auto digit = [](char c) { return c >= '0' && c <= '9'; };
    if (digit(word[0]) || ((word[0] == '-' || word[0] == '+' || word[0] == '.') && word.size() > 1 &&
                           (digit(word[1]) || word[1] == '.'))) {
        return std::all_of(word.begin(), word.end(), [&](char c) {
            return digit(c) || c == '.' || c == '-' || c == '+' || c == 'e' || c == 'E';
        });
    }
    for (const std::string_view known : {"true", "false", "null", "True", "False", "None", "NaN", "nan", "Infinity",
                                         "-Infinity", "inf", "-inf", "undefined", "-NaN"}) {
        if (word == known) {
            return true;
        }
    }
    return false;
}

std::string_view unquoted(std::string_view token) {
    if (token.size() >= 2 && token.front() == '"' && token.back() == '"') {
        return token.substr(1, token.size() - 2);
    }
    return token;
}

} // namespace tandem
