#include "core/decoded_change.hpp"

#include "core/error.hpp"

namespace tandem {
namespace {

class Parser {
  public:
    explicit Parser(std::string_view text) : rest_(text) {}

    bool at_end() const { return rest_.empty(); }

    bool take(std::string_view word) {
        if (rest_.substr(0, word.size()) != word) {
            return false;
        }
        rest_.remove_prefix(word.size());
        return true;
    }

    void expect(std::string_view word) {
        if (!take(word)) {
            fail();
        }
    }

    // Up to a character outside of quotes; the character stays.
    std::string_view until(char stop) {
        bool quoted = false;
        std::size_t size = 0;
        for (; size < rest_.size() && (quoted || rest_[size] != stop); size++) {
            quoted = quoted != (rest_[size] == '"');
        }
        if (size == rest_.size()) {
            fail();
        }
        const std::string_view found = rest_.substr(0, size);
        rest_.remove_prefix(size);
        return found;
    }

    // An identifier as PostgreSQL writes it, without its quotes.
    std::string name() {
        const std::string_view written = until('[');
        if (written.empty() || written.front() != '"') {
            return std::string(written);
        }
        if (written.size() < 2 || written.back() != '"') {
            fail();
        }
        return unquoted(written.substr(1, written.size() - 2), '"');
    }

    // "[integer[]]:", of which nothing is wanted.
    void skip_type() {
        expect("[");
        int depth = 1;
        bool quoted = false;
        std::size_t size = 0;
        for (; size < rest_.size() && depth > 0; size++) {
            quoted = quoted != (rest_[size] == '"');
            depth += quoted ? 0 : rest_[size] == '[' ? 1 : rest_[size] == ']' ? -1 : 0;
        }
        rest_.remove_prefix(size);
        expect(":");
    }

    DecodedColumn column() {
        DecodedColumn result;
        result.name = name();
        skip_type();
        if (take("'") || take("B'")) {
            result.value = quoted_value();
            return result;
        }
        const std::string_view word = rest_.substr(0, rest_.find(' '));
        rest_.remove_prefix(word.size());
        if (word == "unchanged-toast-datum") {
            result.unchanged = true;
        } else if (word != "null") {
            result.value = std::string(word);
        }
        return result;
    }

    // Columns up to the end, or to " new-tuple:".
    DecodedRow row() {
        DecodedRow result;
        if (take(" (no-tuple-data)")) {
            return result;
        }
        result.present = true;
        while (!at_end() && rest_.substr(0, kNewTuple.size()) != kNewTuple) {
            expect(" ");
            result.columns.push_back(column());
        }
        return result;
    }

    static constexpr std::string_view kNewTuple = " new-tuple:";

    [[noreturn]] void fail() const {
        throw Error("XX001", "a change in the replication slot cannot be understood",
                    "It ends with: " + std::string(rest_.substr(0, 200)),
                    "Is the output plugin of the slot test_decoding?");
    }

  private:
    static std::string unquoted(std::string_view text, char quote) {
        std::string result;
        result.reserve(text.size());
        for (std::size_t i = 0; i < text.size(); i++) {
            result += text[i];
            if (text[i] == quote && i + 1 < text.size() && text[i + 1] == quote) {
                i++;
            }
        }
        return result;
    }

    // Behind the opening quote: up to the one that is not doubled.
    std::string quoted_value() {
        std::size_t size = 0;
        while (size < rest_.size()) {
            if (rest_[size] != '\'') {
                size++;
            } else if (size + 1 < rest_.size() && rest_[size + 1] == '\'') {
                size += 2;
            } else {
                break;
            }
        }
        if (size >= rest_.size()) {
            fail();
        }
        std::string value = unquoted(rest_.substr(0, size), '\'');
        rest_.remove_prefix(size + 1);
        return value;
    }

    std::string_view rest_;
};

} // namespace

std::optional<DecodedChange> parse_decoded_change(std::string_view line) {
    Parser parser(line);
    if (!parser.take("table ")) {
        return std::nullopt;
    }
    DecodedChange change;
    change.relation = std::string(parser.until(':'));
    parser.expect(": ");
    if (parser.take("INSERT:")) {
        change.kind = DecodedChange::Kind::insert;
        change.new_row = parser.row();
    } else if (parser.take("UPDATE:")) {
        change.kind = DecodedChange::Kind::update;
        if (parser.take(" old-key:")) {
            change.old_row = parser.row();
            parser.expect(Parser::kNewTuple);
        }
        change.new_row = parser.row();
    } else if (parser.take("DELETE:")) {
        change.kind = DecodedChange::Kind::remove;
        change.old_row = parser.row();
    } else if (parser.take("TRUNCATE:")) {
        change.kind = DecodedChange::Kind::truncate;
        return change;
    } else {
        parser.fail();
    }
    if (!parser.at_end()) {
        parser.fail();
    }
    return change;
}

} // namespace tandem
