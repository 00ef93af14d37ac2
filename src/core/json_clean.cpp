#include "core/json_clean.hpp"

#include <algorithm>
#include <charconv>
#include <vector>

#include "core/json_fields.hpp"

namespace tandem {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

// The length of the UTF-8 character at the front; 0: there is none. Surrogates and overlong forms are none.
std::size_t utf8_length(std::string_view text) {
    const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
    const auto tail = [&](std::size_t i) { return (byte(i) & 0xC0) == 0x80; };
    const unsigned lead = byte(0);
    if (lead < 0x80) {
        return text.empty() ? 0 : 1;
    }
    if (lead >= 0xC2 && lead <= 0xDF) {
        return tail(1) ? 2 : 0;
    }
    if (lead >= 0xE0 && lead <= 0xEF) {
        const bool fits = (lead != 0xE0 || byte(1) >= 0xA0) && (lead != 0xED || byte(1) <= 0x9F);
        return fits && tail(1) && tail(2) ? 3 : 0;
    }
    if (lead >= 0xF0 && lead <= 0xF4) {
        const bool fits = (lead != 0xF0 || byte(1) >= 0x90) && (lead != 0xF4 || byte(1) <= 0x8F);
        return fits && tail(1) && tail(2) && tail(3) ? 4 : 0;
    }
    return 0;
}

class Cleaner {
  public:
    explicit Cleaner(std::string_view json) : json_(json) {}

    CleanJson run(bool unclosed) {
        while (at_ < json_.size() && step()) {
        }
        CleanJson result;
        if (reason_ == nullptr && unclosed && levels_.size() == 1 && expect_ != Expect::member_value &&
            expect_ != Expect::colon) {
            drop_comma(json_.size());
            replace(json_.size(), json_.size(), "}", kRepairBrace);
            levels_.clear();
        }
        if (reason_ == nullptr && !levels_.empty()) {
            fail("its end is missing");
        }
        result.reason = reason_;
        result.offset = at_;
        result.ok = reason_ == nullptr;
        result.repairs = repairs_;
        if (result.ok && repairs_ != 0) {
            out_.append(json_.substr(copied_));
            result.text = std::move(out_);
        }
        return result;
    }

  private:
    // What may come next. `first` and `next` differ in whether a closing bracket is in its place.
    enum class Expect : std::uint8_t {
        name_first,
        name_next,
        colon,
        member_value,
        element_first,
        element_next,
        comma_or_close
    };
    enum class Level : std::uint8_t { object, array };

    bool fail(const char* reason) {
        reason_ = reason;
        return false;
    }
    // json_[from, to) becomes `with`.
    void replace(std::size_t from, std::size_t to, std::string_view with, std::uint32_t repair) {
        out_.append(json_.substr(copied_, from - copied_));
        out_.append(with);
        copied_ = to;
        repairs_ |= repair;
    }
    bool in_object() const { return !levels_.empty() && levels_.back() == Level::object; }
    static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

    bool step() {
        const char c = json_[at_];
        if (is_space(c)) {
            at_++;
            return true;
        }
        if (static_cast<unsigned char>(c) < 0x20) {
            replace(at_, at_ + 1, " ", kRepairControl);
            at_++;
            return true;
        }
        switch (c) {
        case ',':
            return comma();
        case ':':
            if (expect_ != Expect::colon) {
                return fail("a colon is in the wrong place");
            }
            expect_ = Expect::member_value;
            at_++;
            return true;
        case '{':
        case '[':
            return open(c == '{');
        case '}':
        case ']':
            return close(c == '}');
        case '"':
            return string();
        default:
            return word();
        }
    }

    bool comma() {
        if (expect_ == Expect::colon || expect_ == Expect::member_value || levels_.empty()) {
            return fail("a value is missing");
        }
        if (expect_ == Expect::comma_or_close) {
            comma_ = at_;
            expect_ = in_object() ? Expect::name_next : Expect::element_next;
        } else {
            replace(at_, at_ + 1, "", kRepairComma);
        }
        at_++;
        return true;
    }

    // The comma in front of a closing bracket. What was put out since is white space and repaired commas, so it can be
    // cut out of `out_`, too.
    void drop_comma(std::size_t) {
        if (expect_ != Expect::name_next && expect_ != Expect::element_next) {
            return;
        }
        if (comma_ >= copied_) {
            replace(comma_, comma_ + 1, "", kRepairComma);
        } else {
            out_.erase(out_.rfind(','), 1);
            repairs_ |= kRepairComma;
        }
    }

    bool begin_value(bool is_string) {
        if (levels_.empty()) {
            return at_ == 0 && json_[0] == '{' ? true : fail("something stands behind it");
        }
        switch (expect_) {
        case Expect::comma_or_close:
            replace(at_, at_, ",", kRepairComma);
            expect_ = in_object() ? Expect::name_next : Expect::element_next;
            break;
        case Expect::colon:
            return fail("a colon is missing");
        default:
            break;
        }
        if ((expect_ == Expect::name_first || expect_ == Expect::name_next) && !is_string) {
            return fail("the name of a member is missing");
        }
        return true;
    }
    void end_value() { expect_ = Expect::comma_or_close; }

    bool open(bool object) {
        if (!begin_value(false)) {
            return false;
        }
        levels_.push_back(object ? Level::object : Level::array);
        expect_ = object ? Expect::name_first : Expect::element_first;
        at_++;
        return true;
    }

    bool close(bool object) {
        if (levels_.empty() || in_object() != object) {
            return fail("its brackets do not match");
        }
        if (expect_ == Expect::colon || expect_ == Expect::member_value) {
            return fail("a value is missing");
        }
        drop_comma(at_);
        levels_.pop_back();
        end_value();
        at_++;
        return true;
    }

    bool string() {
        if (!begin_value(true)) {
            return false;
        }
        at_++;
        while (at_ < json_.size() && json_[at_] != '"') {
            const auto c = static_cast<unsigned char>(json_[at_]);
            if (c == '\\') {
                escape();
            } else if (c < 0x20) {
                control(c);
            } else if (c < 0x80) {
                at_++;
            } else if (const std::size_t length = utf8_length(json_.substr(at_)); length != 0) {
                at_ += length;
            } else {
                replace(at_, at_ + 1, kReplacement, kRepairEncoding);
                at_++;
            }
        }
        if (at_ >= json_.size()) {
            return fail("a string has no end");
        }
        at_++;
        if (expect_ == Expect::name_first || expect_ == Expect::name_next) {
            expect_ = Expect::colon;
        } else {
            end_value();
        }
        return true;
    }

    void control(unsigned char c) {
        if (c == 0) {
            replace(at_, at_ + 1, kReplacement, kRepairControl);
        } else {
            constexpr std::string_view kHex = "0123456789abcdef";
            const char escaped[] = {'\\', 'u', '0', '0', kHex[c >> 4], kHex[c & 15]};
            replace(at_, at_ + 1, std::string_view(escaped, sizeof escaped), kRepairControl);
        }
        at_++;
    }

    // \uXXXX at `at`; -1: there is none.
    int unit(std::size_t at) const {
        if (at + 6 > json_.size() || json_[at] != '\\' || json_[at + 1] != 'u') {
            return -1;
        }
        int value = 0;
        for (std::size_t i = at + 2; i < at + 6; i++) {
            const int digit = hex_digit(json_[i]);
            if (digit < 0) {
                return -1;
            }
            value = value * 16 + digit;
        }
        return value;
    }

    void escape() {
        const char c = at_ + 1 < json_.size() ? json_[at_ + 1] : '\0';
        if (c == 'u') {
            const int value = unit(at_);
            const bool high = value >= 0xD800 && value <= 0xDBFF;
            const bool low = value >= 0xDC00 && value <= 0xDFFF;
            const int next = high ? unit(at_ + 6) : -1;
            if (high && next >= 0xDC00 && next <= 0xDFFF) {
                at_ += 12;
                return;
            }
            if (value > 0 && !high && !low) {
                at_ += 6;
                return;
            }
            if (value >= 0) {
                replace(at_, at_ + 6, kReplacement, kRepairEscape);
                at_ += 6;
                return;
            }
        } else if (c != '\0' && std::string_view("\"\\/bfnrt").find(c) != std::string_view::npos) {
            at_ += 2;
            return;
        }
        replace(at_, at_ + 1, "\\\\", kRepairEscape);
        at_++;
    }

    bool word() {
        const std::size_t begin = at_;
        if (!begin_value(false)) {
            return false;
        }
        while (at_ < json_.size() && !is_space(json_[at_]) && static_cast<unsigned char>(json_[at_]) >= 0x20 &&
               std::string_view(",:{}[]\"").find(json_[at_]) == std::string_view::npos) {
            at_++;
        }
        const std::string_view text = json_.substr(begin, at_ - begin);
        end_value();
        if (text == "true" || text == "false" || text == "null") {
            return true;
        }
        if (text == "True" || text == "False") {
            replace(begin, at_, text == "True" ? "true" : "false", kRepairWord);
            return true;
        }
        if (!is_plausible_word(text)) {
            at_ = begin;
            return fail("a word that is no JSON");
        }
        const char last = text.back();
        if ((last < '0' || last > '9') && last != '.') { // None, NaN, Infinity
            replace(begin, at_, "null", kRepairWord);
            return true;
        }
        return number(begin, text);
    }

    bool number(std::size_t begin, std::string_view text) {
        std::string_view rest = text;
        const bool negative = rest.front() == '-';
        bool odd = rest.front() == '+';
        if (negative || odd) {
            rest.remove_prefix(1);
        }
        const auto digits = [&] {
            std::size_t n = 0;
            while (n < rest.size() && rest[n] >= '0' && rest[n] <= '9') {
                n++;
            }
            const std::string_view taken = rest.substr(0, n);
            rest.remove_prefix(n);
            return taken;
        };
        std::string_view whole = digits();
        std::string_view part;
        std::string_view exponent;
        if (!rest.empty() && rest.front() == '.') {
            rest.remove_prefix(1);
            part = digits();
            odd = odd || part.empty();
        }
        if (!rest.empty() && (rest.front() == 'e' || rest.front() == 'E')) {
            const std::string_view before = rest;
            rest.remove_prefix(rest.size() > 1 && (rest[1] == '-' || rest[1] == '+') ? 2 : 1);
            exponent = before.substr(1, before.size() - rest.size() - 1 + digits().size());
            if (exponent.empty() || exponent.back() < '0') {
                rest = before;
            }
        }
        if (!rest.empty() || (whole.empty() && part.empty())) {
            at_ = begin;
            return fail("no number");
        }
        // numeric holds 131072 digits in front of the point and 16383 behind it.
        long power = 0;
        if (!exponent.empty()) {
            const std::string_view plain = exponent.front() == '+' ? exponent.substr(1) : exponent;
            const auto parsed = std::from_chars(plain.data(), plain.data() + plain.size(), power);
            if (parsed.ec != std::errc()) {
                power = exponent.front() == '-' ? -1'000'000 : 1'000'000;
            }
            power = std::clamp(power, -1'000'000L, 1'000'000L);
        }
        const long in_front = static_cast<long>(whole.size()) + power;
        const long behind = static_cast<long>(part.size()) - power;
        if (in_front > 131'072 || behind > 16'383) {
            replace(begin, at_, '"' + std::string(text) + '"', kRepairNumber);
            return true;
        }
        std::size_t zeros = 0;
        while (zeros + 1 < whole.size() && whole[zeros] == '0') {
            zeros++;
        }
        if (odd || zeros > 0 || whole.empty()) {
            std::string plain(negative ? "-" : "");
            plain += whole.empty() ? std::string_view("0") : whole.substr(zeros);
            if (!part.empty()) {
                plain.append(".").append(part);
            }
            if (!exponent.empty()) {
                plain.append("e").append(exponent);
            }
            replace(begin, at_, plain, kRepairNumber);
        }
        return true;
    }

    std::string_view json_;
    std::string out_;
    std::vector<Level> levels_;
    const char* reason_ = nullptr;
    std::size_t at_ = 0;
    std::size_t copied_ = 0;
    std::size_t comma_ = 0;
    std::uint32_t repairs_ = 0;
    Expect expect_ = Expect::element_first;
};

} // namespace

CleanJson clean_json(std::string_view json, bool unclosed) {
    return Cleaner(json).run(unclosed);
}

std::string describe_repairs(std::uint32_t repairs) {
    static constexpr const char* kWords[] = {
        "commas put right",
        "control characters escaped or replaced",
        "bytes that are no UTF-8 replaced",
        "escapes that no text can hold replaced",
        "words of other languages put into JSON's",
        "numbers put into JSON's form or kept as text",
        "closing brace added: what followed is missing",
    };
    std::string result;
    for (std::size_t i = 0; i < std::size(kWords); i++) {
        if ((repairs >> i & 1) != 0) {
            result.append(result.empty() ? "" : "; ").append(kWords[i]);
        }
    }
    return result;
}

} // namespace tandem
