// The second half of JsonScanner: what both tracks found becomes the parts of one file.
#include "core/json_documents.hpp"

#include <algorithm>
#include <array>
#include <bit>

#include "core/json_fields.hpp"

namespace tandem {
namespace {

constexpr const char* kUnlike = "beside damage, and unlike the tasks of this file";

// Brackets, commas, colons and white space say nothing by themselves. NUL bytes do: somebody's data may have stood
// there.
bool is_glue(char c) {
    switch (c) {
    case ' ':
    case '\t':
    case '\n':
    case '\r':
    case ',':
    case ':':
    case '[':
    case ']':
    case '{':
    case '}':
        return true;
    default:
        return false;
    }
}

} // namespace

// Both tracks' records in the order of the file, without those that do not look like a task of this file.
std::vector<JsonScanner::Record> JsonScanner::merged(std::vector<Mark>& marks) const {
    std::vector<Record> all;
    all.reserve(tracks_[0].records.size() + tracks_[1].records.size());
    for (const Track& track : tracks_) {
        all.insert(all.end(), track.records.begin(), track.records.end());
    }
    const auto by_place = [](const Record& a, const Record& b) { return a.begin < b.begin; };
    if (!std::is_sorted(all.begin(), all.end(), by_place)) {
        std::sort(all.begin(), all.end(), by_place);
    }
    // A run is read without an error between its records. Tasks of one file have much the same members: a run is
    // trusted where one of its records looks as most do. What was found in another run, or beside damage, or where its
    // place is not known, must look like others of trusted runs.
    const auto shape = [](const Record& record) { return record.fields & field::kShape; };
    std::array<std::size_t, field::kShape + 1> counts{};
    bool any = false;
    for (const Record& record : all) {
        const auto members = static_cast<std::size_t>(std::popcount(shape(record)));
        counts[shape(record)] += record.unclosed ? 0 : members * (record.doubt == kSure ? 4 : 1);
        any = any || (record.doubt == kSure && !record.unclosed);
    }
    const auto from_behind =
        std::max_element(counts.rbegin(), counts.rend()) - counts.rbegin(); // of several the one with more members
    const std::uint32_t most = field::kShape - static_cast<std::uint32_t>(from_behind);
    std::vector<bool> trusted(all.size());
    std::array<bool, field::kShape + 1> shapes{};
    shapes[most] = true;
    for (std::size_t begin = 0; begin < all.size();) {
        const auto follows = [&](std::size_t i) {
            return all[i].track == all[i - 1].track && all[i].errors_open == all[i - 1].errors_close;
        };
        std::size_t end = begin + 1;
        while (end < all.size() && follows(end)) {
            end++;
        }
        bool trust = !any;
        for (std::size_t i = begin; i < end; i++) {
            trust = trust || (all[i].doubt == kSure && shape(all[i]) == most);
        }
        const bool damage_before = begin > 0 || all[0].errors_open != 0;
        const bool damage_behind = end < all.size() || tracks_[all[end - 1].track].errors != all[end - 1].errors_close;
        for (std::size_t i = begin; trust && i < end; i++) {
            const bool beside = damage_before && (i == begin || (i == end - 1 && damage_behind));
            trusted[i] = all[i].doubt == kSure && (!beside || all[i].own_name || all[i].unclosed);
            shapes[shape(all[i])] = shapes[shape(all[i])] || (trusted[i] && !all[i].unclosed);
        }
        begin = end;
    }
    const bool clean = tracks_[0].errors == 0;
    const auto looks_like_a_task = [&](const Record& record) {
        if (!any) {
            return (record.doubt == kElsewhere && clean) ||
                   (record.fields & (field::kKind | field::kVersion | field::kPayload)) != 0;
        }
        const std::uint32_t common = shape(record) & most & ~field::kId;
        return shapes[shape(record)] || ((common & field::kState) != 0 && std::popcount(common) > 1);
    };
    std::vector<Record> result;
    result.reserve(all.size());
    for (std::size_t i = 0; i < all.size(); i++) {
        const Record& record = all[i];
        if (!trusted[i] && !looks_like_a_task(record)) {
            marks.push_back({record.begin, record.end, record.id_begin, record.id_end, kUnlike});
            continue;
        }
        if (!result.empty() && record.begin < result.back().end) {
            if (!result.back().unclosed) {
                continue;
            }
            result.pop_back();
        }
        result.push_back(record);
    }
    return result;
}

// Without glue at both ends, and without the name of the record that follows.
void JsonScanner::tell_rest(std::vector<JsonPart>& parts, std::size_t begin, std::size_t end, JsonPart::Kind kind,
                            const char* reason, std::string_view next_name) const {
    std::size_t from = begin;
    std::size_t to = end;
    while (from < to && is_glue(text_[from])) {
        from++;
    }
    const auto trim = [&] {
        while (from < to && is_glue(text_[to - 1])) {
            to--;
        }
    };
    trim();
    if (to - from >= next_name.size() && !next_name.empty() &&
        next_name.data() == text_.data() + (to - next_name.size())) {
        to -= next_name.size();
        trim();
    }
    if (kind == JsonPart::Kind::skipped && to - from > 2 && is_list_name(slice(from + 1, to - 1)) &&
        text_[from] == '"') {
        to = from; // {"tasks": [
    }
    const auto structure = [&](std::size_t b, std::size_t e) {
        if (skip_space(b) < e) {
            parts.push_back({.kind = JsonPart::Kind::structure, .begin = b, .end = e});
        }
    };
    if (from == to) {
        structure(begin, end);
        return;
    }
    structure(begin, from);
    parts.push_back({.kind = kind, .begin = from, .end = to, .reason = reason});
    structure(to, end);
}

void JsonScanner::tell_gap(std::vector<JsonPart>& parts, std::size_t begin, std::size_t end, bool clean,
                           std::string_view next_name, const std::vector<Mark>& marks, std::size_t& mark) const {
    if (begin == end) {
        return;
    }
    if (clean && (mark == marks.size() || marks[mark].begin >= end)) {
        tell_rest(parts, begin, end, JsonPart::Kind::skipped, "no task", next_name);
        return;
    }
    constexpr const char* kUnreadable = "cannot be read as JSON";
    std::size_t at = begin;
    while (mark < marks.size() && marks[mark].begin < end) {
        const Mark& found = marks[mark++];
        if (found.begin < at) {
            continue;
        }
        tell_rest(parts, at, found.begin, JsonPart::Kind::lost, kUnreadable, {});
        // Up to where the next one begins, or the next record.
        std::size_t stop = std::min(found.end, end);
        const std::string_view name = stop == end ? next_name : std::string_view();
        while (mark < marks.size() &&
               (marks[mark].begin == found.begin || (marks[mark].reason == kUnlike && marks[mark].end <= stop))) {
            mark++;
        }
        if (mark < marks.size() && marks[mark].begin < stop) {
            stop = marks[mark].begin;
        }
        std::size_t to = stop;
        const auto trim = [&](std::string_view glue) {
            while (to > found.begin + 1 && glue.find(text_[to - 1]) != std::string_view::npos) {
                to--;
            }
        };
        if (stop < found.end || text_[stop - 1] != '}') { // it has no end of its own
            trim(" \t\r\n,[:");
            if (!name.empty() && to - found.begin > name.size() && name.data() == text_.data() + (to - name.size())) {
                to -= name.size();
                trim(" \t\r\n,[:");
            }
        }
        const bool has_id = found.id_begin != found.id_end && found.id_end <= to;
        parts.push_back({.kind = JsonPart::Kind::lost,
                         .begin = found.begin,
                         .end = to,
                         .reason = found.reason,
                         .id_begin = has_id ? found.id_begin : 0,
                         .id_end = has_id ? found.id_end : 0});
        at = to;
    }
    tell_rest(parts, at, end, JsonPart::Kind::lost, kUnreadable, next_name);
}

std::vector<JsonPart> JsonScanner::parts() {
    if (word_begin_ != kNoWord) {
        finish_word(text_.size());
    }
    for (Track& track : tracks_) {
        if (!track.frames.empty()) {
            Frame& top = track.frames.back();
            const bool complete = track.last == Token::value || track.last == Token::close;
            if (&track == &outer() && top.object && !top.broken && complete && track.last_end != 0) {
                top.safe_end = track.last_end; // only its brace is missing
            }
        }
        while (!track.frames.empty()) {
            give_up(track, text_.size(), "the file ends before it does");
        }
    }

    std::vector<Mark> marks = tracks_[0].marks;
    marks.insert(marks.end(), tracks_[1].marks.begin(), tracks_[1].marks.end());
    const std::vector<Record> records = merged(marks);
    std::sort(marks.begin(), marks.end(),
              [](const Mark& a, const Mark& b) { return a.begin != b.begin ? a.begin < b.begin : a.end > b.end; });

    std::vector<JsonPart> parts;
    parts.reserve(records.size() * 2 + 1);
    std::size_t at = 0;
    std::size_t mark = 0;
    std::size_t errors = 0;
    std::uint8_t track = 0;
    if (text_.substr(0, kByteOrderMark.size()) == kByteOrderMark) {
        at = kByteOrderMark.size();
        parts.push_back({.kind = JsonPart::Kind::structure, .begin = 0, .end = at});
    }
    for (const Record& record : records) {
        const bool clean = record.track == track && record.errors_open == errors;
        const bool by_name = record.own_name || (record.fields & field::kMapped) != 0;
        tell_gap(parts, at, record.begin, clean,
                 by_name ? slice(record.name_begin, record.name_end) : std::string_view(), marks, mark);
        parts.push_back({.kind = JsonPart::Kind::record,
                         .unclosed = record.unclosed,
                         .begin = record.begin,
                         .end = record.end,
                         .name_begin = record.name_begin,
                         .name_end = record.name_end,
                         .id_begin = record.id_begin,
                         .id_end = record.id_end});
        while (mark < marks.size() && marks[mark].begin < record.end) {
            mark++;
        }
        at = record.end;
        track = record.track;
        errors = record.errors_close;
    }
    tell_gap(parts, at, text_.size(), tracks_[track].errors == errors, {}, marks, mark);
    return parts;
}

} // namespace tandem
