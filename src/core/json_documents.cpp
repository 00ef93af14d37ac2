#include "core/json_documents.hpp"

#include <algorithm>
#include <array>

#include "core/json_fields.hpp"

namespace tandem {
namespace {

enum class Byte : std::uint8_t {
    plain,
    space,
    control,
    quote,
    backslash,
    open_object,
    close_object,
    open_array,
    close_array,
    comma,
    colon
};

constexpr std::array<Byte, 256> make_classes() {
    std::array<Byte, 256> classes{};
    for (int i = 0; i < 32; i++) {
        classes[i] = Byte::control;
    }
    classes[' '] = classes['\t'] = classes['\n'] = classes['\r'] = Byte::space;
    classes['"'] = Byte::quote;
    classes['\\'] = Byte::backslash;
    classes['{'] = Byte::open_object;
    classes['}'] = Byte::close_object;
    classes['['] = Byte::open_array;
    classes[']'] = Byte::close_array;
    classes[','] = Byte::comma;
    classes[':'] = Byte::colon;
    return classes;
}
constexpr std::array<Byte, 256> kClasses = make_classes();

Byte class_of(char c) {
    return kClasses[static_cast<unsigned char>(c)];
}

} // namespace

JsonScanner::JsonScanner(std::string_view text) : text_(text) {
    if (text_.substr(0, kByteOrderMark.size()) == kByteOrderMark) {
        at_ = kByteOrderMark.size();
    }
}

bool JsonScanner::scan(std::size_t bytes) {
    const std::size_t stop = bytes < text_.size() - at_ ? at_ + bytes : text_.size();
    for (; at_ < stop; at_++) {
        const Byte byte = class_of(text_[at_]);
        if (byte == Byte::plain) {
            escape_ = false;
            if (word_begin_ == kNoWord) {
                word_begin_ = at_;
            }
            continue;
        }
        if (word_begin_ != kNoWord) {
            finish_word(at_);
        }
        const bool escaped = escape_;
        escape_ = false;
        switch (byte) {
        case Byte::quote:
            if (escaped) { // the track inside goes on in its string; the other one has read a backslash where none may
                           // be
                error(outer());
                break;
            }
            outer().string_begin = at_;
            outer_ ^= 1;
            read_string(outer(), outer().string_begin, at_ + 1);
            break;
        case Byte::backslash:
            escape_ = !escaped;
            error(outer());
            outer().last = Token::junk;
            break;
        case Byte::open_object:
            open(outer(), at_, true);
            break;
        case Byte::open_array:
            open(outer(), at_, false);
            break;
        case Byte::close_object:
            close(outer(), at_, true);
            break;
        case Byte::close_array:
            close(outer(), at_, false);
            break;
        case Byte::comma:
            read_comma(outer());
            break;
        case Byte::colon:
            read_colon(outer());
            break;
        case Byte::plain:
        case Byte::space:
        case Byte::control: // outside of strings like space: holes in files are full of NUL
            break;
        }
    }
    return at_ < text_.size();
}

std::size_t JsonScanner::skip_space(std::size_t at) const {
    while (at < text_.size() && (class_of(text_[at]) == Byte::space || class_of(text_[at]) == Byte::control)) {
        at++;
    }
    return at;
}

// A short string and a colon, or the beginning of one at the end of the file: the next member of an object.
bool JsonScanner::member_follows(std::size_t at) const {
    constexpr std::size_t kLongestName = 256;
    if (at == text_.size() || text_[at] != '"') {
        return false;
    }
    const std::size_t stop = std::min(text_.size(), at + kLongestName);
    for (at++; at < stop && text_[at] != '"'; at++) {
        if (text_[at] == '\\') {
            at++;
        }
    }
    at = skip_space(std::min(at + 1, text_.size()));
    return at == text_.size() || text_[at] == ':';
}

// Behind a value: does the object that it stands in go on, or end?
bool JsonScanner::goes_on(std::size_t at) const {
    at = skip_space(at);
    if (at < text_.size() && text_[at] == ',') {
        while (at < text_.size() && text_[at] == ',') {
            at = skip_space(at + 1);
        }
        return at == text_.size() || member_follows(at);
    }
    return at < text_.size() && (text_[at] == '}' || member_follows(at));
}

void JsonScanner::error(Track& track) {
    track.errors++;
    if (track.frames.empty()) {
        track.root_first = track.records.size();
    } else {
        track.frames.back().broken = true;
    }
}

// Between two values stands a comma. Where there is none it may have been forgotten, as between lines or records; else
// bytes were lost.
void JsonScanner::check_comma(Track& track, std::size_t at, bool record) {
    const bool behind_value = track.last == Token::value || track.last == Token::close ||
                              (track.last == Token::string && !track.frames.empty() && !track.frames.back().object);
    if (behind_value && track.token_end == at && !track.frames.empty() && !(record && track.last == Token::close)) {
        error(track);
    }
}

void JsonScanner::finish_word(std::size_t end) {
    Track& track = outer();
    std::size_t begin = word_begin_;
    word_begin_ = kNoWord;
    while (slice(begin, end).substr(0, kByteOrderMark.size()) == kByteOrderMark) { // files that were put together
        begin += kByteOrderMark.size();
    }
    if (begin == end) {
        return;
    }
    const bool expected = track.frames.empty() || !track.frames.back().object || track.last == Token::colon;
    if (!expected || !is_plausible_word(slice(begin, end))) {
        error(track);
        track.last = Token::junk;
        return;
    }
    check_comma(track, begin, false);
    read_value(track, begin, end);
    track.word_end = end;
    track.last_end = 0; // a number may have had more digits
}

void JsonScanner::read_value(Track& track, std::size_t begin, std::size_t end) {
    if (track.last == Token::colon && track.field == field::kId && !track.frames.empty()) {
        Frame& frame = track.frames.back();
        if (frame.id_rank == track.field_rank) {
            frame.id_twice = frame.id_twice || slice(begin, end) != slice(frame.id_begin, frame.id_end);
        }
        if (frame.id_rank <= track.field_rank && slice(begin, end) != "null" && slice(begin, end) != "\"\"") {
            frame.fields |= field::kId;
            frame.id_begin = begin;
            frame.id_end = end;
            frame.id_rank = track.field_rank;
        }
    }
    track.last = Token::value;
    track.last_end = end;
    track.token_end = end;
}

void JsonScanner::read_string(Track& track, std::size_t begin, std::size_t end) {
    const bool in_object = !track.frames.empty() && track.frames.back().object;
    if (in_object && track.last == Token::colon) {
        read_value(track, begin, end);
        return;
    }
    if (in_object && track.last == Token::string) {
        error(track);
    }
    check_comma(track, begin, false);
    track.token_end = end;
    track.key_begin = begin;
    track.key_end = end;
    track.last = Token::string;
    track.last_end = in_object ? 0 : end;
}

void JsonScanner::read_colon(Track& track) {
    if (track.last != Token::string) {
        error(track);
        track.last = Token::junk;
        return;
    }
    track.last = Token::colon;
    track.last_end = 0;
    if (track.frames.empty() || !track.frames.back().object) {
        error(track);
        return;
    }
    const Field known = known_field(slice(track.key_begin + 1, track.key_end - 1));
    track.field = known.bit;
    track.field_rank = known.rank;
    if (known.bit != field::kId) {
        track.frames.back().fields |= known.bit;
    }
}

void JsonScanner::read_comma(Track& track) {
    if (track.last == Token::colon ||
        (track.last == Token::string && !track.frames.empty() && track.frames.back().object)) {
        error(track);
    }
    if (track.last == Token::value && track.last_end == 0) {
        track.last_end = track.word_end;
    }
    track.last = Token::comma;
}

} // namespace tandem
